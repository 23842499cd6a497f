"""A run directory, read beside the process that writes it: without the lock, and without a half-written line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlp_al.aggregation import make_aggregation, submitted
from nlp_al.annotation import make_annotator
from nlp_al.config import Config, read_config
from nlp_al.errors import UserError
from nlp_al.pool import Answer, Example, Pool
from nlp_al.relabel import answers_after, changes_of
from nlp_al.store import read_answer, read_query
from nlp_al.tasks import Task, make_task
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


def run_answers(path: Path, task: Task) -> list[Answer]:
    """All that was answered, in today's labels."""
    given = [read_answer(line) for line in run_lines(path, "labels.jsonl")]
    return answers_after(given, changes_of(path), task)


def run_task(path: Path) -> Task:
    """The task of a run, its labels those that were answered so far: no data are read for it."""
    values = read_yaml(path / "config.yaml")
    task = make_task(values["task"], values.get("task_options") or {})
    names = {name for answer in submitted(run_answers(path, task)) for name in task.names_in(answer.label)}
    return task.with_labels(task.label_set(sorted(names)))


def run_pool(path: Path, examples: Sequence[Example], task: Task) -> Pool:
    """The examples with what was asked and answered, in today's labels. task: its labels are known."""
    values = read_yaml(path / "config.yaml")
    who = values.get("annotator") or "oracle"
    parameters = {"name": who} if isinstance(who, str) else dict(who)
    annotator = make_annotator(parameters.pop("name"), parameters)
    fold = make_aggregation((values.get("loop") or {}).get("aggregation", "majority"), task, annotator.decides)
    queries = [read_query(line) for line in run_lines(path, "queries.jsonl")]
    return Pool(examples, queries, run_answers(path, task), fold=fold, needs=annotator.needs, people=annotator.in_turn)
