"""A Hugging Face Hub of one's own: as much of its API as `huggingface_hub` needs to make repositories and fill them."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_a_test"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """repositories: by `models/me/x` or `datasets/me/x`. large: endings of the names of files that go by LFS. refuses:
    the status of every answer.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    large: tuple[str, ...] = (".safetensors", ".parquet")
    refuses: int | None = None
    url: str = ""

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> tuple[int, Any, dict[str, str]]:
        """(status, body, headers) of a request."""
        self.requests.append(f"{method} {path}")
        if found := re.fullmatch(r"/objects/(\w+)", path):  # where LFS files go needs no token
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.objects[found[1]] = body
            return 200, {}, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}, {}
        if self.refuses is not None:
            return self.refuses, {"error": "Not now."}, {}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return 200, {"errors": [], "warnings": []}, {}
        if found := re.fullmatch(r"/(?:(datasets)/)?([\w-]+/[\w-]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if found := re.fullmatch(r"/api/((?:models|datasets)/[\w-]+/[\w-]+)(?:/(preupload|commit)/main)?", path):
            repository = self.repositories.get(found[1])
            if repository is None:
                return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            if found[2] == "preupload":
                return self._modes(json.loads(body))
            if found[2] == "commit":
                return self._commit(found[1], repository, [json.loads(line) for line in body.splitlines()])
            return 200, {"id": found[1].partition("/")[2], "private": repository.private, "sha": "1" * 40}, {}
        return 404, {"error": "There is no such thing."}, {}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        name = f"{asked.get('type') or 'model'}s/{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.url}/{name.removeprefix('models/')}"}
        if name in self.repositories:
            return 409, {**url, "error": "You already created this repository."}, {}
        private = asked["visibility"] == "private" if "visibility" in asked else asked["private"]
        self.repositories[name] = Repository(private)
        return 200, url, {}

    def _modes(self, asked: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        modes = {one["path"]: "lfs" if one["path"].endswith(self.large) else "regular" for one in asked["files"]}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        return 200, {"files": files}, {}

    def _batch(self, asked: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.url}/objects/{one['oid']}"}}} for one in asked["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _commit(self, name: str, to: Repository, lines: list[dict[str, Any]]) -> tuple[int, Any, dict[str, str]]:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                to.commits.append(value["summary"])
            elif line["key"] == "file":
                to.files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                to.files[value["path"]] = self.objects[value["oid"]]
        oid = f"{len(to.commits):040}"
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid}, {}


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A Hub on a port of this machine, while the context lasts."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            status, said, headers = hub.answer(self.command, path, body, self.headers.get("Authorization"))
            data = json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(data)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
