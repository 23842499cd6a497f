"""`--dotted.key value` and `--sweep.key values` of the command line, and the text of `--help`."""

from __future__ import annotations

import copy
import itertools
import re
import textwrap
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from nlp_al.errors import UserError
from nlp_al.training.arguments import TRAINING_DEFAULTS
from nlp_al.values import parse_yaml, shown

Override = tuple[str, Any]


def read_arguments(argv: Sequence[str]) -> tuple[str | None, list[Override], list[list[Override]]]:
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
            values = parse_yaml(text if text.startswith("[") else f"[{text}]", f"--{key}")
            if not values:
                raise UserError(f"--{key} lists no value.")
            swept.append([(key.removeprefix("sweep."), value) for value in values])
        else:
            overrides.append((key, parse_yaml(text, f"--{key}")))
    return file, overrides, [list(chosen) for chosen in itertools.product(*swept)]


def _pairs(argv: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UserError(f"{word!r} stands alone; every setting is written --key value.")
        key, equals, text = word.removeprefix("--").partition("=")
        if not all(key.split(".")):
            raise UserError(f"{word!r} names no key; every setting is written --key value.")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"--{key} lacks its value; a value that begins with -- is written --{key}=value.")
            text = words.pop(0)
        pairs.append((key, text))
    return pairs


def tag(chosen: Sequence[Override]) -> str:
    """What the directory of one run of a sweep has behind its name: the swept values, as far as a file name takes them.

    A run_dir that is swept itself needs nothing behind it.
    """
    return re.sub(r"[^\w.=+-]+", "_", "-".join(_tag(value) for key, value in chosen if key != "run_dir"))


def _tag(value: Any) -> str:
    if isinstance(value, dict):
        return "-".join(_tag(item) if name == "name" else f"{name}={_tag(item)}" for name, item in value.items())
    if isinstance(value, list):
        return "+".join(map(_tag, value))
    return value if isinstance(value, str) else shown(value)


def merged(values: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """The file's values with the overrides laid over them, in order.

    Raises:
        UserError: a dotted key that leads through something which is no mapping.
    """
    from nlp_al.config import NAMES

    out = copy.deepcopy(values)
    for key, value in overrides:
        *path, last = key.split(".")
        at = out
        for part in path:
            inside = at.get(part)
            if at is out and part in NAMES and (inside is None or isinstance(inside, str)):
                inside = {"strategy" if part == "initial" else "name": inside or NAMES[part]}
            elif key.startswith("stop.rule.") and part == "rule" and isinstance(inside, str):
                inside = {"name": inside}
            elif inside is None:
                inside = {}
            if not isinstance(inside, dict):
                raise UserError(f"--{key}: {part} is {shown(inside)}, which has no keys of its own.")
            at[part] = inside
            at = inside
        at[last] = value
    return out


def help_text(about: str, only: str | None = None) -> str:
    """What --help prints: the caller's own words, then every key with its default. only: the caller's task."""
    from nlp_al.annotation import ANNOTATORS
    from nlp_al.config import Config
    from nlp_al.samplers import SAMPLERS
    from nlp_al.stopping import STOPPING
    from nlp_al.strategies import STRATEGIES
    from nlp_al.tasks import TASKS

    lines = [
        about.strip(),
        "",
        "Settings, in the YAML file or as --key value; in [ ] what holds when one is left out:",
        "",
    ]
    lines += _entry("config", "YAML file of settings; those of the command line go over it")
    for f in fields(Config):
        if f.name in ("dataset", "loop", "stop", "training", "push_to_hub"):
            lines += _entries(f.name, f.default)
        else:
            lines += _entry(f.name, f.metadata["help"], f.default)
    lines += _entry("dataset.<any>", "any argument of datasets.load_dataset: data_files, split, name, delimiter, ...")
    ours = ", ".join(f"{name} {_tag(value)}" for name, value in TRAINING_DEFAULTS.items())
    lines += _entry("training.<any>", f"any of transformers.TrainingArguments, with its defaults but for {ours}")
    for name, task in TASKS.items():
        if only in (None, name):
            lines += ["", f"With task: {name}", "", *_entries("task_options", task.Options)]
            for role, text in {"id": "text or number, another in each row; optional", **task.columns}.items():
                lines += _entry(f"dataset.columns.{role}", f"name of the column: {text}", role)
    for name, sampler in SAMPLERS.items():
        lines += ["", f"With sampler: {name}", "", *_entries("sampler", sampler)]
    for name, annotator in ANNOTATORS.items():
        lines += ["", f"With annotator: {name}", "", *_entries("annotator", annotator)]
    for name, rule in STOPPING.items():
        lines += ["", f"With stop.rule: {name}", "", *_entries("stop.rule", rule)]
    lines += ["", "Many runs in one process, features shared:", ""]
    lines += _entry("sweep.KEY", "values of any key, as a,b,c: a run for each; several --sweep.KEY multiply")
    known = textwrap.wrap(f"Strategies: {', '.join(STRATEGIES)} (more: nlp-al strategies)", 116)
    return "\n".join([*lines, "", *known])


def _entries(section: str, kind: Any) -> list[str]:
    """The settings that the fields of a dataclass, or of one of its instances, are."""
    lines = []
    for f in fields(kind):
        default = getattr(kind, f.name, f.default)
        if is_dataclass(default):
            lines += _entries(f"{section}.{f.name}", default)
        elif f.metadata:
            lines += _entry(f"{section}.{f.name}", f.metadata["help"], default)
    return lines


def _entry(name: str, text: str, default: Any = None) -> list[str]:
    """A setting, wrapped to the width of a terminal."""
    if isinstance(default, tuple):
        default = default[0]
    default = getattr(default, "name", default)
    if isinstance(default, (str, int, float)) and default != "":
        text += f" [{_tag(default)}]"
    return textwrap.wrap(f"--{name:<29} {text}", 116, initial_indent="  ", subsequent_indent=" " * 34)
