"""What people made of the model's guesses that they were shown: accepted as they are, or edited, and how.

`suggestions.jsonl` has a line for each guess that was put before people: round, id, label, confidence, agent, and
`answers`, how many lines labels.jsonl had by then.

Reference: Budd, Robinson and Kainz, A Survey on Active Learning and Human-in-the-Loop Deep Learning for Medical Image
Analysis (2021), arXiv:1910.02923
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nlp_al.agreement import NOBODY
from nlp_al.pool import Pool
from nlp_al.relabel import Change, names_after
from nlp_al.tasks import Task
from nlp_al.tasks.tags import spans_of_tags

FILE = "suggestions.jsonl"

Span = tuple[int, int, str]
"""(first word, the one after the last, type)."""


@dataclass(frozen=True)
class Edits:
    """From a guess to an answer. added, removed: labels or entities; moved: entities with other bounds; changed: other
    types, or another label.
    """

    added: int = 0
    removed: int = 0
    moved: int = 0
    changed: int = 0

    @property
    def distance(self) -> int:
        """How many edits these are."""
        return self.added + self.removed + self.moved + self.changed

    def __add__(self, other: Edits) -> Edits:
        return Edits(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class Refinement:
    """answers: how many were given to guesses. accepted: those that say the same. edits: of all the others."""

    answers: int
    accepted: int
    edits: Edits

    @property
    def acceptance(self) -> float:
        """The share that was accepted."""
        return self.accepted / self.answers


def span_edits(before: Iterable[Span], after: Iterable[Span]) -> Edits:
    """From one set of entities to another; two that overlap are the same one, those with the most in common first."""
    old, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    overlaps = {(a, b): min(a[1], b[1]) - max(a[0], b[0]) for a in old for b in new}
    moved = changed = 0
    for a, b in sorted(overlaps, key=lambda pair: -overlaps[pair]):
        if overlaps[a, b] > 0 and a in old and b in new:
            old.remove(a)
            new.remove(b)
            moved += a[:2] != b[:2]
            changed += a[2] != b[2]
    return Edits(len(new), len(old), moved, changed)


def edits(task: Task, guess: Any, label: Any) -> Edits:
    """From a guess to a label of the same example."""
    if task.shape == "sequence":
        return span_edits(_spans(guess), _spans(label))
    if task.shape == "multi":
        return Edits(len(set(label) - set(guess)), len(set(guess) - set(label)))
    return Edits(changed=int(guess != label))


def _spans(tags: Sequence[str]) -> list[Span]:
    places = [[at, at + 1] for at in range(len(tags))]
    return [(span["start"], span["end"], span["label"]) for span in spans_of_tags(places, tags)]


def refinement(
    lines: Sequence[Mapping[str, Any]], pool: Pool, task: Task, changes: Sequence[Change] = ()
) -> Refinement | None:
    """What people made of the guesses, None where they answered none. lines: of suggestions.jsonl.

    The last answer of each person counts. Whoever decides was shown none, and people who say nothing accept nothing.
    """
    guesses: dict[str, Any] = {}
    for line in lines:
        since = names_after(change for change in changes if change.answers >= line["answers"])
        guesses.setdefault(line["id"], task.renamed(line["label"], since))
    passed = NOBODY | {pool.fold.decides}
    made = [
        edits(task, guesses[answer.id], answer.label)
        for answer in pool.last_answers()
        if answer.id in guesses and answer.status == "submitted" and answer.annotator not in passed
    ]
    if not made:
        return None
    return Refinement(len(made), sum(one.distance == 0 for one in made), sum(made, Edits()))


def told(found: Refinement) -> str:
    """The same in words."""
    text = f"{found.accepted:,} of {found.answers:,} guesses accepted as they were ({found.acceptance:.2f})"
    counts = [f"{count:,} {one.name}" for one in fields(Edits) if (count := getattr(found.edits, one.name))]
    return f"{text}; edits: {', '.join(counts)}" if counts else text
