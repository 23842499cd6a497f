"""A run directory, read beside the process that writes it: without the lock, and without a half-written line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nlp_al.config import Config, read_config
from nlp_al.errors import UserError
from nlp_al.pool import Answer, Example, Pool, Query
from nlp_al.values import read_yaml


def run_config(path: Path) -> Config:
    """The config of a run; UserError where the folder is none."""
    file = path / "config.yaml"
    if not file.is_file():
        raise UserError(f"{path} is no run directory: it holds no config.yaml.")
    return read_config({**read_yaml(file), "run_dir": str(path)}, path)


def run_lines(path: Path, name: str) -> list[dict[str, Any]]:
    """The whole lines of a JSON lines file of a run; none where it is not there."""
    file = path / name
    data = file.read_bytes() if file.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def run_json(path: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run, {} where it is not there."""
    file = path / name
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def run_pool(path: Path, examples: list[Example]) -> Pool:
    """The examples with what was asked and answered."""
    answers = [
        Answer(line["id"], line["label"], line["annotator"], line["status"]) for line in run_lines(path, "labels.jsonl")
    ]
    return Pool(examples, [Query(**line) for line in run_lines(path, "queries.jsonl")], answers)
