"""A question as Argilla's server takes it, and nothing of its client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nlp_al.annotation.base import Question
from nlp_al.tasks import Task
from nlp_al.tasks.forms import CHAT, Form

VECTOR = "embedding"

METADATA = {"round": "integer", "rank": "integer", "score": "float", "strategy": "terms", "why": "terms"}
"""What a record says about itself beside its fields. rank: its place in the order of asking, over all rounds."""

SALIENT = "salient"
"""Beside it, the words that the model's guess hangs on; no filter is made of them."""

PLACEHOLDER = "\u25af"
ASTRAL = re.compile("[\U00010000-\U0010ffff]")

LONGEST = 1000
"""Characters that Argilla takes as the description of an option."""

NO_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=[A-Za-z#])|\r|\x00")
"""What begins a tag or an entity, and what HTML reads as another number of characters."""

HARMLESS = {"<": "\uff1c", "&": "\uff06", "\r": " ", "\x00": PLACEHOLDER}


def field_settings(kind: str) -> dict[str, Any]:
    """Those of a field that shows a text or a chat."""
    return {"type": "chat" if kind == CHAT else "text", "use_markdown": False}


def question_settings(form: Form, guidelines: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Title and settings of the question that a form asks. guidelines: what is said of an option that one points at."""
    options: list[dict[str, Any]] = [{"value": value, "text": text} for value, text in form.options.items()]
    for option in options:
        if said := guidelines.get(option["value"]):
            option["description"] = said[:LONGEST]
    if form.kind == "spans":
        return "Entities", {"type": "span", "field": next(iter(form.fields)), "options": options}
    kind = "label_selection" if form.kind == "label" else "multi_label_selection"
    title = "Label" if form.kind == "label" else "Labels"
    return "Which candidate fits?" if CHAT in form.fields.values() else title, {"type": kind, "options": options}


def record(question: Question, task: Task, form: Form, question_id: str, scores: bool = False) -> dict[str, Any]:
    """All of it: what is left out of the metadata when a record is written again would be lost.

    scores: whether the page may say how probable the model's guess is.
    """
    example = question.example
    shown = {name: harmless(value, form.kind == "spans") for name, value in task.shown(example.inputs).items()}
    about = {name: getattr(question, "place" if name == "rank" else name) for name in METADATA}
    metadata = {name: value for name, value in about.items() if value not in (None, "")}
    metadata |= {SALIENT: ", ".join(question.salient)} if question.salient else {}
    vectors = {"vectors": {VECTOR: question.vector}} if question.vector is not None else {}
    suggestions = guesses(question, task, question_id, scores)
    return {"external_id": example.id, "fields": shown, "metadata": metadata, "suggestions": suggestions, **vectors}


def guesses(question: Question, task: Task, question_id: str, scores: bool) -> list[dict[str, Any]]:
    """The model's guess, where there is one to show."""
    if not question.shows(task):
        return []
    value = task.to_form(question.suggestion, question.example)
    score = question.confidence if scores else None
    return [{"question_id": question_id, "value": value, "score": score, "agent": question.agent, "type": "model"}]


def harmless(value: Any, spans: bool) -> Any:
    """A field as the page can show it, one character for one: its parser takes text for HTML, scripts included.

    spans: whether positions in it count; then a character that UTF-16 writes as two becomes one that it writes as one.
    """
    if isinstance(value, list):
        return [{**turn, "content": harmless(turn["content"], spans)} for turn in value]
    plain = NO_HTML.sub(lambda found: HARMLESS[found[0]], value)
    return ASTRAL.sub(PLACEHOLDER, plain) if spans else plain
