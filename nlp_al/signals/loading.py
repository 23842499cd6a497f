"""Weights and tokenizers from the Hub, a folder, or an installed package."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from nlp_al.errors import UserError
from nlp_al.source import package_path

# A head that is drawn anew and a pooler that is not there are what we mean to do; bars of 0.1 s only blink.
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


LOAD_ERRORS = (OSError, ValueError, KeyError, SafetensorError)
"""What transformers raises where a name is wrong, the Hub is out of reach, or a file is damaged."""


def told(source: str, error: Exception) -> UserError:
    """What is wrong with a model's name, in one sentence."""
    chain = [error, error.__cause__, error.__context__]
    kinds = {kind.__name__ for one in chain if one is not None for kind in type(one).__mro__}
    if kinds & {"ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectError"}:
        return UserError(
            f"model is {source!r}, which is no local folder, and the Hub can't be reached (offline): "
            "check the name, or the connection."
        )
    reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")
    return UserError(f"model is {source!r}, which can't be loaded: {reason}.")


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a model; UserError where there is none. One without padding pads with the end of a text."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(package_path(source))
    except LOAD_ERRORS as error:
        raise told(source, error) from error
    if not tokenizer.is_fast:
        raise UserError(f"model is {source!r}, which has no fast tokenizer; take one that has (tokenizer.json).")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_encoder(source: str) -> tuple[torch.nn.Module, str]:
    """An encoder in float32 without a head, and a hash of its weights; UserError where there is none.

    Weights that the checkpoint lacks (a pooler) are drawn anew at each load and left out of the hash.
    """
    try:
        model, info = transformers.AutoModel.from_pretrained(
            package_path(source), output_loading_info=True, dtype=torch.float32
        )
    except LOAD_ERRORS as error:
        raise told(source, error) from error
    return model, weights_hash(model, set(info["missing_keys"]))


def weights_hash(model: torch.nn.Module, left_out: set[str]) -> str:
    """A hash of names and values of all weights but those left out."""
    digest = hashlib.blake2b(digest_size=12)
    for name, values in sorted(model.state_dict().items()):
        if name not in left_out:
            digest.update(name.encode())
            digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
