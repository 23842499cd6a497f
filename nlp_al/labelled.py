"""The labelled set of a run, as a folder that `datasets.load_dataset` takes, and another run as its `dataset.path`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from nlp_al.bench import Bench
from nlp_al.cards import data_card
from nlp_al.config import Config
from nlp_al.pool import HOLDOUT, OPEN, Answer, Example, Pool, content_hash
from nlp_al.provenance import aliases, chosen_by, simulated
from nlp_al.store import LABELLED, RunDirectory
from nlp_al.tasks import Task

COLUMNS = {
    "round": datasets.Value("int32"),
    "strategy": datasets.Value("string"),
    "answers": datasets.List({name: datasets.Value("string") for name in ("annotator", "status", "label")}),
}
"""Those that every task has beside its own."""

Split = list[dict[str, Any]]


def write_labelled(store: RunDirectory, config: Config, bench: Bench, pool: Pool) -> int:
    """Writes `labelled/`, unless it is up to date; how many rows it has.

    There is none of a simulation, nor where nothing is labelled. The same answers make the same bytes.
    """
    if simulated(config):
        return 0
    pairs = {"train": pool.labelled(), HOLDOUT: pool.labelled(holdout=True)}
    examples = [example for held in pairs.values() for example, _ in held]
    if not examples:
        return 0
    splits = {name: _rows(bench.task, pool, held) for name, held in pairs.items() if held}
    features = _features(bench.task, examples[0], splits)
    sizes = {name: len(rows) for name, rows in splits.items()}
    card = data_card(config, bench.task, pool, bench.guidelines, sizes, list(features))

    def fill(folder: Path) -> None:
        (folder / "README.md").write_text(card, encoding="utf-8")
        (folder / "data").mkdir()
        for name, rows in splits.items():
            table = datasets.Dataset.from_dict({column: [row[column] for row in rows] for column in features}, features)
            table.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")

    about = {"answers": len(pool.answers), "content": content_hash([card, str(features), splits]).hex()}
    if store.made_from(LABELLED) != about:
        store.swap(LABELLED, fill, about)
    return len(examples)


def _rows(task: Task, pool: Pool, pairs: Sequence[tuple[Example, Any]]) -> Split:
    names, strategies = aliases(pool), chosen_by(pool)
    first = pool.first_queries()
    answers = pool.last()
    return [
        {
            "id": example.id,
            **{role: value for role, value in task.question(example.inputs).items() if role in task.columns},
            list(task.columns)[-1]: task.column(label, example),
            "round": first[example.id].round if example.id in first else None,
            "strategy": strategies.get(example.id),
            "answers": [
                {"annotator": names[answer.annotator], "status": answer.status, "label": _said(task, answer, example)}
                for answer in answers[example.id]
                if answer.status not in OPEN
            ],
        }
        for example, label in pairs
    ]


def _said(task: Task, answer: Answer, example: Example) -> str | None:
    """The label of one answer as JSON, as in the label's column but by name."""
    submitted = answer.status == "submitted"
    return json.dumps(task.column(answer.label, example), ensure_ascii=False) if submitted else None


def _features(task: Task, example: Example, splits: dict[str, Split]) -> datasets.Features:
    rows = [row for split in splits.values() for row in split]
    known = {**COLUMNS, list(task.columns)[-1]: task.feature(example)}
    values = {name: [row[name] for row in rows] for name in rows[0] if known.get(name) is None}
    found = datasets.Dataset.from_dict(values).features
    return datasets.Features({name: known.get(name) or found[name] for name in rows[0]})
