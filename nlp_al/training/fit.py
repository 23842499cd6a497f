"""The model of a round, by mode: fine-tuned, or a head on frozen features."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlp_al.config import Config
from nlp_al.pool import Example
from nlp_al.processes import processes, shared
from nlp_al.signals.collector import Scorer
from nlp_al.signals.features import Encoder
from nlp_al.signals.loading import load_tokenizer
from nlp_al.store import MODEL, START, RunDirectory
from nlp_al.tasks import Task
from nlp_al.training.frozen import FrozenModel, fit_head
from nlp_al.training.full import FineTuned, FineTunedEncoder, fine_tune, load_model, parts_of, scorer_of
from nlp_al.training.lora import merged
from nlp_al.training.snapshots import Snapshots

Labelled = Sequence[tuple[Example, Any]]


@dataclass(frozen=True)
class Fit:
    """What a round has learnt.

    model: None while all labels are of one class, `only_label`, or there are none. answers: how many were known then.
    labelled: what it was fitted to.
    """

    model: Scorer | None = None
    only_label: Any = None
    answers: int = 0
    labelled: Labelled = ()


class Fitter:
    """Fits one run's models. All processes call it together; the main one alone has the store."""

    def __init__(
        self, config: Config, task: Task, encoder: Encoder, keeps: Callable[[], Snapshots | None] | None = None
    ) -> None:
        """keeps: makes what keeps snapshots of a fit, where someone wants them."""
        self.config = config
        self._keeps = keeps or (lambda: None)
        self._kept: tuple[Scorer, Snapshots] | None = None
        self.task = task
        self.encoder = encoder
        self.frozen = config.training.mode == "frozen"
        self._folder = Path(config.run_dir, MODEL)

    def fit(self, labelled: Labelled, round_: int, answers: int, store: RunDirectory | None) -> Scorer:
        """The model of a round; one that was saved and knows its answers is taken as it is."""
        if self.frozen:
            return fit_head(self.encoder, self.task, labelled) if store else FrozenModel(self.encoder, self.task)
        saved = self._saved(store)
        # A newer one serves as well: it is there only once the batch that this one was to choose is answered.
        if saved is not None and saved["answers"] >= answers and saved["labels"] == list(self.task.labels):
            return self._load()
        warm = self.config.training.init == "last" and saved is not None
        return self._fine_tune(str(self._folder) if warm else self.config.model, labelled, round_, answers, store)

    def final(self, labelled: Labelled, round_: int, answers: int, store: RunDirectory | None, last: Scorer) -> Scorer:
        """The model that users get: the last round's, or in frozen mode one that is fine-tuned now."""
        if not self.frozen:
            return last
        if self._saved(store) == self._about(round_, answers):
            return self._load()
        return self._fine_tune(self.config.model, labelled, round_, answers, store)

    def _fine_tune(
        self, source: str, labelled: Labelled, round_: int, answers: int, store: RunDirectory | None
    ) -> FineTuned | FineTunedEncoder:
        snapshots = self._keeps()
        model = fine_tune(source, self.task, labelled, self.config.training, self.config.loop.seed, snapshots)
        self._kept = (model, snapshots) if snapshots is not None else None
        if store is not None:
            self._keep_start(store, snapshots is not None and source == str(self._folder))
            store.swap(MODEL, model.save, self._about(round_, answers))
        processes().wait_for_everyone()
        return model

    def _keep_start(self, store: RunDirectory, wanted: bool) -> None:
        """Keeps what is in `model/` now, that snapshots on the way from there may be had again after a restart."""

        def fill(folder: Path) -> None:
            shutil.copytree(self._folder, folder, dirs_exist_ok=True, ignore=lambda *_: {"nlp_al.json"})

        if wanted:
            store.swap(START, fill, store.made_from(MODEL) or {})
        else:
            store.remove(START)

    def aside(self, labelled: Labelled) -> Scorer:
        """A model of the mode that knows these labels alone, from the pretrained weights; it is not saved."""
        if not self.frozen:
            return self.another(labelled, self.config.loop.seed)
        if not processes().is_main_process:
            return FrozenModel(self.encoder, self.task)
        return fit_head(self.encoder, self.task, labelled)

    def another(self, labelled: Labelled, seed: int) -> Scorer:
        """A model from the pretrained weights and another seed, which is not saved."""
        return fine_tune(self.config.model, self.task, labelled, self.config.training, seed)

    def snapshots(self, labelled: Labelled, averaged: bool = False) -> Iterator[Scorer]:
        """The models along the fit to these labels, the last one at the end; after a restart it is done again.

        averaged: one model alone, with the mean of their weights.
        """
        if self._kept is None:
            snapshots = self._keeps()
            assert snapshots is not None
            training, seed = self.config.training, self.config.loop.seed
            start = self._folder.with_name(START)
            there = shared(start.exists() and training.init == "last")
            source = str(start) if there else self.config.model
            self._kept = (fine_tune(source, self.task, labelled, training, seed, snapshots), snapshots)
        model, snapshots = self._kept
        inner, tokenizer = parts_of(model)
        for found in snapshots.models(inner, merged, averaged):
            yield scorer_of(found, tokenizer, self.task, self.config.training)

    def _about(self, round_: int, answers: int) -> dict[str, Any]:
        return {"round": round_, "answers": answers, "labels": list(self.task.labels)}

    def _load(self) -> FineTuned | FineTunedEncoder:
        source = str(self._folder)
        training = self.config.training
        model = load_model(source, self.task, training.attn_implementation)
        return scorer_of(model, load_tokenizer(source), self.task, training)

    def _saved(self, store: RunDirectory | None) -> dict[str, Any] | None:
        return shared(store.made_from(MODEL) if store is not None else None)
