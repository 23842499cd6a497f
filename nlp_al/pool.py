"""Examples by stable id, what was asked of them and what was answered: labelled, asked, unlabelled, discarded."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

HOLDOUT = "holdout"
"""What queries call an example that is never trained on."""

STATUSES = ("submitted", "draft", "discarded", "skipped", "unreadable", "retracted")


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
    """An example that was asked about. batch: the size of the batch that it belongs to."""

    round: int
    id: str
    rank: int
    score: float | None
    strategy: str
    batch: int


@dataclass(frozen=True)
class Answer:
    """What one annotator says of one example. status: one of STATUSES. scope: a region [start, end), or None: all."""

    id: str
    label: Any
    annotator: str
    status: str = "submitted"
    scope: tuple[int, int] | None = None


@dataclass
class Pool:
    """The train split in its fixed order, with everything asked and answered so far.

    The order is that of the ids' hashes, so that ties never favour the first rows of a file sorted by class.
    """

    examples: Sequence[Example]
    queries: list[Query] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.examples = sorted(self.examples, key=lambda e: hashlib.blake2b(e.id.encode()).digest())
        self._by_id = {example.id: example for example in self.examples}

    def __contains__(self, name: str) -> bool:
        return name in self._by_id

    def __getitem__(self, name: str) -> Example:
        return self._by_id[name]

    def labels(self, answers: int | None = None) -> dict[str, Any]:
        """The label of each labelled example, out of the first `answers` answers (all where None).

        The last answer of each id and annotator holds; among annotators the majority, and the earliest on a tie.
        """
        found = {}
        for name, held in self._last(answers).items():
            votes = [answer.label for answer in held if answer.status == "submitted"]
            if votes and name in self._by_id:
                counts = Counter(json.dumps(vote) for vote in votes)
                found[name] = max(votes, key=lambda vote: counts[json.dumps(vote)])
        return found

    def _last(self, answers: int | None = None) -> dict[str, list[Answer]]:
        """By id, the last answer of each annotator, in the order in which they first answered."""
        last: dict[str, dict[str, Answer]] = {}
        for answer in self.answers[:answers]:
            last.setdefault(answer.id, {})[answer.annotator] = answer
        return {name: list(by_annotator.values()) for name, by_annotator in last.items()}

    def last_answers(self) -> list[Answer]:
        """What each annotator says of each example now."""
        return [answer for held in self._last().values() for answer in held]

    def labelled(self, answers: int | None = None, holdout: bool = False) -> list[tuple[Example, Any]]:
        """Examples with their labels, in pool order; those drawn for the holdout, or all others."""
        labels, held = self.labels(answers), self.held
        return [(e, labels[e.id]) for e in self.examples if e.id in labels and (e.id in held) == holdout]

    def unlabelled(self) -> list[Example]:
        """Examples that nobody was asked about and that have no label, in pool order."""
        taken = {query.id for query in self.queries} | {answer.id for answer in self.answers}
        return [example for example in self.examples if example.id not in taken]

    def round_queries(self, round_: int) -> list[Query]:
        """What was asked in a round, by rank."""
        return [query for query in self.queries if query.round == round_]

    def unanswered(self, round_: int) -> list[Query]:
        """Queries of a round that nobody has a final answer to."""
        last, open_ = self._last(), ("draft", "retracted")
        return [q for q in self.round_queries(round_) if all(a.status in open_ for a in last.get(q.id, []))]

    @property
    def held(self) -> set[str]:
        """Ids that were drawn for the holdout."""
        return {query.id for query in self.queries if query.strategy == HOLDOUT}

    def cost(self, unit: str) -> float:
        """What was asked so far, in records or words."""
        return float(sum(price(self._by_id[query.id], unit) for query in self.queries))


def price(example: Example, unit: str) -> int:
    """What asking about an example costs."""
    return example.words if unit == "words" else 1
