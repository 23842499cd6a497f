"""`--dotted.key value` and `--sweep.key values` of the command line, and the text of `--help`."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from nlp_al.errors import UserError
from nlp_al.values import parse_yaml

Override = tuple[str, Any]


def sweep_of(argv: Sequence[str]) -> tuple[str | None, list[Override], list[list[Override]]]:
    """Splits a command line into the config file, the overrides, and one list of overrides for each run of the sweep.

    Raises:
        UserError: a word that is no `--key`, or a key without its value.
    """
    file: str | None = None
    overrides: list[Override] = []
    swept: list[list[Override]] = []
    for key, text in _pairs(argv):
        if key == "config":
            file = text
        elif key.startswith("sweep."):
            listed = text if text.startswith("[") else f"[{text}]"
            name = key.removeprefix("sweep.")
            values = parse_yaml(listed, f"--{key}")
            if not values:
                raise UserError(f"--{key} lists no value.")
            swept.append([(name, value) for value in values])
        else:
            overrides.append((key, parse_yaml(text, f"--{key}")))
    runs = [list(chosen) for chosen in itertools.product(*swept)]
    return file, overrides, [[*chosen, *_own_directory(chosen, overrides)] for chosen in runs]


def _pairs(argv: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    words = iter(argv)
    for word in words:
        if not word.startswith("--"):
            raise UserError(f"{word!r} stands alone; every setting is written --key value.")
        key, equals, text = word.removeprefix("--").partition("=")
        if not equals:
            try:
                text = next(words)
            except StopIteration:
                raise UserError(f"--{key} lacks its value.") from None
        pairs.append((key, text))
    return pairs


def _own_directory(chosen: Sequence[Override], overrides: list[Override]) -> list[Override]:
    """In a sweep each run has a directory of its own: run_dir with the swept values behind it."""
    if not chosen:
        return []
    tail = "-".join(str(v.get("name", v) if isinstance(v, dict) else v) for _, v in chosen)
    return [("run_dir+", tail)]


def merged(values: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """The file's values with the overrides laid over them, in order.

    Raises:
        UserError: a dotted key that leads through something which is no mapping.
    """
    out = copy.deepcopy(values)
    for key, value in overrides:
        if key == "run_dir+":
            out["run_dir"] = f"{out.get('run_dir') or 'runs/sweep'}-{value}"
            continue
        *path, last = key.split(".")
        at = out
        for part in path:
            inside = at.setdefault(part, {})
            if isinstance(inside, str) and part in ("strategy", "initial", "annotator"):
                inside = {"strategy" if part == "initial" else "name": inside}
                at[part] = inside
            if inside is None:
                inside = at[part] = {}
            if not isinstance(inside, dict):
                raise UserError(f"--{key}: {part} is {inside!r}, which has no keys of its own.")
            at = inside
        at[last] = value
    return out


def help_text(about: str) -> str:
    """What --help prints: the caller's own words, then every key with its default."""
    from nlp_al.annotation import ANNOTATORS
    from nlp_al.config import Config
    from nlp_al.strategies import STRATEGIES
    from nlp_al.tasks import TASKS

    lines = [about.strip(), "", "Settings, in the YAML file or as --key value:", ""]
    for f in fields(Config):
        default = f.default if f.default is not MISSING else None
        section = default is not None and f.name in ("loop", "stop", "training")
        if not section:
            lines.append(f"  {f.name:<28}{f.metadata['help']}{_shown(default)}")
            continue
        for inner in fields(default):  # type: ignore[arg-type]
            if inner.metadata:
                name = f"{f.name}.{inner.name}"
                lines.append(f"  {name:<28}{inner.metadata['help']}{_shown(getattr(default, inner.name))}")
    for task_name, task in TASKS.items():
        for f in fields(task.Options):
            lines.append(f"  {'task_options.' + f.name:<28}{task_name}: {f.metadata['help']}{_shown(f.default)}")
        columns = ", ".join(f"{role} ({about})" for role, about in task.columns.items())
        lines.append(f"  {'dataset.columns.*':<28}{task_name}: id (optional), {columns}")
    for name, annotator in ANNOTATORS.items():
        for f in fields(annotator):  # type: ignore[arg-type]
            if f.metadata:
                lines.append(f"  {'annotator.' + f.name:<28}{name}: {f.metadata['help']}{_shown(f.default)}")
    lines += [
        f"  {'training.<any>':<28}any of transformers.TrainingArguments, e.g. learning_rate, num_train_epochs, bf16",
        "",
        "  --sweep.KEY a,b,c           a run for each value, in one process, features shared; several --sweep multiply",
        "",
        f"Strategies: {', '.join(STRATEGIES)} (more: nlp-al strategies)",
    ]
    return "\n".join(lines)


def _shown(default: Any) -> str:
    if default is None or default == "" or not isinstance(default, (str, int, float)):
        name = getattr(default, "name", None)
        return f" [{name}]" if name else ""
    return f" [{default}]"
