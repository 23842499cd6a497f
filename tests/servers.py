"""An Argilla server for a test, started and stopped as people do it, and what tests ask of it over HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from nlp_al.argilla_server.home import OWNER, Home


def label_question(*options: str) -> dict[str, Any]:
    return {"type": "label_selection", "options": [{"value": option, "text": option} for option in options]}


def span_question(field: str, *options: str) -> dict[str, Any]:
    return {**label_question(*options), "type": "span", "field": field}


def answered(status: str) -> dict[str, Any]:
    """The search with which the page shows somebody's answers of this status; "pending" for what waits for one."""
    scopes = [{"entity": entity, "property": "status"} for entity in ("response", "record")]
    kept = scopes if status == "pending" else scopes[:1]
    return {"filters": {"and": [{"type": "terms", "scope": scope, "values": [status]} for scope in kept]}}


class Api:
    """Requests as one person; an answer other than 2xx is an httpx.HTTPStatusError with what the server said."""

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx.Client(base_url=f"{url}/api/v1/", headers={"X-Argilla-Api-Key": key}, timeout=60)

    def ask(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        reply = self.client.request(method, path, json=body, params=params)
        if not reply.is_success:
            raise httpx.HTTPStatusError(f"{reply.status_code}: {reply.text}", request=reply.request, response=reply)
        return reply.json() if reply.content else None

    def dataset(
        self,
        fields: Mapping[str, str] | None = None,
        questions: Mapping[str, dict[str, Any]] | None = None,
        metadata: Mapping[str, str] | None = None,
        vectors: Mapping[str, int] | None = None,
        min_submitted: int = 1,
        name: str = "data",
    ) -> str:
        """The id of a new dataset, published. By name: types of fields and metadata, settings, dimensions."""
        (workspace,) = self.ask("GET", "me/workspaces")["items"]
        shared = {"strategy": "overlap", "min_submitted": min_submitted}
        made = self.ask("POST", "datasets", {"name": name, "workspace_id": workspace["id"], "distribution": shared})
        parts = {
            "fields": {name: {"settings": {"type": kind}} for name, kind in (fields or {"text": "text"}).items()},
            "questions": {
                name: {"settings": settings, "required": True}
                for name, settings in (questions or {"label": label_question("no", "yes")}).items()
            },
            "metadata-properties": {name: {"settings": {"type": kind}} for name, kind in (metadata or {}).items()},
            "vectors-settings": {name: {"dimensions": size} for name, size in (vectors or {}).items()},
        }
        parts["fields"][next(iter(parts["fields"]))]["required"] = True  # Argilla wants one
        for part, named in parts.items():
            for name, more in named.items():
                self.ask("POST", f"datasets/{made['id']}/{part}", {"name": name, "title": name, **more})
        self.ask("PUT", f"datasets/{made['id']}/publish")
        return str(made["id"])

    def upsert(self, dataset: str, records: Sequence[dict[str, Any]], size: int = 500) -> list[dict[str, Any]]:
        """Writes records in bulks; as the server has them now."""
        path, parts = f"datasets/{dataset}/records/bulk", range(0, len(records), size)
        return [item for at in parts for item in self.ask("PUT", path, {"items": records[at : at + size]})["items"]]

    def answer(self, record: str, status: str = "submitted", **values: Any) -> dict[str, Any]:
        """A first answer to a record, values by question."""
        body = {"status": status, "values": {name: {"value": value} for name, value in values.items()}}
        return dict(self.ask("POST", f"records/{record}/responses", body))

    def search(self, dataset: str, body: dict[str, Any], mine: bool = True, **params: Any) -> dict[str, Any]:
        """{"items": a page of records, "total": how many fit}; `mine`: with this person's answers alone."""
        return dict(self.ask("POST", f"{'me/' * mine}datasets/{dataset}/records/search", body, **params))

    def queue(self, dataset: str, **params: Any) -> list[str]:
        """The ids on a page of this person's queue."""
        asked = {"offset": 0, "limit": 10, "include": ["responses", "suggestions"], **params}
        return [item["record"]["id"] for item in self.search(dataset, answered("pending"), **asked)["items"]]

    def records(self, dataset: str, size: int = 1000) -> Iterator[dict[str, Any]]:
        """All of them with the answers of all people, in the order in which they were written."""
        asked = {"limit": size, "include": ["responses", "suggestions", "vectors"]}
        offset, items = 0, [{}] * size
        while len(items) == size:
            items = self.ask("GET", f"datasets/{dataset}/records", offset=offset, **asked)["items"]
            offset += size
            yield from items


@dataclass(frozen=True)
class Server:
    """A server that runs, or ran, on a folder."""

    home: Home
    port: int

    def api(self, name: str = OWNER) -> Api:
        return Api(f"http://127.0.0.1:{self.port}", self.home.api_key(name))

    def up(self, annotators: int = 0) -> str:
        """What the command said; it returns when the page is there."""
        return self.command("up", "--port", str(self.port), "--annotators", str(annotators))

    def kill(self) -> None:
        """Ends it at once, as a crash would, and returns when it is gone."""
        running = self.home.running()
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        while self.home.running():
            time.sleep(0.02)

    def command(self, name: str, *arguments: str) -> str:
        """`nlp-al server NAME --data FOLDER ...`; what it said."""
        command = [sys.executable, "-m", "nlp_al.cli", "server", name, "--data", str(self.home.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, annotators: int = 0, port: int | None = None) -> Iterator[Server]:
    """A server on a folder, on a free port where none is given, for as long as the block runs."""
    one = Server(Home(folder), free_port() if port is None else port)
    try:
        one.up(annotators)
        yield one
    finally:
        if one.home.made:
            one.command("down")
