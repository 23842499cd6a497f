"""Candidates for contexts that bring none, drawn from a file of responses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nlp_al.errors import UserError
from nlp_al.pool import Example

if TYPE_CHECKING:
    from nlp_al.tasks.response_selection import ResponseOptions


def drawn(options: ResponseOptions, splits: dict[str, list[Example]], source: str) -> dict[str, list[Example]]:
    """The splits, every context with candidates: its own, or the nearest responses of the bank.

    A right response that is known is always among them, at a place that the hash of the example's id says.

    Raises:
        UserError: the bank can't be read, or holds too few responses.
    """
    bank = _read(options)
    bare = [e for examples in splits.values() for e in examples if not e.inputs["candidates"]]
    if not bare:
        return splits
    nearest = _by_words if options.bank_retriever == "bm25" else _by_embeddings
    # One more, for a context whose last turn is itself a response of the bank.
    contexts = [e.inputs["context"] for e in bare]
    found = nearest(contexts, bank, min(options.bank_candidates + 1, len(bank)), options, source)
    filled = {e.id: _filled(e, own, options.bank_candidates) for e, own in zip(bare, found, strict=True)}
    return {
        name: [e if e.inputs["candidates"] else filled[e.id] for e in examples] for name, examples in splits.items()
    }


def _read(options: ResponseOptions) -> list[str]:
    assert options.bank is not None
    try:
        lines = Path(options.bank).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UserError(f"task_options.bank is {options.bank!r}, which can't be read: {told}.") from error
    bank = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(bank) <= options.bank_candidates:
        raise UserError(
            f"task_options.bank holds {len(bank)} different responses; it must hold more than "
            f"task_options.bank_candidates ({options.bank_candidates})."
        )
    return bank


def _filled(example: Example, nearest: Sequence[str], count: int) -> Example:
    context, right = example.inputs["context"], example.label
    others = [one for one in nearest if one != context[-1] and one != right]
    candidates = others[: count if right is None else count - 1]
    label = right
    if right is not None:
        label = int.from_bytes(hashlib.blake2b(example.id.encode(), digest_size=8).digest(), "big") % count
        candidates.insert(label, right)
    words = sum(len(text.split()) for text in (*context, *candidates))
    return replace(example, inputs={"context": context, "candidates": candidates}, words=words, label=label)


def _by_words(
    contexts: Sequence[list[str]], bank: Sequence[str], count: int, options: ResponseOptions, source: str
) -> list[list[str]]:
    """BM25 (bm25s) of the whole context."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(bank), stopwords=None, show_progress=False), show_progress=False)
    asked = bm25s.tokenize(["\n".join(turns) for turns in contexts], stopwords=None, show_progress=False)
    places, _ = index.retrieve(asked, k=count, show_progress=False)
    return [[bank[at] for at in row] for row in places.tolist()]


def _by_embeddings(
    contexts: Sequence[list[str]], bank: Sequence[str], count: int, options: ResponseOptions, source: str
) -> list[list[str]]:
    """The cosine between the embeddings of the pretrained encoder."""
    from nlp_al.processes import processes, shared
    from nlp_al.signals.features import Pretrained
    from nlp_al.tasks.bi_encoder import BiEncoder

    encoder = Pretrained(source, BiEncoder(replace(options, none_of_these=None)))
    # The bank as the candidates of the first context, so that each is read as what it is.
    inputs = [{"context": turns, "candidates": [] if at else list(bank)} for at, turns in enumerate(contexts)]
    asked = [Example(str(at), own, 1) for at, own in enumerate(inputs)]
    encoder.encode(asked)
    places: list[list[int]] = []
    if processes().is_main_process:
        rows = encoder.rows(asked)
        assert rows.context is not None
        for block in rows.context.split(1024):
            places += (block @ rows.hidden.T).topk(count).indices.tolist()
    return [[bank[at] for at in row] for row in shared(places)]
