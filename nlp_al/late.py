"""Rows that came into the data after a run had begun."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from safetensors.numpy import load, save

from nlp_al.pool import Example
from nlp_al.store import RunDirectory
from nlp_al.tasks import Task

FILE = "rows.safetensors"


def note_late(store: RunDirectory, examples: Sequence[Example], task: Task) -> int:
    """Writes the rows that an earlier start did not know to added.jsonl; how many there are.

    rows.safetensors holds `ids`: uint64[n], a hash of the id of each row that the first start found.
    """
    path = store.path / FILE
    if not path.exists():
        ids = np.array([_hash(example.id) for example in examples], dtype=np.uint64)
        store.write_bytes(FILE, save({"ids": ids}))
        return 0
    known = set(load(path.read_bytes())["ids"].tolist()) | {_hash(line["id"]) for line in store.lines("added.jsonl")}
    late = [example for example in examples if _hash(example.id) not in known]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [{"id": e.id, **task.question(e.inputs), "origin": "data", "time": now} for e in late]
    store.append("added.jsonl", lines)
    return len(late)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
