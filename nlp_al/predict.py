"""What a run's model says of the examples that nobody labelled, or of those in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nlp_al.bench import Bench
from nlp_al.config import Config
from nlp_al.dataset import load_splits
from nlp_al.errors import RunError, UserError
from nlp_al.export import write_csv
from nlp_al.made_labels import FILE as MADE_LABELS
from nlp_al.made_labels import examples_of
from nlp_al.pool import Example
from nlp_al.run_files import run_config, run_json, run_lines, run_pool
from nlp_al.scores import suggest
from nlp_al.signals.collector import Scorer
from nlp_al.signals.loading import load_tokenizer
from nlp_al.source import Dataset
from nlp_al.training.frozen import fit_head
from nlp_al.training.full import load_model, scorer_of

KINDS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".txt": "text"}


def predict_rows(run: Path, file: Path | None, out: Path, threshold: float) -> tuple[int, int]:
    """Writes id, what the model read, label, confidence and a flag; (how many rows, how many flagged).

    file: rows in the columns of the run's data, labels not needed; None: the rows of the pool without a label.
    threshold: below it a row is flagged `check`; of a label in several parts the least sure one counts.

    Raises:
        UserError: the folder is no run's, or the file can't be read. RunError: there is no model yet.
    """
    config = run_config(run)
    bench = Bench.of(config)
    pool = run_pool(run, bench.splits["train"], bench.task)
    labels = pool.labels()
    examples = _read(config, bench, file) if file else [e for e in pool.examples if e.id not in labels]
    generator = torch.Generator().manual_seed(config.loop.seed)
    found = suggest(_model(config, bench, run, examples), bench.task, examples, generator) or []
    rows = []
    for example, (label, sure) in zip(examples, found, strict=True):
        least = min(sure, default=None) if isinstance(sure, list) else sure
        flag = "check" if least is not None and least < threshold else ""
        question = bench.task.question(example.inputs)
        rows.append({"id": example.id, **question, "label": label, "confidence": sure, "flag": flag})
    shown = list(dict.fromkeys(name for example in examples for name in bench.task.question(example.inputs)))
    write_csv(out, rows, ["id", *shown, "label", "confidence", "flag"])
    return len(rows), sum(bool(row["flag"]) for row in rows)


def _read(config: Config, bench: Bench, file: Path) -> list[Example]:
    if not file.is_file():
        raise UserError(f"{file} is no file.")
    if file.name.removesuffix(".gz").endswith(tuple(KINDS)):
        kind = KINDS[Path(file.name.removesuffix(".gz")).suffix]
    else:
        raise UserError(f"{file} is no file of rows: its name must end with {', '.join(KINDS)}.")
    kept = {} if kind != config.dataset.path else dict(config.dataset.arguments)
    arguments: dict[str, Any] = {**kept, "data_files": {"train": str(file.resolve())}}
    if file.suffix == ".tsv":
        arguments["delimiter"] = "\t"
    arguments.pop("split", None)
    given = dict.fromkeys(bench.task.labels, "")
    splits = load_splits(Dataset(kind, config.dataset.columns, arguments), bench.task, given)
    return bench.task.complete(splits, config.model)["train"]


def _model(config: Config, bench: Bench, run: Path, examples: list[Example]) -> Scorer:
    """The saved model, or in frozen mode, before the final one, the head that the labels give."""
    saved = run_json(run, "model/nlp_al.json")
    if saved and saved["labels"] == list(bench.task.labels):
        source = str(run / "model")
        return scorer_of(
            load_model(source, bench.task, config.training.attn_implementation),
            load_tokenizer(source),
            bench.task,
            config.training,
        )
    pool = run_pool(run, bench.splits["train"], bench.task)
    labelled = pool.labelled()
    if config.training.mode != "frozen" or bench.task.only_label([label for _, label in labelled]) or not labelled:
        raise RunError(f"{run} has no model yet: it needs a finished round, with labels of two classes.")
    last = len(run_lines(run, "metrics.jsonl")) - 1
    made = [line["labels"] for line in run_lines(run, MADE_LABELS) if line["round"] == last]
    known = {example.id for example, _ in labelled}
    labelled += examples_of(made[-1] if made else [], pool, known, bench.task)
    bench.encoder.encode([*(example for example, _ in labelled), *examples])
    return fit_head(bench.encoder, bench.task, labelled)
