"""The folder that a server keeps everything in: who may read it, what lies where, whether a server runs on it."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nlp_al.errors import RunError, UserError
from nlp_al.store import told

PACKAGES = ("argilla-server", "fakeredis")
OWNER = "owner"
WORKSPACE = "nlp-al"


def require_extra() -> None:
    """UserError where the packages of the extra are missing."""
    for package in PACKAGES:
        try:
            version(package)
        except PackageNotFoundError as error:
            raise UserError('The Argilla server needs an extra: pip install "nlp-al[server]".') from error


@dataclass(frozen=True)
class Running:
    """Where a server answers, since when (UTC, ISO 8601), and its process."""

    host: str
    port: int
    pid: int
    since: str

    @property
    def url(self) -> str:
        """What to open in a browser on the same machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True)
class Home:
    """The data folder: `argilla.db` and its WAL, the key that logins are signed with, a log, and who holds it."""

    folder: Path

    @property
    def database(self) -> Path:
        """All records, answers and accounts."""
        return self.folder / "argilla.db"

    @property
    def log(self) -> Path:
        """What the server process printed, of the newest start."""
        return self.folder / "server.log"

    @property
    def scratch(self) -> Path:
        """Where Argilla copies its page to at each start."""
        return self.folder / "tmp"

    @property
    def made(self) -> bool:
        """Whether a server was ever started here."""
        return self.database.is_file()

    def make(self) -> None:
        """Makes the folder, for this user's eyes alone; RunError where that can't be done."""
        with told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            self.scratch.mkdir(exist_ok=True)

    def require(self) -> None:
        """UserError where no server was ever started on this folder."""
        if not self.made:
            raise UserError(
                f"{self.folder} holds no Argilla server: nlp-al server up --data {self.folder} starts one there."
            )

    def environment(self) -> dict[str, str]:
        """The variables that Argilla reads its settings from. The key of logins is made at the first call."""
        return {
            "ARGILLA_HOME_PATH": str(self.folder),
            "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{self.database}?check_same_thread=False",
            "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
            "ARGILLA_AUTH_SECRET_KEY": self._secret(),
            "ARGILLA_AUTH_OAUTH_CFG": str(self.folder / "oauth.yaml"),
            "ARGILLA_SEARCH_ENGINE": "nlp-al",
            "ARGILLA_REDIS_URL": "redis://in-process",
            "ARGILLA_CORS_ORIGINS": "[]",
            "ARGILLA_ENABLE_TELEMETRY": "false",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TMPDIR": str(self.scratch),
        }

    def backup(self, file: Path) -> None:
        """Copies the database, as it is at one moment, beside a server that runs or not. `file` is replaced whole."""
        with told(file):
            fresh = file.with_name(f"{file.name}.new")
            fresh.unlink(missing_ok=True)
            os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            with closing(sqlite3.connect(self.database, timeout=30)) as now, closing(sqlite3.connect(fresh)) as copy:
                now.backup(copy)
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(file)

    def _secret(self) -> str:
        path = self.folder / "secret"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(48))
        return path.read_text(encoding="ascii")

    @contextmanager
    def held(self, wait: float = 0) -> Iterator[None]:
        """Keeps other servers off this folder; RunError where one holds it for `wait` seconds more."""
        try:
            with FileLock(self.folder / "lock", timeout=wait, mode=0o600):
                yield
        except Timeout as error:
            raise RunError(f"{self.folder} is in use by another server or by one that is being started.") from error

    @contextmanager
    def announced(self, host: str, port: int, since: str) -> Iterator[None]:
        """Says where the server answers, for as long as it does."""
        path = self.folder / "running.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"host": host, "port": port, "pid": os.getpid(), "since": since}) + "\n")
        fresh.replace(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The server on this folder, None where there is none; one that was killed doesn't count."""
        path = self.folder / "running.json"
        if not path.exists():
            return None
        try:
            with self.held():
                return None  # nobody holds the folder, so what the file says is of a server that was killed
        except RunError:
            try:
                return Running(**json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:  # it went down between the two looks
                return None

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database says, beside a server that runs or not."""
        with closing(sqlite3.connect(f"{self.database.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as database:
            return database.execute(query, values).fetchall()

    def api_key(self, name: str = OWNER) -> str:
        """The key with which programs act as this person."""
        return str(self.rows("SELECT api_key FROM users WHERE username = ?", name)[0][0])
