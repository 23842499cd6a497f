"""The data sets that a run has published, noted in its directory, so that every start finds them again."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nlp_al.annotation.base import Setting
from nlp_al.annotation.connection import Connection
from nlp_al.annotation.holder import Holder
from nlp_al.annotation.pages import CONFLICT, FORBIDDEN, GONE, Page, Plan, find, publish
from nlp_al.errors import RunError, UserError
from nlp_al.store import Disk, told
from nlp_al.tasks.forms import Form

MAIN, EVERYBODY, REVIEW = "main", "everybody", "review"
"""What any one person may answer; what all do; what the adjudicator is asked."""


def own(person: str) -> str:
    """The kind of what somebody else is asked again."""
    return f"{REVIEW}-{person}"


class DataSets:
    """A run's data sets by kind. waits: how many answers a record waits for, by kind. texts: optional questions.

    Each is noted before it is made, so that what a crash left half made is found and finished.

    Raises:
        UserError: the run was published at another server. RunError: somebody has deleted a data set.
    """

    def __init__(
        self,
        server: Connection,
        setting: Setting,
        form: Form,
        texts: dict[str, str],
        workspace: str,
        waits: Mapping[str, int],
        adjudicator: str | None,
    ) -> None:
        self._server, self._setting, self._form, self._texts = server, setting, form, texts
        self._workspace_name, self._waits, self._adjudicator = workspace, waits, adjudicator
        self._note = setting.run_dir / "argilla.json"
        self._kept = self._read_note()
        self._holders: dict[str, Holder] = {}
        self._pages: dict[str, Page] = {}
        for kind, kept in list(self._kept.items()):
            page = self._found(kind, kept)
            if page is not None:
                self._pages[kind] = self._in_todays(kind, page)

    def page(self, kind: str, vector: Sequence[float] | None) -> Page:
        """The data set of this kind, published where it is not. vector: as records will have."""
        if kind not in self._pages:
            made = self._publish(kind, len(vector) if vector is not None else None)
            self._pages[kind] = self._in_todays(kind, made)  # a draft may be of a start with earlier labels
        self._hold(self._pages[kind])
        return self._pages[kind]

    def asked(self, kind: str) -> Mapping[str, Any]:
        """The ids of the records in the data set of this kind."""
        return self._pages[kind].places if kind in self._pages else {}

    def answered(self) -> list[dict[str, Any]]:
        """Every record with a response, first of what was asked once, and the adjudicator's last."""
        found = []
        for kind in sorted(self._pages, key=lambda kind: (kind not in (MAIN, EVERYBODY), kind == REVIEW)):
            self._hold(self._pages[kind])
            found += self._pages[kind].answered()
        return found

    def people(self) -> dict[str, str]:
        """The names of users by id: all for an owner, those of the workspace for an admin."""
        found = self._server.send("GET", "users", known=FORBIDDEN)
        if found is None:
            found = self._server.get(f"workspaces/{self._workspaces()[self._workspace_name]}/users")
        return {one["id"]: one["username"] for one in found["items"]}

    def _hold(self, page: Page) -> None:
        if page.id not in self._holders:
            self._holders[page.id] = Holder(self._server, page.path, self._setting.run_dir)
        self._holders[page.id].renew()

    # The note

    def _read_note(self) -> dict[str, dict[str, Any]]:
        if not self._note.exists():
            return {}
        known = json.loads(self._note.read_text(encoding="utf-8"))
        if known["url"] != self._server.url:
            raise UserError(
                f"This run was published at {known['url']}, not at {self._server.url}; give that api_url, or move "
                f"{self._note} away to publish it anew here."
            )
        kept: dict[str, dict[str, Any]] = known["pages"]
        return kept

    def _keep(self, kind: str, kept: dict[str, Any]) -> dict[str, Any]:
        self._kept[kind] = kept
        disk, fresh = Disk(), self._note.with_suffix(".new")
        text = json.dumps({"url": self._server.url, "pages": self._kept}, indent=2) + "\n"
        with told(self._note):
            with fresh.open("wb") as file:
                disk.write(file.fileno(), text.encode())
                disk.sync(file.fileno())
            disk.rename(fresh, self._note)
        return kept

    def _noted(self, kind: str, page: Page) -> Page:
        self._keep(kind, {"name": page.name, "id": page.id})
        return page

    # Finding and making

    def _found(self, kind: str, kept: dict[str, Any]) -> Page | None:
        """A data set that is noted; None where the process ended before it had made what it had named."""
        if "replaces" in kept:
            return self._moved(kind, kept)
        if "id" not in kept:
            about = find(self._server, kept["name"])
            return self._noted(kind, Page(self._server, about)) if about and about["status"] == "ready" else None
        about = self._server.send("GET", f"datasets/{kept['id']}", known=GONE)
        if about is None:
            raise RunError(
                f"The data set {kept['name']!r} is gone from {self._server.url}. All answers that came are in "
                f"{self._setting.run_dir / 'labels.jsonl'}; move {self._note} away to publish the present batch anew."
            )
        return self._noted(kind, Page(self._server, about))

    def _publish(self, kind: str, dimensions: int | None) -> Page:
        kept = self._kept.get(kind) or self._keep(kind, {"name": self._new_name(kind)})
        return self._noted(kind, self._made(kind, kept["name"], dimensions))

    def _in_todays(self, kind: str, page: Page) -> Page:
        """Argilla lets no label be changed: a data set with today's labels takes the place of one with earlier ones."""
        if page.options == list(self._form.options):
            return page
        vectors = self._server.get(f"{page.path}/vectors-settings")["items"]
        dimensions = vectors[0]["dimensions"] if vectors else None
        kept = {"name": self._new_name(kind), "replaces": page.id, "dimensions": dimensions}
        return self._moved(kind, self._keep(kind, kept))

    def _moved(self, kind: str, kept: dict[str, Any]) -> Page:
        page = self._made(kind, kept["name"], kept["dimensions"])
        page.take_over(kept["replaces"], partial(self._renamed, page.options))
        print(f"The labels have changed: everything is at {page.url} now, answers included.", flush=True)
        return self._noted(kind, page)

    def _made(self, kind: str, name: str, dimensions: int | None) -> Page:
        labels, workspace = self._setting.labels, self._workspace(kind)
        plan = Plan(name, workspace, self._form, labels, self._waits.get(kind, 1), dimensions, self._texts)
        return publish(self._server, plan)

    def _new_name(self, kind: str) -> str:
        slug = re.sub("[^A-Za-z0-9_-]+", "-", self._setting.run_dir.name).strip("-_") or "run"
        return f"{slug}-{uuid.uuid4().hex[:6]}{'' if kind == MAIN else f'-{kind}'}"

    def _renamed(self, options: Sequence[str], value: Any) -> Any:
        """What stands in a data set with earlier labels, in those of another one; None where nothing is left of it.

        options: the labels of the other one, which are today's unless they changed again before it was done.
        """
        today = self._setting.renamed
        known = {today.get(option, option): option for option in options}

        def now(name: str) -> str | None:
            return known.get(today.get(name, name))

        if isinstance(value, str):
            return now(value)
        if self._form.kind == "spans":
            return [{**span, "label": kind} for span in value for kind in [now(span["label"])] if kind is not None]
        return list(dict.fromkeys(name for name in map(now, value) if name is not None)) or None

    def _workspace(self, kind: str) -> str:
        """Its id; who is asked alone has one of their own, made where it is not there."""
        known = self._workspaces()
        if kind in (MAIN, EVERYBODY):
            return known[self._workspace_name]
        person = self._adjudicator if kind == REVIEW else kind.removeprefix(own(""))
        name = f"{self._workspace_name}-{person}"
        found = known.get(name) or str(self._server.send("POST", "workspaces", {"name": name})["id"])
        member = next(ident for ident, name in self.people().items() if name == person)
        self._server.send("POST", f"workspaces/{found}/users", {"user_id": member}, known=CONFLICT)
        return found

    def _workspaces(self) -> dict[str, str]:
        """Ids by name; UserError where that of the run is not among them."""
        known = {one["name"]: str(one["id"]) for one in self._server.get("me/workspaces")["items"]}
        if self._workspace_name not in known:
            told = ", ".join(map(repr, known)) or "none"
            raise UserError(f"annotator.workspace is {self._workspace_name!r}; the workspaces there are {told}.")
        return known
