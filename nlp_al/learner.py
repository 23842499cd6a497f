"""The round: fit, score, select, annotate, record. Start reading here."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nlp_al.annotation import Question, Setting, as_questions, make_annotator
from nlp_al.bench import Bench, make_pool
from nlp_al.config import Config, Stage
from nlp_al.pool import Answer, Example, Query
from nlp_al.processes import leave, processes, shared
from nlp_al.progress import Progress
from nlp_al.query import as_queries, choose_batch, strategies_of
from nlp_al.resume import begin
from nlp_al.scores import interval, predict, suggest
from nlp_al.signals import Signals
from nlp_al.signals.collector import Scorer, collect
from nlp_al.store import Disk, RunDirectory
from nlp_al.training.fit import Fitter

FALLBACK = Stage("coreset")
"""Asks while there is no second class: what lies farthest from all that was seen is likeliest to be of another one."""


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
        self.annotator = make_annotator(config.annotator.name, config.annotator.parameters)
        self.pool, self.gold = make_pool(config, self.bench, self.annotator)
        self.fitter = Fitter(config, self.task, self.bench.encoder)
        self.progress = Progress(config, self.task, enabled=self.state.is_main_process)
        self.disk = disk
        self.store: RunDirectory | None = None
        self.round = 0
        self.model: Scorer | None = None
        self.only_label: Any = None

    def run(self) -> None:
        """All rounds that are left, then the final model.

        Raises:
            UserError: the directory holds another run. RunError: it can't be used.
        """
        with self.opened():
            while not self._finished():
                self._round()
            if self.config.training.final != "none":
                self.finish()

    # The round

    def _round(self) -> None:
        seconds = dict.fromkeys(("fit", "score", "select", "annotate"), 0.0)
        batch = self.pool.round_queries(self.round) or self._ask(seconds)
        with _timed(seconds, "annotate"):
            self._annotate(batch)
        answers = len(self.pool.answers)
        with _timed(seconds, "fit"):
            self._fit(self.round, answers)
        self._record(batch, answers, seconds)

    def _ask(self, seconds: dict[str, float]) -> list[Query]:
        """Chooses the next batch, and puts it on the disk before anyone sees it."""
        pool = self.pool.unlabelled()
        stages, name = self._stages()
        with _timed(seconds, "score"):
            signals = self._signals(pool, stages)
        batch: list[Query] = []
        with _timed(seconds, "select"):
            if signals is not None and pool:
                holdout = self.config.loop.holdout
                chosen, held = choose_batch(signals, stages, self._allowance(), holdout, self._generator)
                batch = as_queries(pool, chosen, held, self.round, name)
            batch = shared(batch)
        self.pool.queries += batch
        if self.store is not None:
            self.store.add_queries(batch)
        return batch

    def _annotate(self, batch: Sequence[Query]) -> None:
        """Waits until enough of the batch is answered; each answer is on the disk as soon as it is here."""
        questions = self._questions(batch) if self.pool.unanswered(self.round) else []
        if self.store is not None and self.pool.unanswered(self.round):
            self.annotator.push(questions)
        while True:
            self._pull()
            missing = len(self.pool.unanswered(self.round))
            if len(batch) - missing >= self.annotator.enough_of(len(batch)):
                return
            self.progress.waiting(self.round, missing, len(batch))
            time.sleep(self.annotator.seconds_between_pulls)

    def _questions(self, batch: Sequence[Query]) -> list[Question]:
        """The batch with what the annotator wishes for; all processes take part in making it."""
        examples, wants = [self.pool[query.id] for query in batch], self.annotator.wants
        guesses, vectors = None, None
        if "suggestion" in wants:
            guesses = suggest(self.model, self.task, examples, self._generator("suggestions"))
        if "vector" in wants:
            self.bench.encoder.encode(examples)
            if self.store is not None and examples:
                vectors = self.task.embeddings(self.bench.encoder.rows(examples)).tolist()
        return as_questions(batch, examples, f"model-of-round-{self.round - 1}", guesses, vectors)

    def _fit(self, round_: int, answers: int) -> None:
        """Fits on the first `answers` answers; there is no model while only one class has turned up."""
        labelled = self.pool.labelled(answers)
        self.only_label = self.task.only_label([label for _, label in labelled])
        learnable = labelled and self.only_label is None
        self.model = self.fitter.fit(labelled, round_, answers, self.store) if learnable else None

    def _record(self, batch: Sequence[Query], answers: int, seconds: dict[str, float]) -> None:
        line: dict[str, Any] = {
            "round": self.round,
            "labelled": len(self.pool.labelled(answers)),
            "answers": answers,
            "cost": self.pool.cost(self.config.loop.unit),
            "strategy": batch[0].strategy if batch else self.config.strategy_name,
            **self._scores(self.model, answers),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        if self.store is not None:
            self.store.append("metrics.jsonl", [line])
        self.progress.round(line)
        self.round += 1

    # What a round is made of

    def _stages(self) -> tuple[tuple[Stage, ...], str]:
        """The strategies of this round, and what the queries call them."""
        if self.round == 0:
            return (self.config.initial,), "initial"
        if self.model is None and any(strategy.needs_model for strategy in strategies_of(self.config.strategy)):
            self.progress.one_class(self.only_label, FALLBACK.name)
            return (FALLBACK,), FALLBACK.name
        return self.config.strategy, self.config.strategy_name

    def _signals(self, pool: Sequence[Example], stages: Sequence[Stage]) -> Signals | None:
        """The fields that the strategies name; None where this is not the main process."""
        strategies = strategies_of(stages)
        signals = self._collect(pool, {name for s in strategies for name in s.needs})
        labelled = [example for example, _ in self.pool.labelled()]
        known = self._collect(labelled, {name for s in strategies for name in s.needs_labelled})
        if signals is None:
            return None
        words = torch.tensor([float(example.words) for example in pool])
        cost = words if self.config.loop.unit == "words" else None
        askable = torch.tensor([self.task.askable(example) for example in pool], dtype=torch.bool)
        return replace(signals, labelled=known, cost=cost, askable=None if askable.all() else askable)

    def _collect(self, examples: Sequence[Example], needs: set[str]) -> Signals | None:
        """Fields of the fitted model; before there is one, the pretrained encoder's embeddings stand for its own."""
        from_encoder = needs & ({"pretrained"} if self.model is not None else {"pretrained", "embeddings"})
        made: Signals | None = Signals(count=len(examples)) if self.state.is_main_process else None
        if self.model is not None and needs - from_encoder:
            made = collect(self.model, examples, needs - from_encoder, self._generator("passes"))
        if from_encoder:
            self.bench.encoder.encode(self.pool.examples)
            if made is not None and examples:
                rows = self.task.embeddings(self.bench.encoder.rows(examples))
                fields: dict[str, Any] = dict.fromkeys(from_encoder, rows)
                made = replace(made, **fields)
        return made

    def _allowance(self) -> float:
        """What this round may cost. What a round could not spend is left to the next."""
        loop, most = self.config.loop, self.config.stop.cost
        planned = float(loop.initial + loop.batch * self.round)
        return max(0.0, (planned if most is None else min(planned, most)) - self.pool.cost(loop.unit))

    def _pull(self) -> bool:
        """Takes what has been answered since; whether there was anything."""
        fresh = shared(self._fresh_answers() if self.store is not None else [])
        if self.store is not None:
            self.store.add_answers(fresh, self.round)
        self.pool.answers += fresh
        return bool(fresh)

    def _fresh_answers(self) -> list[Answer]:
        """What the annotator says that is not known yet. Unknown ids and labels are told, and no answers."""
        pulled, strange = {}, set()
        for answer in self.annotator.pull():
            if answer.id not in self.pool:
                strange.add(answer.id)
            elif answer.status == "submitted" and not self.task.readable(answer.label, self.pool[answer.id]):
                self.progress.no_such_label(answer, self.task.expects(self.pool[answer.id]))
            else:
                pulled[answer.id, answer.annotator] = answer
        self.progress.no_such_id(strange)
        known = {(answer.id, answer.annotator): answer for answer in self.pool.answers}
        return [answer for who, answer in pulled.items() if known.get(who) != answer]

    def _scores(self, model: Scorer | None, answers: int) -> dict[str, Any]:
        """The task's metrics on validation, test and holdout, as far as there are any."""
        found = {name: self.bench.gold(name) for name in ("validation", "test")}
        found["holdout"] = self.pool.labelled(answers, holdout=True)
        generator = self._generator("scores")
        made: dict[str, Any] = {}
        for name, pairs in found.items():
            predicted = predict(model, self.only_label, self.task, [example for example, _ in pairs], generator)
            if predicted is not None and pairs:
                gold = [label for _, label in pairs]
                made[name] = self.task.score(predicted, gold)
                if name == "holdout":
                    made["holdout_interval"] = interval(self.task, predicted, gold, generator)
        return made

    # Beginning, going on, ending

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The run directory, locked, and the state that it left off in; no other process can work in it meanwhile."""
        if self.state.is_main_process:
            self.store = RunDirectory(Path(self.config.run_dir), self.disk)
        try:
            self._go_on()
            yield
        finally:
            self.progress.close()
            if self.store is not None:
                self.store.close()
                self.store = None

    def _go_on(self) -> None:
        metrics: list[dict[str, Any]] = []
        if self.store is not None:
            metrics = begin(self.store, self.config, self.bench, self.pool)
            guidelines = self.task.guidelines(self.config.labels or {})
            self.annotator.start(
                Setting(self.task, guidelines, self.store.path, self.gold, self.pool.examples, self.pool.answers)
            )
        self.pool.queries, self.pool.answers, metrics = shared((self.pool.queries, self.pool.answers, metrics))
        self.round = len(metrics)
        if self.fitter.frozen:
            scored = [example for name in ("validation", "test") for example, _ in self.bench.gold(name)]
            self.bench.encoder.encode([*self.pool.examples, *scored])
        self.progress.start(metrics)
        if metrics:
            self._fit(self.round - 1, metrics[-1]["answers"])

    def _finished(self) -> bool:
        loop, most = self.config.loop, self.config.stop.cost
        if self.round > loop.rounds or self.pool.round_queries(self.round):
            return self.round > loop.rounds
        spent = most is not None and self.pool.cost(loop.unit) >= most
        return self.round > 0 and (spent or not self.pool.unlabelled())

    def finish(self) -> None:
        """Puts the final model in `model/` and its metrics in `final.json`, unless they are there. Needs `opened`.

        Answers that came after the last round's are taken too.
        """
        if self._pull():
            self._fit(self.round - 1, len(self.pool.answers))
        answers = len(self.pool.answers)
        labelled = self.pool.labelled(answers)
        if self.model is None:
            self.progress.no_final(self.only_label)
            return
        known = shared(self.store.read_json("final.json") if self.store is not None else None)
        state = {"round": self.round - 1, "answers": answers, "labels": list(self.task.labels)}
        if known is not None and all(known.get(name) == value for name, value in state.items()):
            return
        self.progress.final(len(labelled))
        model = self.fitter.final(labelled, self.round - 1, answers, self.store, self.model)
        about = {**state, "labelled": len(labelled), **self._scores(model, answers)}
        if self.store is not None:
            self.store.write_json("final.json", about)
            self.progress.finished(about, self.store.path / "model")

    # Small tools

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(self.config.loop.seed, self.round, purpose))


def derived_seed(seed: int, round_: int, purpose: str) -> int:
    """A seed of its own for each use, so that one more draw here moves nothing elsewhere."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{round_}/{purpose}".encode(), digest_size=4).digest(), "big")


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - start


def run_all(configs: Sequence[Config]) -> None:
    """Many runs in one process; those over the same data and weights share what they can."""
    known: tuple[Any, Bench] | None = None
    for config in configs:
        what = (config.task, config.task_options, config.model, config.labels, config.dataset)
        if known is None or known[0] != what:
            known = (what, Bench.of(config))
        ActiveLearner(config, known[1]).run()
    leave()
