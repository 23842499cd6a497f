"""Examples by stable id, what was asked of them and what was answered: labelled, asked, unlabelled, discarded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nlp_al.aggregation import DATASET, Aggregation, Majority

HOLDOUT = "holdout"
"""What queries call an example that is never trained on."""

STATUSES = ("submitted", "draft", "discarded", "skipped", "unreadable", "retracted")

FOLDED = 4
"""Numbers of answers whose labels are kept."""

OPEN = ("draft", "retracted")
"""Those of an answer that is still to come."""


@dataclass(frozen=True)
class Example:
    """One row of a data set. inputs: what the model reads (a text, or a tuple of words). words: the cost of reading it.

    label: the gold label by name (a name, or a list of names), None where there is none.
    """

    id: str
    inputs: Any
    words: int
    label: Any = None

    @cached_property
    def key(self) -> bytes:
        """A hash of the inputs: the same text is the same key in every run."""
        return content_hash(self.inputs)


def content_hash(inputs: Any) -> bytes:
    """16 bytes that stand for what the model reads."""
    return hashlib.blake2b(json.dumps(inputs, ensure_ascii=False).encode(), digest_size=16).digest()


def made_ids(keys: Iterable[bytes]) -> list[str]:
    """Ids for rows that bring none: the hash of the text, and an ordinal among equal texts."""
    seen: Counter[bytes] = Counter()
    ids = []
    for key in keys:
        ids.append(f"{key.hex()}-{seen[key]}")
        seen[key] += 1
    return ids


@dataclass(frozen=True)
class Query:
    """An example that was asked about. batch: the size of the batch that it belongs to.

    before: the annotators who had answered it by then. There are none unless it is asked again, of somebody else.
    """

    round: int
    id: str
    rank: int
    score: float | None
    strategy: str
    batch: int
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What one annotator says of one example. status: one of STATUSES. scope: a region [start, end), or None: all.

    note, reply: what they wrote beside it, and a response that would be better than all candidates.
    """

    id: str
    label: Any
    annotator: str
    status: str = "submitted"
    scope: tuple[int, int] | None = None
    note: str = ""
    reply: str = ""


@dataclass
class Pool:
    """The train split in its fixed order, with everything asked and answered so far.

    moved: places of examples that were put into another order after they were asked about. fold: makes one label of
    several annotators' answers. needs: how many annotators' answers a question waits for, by id. people: how many can
    be asked about one example, one after the other. apart: ids that nobody is asked about.

    The order is that of the ids' hashes, so that ties never favour the first rows of a file sorted by class.
    """

    examples: Sequence[Example]
    queries: list[Query] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    moved: dict[str, int] = field(default_factory=dict)
    fold: Aggregation = field(default_factory=Majority)
    needs: Callable[[str], int] = field(default=lambda name: 1)
    people: int = 1
    apart: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.examples = sorted(self.examples, key=lambda e: hashlib.blake2b(e.id.encode()).digest())
        self._by_id = {example.id: example for example in self.examples}
        self._folded: dict[int, tuple[list[Answer], dict[str, Any]]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_id

    def __getitem__(self, name: str) -> Example:
        return self._by_id[name]

    def labels(self, answers: int | None = None) -> dict[str, Any]:
        """The label of each labelled example, out of the first `answers` answers (all where None).

        The last answer of each id and annotator holds; among annotators what `fold` makes of them, once for the same
        answers.
        """
        counted = self.answers[:answers]
        known, labels = self._folded.get(len(counted), (None, {}))
        if known != counted:
            labels = self.fold(self.last(answers))
            self._folded[len(counted)] = counted, labels
            if len(self._folded) > FOLDED:
                del self._folded[next(iter(self._folded))]
        return {name: label for name, label in labels.items() if name in self._by_id}

    def last(self, answers: int | None = None) -> dict[str, list[Answer]]:
        """By id, the last answer of each annotator, in the order in which they first answered."""
        last: dict[str, dict[str, Answer]] = {}
        for answer in self.answers[:answers]:
            last.setdefault(answer.id, {})[answer.annotator] = answer
        return {name: list(by_annotator.values()) for name, by_annotator in last.items()}

    def last_answers(self) -> list[Answer]:
        """What each annotator says of each example now."""
        return [answer for held in self.last().values() for answer in held]

    def labelled(self, answers: int | None = None, holdout: bool = False) -> list[tuple[Example, Any]]:
        """Examples with their labels, in pool order; those drawn for the holdout, or all others."""
        labels, held = self.labels(answers), self.held
        return [(e, labels[e.id]) for e in self.examples if e.id in labels and (e.id in held) == holdout]

    def unlabelled(self) -> list[Example]:
        """Examples that may be asked about: nobody was yet, and they have no label; in pool order."""
        taken = {query.id for query in self.queries} | {answer.id for answer in self.answers} | self.apart
        return [example for example in self.examples if example.id not in taken]

    def askable_again(self) -> set[str]:
        """Ids that somebody else may be asked about: labelled, not held out, not waiting, and not answered by all."""
        answered = self.answered_by()
        names = {example.id for example, _ in self.labelled()} - self.waiting()
        return {name for name in names if len(set(answered[name]) - {DATASET}) < self.people}

    def answered_by(self) -> dict[str, tuple[str, ...]]:
        """By id, the annotators whose final answer there is, in the order in which they first answered."""
        return {
            name: tuple(answer.annotator for answer in held if answer.status not in OPEN)
            for name, held in self.last().items()
        }

    def first_queries(self) -> dict[str, Query]:
        """By id, the question that first asked about it."""
        first: dict[str, Query] = {}
        for query in self.queries:
            first.setdefault(query.id, query)
        return first

    def asked_again(self, until: int) -> int:
        """How many questions up to a round were about what somebody had answered already."""
        return sum(bool(query.before) and query.round <= until for query in self.queries)

    def round_queries(self, round_: int) -> list[Query]:
        """What was asked in a round, by rank."""
        return [query for query in self.queries if query.round == round_]

    def unanswered(self, round_: int) -> list[Query]:
        """Queries of a round to which fewer annotators than it needs have a final answer.

        One that is asked again needs one more, of somebody who had not answered by then.
        """
        answered = self.answered_by()

        def open_(query: Query) -> bool:
            others = set(answered.get(query.id, ())) - set(query.before)
            return len(others) < (1 if query.before else self.needs(query.id))

        return [query for query in self.round_queries(round_) if open_(query)]

    def waiting(self) -> set[str]:
        """Ids of all rounds' queries that are unanswered."""
        return {query.id for round_ in {q.round for q in self.queries} for query in self.unanswered(round_)}

    def disputed(self) -> list[str]:
        """Ids that were labelled differently, and to which whoever decides has no final answer, in pool order."""
        last = self.last()
        return [example.id for example in self.examples if self._disputed(last.get(example.id, []))]

    def _disputed(self, answers: Sequence[Answer]) -> bool:
        decided = any(answer.annotator == self.fold.decides and answer.status not in OPEN for answer in answers)
        return not decided and self.fold.differ(answers)

    @property
    def held(self) -> set[str]:
        """Ids that were drawn for the holdout."""
        return {query.id for query in self.queries if query.strategy == HOLDOUT}

    def cost(self, unit: str, until: int | None = None) -> float:
        """What was asked up to a round (so far where None), in records or words."""
        asked = [query for query in self.queries if until is None or query.round <= until]
        return float(sum(price(self._by_id[query.id], unit) for query in asked))

    def places(self) -> dict[str, int]:
        """Of each example that was asked about, its place in the order of asking, over all rounds; its last one."""
        return {query.id: at for at, query in enumerate(self.queries)} | self.moved


def price(example: Example, unit: str) -> int:
    """What asking about an example costs."""
    return example.words if unit == "words" else 1
