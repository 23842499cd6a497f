"""One query batch out of what a model says about the pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from nlp_al.config import Stage
from nlp_al.pool import HOLDOUT, Example, Query
from nlp_al.signals import Signals
from nlp_al.strategies import Selection, Strategy, make_strategy


def strategies_of(stages: Sequence[Stage]) -> list[Strategy]:
    """The strategies behind the stages."""
    return [make_strategy(stage.name, **stage.parameters) for stage in stages]


def choose_batch(
    signals: Signals,
    stages: Sequence[Stage],
    allowance: float,
    holdout: float,
    generator: Callable[[str], torch.Generator],
) -> tuple[Selection, Selection]:
    """(chosen, held out): the holdout's share is drawn first, at random; the stages share out the rest.

    allowance: what both may cost together. generator: a generator for each purpose.
    """
    held = Selection(torch.zeros(0, dtype=torch.int64))
    share = holdout * allowance if signals.cost is not None else math.floor(holdout * allowance + 0.5)
    if share > 0:
        bare = Signals(count=len(signals), cost=signals.cost)
        held = make_strategy("random").select(bare, share, generator(HOLDOUT))
    free = torch.ones(len(signals), dtype=torch.bool)
    free[held.indices] = False
    spent = float(signals.cost[held.indices].sum()) if signals.cost is not None else held.indices.numel()
    return _staged(signals, torch.nonzero(free).flatten(), stages, allowance - spent, generator("select")), held


def _staged(
    signals: Signals, left: torch.Tensor, stages: Sequence[Stage], allowance: float, generator: torch.Generator
) -> Selection:
    """Each stage chooses among what the one before it hands on; `left` holds positions in the whole pool."""
    *sieves, last = strategies_of(stages)
    notes: list[str] = []
    for stage, sieve in zip(stages, sieves, strict=False):
        inside = replace(signals.take(left), cost=None)
        kept = sieve.select(inside, stage.keep or 0, generator)
        notes.append(kept.note)
        left = left[kept.indices].sort().values
    found = last.select(signals.take(left), allowance, generator)
    scores = None
    if found.scores is not None:
        scores = torch.full((len(signals),), -torch.inf, dtype=found.scores.dtype).index_copy_(0, left, found.scores)
    return Selection(left[found.indices], scores, "; ".join(filter(None, (*notes, found.note))))


def ranked(signals: Signals, stage: Stage, generator: torch.Generator) -> list[int]:
    """All positions, those that the stage would ask about first at the front."""
    (strategy,) = strategies_of([stage])
    chosen = strategy.select(replace(signals, cost=None), len(signals), generator).indices.tolist()
    return [*chosen, *sorted(set(range(len(signals))) - set(chosen))]


def as_queries(pool: Sequence[Example], chosen: Selection, held: Selection, round_: int, name: str) -> list[Query]:
    """The lines of the batch: the chosen ones by rank, the held-out ones behind them."""
    size = chosen.indices.numel() + held.indices.numel()
    batch: list[Query] = []
    for selection, kind in ((chosen, name), (held, HOLDOUT)):
        for at in selection.indices.tolist():
            score = float(selection.scores[at]) if selection.scores is not None else None
            shown = score if score is not None and math.isfinite(score) else None
            batch.append(Query(round_, pool[at].id, len(batch), shown, kind, size))
    return batch
