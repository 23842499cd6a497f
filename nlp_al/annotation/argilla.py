"""People in the page of an Argilla server: ours, which is started where it is not up, or anybody's. A leaf: no other
file imports argilla.

What bites in Argilla, and what is done about it: a record that is written again loses its metadata unless they are
written too; spans are counted by the page in UTF-16 and by the server in characters, so characters beyond the basic
plane are shown as one placeholder each; the client's own reader of answers falls over an answer without values, so
answers are read as the server sends them.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from nlp_al.annotation.base import Annotator, Question, Setting
from nlp_al.annotation.payload import VECTOR, record
from nlp_al.errors import RunError, UserError
from nlp_al.pool import Answer
from nlp_al.tasks.forms import ANSWER, CHAT, Form

T = TypeVar("T")

BULK = 50
"""Records that are written at a time; while more are written, people wait for the page."""

PAGE = 1000
"""Records that are read at a time, the most that Argilla gives."""

WAIT = 3.0

PATIENCE = 600.0
"""Seconds for which a server that does not answer is tried again."""


def about(text: str, default: Any, **more: Any) -> Any:
    """A parameter with its line of --help."""
    return field(default=default, metadata={"help": text, **more})


@dataclass
class Argilla(Annotator):
    """Publishes each batch as records of one dataset, and takes the answers of everybody who may annotate in it."""

    api_url: str | None = about(
        "address of a server; null: ARGILLA_API_URL, else one of our own, started if need be", None
    )
    api_key: str | None = about(
        "key of its owner or an admin; null: ARGILLA_API_KEY; never written down", None, secret=True
    )
    data: str = about("folder of the server of our own", "argilla")
    port: int = about("port of the server of our own", 6900)
    annotators: int = about("accounts that it has at least: annotator-1, annotator-2, ...", 1)
    workspace: str = about("the workspace whose people may annotate", "nlp-al")
    suggestions: bool = about("whether the model's guess is filled in; faster, and people are drawn towards it", True)
    vectors: bool = about("whether similar records can be looked for", True)
    min_submitted: int = about("answers that each record waits for", 1)
    enough: int | str = about("answered records of a batch, or '90%' of it, after which the run goes on", "100%")

    seconds_between_pulls: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        if self.min_submitted < 1:
            raise ValueError(f"min_submitted is {self.min_submitted}; it must be at least 1.")
        if _share(self.enough) is None:
            raise ValueError(f"enough is {self.enough!r}; it must be a number of records from 1, or as '90%'.")

    @property
    def wants(self) -> frozenset[str]:
        """What questions are to carry beside the example."""
        wishes = {"suggestion": self.suggestions, "vector": self.vectors}
        return frozenset(name for name, wanted in wishes.items() if wanted)

    def enough_of(self, batch: int) -> int:
        """How many answered records of a batch of this size are enough."""
        whole, share = _share(self.enough) or (0, 0.0)
        return min(batch, max(1, whole or math.ceil(share * batch)))

    def start(self, setting: Setting) -> None:
        """Connects to the server, and goes on with this run's data set where there is one."""
        super().start(setting)
        self._form = setting.task.form(setting.examples)
        self._examples = {example.id: example for example in setting.examples}
        self._answers: list[Answer] = []
        self._seen: dict[tuple[str, str], None] = {(answer.id, answer.annotator): None for answer in setting.answers}
        self._activity = ""
        self._told: set[str] = set()
        self._names: dict[str, str] = {}
        self._log_in = ""
        logging.getLogger("argilla.sdk").setLevel(logging.CRITICAL)  # what it says is told here, in a sentence
        self._client = self._connected()
        self._page = self._retried(self._known_page)

    def push(self, questions: Sequence[Question]) -> None:
        """Writes the records, over those of the same ids: what was answered stays."""
        if self._page is None:
            self._page = self._retried(lambda: self._new_page(questions[0].vector))
        question_id = str(self._page.questions[ANSWER].id)
        records = [record(question, self.setting.task, self._form, question_id) for question in questions]
        for at in range(0, len(records), BULK):
            self._send(f"/api/v1/datasets/{self._page.id}/records/bulk", {"items": records[at : at + BULK]})
        url = f"{self._client.api_url.rstrip('/')}/dataset/{self._page.id}/annotation-mode"
        print(f"{len(questions)} questions wait at {url}{self._log_in}", flush=True)

    def pull(self) -> list[Answer]:
        """Every answer as it is now, by record and person."""
        if self._page is None:
            return []
        page = f"/api/v1/datasets/{self._page.id}"
        activity = self._get(page)["last_activity_at"]  # before reading: what comes meanwhile shows at the next pull
        if activity != self._activity:
            self._answers = self._with_retracted([answer for one in self._records(page) for answer in self._read(one)])
            self._activity = activity
        return list(self._answers)

    # Reading

    def _records(self, page: str) -> Iterator[dict[str, Any]]:
        offset, items = 0, [dict[str, Any]()] * PAGE
        while len(items) == PAGE:
            items = self._get(f"{page}/records", include="responses", limit=PAGE, offset=offset)["items"]
            offset += PAGE
            yield from items

    def _read(self, found: dict[str, Any]) -> Iterator[Answer]:
        """The answers of a record that stand for labels, or for none on purpose."""
        example = self._examples.get(found["external_id"])
        for response in found.get("responses") or () if example is not None else ():
            assert example is not None
            given = (response["values"] or {}).get(ANSWER, {}).get("value")
            who, label = self._name(response["user_id"]), None
            if response["status"] == "submitted":
                try:
                    empty: list[Any] | None = [] if self._form.kind != "label" else None
                    label = self.setting.task.from_form(empty if given is None else given, example)
                except UserError as error:
                    self._tell(f"{who} answered {example.id!r} with {given!r}, which is passed over: {error}")
                    continue
            yield Answer(example.id, label, who, response["status"])

    def _with_retracted(self, found: list[Answer]) -> list[Answer]:
        """Adds what people once answered and have taken back since."""
        now = {(answer.id, answer.annotator) for answer in found}
        people = set(self._names.values())
        gone = [who for who in self._seen if who not in now and who[1] in people]
        self._seen.update(dict.fromkeys(now))
        return [*found, *(Answer(name, None, person, "retracted") for name, person in gone)]

    def _name(self, user: str) -> str:
        if user not in self._names:
            self._names = {one["id"]: one["username"] for one in self._get("/api/v1/users")["items"]}
        return self._names.get(user, user)

    # The data set

    @property
    def _note(self) -> Path:
        return self.setting.run_dir / "argilla.json"

    def _known_page(self) -> Any:
        """The data set that this run has published, None where it has not."""
        if not self._note.exists():
            return None
        known = json.loads(self._note.read_text(encoding="utf-8"))
        if known["url"] != self._client.api_url:
            raise UserError(
                f"This run was published at {known['url']}, not at {self._client.api_url}; give that api_url, or move "
                f"{self._note} away to publish it anew here."
            )
        for found in self._client.datasets:
            if str(found.id) == known.get("id") or (found.name == known["dataset"] and "id" not in known):
                return self._whole(found)
        if "id" not in known:  # the process ended before it had made what it had named
            return None
        raise RunError(
            f"The data set {known['dataset']!r} is gone from {self._client.api_url}. All answers that came are in "
            f"{self.setting.run_dir / 'labels.jsonl'}; move {self._note} away to publish the present batch anew."
        )

    def _whole(self, found: Any) -> Any:
        """A data set that was published; one that was left half made is taken away."""
        if self._get(f"/api/v1/datasets/{found.id}")["status"] == "ready":
            self._write_note(found.name, str(found.id))
            self._check_labels(found)
            return found
        found.delete()
        return None

    def _check_labels(self, page: Any) -> None:
        """Argilla fixes the labels of a data set when it is published."""
        questions = self._get(f"/api/v1/datasets/{page.id}/questions")["items"]
        known = {option["value"] for one in questions for option in one["settings"].get("options", ())}
        new = [name for name in self._form.options if name not in known]
        if new:
            raise UserError(
                f"labels has {new[0]!r}, which the data set at {self._client.api_url} was published without, and "
                f"Argilla takes no more; move {self._note} away to publish the present batch anew with it."
            )

    def _new_page(self, vector: Sequence[float] | None) -> Any:
        import argilla as rg

        form = self._form
        workspaces = {one.name: one for one in self._client.workspaces}
        if self.workspace not in workspaces:
            known = ", ".join(map(repr, workspaces)) or "none"
            raise UserError(f"annotator.workspace is {self.workspace!r}; the workspaces there are {known}.")
        name = (
            f"{re.sub('[^A-Za-z0-9_-]+', '-', self.setting.run_dir.name).strip('-_') or 'run'}-{uuid.uuid4().hex[:6]}"
        )
        self._write_note(name)
        settings = rg.Settings(
            guidelines=self._guidelines(),
            fields=[_field(rg, name, kind) for name, kind in form.fields.items()],
            questions=[_question(rg, form)],
            metadata=[
                rg.IntegerMetadataProperty("round"),
                rg.IntegerMetadataProperty("rank"),
                rg.FloatMetadataProperty("score"),
                rg.TermsMetadataProperty("strategy"),
                rg.TermsMetadataProperty("why"),
            ],
            vectors=[rg.VectorField(VECTOR, dimensions=len(vector))] if vector is not None else [],
            distribution=rg.TaskDistribution(min_submitted=self.min_submitted),
        )
        made = rg.Dataset(
            name=name, workspace=workspaces[self.workspace], settings=settings, client=self._client
        ).create()
        self._write_note(name, str(made.id))
        return made

    def _guidelines(self) -> str:
        lines = [f"- **{name}**" + (f": {text}" if text else "") for name, text in self.setting.labels.items()]
        return "\n".join(["Choose what fits. Discard what nobody can decide.", "", *lines])

    def _write_note(self, name: str, ident: str | None = None) -> None:
        note = {"url": self._client.api_url, "dataset": name, **({"id": ident} if ident else {})}
        fresh = self._note.with_suffix(".new")
        fresh.write_text(json.dumps(note) + "\n", encoding="utf-8")
        fresh.replace(self._note)

    # The server

    def _connected(self) -> Any:
        try:
            import argilla as rg
        except ImportError as error:
            raise UserError('annotator argilla needs its client: pip install "nlp-al[argilla]".') from error
        url = self.api_url or os.environ.get("ARGILLA_API_URL")
        key = self.api_key or os.environ.get("ARGILLA_API_KEY")
        if url is None:
            url, key = self._own_server()
        if not key:
            raise UserError(
                f"annotator.api_key is missing: give the key of an owner or admin of {url}, or ARGILLA_API_KEY."
            )
        return self._retried(lambda: rg.Argilla(api_url=url, api_key=key))

    def _own_server(self) -> tuple[str, str]:
        from nlp_al.argilla_server.accounts import told
        from nlp_al.argilla_server.home import Home, require_extra
        from nlp_al.argilla_server.launcher import ensure

        require_extra()
        home = Home(Path(self.data).resolve())
        running, new = ensure(home, "127.0.0.1", self.port, self.annotators)
        if new:
            print(told(new), flush=True)
        self._log_in = f"; log in as annotator-1, or as one of nlp-al server user list --data {self.data}"
        return running.url, home.api_key()

    def _get(self, path: str, **params: Any) -> Any:
        return self._retried(lambda: _checked(self._client.http_client.get(path, params=params)).json())

    def _send(self, path: str, body: Any) -> None:
        self._retried(lambda: _checked(self._client.http_client.put(path, json=body)))

    def _retried(self, ask: Callable[[], T]) -> T:
        """What the server says; while it is away it is asked again, for `PATIENCE` seconds."""
        import argilla as rg
        import httpx

        end = time.monotonic() + PATIENCE
        trouble: Exception
        while True:
            try:
                return ask()
            except (httpx.HTTPError, rg._exceptions.ArgillaError) as error:
                trouble = error
                told = _told(error)
            if told is not None:
                raise told from trouble
            if time.monotonic() > end:
                raise RunError(f"Argilla has not answered for {PATIENCE / 60:.0f} minutes ({trouble}).") from trouble
            self._tell(f"Argilla does not answer ({type(trouble).__name__}); trying again.")
            time.sleep(WAIT)

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            print(f"      {text}", flush=True)


def _share(enough: int | str) -> tuple[int, float] | None:
    """(records, share), one of them 0; None where it is neither."""
    if isinstance(enough, int):
        return (enough, 0.0) if enough > 0 else None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", enough.strip())
    return (0, float(found[1]) / 100) if found and 0 < float(found[1]) <= 100 else None


def _field(rg: Any, name: str, kind: str) -> Any:
    title = name.replace("_", " ").capitalize()
    return (rg.ChatField if kind == CHAT else rg.TextField)(name, title=title, use_markdown=False)


def _question(rg: Any, form: Form) -> Any:
    if form.kind == "spans":
        text = next(iter(form.fields))
        return rg.SpanQuestion(ANSWER, field=text, labels=form.options, title="Entities")
    kind = rg.LabelQuestion if form.kind == "label" else rg.MultiLabelQuestion
    title = "Which candidate fits?" if CHAT in form.fields.values() else "Label"
    return kind(ANSWER, labels=form.options, title=title)


def _checked(reply: Any) -> Any:
    reply.raise_for_status()
    return reply


def _told(error: BaseException) -> UserError | RunError | None:
    """What the user can do about an error of the server, None where it may pass."""
    import httpx

    deepest, status = error, 0  # the client wraps errors in others, which have a status of their own making
    while True:
        if isinstance(deepest, httpx.TransportError):
            return None
        status = getattr(deepest, "status_code", 0) or getattr(
            getattr(deepest, "response", None), "status_code", status
        )
        if deepest.__cause__ is None:
            break
        deepest = deepest.__cause__
    if status == 401:
        return UserError("Argilla refuses the key: annotator.api_key, or ARGILLA_API_KEY, is none of this server.")
    if status == 403:
        return UserError("The user of annotator.api_key may not do this; take the key of an owner or admin.")
    if status == 404:
        return RunError("The data set of this run is gone from Argilla; all answers that came are in labels.jsonl.")
    if status in (408, 429) or status >= 500:
        return None
    said = " ".join(str(deepest).split())[:300]
    return RunError(f"Argilla refused it ({status or type(error).__name__}): {said}")
