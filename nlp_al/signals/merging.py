"""Records put together: fields about the same examples, and batches of different ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from nlp_al.signals import OPTIONAL, PER_EXAMPLE, Gradients, Signals, take_rows
from nlp_al.signals.sampled import Sampled, pooled

PACKED = 40 * 2**20
"""Bytes above which batches of a pass are put together; the C library may keep up to 32 MiB in its heap."""


def merge(parts: Sequence[Signals]) -> Signals:
    """One record out of records about the same examples."""
    values = {f.name: value for part in parts for f in fields(Signals) if (value := getattr(part, f.name)) is not None}
    scores = {name: own for part in parts for name, own in (part.scores or {}).items()}
    return Signals(**{**values, "scores": scores or None})


def together(one: Signals, other: Signals) -> Signals:
    """The first record, with what the members of both say of the same examples."""
    if one.passes is not None and other.passes is not None:
        return replace(one, passes=torch.cat([one.passes, other.passes]))
    if one.sampled is not None and other.sampled is not None:
        return replace(one, sampled=pooled(Sampled(*one.sampled), Sampled(*other.sampled)))
    return one


def ordered(batches: list[tuple[list[int], Signals]]) -> Signals:
    """One record out of batches with the same fields, each with the positions of its examples.

    Takes each batch out of the list as it copies it, so that no field is held twice.
    """
    if len(batches) == 1 and batches[0][0] == list(range(len(batches[0][0]))):
        return batches[0][1]
    count = sum(len(members) for members, _ in batches)
    first = batches[0][1]
    values: dict[str, Any] = {"count": count, **{name: getattr(first, name) for name in OPTIONAL}}
    for name in PER_EXAMPLE:
        if (known := getattr(first, name)) is not None:
            values[name] = known.new_empty((count, *known.shape[1:]))
    if first.scores is not None:
        values["scores"] = {name: known.new_empty(count) for name, known in first.scores.items()}
    decided: dict[str, Tensor] = {}
    if first.of_decisions():
        values["offsets"] = _offsets(batches, count, "offsets")
        widths = {_columns(part) for _, part in batches}
        rows = int(values["offsets"][-1])
        decided = {name: _room(like, rows, max(widths)) for name, like in first.of_decisions().items()}
        if len(widths) > 1:  # what is no option is never read, but must be a number
            for room in decided.values():
                room.zero_()
        if first.options is not None:
            values["options"] = first.options.new_empty(rows)
    if first.gradients is not None:
        offsets = _offsets(batches, count, "gradients")
        r, h = (_room(factor, int(offsets[-1]), factor.shape[1]) for factor in first.gradients[:2])
        values["gradients"] = Gradients(r, h, offsets)
    sampled = first.sampled
    del first
    while batches:
        members, part = batches.pop()
        _copy(part, torch.tensor(members, dtype=torch.int64), values, decided)
    values.update({name: room for name, room in decided.items() if not name.startswith("sampled.")})
    if sampled is not None:
        values["sampled"] = Sampled(*sampled).each(lambda name, _: decided[f"sampled.{name}"])
    return Signals(**values)


class Batches:
    """The batches of a pass as they come, put together into fewer whenever they hold PACKED bytes.

    Many small tensors leave holes in the heap when they go; a large one goes back to the system.
    """

    def __init__(self) -> None:
        self._packed: list[tuple[list[int], Signals]] = []
        self._loose: list[tuple[list[int], Signals]] = []
        self._bytes = 0

    def add(self, members: list[int], part: Signals) -> None:
        """A batch, with the positions of its examples."""
        self._loose.append((members, part))
        self._bytes += _bytes(part)
        if self._bytes >= PACKED:
            self._packed.append(_as_one(self._loose))
            self._bytes = 0

    def all(self) -> list[tuple[list[int], Signals]]:
        """What has come so far."""
        return self._packed + self._loose

    def one(self) -> tuple[list[int], Signals | None]:
        """The same as one batch, which it is no longer held by; None where nothing has come."""
        found = self.all()
        self._packed, self._loose, self._bytes = [], [], 0
        return _as_one(found) if found else ([], None)


def _as_one(batches: list[tuple[list[int], Signals]]) -> tuple[list[int], Signals]:
    """One batch out of several, which are taken out of the list."""
    members = [at for own, _ in batches for at in own]
    places = iter(range(len(members)))
    inside = [([next(places) for _ in own], part) for own, part in batches]
    batches.clear()
    return members, ordered(inside)


def _bytes(part: Signals) -> int:
    held = [getattr(part, name) for name in PER_EXAMPLE] + list((part.scores or {}).values())
    return sum(v.nbytes for v in (*held, *part.of_decisions().values(), *(part.gradients or ())) if v is not None)


def _columns(part: Signals) -> int:
    return next(iter(part.of_decisions().values())).shape[-1]


def _offsets(batches: Sequence[tuple[list[int], Signals]], count: int, name: str) -> Tensor:
    lengths = torch.zeros(count + 1, dtype=torch.int64)
    for members, part in batches:
        held: Any = getattr(part, name)
        lengths[torch.tensor(members, dtype=torch.int64) + 1] = (held[2] if name == "gradients" else held).diff()
    return lengths.cumsum(0)


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    """As `like` is, with so many rows and columns. Not filled: memory that nobody has written to is not there yet."""
    shape = {1: (rows,), 2: (rows, columns), 3: (len(like), rows, columns)}[like.dim()]
    return like.new_empty(shape)


def _copy(part: Signals, members: Tensor, values: dict[str, Any], decided: dict[str, Tensor]) -> None:
    for name in PER_EXAMPLE:
        if name in values:
            values[name][members] = getattr(part, name)
    for name, own in (part.scores or {}).items():
        values["scores"][name][members] = own
    if decided:
        rows, _ = take_rows(values["offsets"], members)
        for name, own in part.of_decisions().items():
            if own.dim() == 1:
                decided[name][rows] = own
            else:
                decided[name][..., rows, : own.shape[-1]] = own
        if part.options is not None:
            values["options"][rows] = part.options
    if part.gradients is not None:
        r, h, offsets = values["gradients"]
        rows, _ = take_rows(offsets, members)
        r[rows], h[rows] = part.gradients[0], part.gradients[1]
