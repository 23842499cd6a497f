"""What people made of the model's guesses that they were shown: accepted as they are, or edited, and how. What the same
people say where they are not shown the guess, of a part drawn at random, tells how far they were drawn towards it.

`suggestions.jsonl` has a line for each guess: round, id, label, confidence, agent, `answers`, how many lines
labels.jsonl had by then, `shown`, whether people see it, `batch`, how many lines there are of the round, where they are
asked for `salient`, the words that it hangs on, and in a simulation the `gold` label.

Reference: Budd, Robinson and Kainz, A Survey on Active Learning and Human-in-the-Loop Deep Learning for Medical Image
Analysis (2021), arXiv:1910.02923
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nlp_al.agreement import NOBODY
from nlp_al.annotation.base import Guess
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
    """answers: how many were given to guesses. accepted: those that say the same. edits: of all the others.

    right: those that are as the gold label, None where that is not known.
    """

    answers: int
    accepted: int
    edits: Edits
    right: int | None = None

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


Line = Mapping[str, Any]
"""One of suggestions.jsonl."""


def whole_rounds(lines: Sequence[Line]) -> set[int]:
    """The rounds of which every guess is written down; a crash may have cut the lines of one short."""
    counts = Counter(line["round"] for line in lines)
    return {line["round"] for line in lines if counts[line["round"]] >= line.get("batch", 0)}


def guesses_of(lines: Sequence[Line], task: Task, changes: Sequence[Change], shown: bool = True) -> dict[str, Guess]:
    """The guesses that people are shown, or those that they are not, by id, in today's labels; of each the first."""
    found: dict[str, Guess] = {}
    for line in lines:
        if line.get("shown", True) == shown:
            label = task.renamed(line["label"], _names_since(line, changes))
            found.setdefault(line["id"], Guess(label, *map(line.get, ("confidence", "agent", "salient"))))
    return found


def refinement(
    lines: Sequence[Line], pool: Pool, task: Task, changes: Sequence[Change] = (), shown: bool = True
) -> Refinement | None:
    """What people made of the guesses, None where they answered none. lines: of suggestions.jsonl.

    The last answer of each person counts. Whoever decides was shown none, and people who say nothing accept nothing.
    Simulated people count where they are who was asked.

    shown: False for the guesses that people were not shown; how many say the same all the same.
    """
    guesses = guesses_of(lines, task, changes, shown)
    gold = {line["id"]: task.renamed(line["gold"], _names_since(line, changes)) for line in lines if "gold" in line}
    said = [
        answer
        for answer in pool.last_answers()
        if answer.id in guesses
        and answer.status == "submitted"
        and answer.annotator != pool.fold.decides
        and (answer.annotator not in NOBODY or answer.id in gold)
    ]
    if not said:
        return None
    made = [edits(task, guesses[answer.id].label, answer.label) for answer in said]
    judged = [edits(task, gold[answer.id], answer.label) for answer in said if answer.id in gold]
    right = sum(one.distance == 0 for one in judged) if len(judged) == len(said) else None
    return Refinement(len(made), sum(one.distance == 0 for one in made), sum(made, Edits()), right)


def _names_since(line: Line, changes: Sequence[Change]) -> dict[str, str]:
    return names_after(change for change in changes if change.answers >= line["answers"])


def told_guesses(lines: Sequence[Line], pool: Pool, task: Task, changes: Sequence[Change] = ()) -> dict[str, str]:
    """In words what people made of `guesses`, and what the `control` says; each only where there are answers."""
    made = {"guesses": (True, told), "control": (False, told_of_control)}
    found = {name: (refinement(lines, pool, task, changes, shown), say) for name, (shown, say) in made.items()}
    return {name: say(one) for name, (one, say) in found.items() if one is not None}


def told(found: Refinement) -> str:
    """The same in words, of guesses that were shown."""
    text = f"{found.accepted:,} of {found.answers:,} guesses accepted as they were ({found.acceptance:.2f})"
    counts = [f"{count:,} {one.name}" for one in fields(Edits) if (count := getattr(found.edits, one.name))]
    return f"{text}; edits: {', '.join(counts)}{_right(found)}" if counts else text + _right(found)


def told_of_control(found: Refinement) -> str:
    """The same in words, of guesses that were not shown."""
    answers = f"{found.answers:,} answer{'s' * (found.answers > 1)}"
    text = f"of {answers} given without seeing the guess {found.accepted:,} say the same"
    return f"{text} ({found.acceptance:.2f}){_right(found)}"


def _right(found: Refinement) -> str:
    if found.right is None:
        return ""
    return f"; {found.right:,} of {found.answers:,} are right ({found.right / found.answers:.2f})"
