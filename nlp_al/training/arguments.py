"""Names, types and values of transformers.TrainingArguments, read off its source: importing it would load torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal

from nlp_al.errors import UserError
from nlp_al.values import convert, shown, suggest

TRAINING_DEFAULTS: dict[str, Any] = {
    "learning_rate": 5e-5,
    "num_train_epochs": 10.0,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 32,
    "logging_strategy": "no",
    "disable_tqdm": True,
}
"""Where we differ from TrainingArguments: few labels want many epochs, and a round prints one line, not a log."""

OURS = ("output_dir", "seed", "data_seed", "run_name", "project", "report_to", "remove_unused_columns")
OURS_PREFIXES = (
    *("save_", "trackio_", "do_", "eval_s", "eval_o", "eval_delay", "logging_dir"),
    *("load_best_", "resume_from_", "metric_for_best_", "greater_is_better"),
)
PUSHES = ("hub_", "push_to_")

LEAST: dict[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "max_grad_norm": 0,
    "label_smoothing_factor": 0,
    "dataloader_num_workers": 0,
}
"""What torch would only refuse in the middle of a run, or take and train nonsense with."""


def checked(values: dict[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """The training arguments of a config over our defaults. own: keys of the section that are ours, for suggestions.

    Raises:
        UserError: an argument is unknown, set by the run itself, or has a value that it can't have.
    """
    known = training_arguments()
    made = dict(TRAINING_DEFAULTS)
    for name, value in values.items():
        key = f"training.{name}"
        if str(name).startswith(PUSHES):
            raise UserError(f"{key} is not taken: push_to_hub.model says where the final model goes on the Hub.")
        if str(name) in OURS or str(name).startswith(OURS_PREFIXES):
            raise UserError(f"{key} is set by the run itself (run_dir and loop.seed decide); leave it out.")
        if name not in known:
            hint = suggest(str(name), {*own, *known})
            if not hint.startswith("the closest"):
                hint = "it is none of ours and none of transformers.TrainingArguments"
            raise UserError(f"Unknown key {key!r}: {hint}.")
        made[name] = convert(known[name], value, key)
        if name in LEAST and made[name] is not None and made[name] < LEAST[name]:
            raise UserError(f"{key} is {shown(value)}; it must be at least {LEAST[name]}.")
    return made


@cache
def training_arguments() -> dict[str, Any]:
    """The type of each argument; Any where its annotation says more than we can check."""
    found = importlib.util.find_spec("transformers")
    assert found is not None
    assert found.submodule_search_locations is not None
    classes: dict[str, ast.ClassDef] = {}
    for name in ("trainer_utils.py", "training_args.py"):
        source = Path(found.submodule_search_locations[0], name).read_text(encoding="utf-8")
        classes |= {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    return {
        node.target.id: _type(node.annotation, classes)
        for node in classes["TrainingArguments"].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _type(annotation: ast.expr, classes: dict[str, ast.ClassDef]) -> Any:
    """`int | None` as a type; an enumeration as its values, of which `SchedulerType | str` names one as well."""
    names = [part.split("[")[0].strip() for part in ast.unparse(annotation).split(" | ")]
    if names[-1:] == ["str"] and len(names) == 2 and names[0] in classes:
        values = [node.value for node in classes[names[0]].body if isinstance(node, ast.Assign)]
        return Literal[tuple(node.value for node in values if isinstance(node, ast.Constant))]
    plain = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "list": list, "None": type(None)}
    if not all(name in plain for name in names):
        return Any
    return reduce(or_, (plain[name] for name in names))
