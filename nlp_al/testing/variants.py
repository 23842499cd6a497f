"""Signals that differ from others in what a strategy must mind, or must not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nlp_al.decisions import Decisions
from nlp_al.signals import (
    PER_DECISION,
    SCORES,
    Gradients,
    Signals,
)
from nlp_al.signals.sampled import Sampled, statistics
from nlp_al.testing.synthetic import MEMBERS


def decided_where(signals: Signals, sure: Tensor) -> Signals:
    """With decisions that are certain where bool[M] `sure` holds, and else open, each member for another option."""
    shape = next(iter(signals.of_decisions().values())).shape[-2:]
    assert signals.offsets is not None
    options = signals.options if signals.options is not None else torch.full(shape[:1], shape[1])
    flat = (torch.arange(shape[1]) < options[:, None]) / options[:, None]
    certain = torch.zeros(shape)
    certain[:, 0] = 1.0
    members = []
    for at in range(MEMBERS):
        own = (flat + torch.zeros(shape).scatter_(1, (at % options)[:, None], 1.0)) / 2
        members.append(torch.where(sure[:, None], certain, own))
    made: dict[str, Any] = {
        "probs": torch.where(sure[:, None], certain, flat),
        "passes": torch.stack(members),
        "sampled": statistics(Decisions(member, signals.offsets, signals.options) for member in members),
    }
    return replace(signals, **{name: value for name, value in made.items() if getattr(signals, name) is not None})


def padded(signals: Signals, invalid: Tensor, rubbish: float) -> Signals:
    """With something else in the columns that are no option, true in bool[M, O] `invalid`."""
    made: dict[str, Any] = {
        name: value.masked_fill(invalid, rubbish)
        for name in ("probs", "passes")
        if (value := getattr(signals, name)) is not None
    }
    if signals.sampled is not None:
        numbers = {"mean", "squares"}
        made["sampled"] = Sampled(*signals.sampled).each(
            lambda name, held: held.masked_fill(invalid, rubbish) if name in numbers else held
        )
    return replace(signals, **made)


def with_only(signals: Signals, names: frozenset[str], always: set[str]) -> Signals:
    """With the fields of `names` and `always` alone, and what goes with them."""
    kept = names | always | ({"scores"} if any(name.startswith(SCORES) for name in names) else set())
    kept = kept | ({"offsets", "options"} if names & PER_DECISION else set())
    return Signals(**{f.name: getattr(signals, f.name) for f in fields(signals) if f.name in kept})


def without(signals: Signals, name: str) -> Signals:
    """Without a field, and what only goes with it."""
    gone: dict[str, Any] = {"scores" if name.startswith(SCORES) else name: None}
    if name in PER_DECISION and not any(getattr(signals, other) is not None for other in PER_DECISION - {name}):
        gone |= dict.fromkeys(("offsets", "options"))
    return replace(signals, **gone)


def spoilt(signals: Signals, names: frozenset[str]) -> Iterator[tuple[str, Signals]]:
    """The signals with one number of a field made NaN or infinite, and the field's name."""
    for name in sorted(names):
        key = name.removeprefix(SCORES)
        value = getattr(signals, name) if key == name else (signals.scores or {})[key]
        may_be_infinite = key != name or name == "transitions"
        for bad in (torch.nan, torch.inf, *([] if may_be_infinite else [-torch.inf])):
            real = isinstance(value, Tensor) and value.is_floating_point()
            parts: list[dict[str, Any]] = [{name: _with_first(value, bad)}] if real else []
            if key != name:
                parts = [{"scores": {**(signals.scores or {}), key: _with_first(value, bad)}}]
            if isinstance(value, Gradients):
                parts = [{name: value._replace(r=_with_first(value.r, bad))}]
                parts += [{name: value._replace(h=_with_first(value.h, bad))}]
            if isinstance(value, Sampled):
                numbers = ("mean", "entropy", "squares")
                parts = [{name: value.each(partial(_with_first_of, wanted, bad))} for wanted in numbers]
            for part in parts:
                yield name, replace(signals, **part)


def _with_first_of(wanted: str, bad: float, name: str, values: Tensor) -> Tensor:
    return _with_first(values, bad) if name == wanted else values


def _with_first(values: Tensor, bad: float) -> Tensor:
    values = values.clone()
    values.view(-1)[0] = bad
    return values


def same(one: Signals, other: Signals) -> bool:
    """Whether both hold equal tensors."""
    return all(map(torch.equal, tensors(one), tensors(other)))


def tensors(signals: Signals) -> list[Tensor]:
    """All that are in a record, its roles included."""
    values = [getattr(signals, f.name) for f in fields(signals)]
    roles = [role for role in (signals.labelled, signals.validation) if role is not None]
    inside = [tensor for role in roles for tensor in tensors(role)]
    sampled = [*(signals.sampled or ())[:4], *(signals.scores or {}).values()]
    return [v for v in values if isinstance(v, Tensor)] + list(signals.gradients or ()) + sampled + inside
