"""How surprising a pretrained masked language model finds the tokens of a text: Yuan et al. 2020, arXiv 2010.09535."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

import torch
import transformers
from torch import Tensor
from torch.nn.functional import cross_entropy

from nlp_al.decisions import owners
from nlp_al.errors import UserError
from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals.features import Pretrained
from nlp_al.signals.loading import LOAD_ERRORS, told, weights_hash
from nlp_al.source import package_path
from nlp_al.tasks import READ, Task
from nlp_al.tasks.response_selection import cutting, pieces_of

SHARE = 0.15
"""How probable it is that a token counts."""
_LOGITS_AT_ONCE = 2**26  # 256 MB


def tokens_that_count(seed: int, id_: str, count: int) -> tuple[Tensor, torch.Generator]:
    """bool[count], each with a probability of SHARE, and the generator that drew them; the same for seed and item."""
    key = hashlib.blake2b(f"{seed}/surprisal/{id_}".encode(), digest_size=4).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key, "big"))
    return torch.rand(count, generator=generator) < SHARE, generator


class _Passages:
    """Texts as a language model reads them; to an encoder it is the task.

    A unit is a text, or where tokens are masked (seed, id, text). `counted` marks the tokens that are not special,
    `targets` are their ids, or −100 where a token does not count. entropy: what is read of them.
    """

    name: ClassVar[str] = "surprisal"

    def __init__(self, task: Task, masked: bool, entropy: bool) -> None:
        self.task, self.masked, self.entropy = task, masked, entropy
        self.pad = task.pad

    def reading(self) -> dict[str, Any]:
        about = {**self.task.reading(), "of": self.task.name, "masked": self.masked}
        return {**about, "entropy": True} if self.entropy else about

    def units(self, inputs: Any) -> Sequence[Any]:
        return [inputs]

    def encode(self, tokenizer: Any, units: Sequence[Any]) -> list[list[dict[str, Any]]]:
        texts = [unit[2] for unit in units] if self.masked else list(units)
        length = getattr(self.task.options, "max_length", 128)
        with cutting(tokenizer, self.task.cut_at):
            made = tokenizer(texts, truncation=True, max_length=length)
        special = set(tokenizer.all_special_ids)
        found = []
        for piece, unit in zip(pieces_of(made), units, strict=True):
            ids = piece["input_ids"]
            counted = [int(token not in special) for token in ids]
            targets = [token if own else -100 for token, own in zip(ids, counted, strict=True)]
            piece = {name: values for name, values in piece.items() if name in READ}
            found.append([{**piece, "counted": counted, "targets": targets}])
            if self.masked:
                self._mask(tokenizer, found[-1][0], unit)
        return found

    def _mask(self, tokenizer: Any, piece: dict[str, Any], unit: Any) -> None:
        """Of the tokens that count 80% become the mask, 10% any token, and 10% stay."""
        seed, id_, _ = unit
        places = [at for at, own in enumerate(piece["counted"]) if own]
        drawn, generator = tokens_that_count(seed, id_, len(places))
        how = torch.rand(len(places), generator=generator).tolist()
        others = torch.randint(len(tokenizer), (len(places),), generator=generator).tolist()
        ids = list(piece["input_ids"])
        for at, own, point, other in zip(places, drawn.tolist(), how, others, strict=True):
            if not own:
                piece["targets"][at] = -100
            elif point < 0.9:
                ids[at] = tokenizer.mask_token_id if point < 0.8 else other
        piece["input_ids"] = ids


class Surprisal(Pretrained):
    """The masked-LM head of a checkpoint, over the cache on disk: a loss for each token that is not special.

    masked: whether tokens that count are masked before they are read, 80% of them, 10% being exchanged. entropy: the
    entropy of what the model expects there, in place of the loss of what stands there.
    """

    def __init__(
        self, source: str, task: Task, masked: bool = False, batch_size: int = 32, entropy: bool = False
    ) -> None:
        self._passages = _Passages(task, masked, entropy)
        super().__init__(source, cast("Task", self._passages), batch_size)

    @classmethod
    def of_field(cls, name: str, source: str, task: Task) -> Surprisal:
        """What makes one of the fields `nlp_al.signals.SURPRISALS`."""
        return cls(source, task, masked=name.startswith("masked"), entropy=name.endswith("entropy"))

    @cached_property
    def _loaded(self) -> tuple[torch.nn.Module, str]:
        lacks = UserError(
            f"model is {self.source!r}, whose weights have no masked-LM head, which strategy alps needs; "
            "take another checkpoint, or bert_km."
        )
        try:
            config = transformers.AutoConfig.from_pretrained(package_path(self.source))
            if type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING:
                raise lacks
            model, info = transformers.AutoModelForMaskedLM.from_pretrained(
                package_path(self.source), output_loading_info=True, dtype=torch.float32
            )
        except LOAD_ERRORS as error:
            raise told(self.source, error) from error
        if info["missing_keys"]:
            raise lacks
        return model, weights_hash(model, set())

    def read(self, model: torch.nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A loss or entropy for each token that is not special, float32[J, 1], 0 where it does not count."""
        size = batch["input_ids"].shape[1] * int(model.config.vocab_size)  # type: ignore[union-attr,arg-type]
        losses = []
        for at in torch.arange(len(batch["input_ids"])).split(max(1, _LOGITS_AT_ONCE // size)):
            part = {name: values[at[0] : at[-1] + 1] for name, values in batch.items()}
            logits = model(**{name: values for name, values in part.items() if name in READ}).logits.float()
            # Padding counts nowhere, whatever `pad` fills the targets with.
            targets = part["targets"].masked_fill(part["counted"] == 0, -100)
            if self._passages.entropy:
                losses.append(torch.special.entr(logits.softmax(2)).sum(2).masked_fill(targets < 0, 0.0))
            else:
                flat = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
                losses.append(flat.reshape(targets.shape))
        counted = batch["counted"].bool()
        ends = counted.sum(1).cpu().cumsum(0)
        return torch.cat(losses)[counted][:, None], torch.cat([ends.new_zeros(1), ends])

    def of(self, examples: Sequence[Example], seed: int) -> Tensor | None:
        """float32[n, T]: the losses or entropies of tokens that are drawn to count, 0 elsewhere, in the text's order.

        None on all processes but the main one. All call it together.

        Raises:
            UserError: the weights have no masked-LM head.
        """
        masked, tokenizer = self._passages.masked, self.tokenizer
        texts = [self._passages.task.passage(example.inputs, tokenizer) for example in examples]
        pairs = zip(examples, texts, strict=True)
        read = [Example(e.id, [seed, e.id, text] if masked else text, e.words) for e, text in pairs]
        self.encode(read)
        if not read:
            return torch.zeros(0, 1)
        if not processes().is_main_process:
            return None
        losses, offsets = self.store.rows([key for example in read for key in self._keys_of(example)])
        lengths = offsets.diff()
        found = torch.zeros(len(read), max(1, int(lengths.max())))
        place = torch.arange(len(losses)) - offsets[:-1].repeat_interleave(lengths)
        found[owners(offsets), place] = losses[:, 0]
        if not masked:
            for row, example, length in zip(found, read, lengths.tolist(), strict=True):
                row[:length] *= tokens_that_count(seed, example.id, length)[0]
        return found
