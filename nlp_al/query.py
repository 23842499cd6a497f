"""One query batch out of what a model says about the pool."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from nlp_al.config import Stage
from nlp_al.placing import placed
from nlp_al.pool import HOLDOUT, Query
from nlp_al.processes import shared
from nlp_al.signals import Signals
from nlp_al.strategies import Selection, Strategy, make_strategy
from nlp_al.strategies.sieve import Sieve
from nlp_al.view import View

Choose = Callable[[Signals, float, torch.Generator], Selection]


@dataclass(frozen=True)
class Choice:
    """A batch as positions in the pool, those of the labelled set behind it, and what the last stage saw.

    chosen: what the stages share out. held: what is held out. seen: the signals of what the last stage chose among,
    and positions: int64[n], where that stands in the pool.
    """

    chosen: Selection
    held: Selection
    seen: Signals
    positions: torch.Tensor


def strategies_of(stages: Sequence[Stage]) -> list[Strategy]:
    """The strategies behind the stages."""
    return [make_strategy(stage.name, **stage.parameters) for stage in stages]


def choose_batch(
    view: View,
    stages: Sequence[Stage],
    allowance: float,
    holdout: float,
    generator: Callable[[str], torch.Generator],
) -> Choice | None:
    """The batch, on the main process; None on the others. All call it together.

    The holdout's share is drawn first, at random. Each stage chooses among what the one before it hands on, and only
    for that are its fields made; the last one shares out the rest.
    allowance: what all may cost together. generator: a generator for each purpose.
    """
    held = _held_out(view.bare, allowance, holdout, generator(HOLDOUT))
    free = torch.ones(len(view), dtype=torch.bool)
    free[held.indices] = False
    view.keep(torch.nonzero(free).flatten())
    cost, draws = view.bare.cost, generator("select")
    spent = float(cost[held.indices].sum()) if cost is not None else held.indices.numel()
    *first, last = strategies_of(stages)
    told: list[Selection] = []
    for stage, strategy in zip(stages, first, strict=False):
        inner = _sifted(view, strategy, stage.keep or 0, draws, told, priced=False)
        signals = view.look(inner)
        kept = torch.zeros(0, dtype=torch.int64)
        if signals is not None and len(view):
            told.append(_chosen(inner.select, replace(signals, cost=None), stage.keep or 0, draws))
            kept = told[-1].indices
        view.keep(shared(kept))
    inner = _sifted(view, last, allowance - spent, draws, told)
    signals = view.look(inner)
    if signals is None:
        return None
    if len(view) or inner.relabels:
        told.append(_chosen(inner.select, signals, allowance - spent, draws))
    else:  # nothing of what the strategy needs was made
        told.append(Selection(torch.zeros(0, dtype=torch.int64)))
    note = "; ".join(filter(None, (one.note for one in told)))
    abstained = next((one.abstained for one in told if one.abstained is not None), None)
    found = told[-1]
    places = view.positions
    if found.relabel and signals.labelled is not None:
        places = torch.cat([places, len(view.bare) + torch.arange(len(signals.labelled))])
    chosen = Selection(places[found.indices], _spread(found.scores, places, view), note, abstained)
    return Choice(chosen, held, signals, view.positions)


def _chosen(choose: Choose, signals: Signals, size: float, draws: torch.Generator) -> Selection:
    return placed(lambda near: choose(near, size, draws), signals, draws)


def _sifted(
    view: View, strategy: Strategy, size: float, draws: torch.Generator, told: list[Selection], priced: bool = True
) -> Strategy:
    """Leaves what the strategy's sieves let through, one after the other; the strategy that is to choose among it."""
    while isinstance(strategy, Sieve):
        signals = view.look(type(strategy))
        kept = torch.zeros(0, dtype=torch.int64)
        if signals is not None and len(view):
            told.append(_chosen(strategy.sift, signals if priced else replace(signals, cost=None), size, draws))
            kept = told[-1].indices
        view.keep(shared(kept))
        strategy = strategy.inner()
    return strategy


def _held_out(bare: Signals, allowance: float, holdout: float, generator: torch.Generator) -> Selection:
    """The holdout's share of a batch, the same on all processes."""
    share = holdout * allowance if bare.cost is not None else math.floor(holdout * allowance + 0.5)
    if share <= 0:
        return Selection(torch.zeros(0, dtype=torch.int64))
    return make_strategy("random").select(replace(bare, askable=None), share, generator)


def _spread(scores: torch.Tensor | None, places: torch.Tensor, view: View) -> torch.Tensor | None:
    """Scores of what is left as scores of the whole pool; what was sieved out has minus infinity."""
    if scores is None:
        return None
    whole = torch.full((len(view.bare) + len(places) - len(view),), -torch.inf, dtype=scores.dtype)
    return whole.index_copy_(0, places, scores)


def ranked(signals: Signals, stage: Stage, generator: torch.Generator) -> list[int]:
    """All positions, those that the stage would ask about first at the front."""
    (strategy,) = strategies_of([stage])
    chosen = _chosen(strategy.select, replace(signals, cost=None), len(signals), generator).indices.tolist()
    return [*chosen, *sorted(set(range(len(signals))) - set(chosen))]


def as_queries(
    names: Sequence[str],
    chosen: Selection,
    held: Selection,
    round_: int,
    name: str,
    answered: Mapping[str, tuple[str, ...]],
) -> list[Query]:
    """The lines of the batch: the chosen ones by rank, the held-out ones behind them.

    names: the ids of the pool, and of the labelled set behind it. answered: by id, who has answered it.
    """
    size = chosen.indices.numel() + held.indices.numel()
    batch: list[Query] = []
    for selection, kind in ((chosen, name), (held, HOLDOUT)):
        for at in selection.indices.tolist():
            score = float(selection.scores[at]) if selection.scores is not None else None
            shown = score if score is not None and math.isfinite(score) else None
            batch.append(Query(round_, names[at], len(batch), shown, kind, size, answered.get(names[at], ())))
    return batch
