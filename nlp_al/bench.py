"""What runs over the same data and weights share, and the pool that each run makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nlp_al.aggregation import check_installed, make_aggregation
from nlp_al.annotation import Annotator
from nlp_al.config import Config
from nlp_al.dataset import label_names, load_splits
from nlp_al.errors import UserError
from nlp_al.pool import Example, Pool, price
from nlp_al.processes import processes
from nlp_al.relabel import Change, changes_of, examples_after, labels_after
from nlp_al.signals.features import Pretrained
from nlp_al.tasks import Task, make_task


@dataclass(frozen=True)
class Bench:
    """The task with its labels, the examples of each split, the pretrained encoder.

    guidelines: what is said of each label. changes: how labels were changed in the run, which the examples are read by.
    """

    task: Task
    splits: dict[str, list[Example]]
    encoder: Pretrained
    guidelines: dict[str, str] = field(default_factory=dict)
    changes: Sequence[Change] = ()

    @classmethod
    def of(cls, config: Config) -> Bench:
        """Loads the data; UserError where something is wrong with it."""
        task = make_task(config.task, config.task_options)
        splits = load_splits(config.dataset, task, config.labels)
        if processes().is_main_process:
            for remark in task.remarks():
                print(remark, flush=True)
        changes = changes_of(Path(config.run_dir))
        splits = {name: examples_after(split, changes, task) for name, split in splits.items()}
        splits = task.complete(splits, config.model)
        labels = labels_after(config.labels, changes, task)
        task = task.with_labels(label_names(task, splits, labels))
        train = splits["train"]
        doubles = len(train) - len({example.key for example in train})
        if doubles and processes().is_main_process:
            print(f"{doubles} of {len(train)} rows of train repeat the text of another one.", flush=True)
        encoder = Pretrained(config.model, task)
        if processes().is_main_process and (told := cut_texts(task, encoder.tokenizer, train)):
            print(told, flush=True)
        return cls(task, splits, encoder, task.guidelines(labels or {}), changes)

    def gold(self, split: str) -> list[tuple[Example, Any]]:
        """Examples of a split that have a gold label, with it."""
        return [(example, example.label) for example in self.splits.get(split, []) if example.label is not None]


LOOKED_AT = 1000
"""Examples whose tokens are counted to say how many lose some."""


def cut_texts(task: Task, tokenizer: Any, examples: Sequence[Example]) -> str | None:
    """How many examples are longer than what the model reads, in a sentence; None where none is."""
    some = sorted(examples, key=lambda e: e.key)[:LOOKED_AT]  # by hash: a random part, and the same each time
    units = [(at, unit) for at, example in enumerate(some) for unit in task.units(example.inputs)]
    cut = task.too_long(tokenizer, [unit for _, unit in units])
    share = len({at for (at, _), long in zip(units, cut, strict=True) if long}) / len(some)
    if share == 0:
        return None
    rounded = "less than 1%" if share < 0.01 else f"{share:.0%}"
    about = "" if len(some) == len(examples) or share < 0.01 else "about "
    limits = {n: v for n, v in vars(task.options).items() if n in ("max_length", "max_response_length")}
    told = " or ".join(f"{name} ({value} tokens)" for name, value in limits.items())
    return f"{about}{rounded} of train is longer than {told}, and is cut.".capitalize()


def make_pool(config: Config, bench: Bench, annotator: Annotator) -> tuple[Pool, dict[str, Any]]:
    """The pool, and the gold labels that a simulated annotator may know; under it no row of the pool keeps its label.

    Raises:
        UserError: rows lack labels that an oracle needs, the pool is smaller than the initial set, or the aggregation
            needs a package that is missing.
    """
    train, gold = bench.splits["train"], {}
    if annotator.hides_gold:
        bare = next((at + 1 for at, e in enumerate(train) if e.label is None), None)
        if bare is not None:
            raise UserError(
                f"The annotator is oracle, but row {bare} of the split train has no label (column for "
                f"dataset.columns.{list(bench.task.columns)[-1]}); give every row one, or take the annotator jsonl."
            )
        if bench.task.only_label([e.label for e in train]) is not None:
            raise UserError("All rows of train have the same label; an oracle needs at least two classes.")
        gold = {e.id: e.label for e in train}
        train = [replace(e, label=None) for e in train]
    size = sum(price(e, config.loop.unit) for e in train if e.label is None)
    if size < config.loop.initial:
        raise UserError(
            f"loop.initial is {config.loop.initial}, but the pool holds only {size} {config.loop.unit}; "
            "take a smaller initial set."
        )
    check_installed(config.loop.aggregation)
    fold = make_aggregation(config.loop.aggregation, bench.task, annotator.decides)
    return Pool(train, fold=fold, needs=annotator.needs, people=annotator.in_turn), gold
