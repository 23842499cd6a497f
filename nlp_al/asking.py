"""Which examples are asked next: the strategies of a round, what they need of the pool, the batch."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from nlp_al.config import Config, Stage
from nlp_al.fields import Fields
from nlp_al.made_labels import Made, make_labels
from nlp_al.pool import HOLDOUT, Example, Pool, Query
from nlp_al.processes import processes, shared
from nlp_al.progress import Progress
from nlp_al.query import as_queries, choose_batch, ranked, strategies_of
from nlp_al.seeds import generator_of
from nlp_al.signals import Signals
from nlp_al.tasks import Task
from nlp_al.training.fit import Fit
from nlp_al.view import View

FALLBACK = Stage("coreset")
"""Asks while there is no second class: what lies farthest from all that was seen is likeliest to be of another one."""


class Asked(NamedTuple):
    """The batch of a round, on all processes.

    made: the labels that the model gives itself for the round, None where no strategy wants any. abstained: of what is
    undecided, the share that a filter left out; None where there is none.
    """

    batch: list[Query]
    made: Made | None = None
    abstained: float | None = None


class Asking:
    """Chooses batches for one run. All processes call its methods together; the main one alone decides."""

    def __init__(self, config: Config, task: Task, pool: Pool, fields: Fields, progress: Progress) -> None:
        self.config = config
        self.task = task
        self.pool = pool
        self.fields = fields
        self.progress = progress

    def choose(self, round_: int, fit: Fit, seconds: dict[str, float]) -> Asked:
        """What is asked in a round. seconds: to `score` and `select` is added what they took."""
        start = time.perf_counter()
        stages, name = self._stages(round_, fit)
        pool = self.pool.unlabelled()
        if not pool and not _relabels(stages):
            return Asked([])
        loop, generator = self.config.loop, partial(generator_of, self.config.loop.seed, round_)
        together = processes().num_processes > 1 and all(strategy.sharded for strategy in strategies_of(stages))
        view = self._view(pool, round_, fit, together)
        choice = choose_batch(view, stages, self.allowance(round_), loop.holdout, generator)
        found = Asked([])
        if choice is not None:
            self.progress.chosen(name, choice.chosen.note)
            names = [example.id for example in (*pool, *self._labelled())]
            batch = as_queries(names, choice.chosen, choice.held, round_, name, self.pool.answered_by())
            asked = [query.id for query in batch]
            seen = [pool[at] for at in choice.positions.tolist()]
            made = make_labels(choice.seen, strategies_of(stages), round_, seen, asked, self.task)
            found = Asked(batch, made, choice.chosen.abstained)
        found = shared(found)
        seconds["score"] += view.seconds
        seconds["select"] += time.perf_counter() - start - view.seconds
        return found

    def order(self, queries: Sequence[Query], round_: int, fit: Fit) -> list[Query]:
        """Open queries of a round that was chosen ahead, in the order of today's model; empty where they need none.

        What asks again about labelled examples stays in the order that it was asked in.
        """
        stages, _ = self._stages(round_, fit)
        (last,) = strategies_of(stages[-1:])
        open_ = [query for query in queries if query.strategy != HOLDOUT]
        if not open_ or not last.needs_model or last.relabels:
            return []
        signals = self._view([self.pool[query.id] for query in open_], round_, fit).look(last)
        generator = generator_of(self.config.loop.seed, round_, "ranks")
        return shared([open_[at] for at in ranked(signals, stages[-1], generator)] if signals is not None else [])

    def left(self) -> bool:
        """Whether anything may still be asked about."""
        again = _relabels(self.config.strategy) and self.pool.askable_again()
        return bool(self.pool.unlabelled() or again)

    def allowance(self, round_: int) -> float:
        """What a round may cost. What a round could not spend is left to the next."""
        loop, most = self.config.loop, self.config.stop.cost
        planned = float(loop.initial + loop.batch * round_)
        return max(0.0, (planned if most is None else min(planned, most)) - self.pool.cost(loop.unit))

    def _stages(self, round_: int, fit: Fit) -> tuple[tuple[Stage, ...], str]:
        """The strategies of a round, and what its queries call them."""
        if round_ == 0:
            return (self.config.initial,), "initial"
        if fit.model is None and any(strategy.needs_model for strategy in strategies_of(self.config.strategy)):
            self.progress.one_class(fit.only_label, FALLBACK.name)
            return (FALLBACK,), FALLBACK.name
        return self.config.strategy, self.config.strategy_name

    def _view(self, examples: Sequence[Example], round_: int, fit: Fit, in_shards: bool = False) -> View:
        labelled = self._labelled()
        again = self.pool.askable_again() if _relabels(self.config.strategy) else ()
        bare = replace(self._bare(examples), round=round_, labelled=self._bare(labelled, again))
        fields, validation = partial(self.fields.of, round_, fit), partial(self.fields.of_validation, round_, fit)
        return View(examples, labelled, bare, fields, in_shards, validation)

    def _labelled(self) -> list[Example]:
        return [example for example, _ in self.pool.labelled()]

    def _bare(self, examples: Sequence[Example], free: Collection[str] | None = None) -> Signals:
        """What asking costs, and what may be asked. free: the ids that may; None: all."""
        may = [self.task.askable(example) and (free is None or example.id in free) for example in examples]
        words = torch.tensor([float(example.words) for example in examples])
        cost = words if self.config.loop.unit == "words" else None
        return Signals(count=len(examples), cost=cost, askable=None if all(may) else torch.tensor(may))


def _relabels(stages: Sequence[Stage]) -> bool:
    return any(strategy.relabels for strategy in strategies_of(stages))
