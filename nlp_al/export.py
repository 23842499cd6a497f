"""What a run has learned of its examples, as a table that people open."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_al.bench import Bench
from nlp_al.pool import HOLDOUT, Pool
from nlp_al.run_files import run_config, run_pool
from nlp_al.store import told
from nlp_al.tasks import Task


def write_csv(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Writes a table by rename, as UTF-8 that spreadsheets know by its mark; lists and mappings as JSON."""
    fresh = path.with_name(f"{path.name}.new")
    with told(path):
        with fresh.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({name: plain(value) for name, value in row.items()} for row in rows)
        fresh.replace(path)


def plain(value: Any) -> Any:
    """A value as a cell."""
    return value if isinstance(value, (str, int, float)) or value is None else json.dumps(value, ensure_ascii=False)


def export(run: Path, file: Path) -> int:
    """Writes a line for each example that was asked about or has a label; how many there are."""
    config = run_config(run)
    bench = Bench.of(config)
    pool = run_pool(run, bench.splits["train"], bench.task)
    rows = list(_rows(pool, bench.task))
    shown = list(dict.fromkeys(name for row in rows for name in row["question"]))
    columns = ["id", *shown, "label", "state", "answers", "round", "strategy"]
    write_csv(file, [{**row["question"], **row} for row in rows], columns)
    return len(rows)


def _rows(pool: Pool, task: Task) -> Iterator[dict[str, Any]]:
    labels, asked = pool.labels(), pool.first_queries()
    given: dict[str, dict[str, Any]] = {}
    for answer in pool.last_answers():
        said = answer.label if answer.status == "submitted" else answer.status
        given.setdefault(answer.id, {})[answer.annotator] = said
    for example in pool.examples:
        name, query = example.id, asked.get(example.id)
        if name not in labels and query is None:
            continue
        held = query is not None and query.strategy == HOLDOUT
        state = ("holdout" if held else "labelled") if name in labels else "unlabelled" if name in given else "waiting"
        yield {
            "id": name,
            "question": task.question(example.inputs),
            "label": labels.get(name),
            "state": state,
            "answers": given.get(name, {}),
            "round": query.round if query else None,
            "strategy": query.strategy if query else None,
        }
