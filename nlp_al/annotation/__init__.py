"""The annotators by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from nlp_al.annotation.argilla import Argilla
from nlp_al.annotation.base import Annotator, Guess, Question, Setting, as_questions, showable
from nlp_al.annotation.jsonl import Jsonl
from nlp_al.annotation.oracle import Oracle
from nlp_al.errors import UserError
from nlp_al.values import build, suggest

__all__ = [
    "ANNOTATORS",
    "Annotator",
    "Guess",
    "Question",
    "Setting",
    "annotator_class",
    "as_questions",
    "make_annotator",
    "showable",
]

ANNOTATORS: dict[str, type[Annotator]] = {"oracle": Oracle, "jsonl": Jsonl, "argilla": Argilla}


def annotator_class(name: str) -> type[Annotator]:
    """The class behind a name, ours or one that an installed package registers under `nlp_al.annotators`."""
    if name in ANNOTATORS:
        return ANNOTATORS[name]
    registered = {point.name: point for point in entry_points(group="nlp_al.annotators")}
    if name not in registered:
        raise UserError(f"There is no annotator {name!r}: {suggest(name, {*ANNOTATORS, *registered})}.")
    found: type[Annotator] = registered[name].load()
    return found


def make_annotator(name: str, parameters: dict[str, Any]) -> Annotator:
    """An annotator by name; UserError on an unknown name or parameter."""
    return build(annotator_class(name), parameters, "annotator")
