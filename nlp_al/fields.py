"""What is known of examples when a batch is chosen: each field, and who says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from nlp_al.bench import Bench
from nlp_al.calibration import Calibrated, temperature
from nlp_al.config import Config
from nlp_al.errors import RunError
from nlp_al.out_of_fold import Labelled, out_of_fold
from nlp_al.pool import Example, Pool
from nlp_al.processes import peers, processes, shared
from nlp_al.samplers import Fitted, Sampler
from nlp_al.seeds import derived_seed, generator_of
from nlp_al.signals import OF_MEMBERS, SCORES, SURPRISALS, Signals
from nlp_al.signals.collector import Committee, Scorer, collect, collect_members
from nlp_al.signals.first_stage import MARGIN, first_stage, margins
from nlp_al.signals.merging import merge
from nlp_al.signals.shards import own_rows
from nlp_al.signals.surprisal import Surprisal
from nlp_al.signals.targets import targets, votes
from nlp_al.strategies.scored import parted
from nlp_al.training.fit import Fit, Fitter
from nlp_al.training.frozen import FrozenModel

FOLDS = 5
"""Parts of the labelled set, each of which models of the others judge where there is no validation split."""


class Fields:
    """Makes fields of one run's examples. All processes call its methods together.

    A field is of the round's model, of a committee, of the model of the first stage, of the pretrained encoder or
    language model, or stands in what was asked and answered.
    """

    def __init__(self, config: Config, bench: Bench, pool: Pool, fitter: Fitter, sampler: Sampler) -> None:
        self.config = config
        self.task = bench.task
        self.encoder = bench.encoder
        self.gold = bench.gold("validation")
        self.pool = pool
        self.fitter = fitter
        self.sampler = sampler
        self._readers: dict[str, Surprisal] = {}
        self._first: tuple[Labelled, Scorer] | None = None
        self._calibrated: tuple[Fit, Scorer] | None = None

    def of(
        self, round_: int, fit: Fit, examples: Sequence[Example], needs: set[str], in_shards: bool = False
    ) -> Signals | None:
        """The named fields, on the main process; None on the others. In shards: each process's own rows."""
        encoded = needs & ({"pretrained"} if fit.model is not None else {"pretrained", "embeddings"})
        surprisals = needs & set(SURPRISALS)
        first = {need for need in needs if need.startswith(SCORES) and parted(need)[0] == MARGIN}
        told, crossed = needs & {"targets", "asked", "votes"}, needs & {"out_of_fold"}
        parts = [
            self._of_model(round_, fit, examples, needs - encoded - surprisals - first - told - crossed, in_shards),
            self._of_first_stage(round_, fit, examples, first, in_shards),
            self._of_encoder(round_, examples, encoded, in_shards),
            self._of_language_model(examples, surprisals),
            self._of_answers(examples, told),
            self._of_folds(round_, fit, examples) if crossed else None,
        ]
        bare = Signals(count=len(examples))
        if in_shards:
            bare = own_rows(bare, peers())
        elif not processes().is_main_process:
            return None
        return merge([bare, *(part for part in parts if part is not None)])

    def of_validation(self, round_: int, fit: Fit, needs: set[str]) -> Signals | None:
        """Fields of the validation split; where there is none, of the labelled set, with what parts of it say of it."""
        labelled = self.gold or self.pool.labelled()
        if not labelled:
            return None
        made = self.of(round_, fit, [example for example, _ in labelled], needs - {"targets"})
        unseen = None
        if "probs" in needs and not self.gold and fit.model is not None:
            fit.model.rest()
            with suppress(RunError):
                unseen = self._out_of_fold(round_, labelled)
        known = targets(self.task, labelled) if "targets" in needs else None
        return None if made is None else merge([made, *(part for part in (unseen, known) if part is not None)])

    def _of_model(
        self, round_: int, fit: Fit, examples: Sequence[Example], needs: set[str], in_shards: bool
    ) -> Signals | None:
        """What the model of the round says, or a committee around it; nothing before there is one."""
        if fit.model is None or not needs:
            return None
        passes = generator_of(self.config.loop.seed, round_, "passes")
        parts, plain = [], needs
        if needs & OF_MEMBERS:
            plain = needs - OF_MEMBERS if self.config.training.calibrate else set()
            committees = self._committees(round_, fit)
            parts.append(collect_members(fit.model, committees, examples, needs - plain, passes, in_shards))
        if plain:
            parts.append(collect(self._model(round_, fit), examples, plain, passes, in_shards))
        found = [part for part in parts if part is not None]
        return merge(found) if found else None

    def _model(self, round_: int, fit: Fit) -> Scorer:
        """The model of the round, at its temperature where that is asked for."""
        assert fit.model is not None
        if not self.config.training.calibrate:
            return fit.model
        if self._calibrated is None or self._calibrated[0] is not fit:
            self._calibrated = fit, Calibrated(fit.model, self._temperature(round_, fit.model))
        return self._calibrated[1]

    def _temperature(self, round_: int, model: Scorer) -> float:
        labelled = self.gold or self.pool.labelled()
        passes = generator_of(self.config.loop.seed, round_, "passes")
        said = None
        if self.gold:
            said = collect(model, [example for example, _ in labelled], {"probs"}, passes)
        else:
            model.rest()
            with suppress(RunError):
                said = self._out_of_fold(round_, labelled)
        known = targets(self.task, labelled).targets
        return shared(1.0 if said is None or known is None else temperature(said.decisions, known))

    def _of_folds(self, round_: int, fit: Fit, examples: Sequence[Example]) -> Signals | None:
        """What models say of labelled examples that they did not learn from; where labels are too few, the round's."""
        labels = self.pool.labels()
        assert fit.model is not None
        fit.model.rest()
        try:
            said = self._out_of_fold(round_, [(example, labels[example.id]) for example in examples])
        except RunError:
            said = self._of_model(round_, fit, examples, {"probs"}, False)
        if said is None:
            return None
        return Signals(out_of_fold=said.probs, offsets=said.offsets, options=said.options)

    def _of_first_stage(
        self, round_: int, fit: Fit, examples: Sequence[Example], needs: set[str], in_shards: bool
    ) -> Signals | None:
        """Margins to the boundary of the model that knew the initial set alone."""
        if not needs:
            return None
        passes = generator_of(self.config.loop.seed, round_, "passes")
        said = collect(self._first_model(fit), examples, {"probs"}, passes, in_shards)
        if said is None:
            return None
        own = {need.removeprefix(SCORES): margins(said, **parted(need)[1]) for need in needs}
        return Signals(count=len(said), scores=own, shard=said.shard)

    def _of_encoder(self, round_: int, examples: Sequence[Example], needs: set[str], in_shards: bool) -> Signals | None:
        """Embeddings that were never fine-tuned; before there is a model, they stand for its own."""
        if not needs:
            return None
        self.encoder.encode(self.pool.examples)
        passes = generator_of(self.config.loop.seed, round_, "passes")
        read = collect(FrozenModel(self.encoder, self.task), examples, {"embeddings"}, passes, in_shards)
        if read is None:
            return None
        found: dict[str, Any] = {"embeddings": None, **dict.fromkeys(needs, read.embeddings)}
        return replace(read, **found)

    def _of_language_model(self, examples: Sequence[Example], needs: set[str]) -> Signals | None:
        """How surprising a pretrained masked language model finds them."""
        found: dict[str, Any] = {}
        for name in sorted(needs):
            if name not in self._readers:
                self._readers[name] = Surprisal.of_field(name, self.config.model, self.task)
            found[name] = self._readers[name].of(examples, self.config.loop.seed)
            self._readers[name].rest()
        return Signals(**found) if found and processes().is_main_process else None

    def _of_answers(self, examples: Sequence[Example], needs: set[str]) -> Signals | None:
        """The labels of labelled examples, who gave which, and the rounds in which they were first asked about."""
        parts = []
        if "votes" in needs:
            parts.append(votes(self.task, examples, self.pool.last()))
        if "targets" in needs:
            labels = self.pool.labels()
            parts.append(targets(self.task, [(example, labels[example.id]) for example in examples]))
        if "asked" in needs:
            rounds = {name: query.round for name, query in self.pool.first_queries().items()}
            asked = torch.tensor([rounds.get(example.id, 0) for example in examples], dtype=torch.int64)
            parts.append(Signals(asked=asked))
        return merge(parts) if parts else None

    def _out_of_fold(self, round_: int, labelled: Labelled) -> Signals | None:
        """probs and targets of labelled examples, a fifth at a time, by a model of the rest, on the main process.

        Raises:
            RunError: without one of the parts there is too little to learn from; on all processes.
        """
        passes = generator_of(self.config.loop.seed, round_, "passes")
        return out_of_fold(self.task, self.fitter.aside, labelled, min(FOLDS, len(labelled)), passes)

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

    def judges(self, round_: int, fit: Fit) -> Callable[[], Iterator[Committee]] | None:
        """What the metrics of a round are of, where that is not its model."""
        if fit.model is None or not self.sampler.judged:
            return None
        return lambda: self.sampler.judges(self._fitted(round_, fit))

    def _committees(self, round_: int, fit: Fit) -> Iterator[Committee]:
        """Groups of models that are compared, beside the fitted one."""
        return self.sampler.committees(self._fitted(round_, fit))

    def _fitted(self, round_: int, fit: Fit) -> Fitted:
        assert fit.model is not None
        return Fitted(
            fit.model,
            fit.labelled,
            seed=lambda purpose: derived_seed(self.config.loop.seed, round_, f"sampler-{purpose}"),
            another=partial(self.fitter.another, fit.labelled),
            snapshots=partial(self.fitter.snapshots, fit.labelled),
        )
