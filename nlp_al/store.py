"""The run directory: append-only, crash-safe, readable without this library.

Everything that reaches the disk goes through a `Disk`, so that tests can kill the process at any step of any write.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from nlp_al.errors import RunError
from nlp_al.pool import Answer, Query

SCHEMA = 1

MODEL, LABELLED, START = "model", "labelled", "model_start"
"""The folders of a run directory, each of which is replaced as a whole. `model_start`: the weights that the fit of the
round began with, where snapshots of it are wanted and these are the last round's.
"""


GROWING = (
    "queries",
    "labels",
    "metrics",
    "config_history",
    "added",
    "reranked",
    "label_changes",
    "made_labels",
    "suggestions",
    "asked_again",
)
"""The files, but for .jsonl at their end, that lines are appended to."""

WRITTEN = ("note", "reply", "before")
"""Fields of an answer or a question that a line has only where there is something."""


def read_answer(line: Mapping[str, Any]) -> Answer:
    """The answer of a line of labels.jsonl."""
    scope = tuple(line["scope"]) if line["scope"] else None
    more = {name: line[name] for name in WRITTEN if name in line}
    return Answer(line["id"], line["label"], line["annotator"], line["status"], scope, **more)


def read_query(line: Mapping[str, Any]) -> Query:
    """The question of a line of queries.jsonl."""
    return Query(**{**line, "before": tuple(line.get("before", ()))})


def _lines(made: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in WRITTEN or value} for line in made]


class Disk:
    """The three things that a write is made of."""

    def write(self, descriptor: int, data: bytes) -> None:
        """Writes all of `data`."""
        while data:
            data = data[os.write(descriptor, data) :]

    def sync(self, descriptor: int) -> None:
        """Returns when the file is on the disk."""
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Puts `old` in the place of `new`, whole or not at all."""
        old.replace(new)
        _sync_folder(new.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told(what: Path) -> Iterator[None]:
    """Turns an error of the disk into one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None) or _number_in(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"The disk is full: {what} can't be written. Free some space and give the command again."
            ) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunError(f"No permission to write {what}.") from error
        if number in (errno.ENOTDIR, errno.EEXIST):
            raise RunError(f"{what} can't be made: a file is in the way.") from error
        raise


def _number_in(error: Exception) -> int | None:
    """The number of a disk's error that safetensors has turned into text."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


class RunDirectory:
    """One run's files. Opening it takes the lock and repairs what a crash left; `close` gives the lock back.

    Raises:
        RunError: no permission, disk full, or another process works in the directory.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self.disk = disk or Disk()
        with told(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path / ".lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise RunError(f"{path} is in use by another process; wait for it, or name another run_dir.") from None
        with told(path):
            self._repair()

    def close(self) -> None:
        """Lets other processes in."""
        self._lock.release()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reading

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a JSON lines file; none where it is not there."""
        path = self.path / name
        found = []
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise RunError(f"{path} line {number} is not valid JSON; mend the line or take it out.") from error
        return found

    def queries(self) -> list[Query]:
        """All that was asked."""
        return [read_query(line) for line in self.lines("queries.jsonl")]

    def answers(self) -> list[Answer]:
        """All that was answered."""
        return [read_answer(line) for line in self.lines("labels.jsonl")]

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file, None where it is not there."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    # Writing

    def add_queries(self, queries: Sequence[Query]) -> None:
        """One batch: one append."""
        self.append("queries.jsonl", _lines(asdict(query) for query in queries))

    def add_answers(self, answers: Sequence[Answer], round_: int) -> None:
        """Answers as they arrive, on the disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.append("labels.jsonl", _lines({"round": round_, **asdict(answer), "time": now} for answer in answers))

    def append(self, name: str, lines: Sequence[dict[str, Any]]) -> None:
        """Appends JSON lines in one write and syncs them."""
        if not lines:
            return
        path = self.path / name
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        with told(path):
            made = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                self.disk.write(descriptor, data)
                self.disk.sync(descriptor)
            finally:
                os.close(descriptor)
            if made:
                _sync_folder(self.path)

    def write(self, name: str, text: str) -> None:
        """Writes a whole file, by rename."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a whole file, by rename."""
        path = self.path / name
        fresh = path.with_name(path.name + ".new")
        with told(path):
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                self.disk.write(descriptor, data)
                self.disk.sync(descriptor)
            finally:
                os.close(descriptor)
            self.disk.rename(fresh, path)

    def update(self, name: str, text: str) -> None:
        """Writes a whole file, unless it is like that."""
        path = self.path / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            self.write(name, text)

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Writes a JSON file, by rename."""
        self.write(name, json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def swap(self, name: str, fill: Callable[[Path], None], about: dict[str, Any]) -> None:
        """Fills a folder beside the folder `name` and puts it in its place by rename.

        fill: writes the files. about: what they were made from, kept in the folder as `nlp_al.json`, the last file
        written, so that a folder without it is known to be torn.
        """
        fresh, folder, old = self._folders(name)
        with told(fresh):
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            fill(fresh)
            for path in [*fresh.rglob("*"), fresh]:
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    self.disk.sync(descriptor)
                finally:
                    os.close(descriptor)
            self.write(f"{fresh.name}/nlp_al.json", json.dumps(about) + "\n")
            if folder.exists():
                self.disk.rename(folder, old)
            self.disk.rename(fresh, folder)
            shutil.rmtree(old, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Takes the folder `name` away, if it is there."""
        shutil.rmtree(self.path / name, ignore_errors=True)

    def made_from(self, name: str) -> dict[str, Any] | None:
        """What the folder `name` was made from, None where there is no such folder."""
        return self.read_json(f"{name}/nlp_al.json")

    def _folders(self, name: str) -> list[Path]:
        """A folder while it is filled, in its place, and while its successor takes that."""
        return [self.path / made for made in (f"{name}.new", name, f"{name}.old")]

    # After a crash

    def _repair(self) -> None:
        for name in GROWING:
            self._drop_torn_line(self.path / f"{name}.jsonl")
        self._drop_torn_batch()
        for name in (MODEL, LABELLED, START):
            fresh, folder, old = self._folders(name)
            if not folder.exists():
                whole = fresh if (fresh / "nlp_al.json").exists() else old
                if whole.exists():
                    self.disk.rename(whole, folder)
            for left in (fresh, old):
                shutil.rmtree(left, ignore_errors=True)

    def _drop_torn_line(self, path: Path) -> None:
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._cut(path, whole)

    def _drop_torn_batch(self) -> None:
        """A batch whose append was cut short was shown to nobody: it goes, and is chosen again."""
        queries = self.lines("queries.jsonl")
        last = [query for query in queries if query["round"] == queries[-1]["round"]]
        if last and len(last) < last[0].get("batch", 0):  # another schema may have no such field; it is refused later
            lines = (self.path / "queries.jsonl").read_bytes().splitlines(keepends=True)
            self._cut(self.path / "queries.jsonl", sum(map(len, lines[: len(queries) - len(last)])))

    def _cut(self, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, size)
            self.disk.sync(descriptor)
        finally:
            os.close(descriptor)
