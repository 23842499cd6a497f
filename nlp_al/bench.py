"""What runs over the same data and weights share, and the pool that each run makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nlp_al.annotation import Annotator
from nlp_al.config import Config
from nlp_al.dataset import label_names, load_splits
from nlp_al.errors import UserError
from nlp_al.pool import Example, Pool, price
from nlp_al.processes import processes
from nlp_al.signals.features import Encoder
from nlp_al.tasks import Task, make_task


@dataclass(frozen=True)
class Bench:
    """The task with its labels, the examples of each split, the pretrained encoder."""

    task: Task
    splits: dict[str, list[Example]]
    encoder: Encoder

    @classmethod
    def of(cls, config: Config) -> Bench:
        """Loads the data; UserError where something is wrong with it."""
        task = make_task(config.task, config.task_options)
        splits = load_splits(config.dataset, task, config.labels)
        task = task.with_labels(label_names(task, splits, config.labels))
        train = splits["train"]
        doubles = len(train) - len({example.key for example in train})
        if doubles and processes().is_main_process:
            print(f"{doubles} of {len(train)} rows of train repeat the text of another one.", flush=True)
        return cls(task, splits, Encoder(config.model, task))

    def gold(self, split: str) -> list[tuple[Example, Any]]:
        """Examples of a split that have a gold label, with it."""
        return [(example, example.label) for example in self.splits.get(split, []) if example.label is not None]


def make_pool(config: Config, bench: Bench, annotator: Annotator) -> tuple[Pool, dict[str, Any]]:
    """The pool, and the gold labels that a simulated annotator may know; under it no row of the pool keeps its label.

    Raises:
        UserError: rows lack labels that an oracle needs, or the pool is smaller than the initial set.
    """
    train, gold = bench.splits["train"], {}
    if annotator.hides_gold:
        bare = next((at + 1 for at, e in enumerate(train) if e.label is None), None)
        if bare is not None:
            raise UserError(
                f"The annotator is oracle, but row {bare} of the split train has no label (column for "
                f"dataset.columns.{list(bench.task.columns)[-1]}); give every row one, or take the annotator jsonl."
            )
        if len({name for e in train for name in bench.task.names_in(e.label)}) < 2:
            raise UserError("All rows of train have the same label; an oracle needs at least two classes.")
        gold = {e.id: e.label for e in train}
        train = [replace(e, label=None) for e in train]
    size = sum(price(e, config.loop.unit) for e in train if e.label is None)
    if size < config.loop.initial:
        raise UserError(
            f"loop.initial is {config.loop.initial}, but the pool holds only {size} {config.loop.unit}; "
            "take a smaller initial set."
        )
    return Pool(train), gold
