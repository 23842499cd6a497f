"""Questions to the annotators, and what they answer: published, taken, waited for, told to all processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nlp_al.annotation import Annotator, Guess, as_questions, showable
from nlp_al.bench import Bench
from nlp_al.pool import HOLDOUT, Answer, Pool, Query
from nlp_al.processes import Bell
from nlp_al.processes import shared as on_all
from nlp_al.progress import Progress
from nlp_al.refinement import FILE as SUGGESTIONS
from nlp_al.refinement import guesses_of, whole_rounds
from nlp_al.scores import explain, suggest
from nlp_al.seeds import derived_seed
from nlp_al.signals.collector import Scorer
from nlp_al.store import RunDirectory

ENOUGH, AHEAD = "enough", "ahead"
"""What people's answers are enough for: to go on, or to choose the next batch while they go on with this one."""


class Answers:
    """The answers of one run as they come. All processes call its methods together; the main one has the store.

    store: the run directory, where each answer is as soon as it is here. shared: how many all processes know of.
    seed: the run's. gold: labels by id, in a simulation.
    """

    def __init__(
        self,
        annotator: Annotator,
        bench: Bench,
        pool: Pool,
        bell: Bell,
        progress: Progress,
        seed: int = 0,
        gold: Mapping[str, Any] | None = None,
    ) -> None:
        self.annotator = annotator
        self.seed = seed
        self.gold = gold or {}
        self.task = bench.task
        self.changes = bench.changes
        self.encoder = bench.encoder
        self.pool = pool
        self.bell = bell
        self.progress = progress
        self.store: RunDirectory | None = None
        self.shared = 0

    def publish(self, queries: Sequence[Query], model: Scorer | None, generator: torch.Generator) -> None:
        """Puts questions before the annotators, with what they wish for."""
        examples, wants = [self.pool[query.id] for query in queries], self.annotator.wants
        guesses, vectors = {}, None
        if "suggestion" in wants:
            guesses = self._guesses(queries, model, generator)
        if "vector" in wants:
            self.encoder.encode(examples)
            if self.store is not None and examples:
                vectors = self.task.embeddings(self.encoder.rows(examples)).tolist()
        if self.store is not None and queries:
            self.annotator.push(as_questions(queries, examples, self.pool.places(), guesses, vectors))

    def _guesses(self, queries: Sequence[Query], model: Scorer | None, generator: torch.Generator) -> dict[str, Guess]:
        """What people are shown of the model, by id, which is written down before they see it.

        What was published stays, so a batch keeps the guesses that it had at first; the initial set had none. Nobody is
        shown a guess of what is held out: it would draw their answers.
        """
        lines = self.store.lines(SUGGESTIONS) if self.store is not None else []
        known = {0, *whole_rounds(lines)}
        fresh = on_all([query for query in queries if query.round not in known and query.strategy != HOLDOUT])
        examples = [self.pool[query.id] for query in fresh]
        made = suggest(model, self.task, examples, generator)
        salient = None
        if model is not None and examples and "explanation" in self.annotator.wants:
            salient = explain(model, examples)
        if self.store is None:
            return {}
        new = []
        for at, (query, (label, confidence)) in enumerate(zip(fresh, made or (), strict=False)):
            if showable(label, examples[at], self.task):
                line = {"round": query.round, "id": query.id, "label": label, "confidence": confidence}
                line |= {"agent": f"model-of-round-{query.round - 1}", "answers": len(self.pool.answers)}
                line |= {"shown": not self._is_control(query)}
                line |= {"salient": salient[at]} if salient is not None else {}
                line |= {"gold": self.gold[query.id]} if query.id in self.gold else {}
                new.append(line)
        sizes, there = Counter(line["round"] for line in new), {line["id"] for line in lines}
        new = [{**line, "batch": sizes[line["round"]]} for line in new if line["id"] not in there]
        self.store.append(SUGGESTIONS, new)
        return guesses_of([*lines, *new], self.task, self.changes)

    def _is_control(self, query: Query) -> bool:
        """Whether people are asked about it without the model's guess: drawn at random, and the same in every start."""
        return derived_seed(self.seed, query.round, f"control {query.id}") / 2**32 < self.annotator.control

    def pull(self, round_: int) -> bool:
        """Takes what has been answered since; whether there was anything. round_: the one that is written beside it."""
        before = len(self.pool.answers)
        if self.store is not None:
            self._take(round_)
        self._share()
        return len(self.pool.answers) > before

    def enough(self, batch: Sequence[Query]) -> bool:
        """Whether the round of this batch can go on."""
        return not batch or len(batch) - self._missing(batch) >= self.annotator.enough_of(len(batch))

    def ahead(self, batch: Sequence[Query]) -> bool:
        """Whether so much of the batch is answered that the next is to be chosen."""
        most = self.annotator.ahead_of(len(batch))
        return most is not None and len(batch) - self._missing(batch) >= most

    def wait(self, batch: Sequence[Query], next_: Callable[[], bool]) -> str:
        """Returns when there are enough answers, or when the next batch is to be chosen meanwhile: ENOUGH or AHEAD.

        next_: whether there is a next batch to choose.
        """
        said = self.bell.after(lambda: self._watch(batch, next_))
        self._share()
        return said

    def _watch(self, batch: Sequence[Query], next_: Callable[[], bool]) -> str:
        while not self.enough(batch):
            if self.ahead(batch) and next_():
                return AHEAD
            self.progress.waiting(batch[0].round, self._missing(batch), len(batch))
            time.sleep(self.annotator.seconds_between_pulls)
            self._take(batch[0].round)
        return ENOUGH

    def _missing(self, batch: Sequence[Query]) -> int:
        return len(self.pool.unanswered(batch[0].round))

    def _take(self, round_: int) -> None:
        """Puts what has been answered since on the disk."""
        assert self.store is not None
        fresh = self._fresh()
        self.store.add_answers(fresh, round_)
        self.pool.answers += fresh

    def _share(self) -> None:
        """Tells all processes of the answers that the main one has taken since the last time."""
        fresh = on_all(self.pool.answers[self.shared :])
        if self.store is None:
            self.pool.answers += fresh
        self.shared = len(self.pool.answers)

    def _fresh(self) -> list[Answer]:
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
