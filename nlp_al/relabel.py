"""Labels that were added, renamed or merged while a run was under way: what was answered before is read accordingly.

`label_changes.jsonl` has a line a change. Answers stay in labels.jsonl as they were given; `answers` of a change is how
many lines it finds there, and what comes after them is in the new labels already.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nlp_al.errors import UserError
from nlp_al.pool import Answer, Example
from nlp_al.tasks import Task
from nlp_al.values import suggest

FILE = "label_changes.jsonl"


@dataclass(frozen=True)
class Change:
    """`add`: new is another label, guideline says what it is. `rename`: old[0] is called new. `merge`: old are new."""

    kind: Literal["add", "rename", "merge"]
    old: tuple[str, ...]
    new: str
    guideline: str
    answers: int


def changes_of(run_dir: Path) -> list[Change]:
    """What was changed in a run, in order; a last line that is not whole does not count."""
    path = run_dir / FILE
    data = path.read_bytes() if path.exists() else b""
    lines = [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]
    return [Change(**{**{k: v for k, v in line.items() if k != "time"}, "old": tuple(line["old"])}) for line in lines]


def labels_after(labels: Mapping[str, str] | None, changes: Sequence[Change], task: Task) -> dict[str, str] | None:
    """The labels of the config, with guidelines, after these changes; one that the config knows of already is none."""
    if labels is None or not changes:
        return None if labels is None else dict(labels)
    found = task.with_labels(task.label_set(labels)).guidelines(labels)  # of tags, the types
    for change in changes:
        if change.kind == "add":
            found.setdefault(change.new, change.guideline)
            continue
        made: dict[str, str] = {}
        for name, guideline in found.items():
            if name not in change.old:
                made.setdefault(name, guideline)
            elif change.new not in made:
                made[change.new] = found.get(change.new) or change.guideline or guideline
        found = made
    return found


def names_after(changes: Iterable[Change]) -> dict[str, str]:
    """What a label from before these changes is called now; those that kept their name are left out."""
    listed = list(changes)
    now = {name: name for change in listed for name in change.old}
    for change in listed:
        now = {name: change.new if to in change.old else to for name, to in now.items()}
    return {name: to for name, to in now.items() if name != to}


def examples_after(examples: Sequence[Example], changes: Sequence[Change], task: Task) -> list[Example]:
    """The same examples, their gold labels in today's names."""
    names = names_after(changes)
    return [e if e.label is None else replace(e, label=task.renamed(e.label, names)) for e in examples]


def answers_after(answers: Sequence[Answer], changes: Sequence[Change], task: Task) -> list[Answer]:
    """The same answers, the lines of labels.jsonl in their order, in today's names."""
    if not changes:
        return list(answers)
    made, starts = [], {change.answers for change in changes}
    names: dict[str, str] = names_after(changes)
    for at, answer in enumerate(answers):
        if at in starts:
            names = names_after([change for change in changes if change.answers > at])
        label = answer.label if answer.label is None else task.renamed(answer.label, names)
        made.append(replace(answer, label=label))
    return made


def checked(change: Change, labels: Mapping[str, str]) -> Change:
    """The change, which can be made to these labels.

    Raises:
        UserError: what it changes is no label, or what it makes is one already.
    """
    for name in change.old:
        if name not in labels:
            raise UserError(f"There is no label {name!r}: {suggest(name, labels)}.")
    if not change.new:
        raise UserError("A label must have a name.")
    if change.kind == "add" and change.new in labels:
        raise UserError(f"There is a label {change.new!r} already.")
    if change.kind == "rename" and change.new in labels:
        raise UserError(f"There is a label {change.new!r} already; to make the two one: merge.")
    if change.kind == "merge" and change.new in labels and change.new not in change.old:
        return replace(change, old=(*change.old, change.new))
    return change
