"""README.md of the final model and of the labelled set: their cards on the Hub. No text of the data is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData, ModelCardData

from nlp_al.config import Config
from nlp_al.pool import HOLDOUT, Pool
from nlp_al.provenance import provenance
from nlp_al.tasks import Task

PLACE = "path/to/this/folder"

SCORED = {HOLDOUT: "holdout, drawn at random and never trained on", "test": "test", "validation": "validation"}


def model_card(config: Config, task: Task, pool: Pool, final: Mapping[str, Any]) -> str:
    """The card of `model/`. final: what `final.json` says."""
    base, data = hub_name(config.model), config.push_to_hub.dataset
    about = ModelCardData(
        library_name="transformers",
        pipeline_tag=task.pipeline_tag or task.name,
        base_model=base,
        datasets=[data] if data else None,
        tags=["active-learning"],
    )
    how = "Adapters on" if config.training.adapts else "All weights of"
    of = f"[{base}](https://huggingface.co/{base})" if base else "a pretrained encoder"
    chosen = f"{final['labelled']:,} labelled examples, which active learning chose"
    sections = [f"{how} {of} were trained for {task.name} on {chosen}.", _origin(config, pool)]
    if scores := _scores(task, final):
        sections += [f"## Scores\n\n{scores}"]
    place = json.dumps(config.push_to_hub.model or PLACE)
    sections += [f"## Use\n\n```python\nsource = {place}\n\n{task.usage(pool.examples[0])}```"]
    return _card(about, config.push_to_hub.model or f"A model for {task.name}", sections)


def data_card(
    config: Config,
    task: Task,
    pool: Pool,
    guidelines: Mapping[str, str],
    sizes: Mapping[str, int],
    columns: Sequence[str],
) -> str:
    """The card of `labelled/`. sizes: of each split, in rows.

    The splits are known by the names of their files. Were they named here, `datasets` 5 would know the folder in its
    cache by this card and the folder's name alone, and hand out another run's labels, or old ones.
    """
    about = DatasetCardData(task_categories=[task.category or task.name], tags=["active-learning"])
    told = {
        "id": "of the row in the data that were labelled",
        list(task.columns)[-1]: "the label",
        "round": "the round that asked about it",
        "strategy": "what chose it; `dataset`: it had its label already",
        "answers": "what each annotator answered; labels as JSON",
    }
    place = json.dumps(config.push_to_hub.dataset or PLACE)
    held = " `holdout` was drawn at random." if HOLDOUT in sizes else ""
    sections = [
        _table({f"`{name}`": f"{size:,} rows" for name, size in sizes.items()}),
        f"```python\nimport datasets\n\nprint(datasets.load_dataset({place}))\n```",
        _origin(config, pool),
        f"Active learning chose the examples of `train`: they are no random sample of the pool.{held}",
        "## Columns\n\n" + _table({f"`{name}`": told.get(name, "what was read") for name in columns}),
    ]
    if explained := {name: text for name, text in guidelines.items() if text}:
        sections += ["## Labels\n\n" + _table(explained)]
    return _card(about, config.push_to_hub.dataset or f"Labels for {task.name}", sections)


def hub_name(model: str) -> str | None:
    """The name of weights where it is one on the Hub."""
    return None if model.startswith("pkg:") or Path(model).is_absolute() else model


def _card(about: ModelCardData | DatasetCardData, name: str, sections: Sequence[str]) -> str:
    return "\n\n".join([f"---\n{about.to_yaml()}\n---", f"# {name.split('/')[-1]}", *sections]) + "\n"


def _origin(config: Config, pool: Pool) -> str:
    return f"## How the labels came about\n\n{_table(provenance(config, pool))}"


def _scores(task: Task, final: Mapping[str, Any]) -> str:
    """The task's metrics on each split that has some, those of the holdout with the interval that holds them."""
    lines = []
    for split, told in SCORED.items():
        found, interval = final.get(split), final.get(f"{split}_interval", {})
        if not found:
            continue
        values = [f"{found[name]:.3f}" if name in found else "" for name in task.metrics]
        ranges = [interval.get(name) for name in task.metrics]
        cells = [
            value + (f" (95%: {ends[0]:.3f}–{ends[1]:.3f})" if ends else "")
            for value, ends in zip(values, ranges, strict=True)
        ]
        lines.append(" | ".join([told, *cells]))
    if not lines:
        return ""
    head = " | ".join(["", *task.metrics])
    return "\n".join([f"|{head} |", f"|---{'|---' * len(task.metrics)}|", *(f"| {line} |" for line in lines)])


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {_cell(name)} | {_cell(told)} |" for name, told in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
