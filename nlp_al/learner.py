"""The round: fit, score, select, annotate, record. Start reading here."""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nlp_al.annotation import Setting, as_questions, make_annotator
from nlp_al.bench import Bench, make_pool
from nlp_al.cards import model_card
from nlp_al.config import Config, Stage
from nlp_al.errors import RunError
from nlp_al.hub import push
from nlp_al.labelled import write_labelled
from nlp_al.late import note_late
from nlp_al.made_labels import FILE as MADE_LABELS
from nlp_al.made_labels import make_labels
from nlp_al.pool import HOLDOUT, Answer, Example, Query
from nlp_al.processes import Bell, free_memory, leave, processes, shared
from nlp_al.progress import Progress
from nlp_al.query import as_queries, choose_batch, ranked, strategies_of
from nlp_al.relabel import changes_of, names_after
from nlp_al.resume import begin
from nlp_al.samplers import Fitted, make_sampler
from nlp_al.scores import interval, predict, suggest
from nlp_al.signals import OF_MEMBERS, Signals
from nlp_al.signals.collector import Committee, Scorer, collect, collect_members
from nlp_al.signals.surprisal import Surprisal
from nlp_al.store import LABELLED, MODEL, Disk, RunDirectory
from nlp_al.training.fit import Fitter
from nlp_al.watch import Watch

FALLBACK = Stage("coreset")
"""Asks while there is no second class: what lies farthest from all that was seen is likeliest to be of another one."""


ENOUGH, AHEAD = "enough", "ahead"
"""What people's answers are enough for: to go on, or to choose the next batch while they go on with this one."""


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
        self.sampler = make_sampler(config.sampler.name, config.sampler.parameters)
        self._compared = any(strategy.needs & OF_MEMBERS for strategy in strategies_of(config.strategy))
        self.fitter = Fitter(config, self.task, self.bench.encoder, self.sampler.keeps if self._compared else None)
        self.watch = Watch(config, self.bench, self.pool)
        self.bell = Bell()
        self.progress = Progress(config, self.task, enabled=self.state.is_main_process)
        self.disk = disk
        self.store: RunDirectory | None = None
        self.round = 0
        self.model: Scorer | None = None
        self.only_label: Any = None
        self._shared = 0
        self._fitted_to = 0
        self._readers: dict[str, Surprisal] = {}
        self._made: dict[int, list[tuple[str, Any]]] = {}

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
                self._pull()  # what came after the last round's
                self._hand_over()

    # The round

    def _round(self) -> None:
        seconds = dict.fromkeys(("fit", "score", "select", "annotate"), 0.0)
        batch = self.pool.round_queries(self.round)
        if not batch:
            batch = self._ask(self.round, seconds)
        elif self.annotator.ahead_of(len(batch)) is not None:
            self._rank_again(batch)
        with _timed(seconds, "annotate"):
            self._annotate(batch)
        answers = len(self.pool.answers)
        with _timed(seconds, "fit"):
            self._fit(self.round, answers)
        with _timed(seconds, "score"):
            seen = self.watch.observe(self.round, answers, self.model, self._generator("stop"), self.store)
        self._record(batch, answers, seconds, seen)

    def _ask(self, round_: int, seconds: dict[str, float]) -> list[Query]:
        """Chooses the batch of a round, and puts it on the disk before anyone sees it."""
        pool = self.pool.unlabelled()
        stages, name = self._stages(round_)
        with _timed(seconds, "score"):
            signals = self._signals(pool, stages)
        batch: list[Query] = []
        made: list[tuple[str, Any]] | None = None
        with _timed(seconds, "select"):
            if signals is not None and pool:
                holdout = self.config.loop.holdout
                generator = partial(self._generator, round_=round_)
                chosen, held = choose_batch(signals, stages, self._allowance(round_), holdout, generator)
                self.progress.chosen(name, chosen.note)
                batch = as_queries(pool, chosen, held, round_, name)
                asked = [query.id for query in batch]
                made = make_labels(signals, strategies_of(stages), round_, pool, asked, self.task)
            batch, made = shared((batch, made))
        with _timed(seconds, "score"):
            self.watch.asked(batch, self.model, self._generator("stop"), self.store)
        self.pool.queries += batch
        if made is not None:
            self._made[round_] = made
        if self.store is not None:
            if made is not None:  # before the batch, which says that the round has begun
                self.store.append(MADE_LABELS, [{"round": round_, "labels": made}])
            self.store.add_queries(batch)
        return batch

    def _annotate(self, batch: Sequence[Query]) -> None:
        """Waits until enough of the batch is answered; each answer is on the disk as soon as it is here."""
        if self._missing():
            if self.pool.round_queries(self.round + 1) and (self.model is None or self.fitter.frozen):
                self._fit(self.round, len(self.pool.answers))  # the model that chose them went with its process
            self._publish([query for query in self.pool.queries if query.round >= self.round])
        self._pull()
        if self._enough(batch):
            return
        self._rest()
        while self.bell.after(lambda: self._watched(batch)) == AHEAD:
            self._share_answers()
            self._prepare()
            self._rest()
        self._share_answers()

    def _watched(self, batch: Sequence[Query]) -> str:
        """Takes answers until there are enough of them, or enough to choose the next batch. For the main process."""
        while not self._enough(batch):
            if self._time_for_next(batch):
                return AHEAD
            self.progress.waiting(self.round, self._missing(), len(batch))
            time.sleep(self.annotator.seconds_between_pulls)
            self._take()
        return ENOUGH

    def _missing(self) -> int:
        return len(self.pool.unanswered(self.round))

    def _enough(self, batch: Sequence[Query]) -> bool:
        return len(batch) - self._missing() >= self.annotator.enough_of(len(batch))

    def _time_for_next(self, batch: Sequence[Query]) -> bool:
        """Whether the next batch is to be chosen now, while this one is answered."""
        ahead, next_ = self.annotator.ahead_of(len(batch)), self.round + 1
        if ahead is None or len(batch) - self._missing() < ahead:
            return False
        if next_ > self.config.loop.rounds or self.pool.round_queries(next_) or self.watch.ended is not None:
            return False
        labels = [label for _, label in self.pool.labelled()]
        learnable = labels and self.task.only_label(labels) is None
        return bool(learnable and self._allowance(next_) > 0 and self.pool.unlabelled())

    def _prepare(self) -> None:
        """Chooses and publishes the next batch with what is known by now, so that nobody has to wait."""
        self._fit(self.round, len(self.pool.answers))
        self._publish(self._ask(self.round + 1, dict.fromkeys(("score", "select"), 0.0)))

    def _rank_again(self, batch: Sequence[Query]) -> None:
        """Orders what is still open of a batch that was chosen ahead by what is known now; nothing is withdrawn."""
        stages, _ = self._stages(self.round)
        open_ = [query for query in self.pool.unanswered(self.round) if query.strategy != HOLDOUT]
        if not open_ or not strategies_of(stages)[-1].needs_model:
            return
        signals = self._signals([self.pool[query.id] for query in open_], stages[-1:])
        order = ranked(signals, stages[-1], self._generator("ranks")) if signals is not None else []
        places = self.pool.places()
        free = sorted(places[query.id] for query in open_)
        moved = {open_[at].id: place for at, place in zip(order, free, strict=True)}
        if self.store is not None and any(places[name] != place for name, place in moved.items()):
            self.store.append("reranked.jsonl", [{"round": self.round, "places": moved}])
        self.pool.moved |= shared(moved)

    def _publish(self, queries: Sequence[Query]) -> None:
        """Puts questions before the annotators, with what they wish for. All processes take part in making them."""
        examples, wants = [self.pool[query.id] for query in queries], self.annotator.wants
        guesses, vectors = None, None
        if "suggestion" in wants:
            guesses = suggest(self.model, self.task, examples, self._generator("suggestions"))
        if "vector" in wants:
            self.bench.encoder.encode(examples)
            if self.store is not None and examples:
                vectors = self.task.embeddings(self.bench.encoder.rows(examples)).tolist()
        if self.store is not None and queries:
            self.annotator.push(as_questions(queries, examples, self.pool.places(), guesses, vectors))

    def _rest(self) -> None:
        """Gives the accelerator back while people label; the model is on the CPU then."""
        for model in (self.model, self.bench.encoder):
            if model is not None:
                model.rest()
        free_memory()

    def _fit(self, round_: int, answers: int) -> None:
        """Fits on the first `answers` answers; there is no model while only one class has turned up."""
        self._fitted_to = answers
        labelled = self.pool.labelled(answers)
        self.only_label = self.task.only_label([label for _, label in labelled])
        learnable = labelled and self.only_label is None
        made = self._made_labels(round_, {example.id for example, _ in labelled})
        self.model = self.fitter.fit([*labelled, *made], round_, answers, self.store) if learnable else None

    def _made_labels(self, round_: int, known: set[str]) -> list[tuple[Example, Any]]:
        """What the model said itself of other examples than the known ones, as far as today's labels can say it."""
        made = [(self.pool[name], label) for name, label in self._made.get(round_, ()) if name in self.pool]
        return [(e, label) for e, label in made if e.id not in known and self.task.readable(label, e)]

    def _record(self, batch: Sequence[Query], answers: int, seconds: dict[str, float], seen: dict[str, Any]) -> None:
        line: dict[str, Any] = {
            "round": self.round,
            "labelled": len(self.pool.labelled(answers)),
            "answers": answers,
            "cost": self.pool.cost(self.config.loop.unit, self.round),
            "strategy": batch[0].strategy if batch else self.config.strategy_name,
            **self._scores(self.model, answers),
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        if made := self._made.get(self.round):
            line["made_labels"] = len(made)
        line |= self.watch.told(line, seen)
        if self.store is not None:
            self.store.append("metrics.jsonl", [line])
            self.watch.done(self.round, self.store)
        self.progress.round(line)
        self.round += 1

    # What a round is made of

    def _stages(self, round_: int) -> tuple[tuple[Stage, ...], str]:
        """The strategies of this round, and what the queries call them."""
        if round_ == 0:
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
        surprisals = needs & {"surprisal", "masked_surprisal"}
        fitted = needs - from_encoder - surprisals
        if self.model is not None and examples and fitted & OF_MEMBERS:
            made = collect_members(self.model, self._committees(), examples, fitted, self._generator("passes"))
        elif self.model is not None and fitted:
            made = collect(self.model, examples, fitted, self._generator("passes"))
        if from_encoder:
            self.bench.encoder.encode(self.pool.examples)
            if made is not None and examples:
                rows = self.task.embeddings(self.bench.encoder.rows(examples))
                fields: dict[str, Any] = dict.fromkeys(from_encoder, rows)
                made = replace(made, **fields)
        for name in sorted(surprisals):
            reader = self._readers.setdefault(name, Surprisal(self.config.model, self.task, name.startswith("masked")))
            values = reader.of(examples, self.config.loop.seed)
            reader.rest()
            if made is not None:
                found: dict[str, Any] = {name: values}
                made = replace(made, **found)
        return made

    def _committees(self) -> Iterator[Committee]:
        """Groups of models that are compared, beside the fitted one."""
        assert self.model is not None
        labelled = self.pool.labelled(self._fitted_to)
        return self.sampler.committees(
            Fitted(
                self.model,
                labelled,
                seed=lambda purpose: derived_seed(self.config.loop.seed, self.round, f"sampler-{purpose}"),
                another=partial(self.fitter.another, labelled),
                snapshots=partial(self.fitter.snapshots, labelled),
            )
        )

    def _allowance(self, round_: int) -> float:
        """What a round may cost. What a round could not spend is left to the next."""
        loop, most = self.config.loop, self.config.stop.cost
        planned = float(loop.initial + loop.batch * round_)
        return max(0.0, (planned if most is None else min(planned, most)) - self.pool.cost(loop.unit))

    def _pull(self) -> bool:
        """Takes what has been answered since; whether there was anything."""
        before = len(self.pool.answers)
        if self.store is not None:
            self._take()
        self._share_answers()
        return len(self.pool.answers) > before

    def _take(self) -> None:
        """Puts what has been answered since on the disk. For the main process."""
        assert self.store is not None
        fresh = self._fresh_answers()
        self.store.add_answers(fresh, self.round)
        self.pool.answers += fresh

    def _share_answers(self) -> None:
        """Tells all processes of the answers that the main one has taken since the last time."""
        fresh = shared(self.pool.answers[self._shared :])
        if self.store is None:
            self.pool.answers += fresh
        self._shared = len(self.pool.answers)

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
            if not self.annotator.hides_gold:
                self.progress.late(note_late(self.store, self.pool.examples, self.task), len(metrics))
            about = (self.bench.guidelines, self.store.path, self.gold, self.pool.examples, self.pool.answers)
            self.annotator.start(Setting(self.task, *about, names_after(self.bench.changes)))
            self.pool.moved = {k: v for line in self.store.lines("reranked.jsonl") for k, v in line["places"].items()}
            self._made = {line["round"]: line["labels"] for line in self.store.lines(MADE_LABELS)}
        state = (self.pool.queries, self.pool.answers, self.pool.moved, self._made, metrics)
        self.pool.queries, self.pool.answers, self.pool.moved, self._made, metrics = shared(state)
        self._shared = len(self.pool.answers)
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
        return self.round > 0 and (spent or self.watch.ended is not None or not self.pool.unlabelled())

    def finish(self) -> None:
        """Puts the final model in `model/` and the labelled set in `labelled/`, unless they are there. Needs `opened`.

        Answers that came after the last round's are taken too.
        """
        if self._pull():
            self._fit(self.round - 1, len(self.pool.answers))
        if self.model is None:
            self.progress.no_final(self.only_label)
        else:
            self._finish_model(self.model)
        self._hand_over()

    def _finish_model(self, last: Scorer) -> None:
        """The final model, its metrics in `final.json`, and its card, which tells both."""
        answers = len(self.pool.answers)
        about = shared(self.store.read_json("final.json") if self.store is not None else None)
        state = {"round": self.round - 1, "answers": answers, "labels": list(self.task.labels)}
        if about is None or any(about.get(name) != value for name, value in state.items()):
            labelled = self.pool.labelled(answers)
            self.progress.final(len(labelled))
            model = self.fitter.final(labelled, self.round - 1, answers, self.store, last)
            about = {**state, "labelled": len(labelled), **self._scores(model, answers)}
            if self.store is not None:
                self.store.write_json("final.json", about)
                self.progress.finished(about, self.store.path / MODEL)
        if self.store is not None:
            self.store.update(f"{MODEL}/README.md", model_card(self.config, self.task, self.pool, about))

    def _hand_over(self) -> None:
        """Leaves the labelled set, and puts what the config says on the Hub."""

        def leave_it() -> str:
            assert self.store is not None
            rows = write_labelled(self.store, self.config, self.bench, self.pool)
            self.progress.labelled(rows, self.store.path / LABELLED)
            return push(self.store, self.config.push_to_hub)

        wrong = self.bell.after(leave_it)
        self.state.wait_for_everyone()  # the bell goes with the main process, and the others must have heard it
        if wrong:
            raise RunError(wrong)

    # Small tools

    def _generator(self, purpose: str, round_: int | None = None) -> torch.Generator:
        at = self.round if round_ is None else round_
        return torch.Generator().manual_seed(derived_seed(self.config.loop.seed, at, purpose))


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
        changes = changes_of(Path(config.run_dir))
        what = (config.task, config.task_options, config.model, config.labels, config.dataset, changes)
        if known is None or known[0] != what:
            known = (what, Bench.of(config))
        ActiveLearner(config, known[1]).run()
    leave()
