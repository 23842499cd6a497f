"""Where a run stands when its command is given: nothing yet, or what its directory left off with."""

from __future__ import annotations

import hashlib
import io
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import torch
from ruamel.yaml import YAML

from nlp_al.aggregation import submitted
from nlp_al.bench import Bench
from nlp_al.config import Config, as_values
from nlp_al.errors import UserError
from nlp_al.pool import DATASET, Answer, Pool
from nlp_al.processes import processes
from nlp_al.relabel import answers_after
from nlp_al.store import SCHEMA, RunDirectory
from nlp_al.values import parse_yaml

LIBRARIES = ("nlp-al", "torch", "transformers", "datasets", "accelerate", "scikit-learn", "numpy")


def begin(store: RunDirectory, config: Config, bench: Bench, pool: Pool) -> list[dict[str, Any]]:
    """Checks that the directory is this run's, brings its files up to date and fills the pool; the finished rounds.

    Raises:
        UserError: the directory holds another task, other weights, another schema, or asked ids that the data lacks.
    """
    metrics = store.lines("metrics.jsonl")
    known_config, known_environment = _known_config(store), store.read_json("environment.json")
    values, environment = as_values(config), _environment(bench)
    # What is refused leaves the directory as it was.
    if known_environment is not None:
        _check_environment(store, known_environment, environment)
    if known_config is not None:
        _check_task(store, known_config, values)
    pool.queries, pool.answers = store.queries(), answers_after(store.answers(), bench.changes, bench.task)
    _check_data(store, bench, pool)
    if known_config is None or _noted(store, len(metrics), known_config, values):
        store.write("config.yaml", to_yaml(values))
    if known_environment is None or _noted(store, len(metrics), known_environment, environment):
        store.write_json("environment.json", environment)
    known = {(answer.id, answer.annotator) for answer in pool.answers}
    given = [Answer(e.id, e.label, DATASET) for e in pool.examples if e.label is not None]
    fresh = [answer for answer in given if (answer.id, answer.annotator) not in known]
    store.add_answers(fresh, len(metrics))
    pool.answers += fresh
    return metrics


def to_yaml(values: dict[str, Any]) -> str:
    """Plain values as block-style YAML."""
    out = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as always None
    writer.dump(values, out)
    return out.getvalue()


def _known_config(store: RunDirectory) -> dict[str, Any] | None:
    path = store.path / "config.yaml"
    known: dict[str, Any] | None = parse_yaml(path.read_text(encoding="utf-8"), str(path)) if path.exists() else None
    return known


def _check_task(store: RunDirectory, before: dict[str, Any], here: dict[str, Any]) -> None:
    if before["task"] != here["task"]:
        raise UserError(
            f"{store.path} holds a run of the task {before['task']}, not {here['task']}; name another run_dir."
        )


def _noted(store: RunDirectory, round_: int, before: dict[str, Any], here: dict[str, Any]) -> bool:
    """Whether anything changed; if so, it is in the history now."""
    changed = {key: [before.get(key), value] for key, value in here.items() if before.get(key) != value}
    # A crash may have come between the line and the file that it is about.
    known = any(line["changed"] == changed for line in store.lines("config_history.jsonl")[-1:])
    if changed and not known:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        store.append("config_history.jsonl", [{"round": round_, "changed": changed, "time": now}])
    return bool(changed)


def _environment(bench: Bench) -> dict[str, Any]:
    state = processes()
    digest = hashlib.blake2b(digest_size=12)
    for name, examples in sorted(bench.splits.items()):
        for example in examples:
            digest.update(repr((name, example.id, example.inputs, example.label)).encode())
    return {
        "schema": SCHEMA,
        "versions": _versions(),
        "device": torch.cuda.get_device_name() if state.device.type == "cuda" else state.device.type,
        "processes": state.num_processes,
        "dataset_fingerprint": digest.hexdigest(),
        "weights": bench.encoder.weights,
    }


@cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _check_environment(store: RunDirectory, before: dict[str, Any], here: dict[str, Any]) -> None:
    if before["schema"] != here["schema"]:
        raise UserError(
            f"{store.path} was written in schema {before['schema']} of run directories; this library reads "
            f"{here['schema']}. Name another run_dir."
        )
    if before["weights"] != here["weights"]:
        raise UserError(f"{store.path} was begun with other weights than those of 'model' now; name another run_dir.")
    newer = [
        f"{n} {before['versions'].get(n)} → {v}" for n, v in here["versions"].items() if before["versions"].get(n) != v
    ]
    if newer:
        print(f"Going on with other versions than it began with: {', '.join(newer)}.", flush=True)


def _check_data(store: RunDirectory, bench: Bench, pool: Pool) -> None:
    gone = [query.id for query in pool.queries if query.id not in pool]
    if gone:
        raise UserError(
            f"{store.path}: {len(gone)} examples that were asked about are gone from the data, {gone[0]!r} among them; "
            "bring their rows back, or name another run_dir."
        )
    for answer in submitted(pool.last_answers()):
        extra = set(bench.task.names_in(answer.label)) - set(bench.task.labels)
        if extra and answer.id in pool:
            raise UserError(
                f"{store.path}: {answer.id!r} was answered with {min(extra)!r}, which is no label; add it under "
                "'labels'."
            )
