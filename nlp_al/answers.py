"""Questions to the annotators, and what they answer: published, taken, waited for, told to all processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from nlp_al.annotation import Annotator, Question, as_questions
from nlp_al.bench import Bench
from nlp_al.pool import Answer, Pool, Query
from nlp_al.processes import Bell
from nlp_al.processes import shared as on_all
from nlp_al.progress import Progress
from nlp_al.refinement import FILE as SUGGESTIONS
from nlp_al.scores import suggest
from nlp_al.signals.collector import Scorer
from nlp_al.store import RunDirectory

ENOUGH, AHEAD = "enough", "ahead"
"""What people's answers are enough for: to go on, or to choose the next batch while they go on with this one."""


class Answers:
    """The answers of one run as they come. All processes call its methods together; the main one has the store.

    store: the run directory, where each answer is as soon as it is here. shared: how many all processes know of.
    """

    def __init__(self, annotator: Annotator, bench: Bench, pool: Pool, bell: Bell, progress: Progress) -> None:
        self.annotator = annotator
        self.task = bench.task
        self.encoder = bench.encoder
        self.pool = pool
        self.bell = bell
        self.progress = progress
        self.store: RunDirectory | None = None
        self.shared = 0

    def publish(self, queries: Sequence[Query], model: Scorer | None, generator: torch.Generator) -> None:
        """Puts questions before the annotators, with what they wish for."""
        examples, wants = [self.pool[query.id] for query in queries], self.annotator.wants
        guesses, vectors = None, None
        if "suggestion" in wants:
            guesses = suggest(model, self.task, examples, generator)
        if "vector" in wants:
            self.encoder.encode(examples)
            if self.store is not None and examples:
                vectors = self.task.embeddings(self.encoder.rows(examples)).tolist()
        if self.store is not None and queries:
            questions = as_questions(queries, examples, self.pool.places(), guesses, vectors)
            self._keep_guesses(questions, self.store)
            self.annotator.push(questions)

    def _keep_guesses(self, questions: Sequence[Question], store: RunDirectory) -> None:
        """Writes down what people are about to see; what was published stays, so the first guess of each holds."""
        known = {line["id"] for line in store.lines(SUGGESTIONS)}
        store.append(
            SUGGESTIONS,
            [
                {
                    "round": one.round,
                    "id": one.example.id,
                    "label": one.suggestion,
                    "confidence": one.confidence,
                    "agent": one.agent,
                    "answers": len(self.pool.answers),
                }
                for one in questions
                if one.example.id not in known and one.shows(self.task)
            ],
        )

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
