"""The tasks by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from nlp_al.errors import UserError
from nlp_al.tasks.base import READ, Piece, RowError, Rows, Task
from nlp_al.tasks.response_selection import ResponseSelection
from nlp_al.tasks.text_classification import TextClassification
from nlp_al.tasks.token_classification import TokenClassification
from nlp_al.values import build, suggest

__all__ = ["READ", "TASKS", "Piece", "RowError", "Rows", "Task", "make_task", "task_class"]

TASKS: dict[str, type[Task]] = {
    "text-classification": TextClassification,
    "token-classification": TokenClassification,
    "response-selection": ResponseSelection,  # type: ignore[type-abstract]  # its `of` makes one of two forms
}


def task_class(name: str) -> type[Task]:
    """The class behind a name, ours or one that an installed package registers under `nlp_al.tasks`."""
    if name in TASKS:
        return TASKS[name]
    registered = {point.name: point for point in entry_points(group="nlp_al.tasks")}
    if name not in registered:
        raise UserError(f"There is no task {name!r}: {suggest(name, {*TASKS, *registered})}.")
    found: type[Task] = registered[name].load()
    return found


def make_task(name: str, options: dict[str, Any]) -> Task:
    """A task by name, its labels still unknown; UserError on an unknown name or option."""
    kind = task_class(name)
    return kind.of(build(kind.Options, options, "task_options"))
