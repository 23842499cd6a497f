"""The round: fit, score, select, annotate, record. Start reading here."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nlp_al.annotation import Setting, make_annotator
from nlp_al.answers import AHEAD, Answers
from nlp_al.asking import Asking
from nlp_al.bench import Bench, make_pool
from nlp_al.config import Config
from nlp_al.ending import hand_over, leave_model
from nlp_al.fields import Fields
from nlp_al.late import note_late
from nlp_al.made_labels import FILE as MADE_LABELS
from nlp_al.made_labels import Made, examples_of
from nlp_al.pool import Query
from nlp_al.processes import Bell, free_memory, leave, processes, shared
from nlp_al.progress import Progress
from nlp_al.query import strategies_of
from nlp_al.relabel import changes_of, names_after
from nlp_al.resume import begin
from nlp_al.samplers import make_sampler
from nlp_al.scores import all_scores
from nlp_al.seeds import generator_of
from nlp_al.signals import OF_MEMBERS
from nlp_al.store import Disk, RunDirectory
from nlp_al.training.fit import Fit, Fitter
from nlp_al.watch import Watch


class ActiveLearner:
    """One run: a config, its data, its directory.

    `run` goes on where the directory left off. The main process owns the directory and chooses; the others take part
    in training and scoring, and hear of every batch and answer from it.
    """

    def __init__(self, config: Config, bench: Bench | None = None, disk: Disk | None = None) -> None:
        self.config = config
        self.bench = bench or Bench.of(config)
        self.task = self.bench.task
        self.state = processes()
        self.bell = Bell()
        self.progress = Progress(config, self.task, enabled=self.state.is_main_process)
        self.annotator = make_annotator(config.annotator.name, config.annotator.parameters)
        self.pool, self.gold = make_pool(config, self.bench, self.annotator)
        self.sampler = make_sampler(config.sampler.name, config.sampler.parameters)
        compared = any(strategy.needs & OF_MEMBERS for strategy in strategies_of(config.strategy))
        self._compared = compared or self.sampler.judged
        self.fitter = Fitter(config, self.task, self.bench.encoder, self.sampler.keeps if self._compared else None)
        self.watch = Watch(config, self.bench, self.pool)
        self.fields = Fields(config, self.bench, self.pool, self.fitter, self.sampler)
        self.asking = Asking(config, self.task, self.pool, self.fields, self.progress)
        told = (self.bell, self.progress, config.loop.seed, self.gold)
        self.answers = Answers(self.annotator, self.bench, self.pool, *told)
        self.disk = disk
        self.store: RunDirectory | None = None
        self.round = 0
        self.fit = Fit()
        self.made: dict[int, Made] = {}

    def run(self) -> None:
        """All rounds that are left, then the final model and the labelled set.

        Raises:
            UserError: the directory holds another run. RunError: it can't be used.
        """
        with self.opened():
            while not self._finished():
                self._round()
            self.progress.stopped(self.watch.ended)
            if self.config.training.final != "none":
                self.finish()
            else:
                self.answers.pull(self.round)  # what came after the last round's
                self._hand_over()

    # The round

    def _round(self) -> None:
        seconds = dict.fromkeys(("fit", "score", "select", "annotate"), 0.0)
        batch = self.pool.round_queries(self.round)
        if not batch:
            batch = self._ask(self.round, seconds)
        elif self.annotator.ahead_of(len(batch)) is not None:
            self._rank_again()
        with _timed(seconds, "annotate"):
            self._annotate(batch)
        answers = len(self.pool.answers)
        with _timed(seconds, "fit"):
            self._fit(self.round, answers)
        with _timed(seconds, "score"):
            seen = self.watch.observe(self.round, answers, self.fit.model, self._generator("stop"), self.store)
        self._record(batch, seconds, seen)

    def _ask(self, round_: int, seconds: dict[str, float]) -> list[Query]:
        """Chooses the batch of a round, and puts it on the disk before anyone sees it."""
        batch, made, abstained = self.asking.choose(round_, self.fit, seconds)
        self.watch.filtered(round_, abstained, self.store)
        with _timed(seconds, "score"):
            self.watch.asked(batch, self.fit.model, self._generator("stop"), self.store)
        self.pool.queries += batch
        if made is not None:
            self.made[round_] = made
        if self.store is not None:
            if made is not None:  # before the batch, which says that the round has begun
                self.store.append(MADE_LABELS, [{"round": round_, "labels": made}])
            self.store.add_queries(batch)
        return batch

    def _annotate(self, batch: Sequence[Query]) -> None:
        """Waits until enough of the batch is answered."""
        if self.pool.unanswered(self.round):
            if self.pool.round_queries(self.round + 1) and (self.fit.model is None or self.fitter.frozen):
                self._fit(self.round, len(self.pool.answers))  # the model that chose them went with its process
            self._publish([query for query in self.pool.queries if query.round >= self.round])
        self.answers.pull(self.round)
        if self.answers.enough(batch):
            return
        self._rest()
        while self.answers.wait(batch, self._may_prepare) == AHEAD:
            self._prepare()
            self._rest()

    def _may_prepare(self) -> bool:
        """Whether there is a next batch, and something to choose it by."""
        next_ = self.round + 1
        if next_ > self.config.loop.rounds or self.pool.round_queries(next_) or self.watch.ended is not None:
            return False
        labels = [label for _, label in self.pool.labelled()]
        learnable = labels and self.task.only_label(labels) is None
        return bool(learnable and self.asking.allowance(next_) > 0 and self.asking.left())

    def _prepare(self) -> None:
        """Chooses and publishes the next batch with what is known by now, so that nobody has to wait."""
        self._fit(self.round, len(self.pool.answers))
        self._publish(self._ask(self.round + 1, dict.fromkeys(("score", "select"), 0.0)))

    def _rank_again(self) -> None:
        """Orders what is still open of a batch that was chosen ahead by what is known now; nothing is withdrawn."""
        order = self.asking.order(self.pool.unanswered(self.round), self.round, self.fit)
        places = self.pool.places()
        free = sorted(places[query.id] for query in order)
        moved = {query.id: place for query, place in zip(order, free, strict=True)}
        if self.store is not None and any(places[name] != place for name, place in moved.items()):
            self.store.append("reranked.jsonl", [{"round": self.round, "places": moved}])
        self.pool.moved |= moved

    def _publish(self, queries: Sequence[Query]) -> None:
        self.answers.publish(queries, self.fit.model, self._generator("suggestions"))

    def _rest(self) -> None:
        """Gives the accelerator back while people label; the model is on the CPU then."""
        for model in (self.fit.model, self.bench.encoder):
            if model is not None:
                model.rest()
        free_memory()

    def _fit(self, round_: int, answers: int) -> None:
        """Fits on the first `answers` answers; there is no model while only one class has turned up."""
        labelled = self.pool.labelled(answers)
        only_label = self.task.only_label([label for _, label in labelled])
        model = None
        if labelled and only_label is None:
            known = {example.id for example, _ in labelled}
            made = examples_of(self.made.get(round_, []), self.pool, known, self.task)
            labelled = [*labelled, *made]
            model = self.fitter.fit(labelled, round_, answers, self.store)
        self.fit = Fit(model, only_label, answers, labelled)

    def _record(self, batch: Sequence[Query], seconds: dict[str, float], seen: dict[str, Any]) -> None:
        answers = self.fit.answers
        holdout = self.pool.labelled(answers, holdout=True)
        judges = self.fields.judges(self.round, self.fit)
        line: dict[str, Any] = {
            "round": self.round,
            "labelled": len(self.pool.labelled(answers)),
            "answers": answers,
            "cost": self.pool.cost(self.config.loop.unit, self.round),
            "strategy": batch[0].strategy if batch else self.config.strategy_name,
            **all_scores(self.bench, holdout, self.fit, self._generator("scores"), judges),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        if again := self.pool.asked_again(self.round):
            line["again"] = again
        if made := self.made.get(self.round):
            line["made_labels"] = len(made)
        line |= self.watch.told(line, seen)
        if self.store is not None:
            self.store.append("metrics.jsonl", [line])
            self.watch.done(self.round, self.store)
        self.progress.round(line)
        self.round += 1

    # Beginning, going on, ending

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The run directory, locked, and the state that it left off in; no other process can work in it meanwhile."""
        if self.state.is_main_process:
            self.store = self.answers.store = RunDirectory(Path(self.config.run_dir), self.disk)
        try:
            self._go_on()
            yield
        finally:
            self.progress.close()
            if self.store is not None:
                self.store.close()
                self.store = self.answers.store = None

    def _go_on(self) -> None:
        metrics: list[dict[str, Any]] = []
        if self.store is not None:
            metrics = begin(self.store, self.config, self.bench, self.pool)
            if not self.annotator.hides_gold:
                self.progress.late(note_late(self.store, self.pool.examples, self.task), len(metrics))
            about = (self.bench.guidelines, self.store.path, self.gold, self.pool.examples, self.pool.answers)
            self.annotator.start(Setting(self.task, *about, names_after(self.bench.changes)))
            self.pool.moved = {k: v for line in self.store.lines("reranked.jsonl") for k, v in line["places"].items()}
            self.made = {line["round"]: line["labels"] for line in self.store.lines(MADE_LABELS)}
        state = (self.pool.queries, self.pool.answers, self.pool.moved, self.made, metrics)
        self.pool.queries, self.pool.answers, self.pool.moved, self.made, metrics = shared(state)
        self.answers.shared = len(self.pool.answers)
        self.round = len(metrics)
        if self.fitter.frozen:
            scored = [example for name in ("validation", "test") for example, _ in self.bench.gold(name)]
            self.bench.encoder.encode([*self.pool.examples, *scored])
        if self._compared:
            self.sampler.check_model(self.task, self.config.model)
        self.watch.begin(metrics, self._generator("stop", 0), self.store)
        self.progress.stop_set(len(self.pool.apart), len(self.pool.examples))
        self.progress.start(metrics)
        if metrics:
            self._fit(self.round - 1, metrics[-1]["answers"])

    def _finished(self) -> bool:
        loop, most = self.config.loop, self.config.stop.cost
        if self.round > loop.rounds or self.pool.round_queries(self.round):
            return self.round > loop.rounds
        spent = most is not None and self.pool.cost(loop.unit) >= most
        return self.round > 0 and (spent or self.watch.ended is not None or not self.asking.left())

    def finish(self) -> None:
        """Puts the final model in `model/` and the labelled set in `labelled/`, unless they are there. Needs `opened`.

        Answers that came after the last round's are taken too.
        """
        if self.answers.pull(self.round):
            self._fit(self.round - 1, len(self.pool.answers))
        last = self.fit.model
        if last is None:
            self.progress.no_final(self.fit.only_label)
        else:
            about = (self.config, self.bench, self.pool, self.fitter, last, self.round - 1, self._generator("scores"))
            leave_model(*about, self.progress, self.store)
        self._hand_over()

    def _hand_over(self) -> None:
        hand_over(self.config, self.bench, self.pool, self.bell, self.progress, self.store)

    def _generator(self, purpose: str, round_: int | None = None) -> torch.Generator:
        return generator_of(self.config.loop.seed, self.round if round_ is None else round_, purpose)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - start


def run_all(configs: Sequence[Config]) -> None:
    """Many runs in one process; those over the same data and weights share what they can."""
    known: tuple[Any, Bench] | None = None
    for config in configs:
        changes = changes_of(Path(config.run_dir))
        what = (config.task, config.task_options, config.model, config.labels, config.dataset, changes)
        if known is None or known[0] != what:
            known = (what, Bench.of(config))
        ActiveLearner(config, known[1]).run()
    leave()
