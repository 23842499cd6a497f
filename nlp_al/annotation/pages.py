"""Data sets of an Argilla server: each is published once, and what was written to it is never taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlp_al.annotation.connection import Connection
from nlp_al.annotation.payload import METADATA, VECTOR, field_settings, question_settings
from nlp_al.errors import RunError
from nlp_al.tasks.forms import ANSWER, Form

BULK = 50
"""Records that are written at a time; while more are written, people wait for the page."""

WHAT_TO_DO = {
    "label": "Choose what fits.",
    "labels": "Choose all that fit.",
    "spans": "Mark all entities; where there are none, submit the text as it is.",
}
"""The guidelines' first sentence, by the kind of form."""

FORBIDDEN, GONE, CONFLICT = 403, 404, 409


@dataclass(frozen=True)
class Plan:
    """What a data set is to be: its name, the workspace of its people, the form, what is said of each option, how many
    answers a record waits for, the size of the vectors (None: no vectors), and optional text questions, name → title.
    """

    name: str
    workspace: str
    form: Form
    guidelines: dict[str, str]
    min_submitted: int
    dimensions: int | None
    texts: dict[str, str]


class Page:
    """A published data set. questions: name → id. places: of each record, by its id in the run."""

    def __init__(self, server: Connection, about: dict[str, Any]) -> None:
        self._server = server
        self.id = str(about["id"])
        self.name = str(about["name"])
        self.path = f"datasets/{self.id}"
        self.url = f"{server.url}/dataset/{self.id}/annotation-mode"
        asked = server.get(f"{self.path}/questions")["items"]
        self.questions = {one["name"]: str(one["id"]) for one in asked}
        settings = next(one["settings"] for one in asked if one["name"] == ANSWER)
        self.options = [option["value"] for option in settings["options"]]
        self.places: dict[str, int | None] = {
            one["external_id"]: (one["metadata"] or {}).get("rank") for one in server.all(f"{self.path}/records")
        }
        self._activity = ""
        self._answered: list[dict[str, Any]] = []

    def write(self, records: Sequence[dict[str, Any]]) -> int:
        """Adds those that are new; of the others only the place may change. How many are new."""
        new = [one for one in records if one["external_id"] not in self.places]
        moved = [
            {name: one[name] for name in ("external_id", "metadata")}
            for one in records
            if self.places.get(one["external_id"], one["metadata"]["rank"]) != one["metadata"]["rank"]
        ]
        for part in (new, moved):
            self._send(part)
        return len(new)

    def _send(self, records: Sequence[dict[str, Any]]) -> None:
        for at in range(0, len(records), BULK):
            part = records[at : at + BULK]
            self._server.send("PUT", f"{self.path}/records/bulk", {"items": part})
            self.places |= {one["external_id"]: one["metadata"]["rank"] for one in part}

    def answered(self) -> list[dict[str, Any]]:
        """Every record that has a response, with all responses."""
        about = self._server.get(self.path)  # before reading: what comes meanwhile shows the next time
        if about["last_activity_at"] != self._activity:
            found = self._server.all(f"{self.path}/records", include="responses")
            self._answered = [one for one in found if one["responses"]]
            self._activity = about["last_activity_at"]
        return self._answered

    def take_over(self, old: str, renamed: Callable[[Any], Any]) -> None:
        """Copies the records of the data set `old` with all that people did, and deletes it.

        What somebody has answered here since an earlier copy, which was cut short, stays as it is.

        renamed: a value of the answer question in today's labels, None where there is none.
        """
        if self._server.send("GET", f"datasets/{old}", known=GONE) is None:
            return
        known: dict[str, Any] = {}
        while True:  # again, for what was answered while the last copy was made
            found = self._server.all(f"datasets/{old}/records", include=["responses", "suggestions", "vectors"])
            fresh = [one for one in found if known.get(one["external_id"]) != one]
            if not fresh:
                break
            known |= {one["external_id"]: one for one in fresh}
            here = self._last_changes()
            self._send([self._copy(one, renamed, here) for one in fresh])
        self._server.send("DELETE", f"datasets/{old}", known=GONE)

    def _last_changes(self) -> dict[tuple[str, str], str]:
        """When each response was changed last, by the ids of its record and its user."""
        found = self._server.all(f"{self.path}/records", include="responses")
        return {
            (one["external_id"], said["user_id"]): said["updated_at"]
            for one in found
            for said in one["responses"] or ()
        }

    def _copy(
        self, found: dict[str, Any], renamed: Callable[[Any], Any], here: Mapping[tuple[str, str], str]
    ) -> dict[str, Any]:
        suggested = [
            {"question_id": self.questions[ANSWER], "value": value, **{k: one[k] for k in ("score", "agent", "type")}}
            for one in found["suggestions"] or ()
            for value in [renamed(one["value"])]
            if value is not None
        ]
        return {
            **{name: found[name] for name in ("external_id", "fields", "metadata")},
            "suggestions": suggested,
            "responses": list(self._responses(found, renamed, here)),
            **({"vectors": found["vectors"]} if found["vectors"] else {}),
        }

    def _responses(
        self, found: dict[str, Any], renamed: Callable[[Any], Any], here: Mapping[tuple[str, str], str]
    ) -> Iterator[dict[str, Any]]:
        for one in found["responses"] or ():
            if here.get((found["external_id"], one["user_id"]), "") > one["updated_at"]:
                continue
            values = {name: value for name, value in (one["values"] or {}).items() if name in self.questions}
            if ANSWER in values:
                value = renamed(values.pop(ANSWER)["value"])
                values |= {} if value is None else {ANSWER: {"value": value}}
            if ANSWER in values or one["status"] != "submitted":
                yield {"user_id": one["user_id"], "status": one["status"], "values": values}


def publish(server: Connection, plan: Plan) -> Page:
    """The data set of this plan, made as far as it is not there yet.

    Raises:
        UserError: the key may not do that. RunError: the server refuses it.
    """
    made = find(server, plan.name) or server.send(
        "POST",
        "datasets",
        {
            "name": plan.name,
            "workspace_id": plan.workspace,
            "guidelines": _guidelines(plan),
            "allow_extra_metadata": True,
            "distribution": {"strategy": "overlap", "min_submitted": plan.min_submitted},
        },
        known=CONFLICT,  # the reply to the first try was lost
    )
    made = made or find(server, plan.name)
    if made is None:
        raise RunError(f"The workspace has a data set {plan.name!r} that the user of annotator.api_key can't see.")
    if made["status"] != "ready":
        for part, body in _parts(plan):
            server.send("POST", f"datasets/{made['id']}/{part}", body, known=CONFLICT)
        server.send("PUT", f"datasets/{made['id']}/publish")
    return Page(server, made)


def find(server: Connection, name: str) -> dict[str, Any] | None:
    """The data set of this name, where there is one."""
    return next((one for one in server.get("me/datasets")["items"] if one["name"] == name), None)


def _guidelines(plan: Plan) -> str:
    lines = [f"- **{name}**" + (f": {text}" if text else "") for name, text in plan.guidelines.items()]
    return "\n".join([f"{WHAT_TO_DO[plan.form.kind]} Discard what nobody can decide.", "", *lines])


def _parts(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, kind in plan.form.fields.items():
        title = name.replace("_", " ").capitalize()
        yield "fields", {"name": name, "title": title, "required": True, "settings": field_settings(kind)}
    title, settings = question_settings(plan.form, plan.guidelines)
    yield "questions", {"name": ANSWER, "title": title, "required": True, "settings": settings}
    for name, title in plan.texts.items():
        text = {"type": "text", "use_markdown": False}
        yield "questions", {"name": name, "title": title, "required": False, "settings": text}
    for name, kind in METADATA.items():
        yield "metadata-properties", {"name": name, "title": name.capitalize(), "settings": {"type": kind}}
    if plan.dimensions is not None:
        yield "vectors-settings", {"name": VECTOR, "title": VECTOR.capitalize(), "dimensions": plan.dimensions}
