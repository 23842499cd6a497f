"""Which examples are asked next: the strategies of a round, what they need of the pool, the batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from nlp_al.bench import Bench
from nlp_al.config import Config, Stage
from nlp_al.made_labels import Made, make_labels
from nlp_al.pool import HOLDOUT, Example, Pool, Query
from nlp_al.processes import peers, processes, shared
from nlp_al.progress import Progress
from nlp_al.query import as_queries, choose_batch, ranked, strategies_of
from nlp_al.samplers import Fitted, Sampler
from nlp_al.seeds import derived_seed, generator_of
from nlp_al.signals import OF_MEMBERS, SCORES, SURPRISALS, Signals
from nlp_al.signals.collector import Committee, Scorer, collect, collect_members
from nlp_al.signals.first_stage import MARGIN, first_stage, margins
from nlp_al.signals.merging import ordered
from nlp_al.signals.shards import own_rows
from nlp_al.signals.surprisal import Surprisal
from nlp_al.signals.targets import targets
from nlp_al.strategies.scored import parted
from nlp_al.training.fit import Fit, Fitter
from nlp_al.training.frozen import FrozenModel
from nlp_al.view import View

FOLDS = 5
"""Parts of the labelled set, each of which models of the others judge where there is no validation split."""
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

    def __init__(
        self, config: Config, bench: Bench, pool: Pool, fitter: Fitter, sampler: Sampler, progress: Progress
    ) -> None:
        self.config = config
        self.task = bench.task
        self.gold = bench.gold("validation")
        self.encoder = bench.encoder
        self.pool = pool
        self.fitter = fitter
        self.sampler = sampler
        self.progress = progress
        self._readers: dict[str, Surprisal] = {}
        self._first: tuple[list[tuple[Example, Any]], Scorer] | None = None

    def choose(self, round_: int, fit: Fit, seconds: dict[str, float]) -> Asked:
        """What is asked in a round. seconds: to `score` and `select` is added what they took."""
        start = time.perf_counter()
        pool = self.pool.unlabelled()
        stages, name = self._stages(round_, fit)
        if not pool:
            return Asked([])
        loop, generator = self.config.loop, partial(generator_of, self.config.loop.seed, round_)
        together = processes().num_processes > 1 and all(strategy.sharded for strategy in strategies_of(stages))
        view = self._view(pool, round_, fit, together)
        choice = choose_batch(view, stages, self.allowance(round_), loop.holdout, generator)
        found = Asked([])
        if choice is not None:
            self.progress.chosen(name, choice.chosen.note)
            batch = as_queries(pool, choice.chosen, choice.held, round_, name)
            asked = [query.id for query in batch]
            seen = [pool[at] for at in choice.positions.tolist()]
            made = make_labels(choice.seen, strategies_of(stages), round_, seen, asked, self.task)
            found = Asked(batch, made, choice.chosen.abstained)
        found = shared(found)
        seconds["score"] += view.seconds
        seconds["select"] += time.perf_counter() - start - view.seconds
        return found

    def order(self, queries: Sequence[Query], round_: int, fit: Fit) -> list[Query]:
        """Open queries of a round that was chosen ahead, in the order of today's model; empty where they need none."""
        stages, _ = self._stages(round_, fit)
        (last,) = strategies_of(stages[-1:])
        open_ = [query for query in queries if query.strategy != HOLDOUT]
        if not open_ or not last.needs_model:
            return []
        signals = self._view([self.pool[query.id] for query in open_], round_, fit).look(last)
        generator = generator_of(self.config.loop.seed, round_, "ranks")
        return shared([open_[at] for at in ranked(signals, stages[-1], generator)] if signals is not None else [])

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
        words = torch.tensor([float(example.words) for example in examples])
        askable = torch.tensor([self.task.askable(example) for example in examples], dtype=torch.bool)
        cost = words if self.config.loop.unit == "words" else None
        can_ask = None if askable.all() else askable
        bare = Signals(count=len(examples), round=round_, cost=cost, askable=can_ask)
        labelled = [example for example, _ in self.pool.labelled()]
        about = partial(self._collect, round_, fit), in_shards, partial(self._validate, round_, fit)
        return View(examples, labelled, bare, *about)

    def _collect(
        self, round_: int, fit: Fit, examples: Sequence[Example], needs: set[str], in_shards: bool
    ) -> Signals | None:
        """Fields of the fitted model; before there is one, the pretrained encoder's embeddings stand for its own."""
        from_encoder = needs & ({"pretrained"} if fit.model is not None else {"pretrained", "embeddings"})
        surprisals = needs & set(SURPRISALS)
        fixed = {need for need in needs if need.startswith(SCORES) and parted(need)[0] == MARGIN}
        fitted = needs - from_encoder - surprisals - fixed - {"targets", "asked"}
        passes = generator_of(self.config.loop.seed, round_, "passes")
        bare = Signals(count=len(examples))
        made = own_rows(bare, peers()) if in_shards else bare if processes().is_main_process else None
        if fit.model is not None and fitted & OF_MEMBERS:
            made = collect_members(fit.model, self._committees(round_, fit), examples, fitted, passes, in_shards)
        elif fit.model is not None and fitted:
            made = collect(fit.model, examples, fitted, passes, in_shards)
        found: dict[str, Any] = {}
        if fixed:
            said = collect(self._first_model(fit), examples, {"probs"}, passes, in_shards)
            if made is not None and said is not None:
                own = {need.removeprefix(SCORES): margins(said, **parted(need)[1]) for need in fixed}
                found["scores"] = {**(made.scores or {}), **own}
        if "targets" in needs:
            labels = self.pool.labels()
            found |= self._targets([(example, labels[example.id]) for example in examples])
        if "asked" in needs:
            rounds = {query.id: query.round for query in self.pool.queries}
            found["asked"] = torch.tensor([rounds.get(example.id, 0) for example in examples], dtype=torch.int64)
        if from_encoder:
            self.encoder.encode(self.pool.examples)
            read = collect(FrozenModel(self.encoder, self.task), examples, {"embeddings"}, passes, in_shards)
            found |= dict.fromkeys(from_encoder, read and read.embeddings)
        for name in sorted(surprisals):
            if name not in self._readers:
                self._readers[name] = Surprisal.of_field(name, self.config.model, self.task)
            found[name] = self._readers[name].of(examples, self.config.loop.seed)
            self._readers[name].rest()
        return None if made is None else replace(made, **found)

    def _targets(self, labelled: Sequence[tuple[Example, Any]]) -> dict[str, Any]:
        said = targets(self.task, labelled)
        return {"targets": said.targets, "offsets": said.offsets}

    def _validate(self, round_: int, fit: Fit, needs: set[str]) -> Signals | None:
        """Fields of the validation split; where there is none, of the labelled set, with what parts of it say of it."""
        labelled = self.gold or self.pool.labelled()
        if not labelled:
            return None
        made = self._collect(round_, fit, [example for example, _ in labelled], needs - {"targets"}, False)
        found = self._targets(labelled) if "targets" in needs else {}
        if "probs" in needs and not self.gold and fit.model is not None:
            fit.model.rest()
            unseen = self._crossed(round_, labelled)
            found |= {} if unseen is None else {"probs": unseen.probs}
        return None if made is None else replace(made, **found)

    def _crossed(self, round_: int, labelled: Sequence[tuple[Example, Any]]) -> Signals | None:
        """probs of labelled examples, a fifth at a time, by a model of the rest; none where that has a single class."""
        passes, found = generator_of(self.config.loop.seed, round_, "passes"), []
        for fold in range(min(FOLDS, len(labelled))):
            members = list(range(fold, len(labelled), FOLDS))
            rest = [pair for at, pair in enumerate(labelled) if at % FOLDS != fold]
            if self.task.only_label([label for _, label in rest]) is not None or not rest:
                return None
            model = self.fitter.aside(rest)
            said = collect(model, [labelled[at][0] for at in members], {"probs"}, passes)
            model.rest()
            if said is not None:
                found.append((members, said))
        return ordered(found) if found else None

    def _first_model(self, fit: Fit) -> Scorer:
        """The model of the first stage; that of this round where nothing else is labelled yet."""
        labelled = first_stage(self.pool, self.task)
        if self._first is None or self._first[0] != labelled:
            assert fit.model is not None
            same = labelled == self.pool.labelled(fit.answers)
            if not same:
                fit.model.rest()
            self._first = labelled, fit.model if same else self.fitter.aside(labelled)
        return self._first[1]

    def _committees(self, round_: int, fit: Fit) -> Iterator[Committee]:
        """Groups of models that are compared, beside the fitted one."""
        assert fit.model is not None
        return self.sampler.committees(
            Fitted(
                fit.model,
                fit.labelled,
                seed=lambda purpose: derived_seed(self.config.loop.seed, round_, f"sampler-{purpose}"),
                another=partial(self.fitter.another, fit.labelled),
                snapshots=partial(self.fitter.snapshots, fit.labelled),
            )
        )
