"""A question as Argilla's server takes it, and nothing of its client."""

from __future__ import annotations

import re
from typing import Any

from nlp_al.annotation.base import Question
from nlp_al.tasks import Task
from nlp_al.tasks.forms import Form

VECTOR = "embedding"

METADATA = ("round", "rank", "score", "strategy", "why")

PLACEHOLDER = "\u25af"
ASTRAL = re.compile("[\U00010000-\U0010ffff]")

NO_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=[A-Za-z#])|\r|\x00")
"""What begins a tag or an entity, and what HTML reads as another number of characters."""

HARMLESS = {"<": "\uff1c", "&": "\uff06", "\r": " ", "\x00": PLACEHOLDER}


def record(question: Question, task: Task, form: Form, question_id: str) -> dict[str, Any]:
    """All of it each time that it is written: what is left out of the metadata would be lost."""
    example = question.example
    shown = {name: harmless(value, form.kind == "spans") for name, value in task.shown(example.inputs).items()}
    metadata = {name: getattr(question, name) for name in METADATA if getattr(question, name) is not None}
    vectors = {"vectors": {VECTOR: question.vector}} if question.vector is not None else {}
    suggestions = guesses(question, task, question_id)
    return {"external_id": example.id, "fields": shown, "metadata": metadata, "suggestions": suggestions, **vectors}


def guesses(question: Question, task: Task, question_id: str) -> list[dict[str, Any]]:
    """The model's guess, where there is one; one of no label and no span is none, for the page could not show it."""
    value = None if question.suggestion is None else task.to_form(question.suggestion, question.example)
    if value in (None, []):
        return []
    about = {"value": value, "score": question.confidence, "agent": question.agent, "type": "model"}
    return [{"question_id": question_id, **about}]


def harmless(value: Any, spans: bool) -> Any:
    """A field as the page can show it, one character for one: its parser takes text for HTML, scripts included.

    spans: whether positions in it count; then a character that UTF-16 writes as two becomes one that it writes as one.
    """
    if isinstance(value, list):
        return [{**turn, "content": harmless(turn["content"], spans)} for turn in value]
    plain = NO_HTML.sub(lambda found: HARMLESS[found[0]], value)
    return ASTRAL.sub(PLACEHOLDER, plain) if spans else plain
