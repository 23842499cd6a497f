"""From `datasets.load_dataset` to examples by stable id; every mistake in the data is told here, once."""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from nlp_al.config import SPLITS, Dataset
from nlp_al.errors import UserError
from nlp_al.pool import Example, content_hash, made_ids
from nlp_al.tasks import Task
from nlp_al.values import suggest


def package_path(name: str) -> str:
    """The file behind `pkg:module/path`, found without running any of the package's code; other names as they are."""
    if not name.startswith("pkg:"):
        return name
    module, _, inside = name.removeprefix("pkg:").partition("/")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"{name}: there is no installed package {module!r}.")
    path = Path(found.submodule_search_locations[0], inside)
    if not path.exists():
        raise UserError(f"{name}: the package {module!r} holds no {inside!r}.")
    return str(path)


def load_splits(config: Dataset, task: Task, given: Mapping[str, str] | None = None) -> dict[str, list[Example]]:
    """The examples of train, and of validation and test where there are any, gold labels by name.

    given: the labels of the config; where they are words and the column holds numbers, the numbers are their positions.

    Raises:
        UserError: the data set, a file, a column or a row is not what it must be; the sentence names it.
    """
    raw = _load(config, [*task.columns, "id"])
    if "train" not in raw:
        raise UserError(f"The data set {config.path} has no split 'train'; it has {', '.join(map(str, raw))}.")
    return {str(name): _examples(raw[name], str(name), config.columns, task, given) for name in SPLITS if name in raw}


def _load(config: Dataset, roles: Sequence[str]) -> Mapping[str, datasets.Dataset]:
    arguments = dict(config.arguments)
    if "data_files" in arguments:
        arguments["data_files"] = _map_files(arguments["data_files"])
    if config.path == "csv":
        # As text, or "None" and "N/A" would count as missing and the id 007 would become 7.
        columns = [config.columns.get(role, role) for role in roles]
        arguments = {"keep_default_na": False, "converters": dict.fromkeys(columns, str), **arguments}
    split = arguments.pop("split", None)
    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # its errors come back as exceptions, told below
    try:
        if split:
            return {name: datasets.load_dataset(config.path, split=part, **arguments) for name, part in split.items()}
        loaded = datasets.load_dataset(config.path, **arguments)
    except Exception as error:  # the builders raise all kinds; each means that this config can't be loaded
        raise UserError(_why(config, error)) from error
    return dict(loaded)


def _map_files(files: Any) -> Any:
    if isinstance(files, dict):
        return {name: _map_files(item) for name, item in files.items()}
    if isinstance(files, list):
        return [_map_files(item) for item in files]
    path = package_path(files)
    if "://" not in path and not any(mark in path for mark in "*?[") and not Path(path).is_file():
        raise UserError(f"dataset.data_files names {path}, which is no file.")
    return path


def _why(config: Dataset, error: Exception) -> str:
    reason = " ".join(str(error.__cause__ or error).split())[:200].rstrip(".")
    if isinstance(error, ConnectionError) or "Offline" in type(error).__name__:
        return (
            f"dataset.path is {config.path!r}, which is no local data set, and the Hub can't be reached (offline): "
            "check the name, or the connection."
        )
    if type(error).__name__ == "DatasetNotFoundError":
        return f"dataset.path is {config.path!r}, but there is no such data set on the Hub (or it is private)."
    if isinstance(error, TypeError) and "unexpected keyword" in str(error):
        name = str(error).split("'")[1]
        return f"Unknown key 'dataset.{name}': load_dataset does not take it for {config.path!r}."
    if type(error).__name__ == "DatasetGenerationError":
        return f"The files of the data set ({config.path}) can't be read: {reason}."
    return f"The data set {config.path!r} can't be loaded: {reason}."


def _examples(
    split: datasets.Dataset, name: str, columns: Mapping[str, Any], task: Task, given: Mapping[str, str] | None
) -> list[Example]:
    wanted = {role: columns.get(role, role) for role in (*task.columns, "id")}
    label_role = list(task.columns)[-1]
    present = set(split.column_names)
    for role, column in wanted.items():
        optional = role not in columns and role in ("id", label_role)
        if column not in present and not optional:
            raise UserError(
                f"The split {name} has no column {column!r} for dataset.columns.{role}: {suggest(column, present)}."
            )
    if label_role not in columns and wanted[label_role] not in present and name != "train":
        raise UserError(
            f"The split {name} has no column {wanted[label_role]!r}; name it in dataset.columns.{label_role}."
        )
    wanted = {role: column for role, column in wanted.items() if column in present}
    label_names = _class_names(split, wanted.get(label_role), given)
    values = {role: split[column][:] for role, column in wanted.items()}
    for role in (label_role, "id"):
        _one_type(values.get(role), name, wanted.get(role))
    made = []
    for at in range(len(split)):
        try:
            made.append(task.read({role: items[at] for role, items in values.items()}, label_names))
        except UserError as error:
            raise UserError(f"Row {at + 1} of the split {name}, columns {_listed(wanted)}: {error}.") from None
    if not made:
        raise UserError(f"The split {name} is empty.")
    ids = _ids(values.get("id"), name, wanted.get("id")) or made_ids(content_hash(inputs) for inputs, _, _ in made)
    return [Example(i, inputs, words, label) for i, (inputs, words, label) in zip(ids, made, strict=True)]


def _listed(wanted: Mapping[str, str]) -> str:
    return ", ".join(repr(column) for role, column in wanted.items() if role != "id")


def _class_names(split: datasets.Dataset, column: str | None, given: Mapping[str, str] | None) -> list[str] | None:
    """The names behind a column of numbers: those of a ClassLabel, or the config's."""
    if column is None:
        return None
    feature = split.features[column]
    feature = getattr(feature, "feature", feature)
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    return list(given) if given and not any(name.lstrip("-").isdecimal() for name in given) else None


def _one_type(values: Sequence[Any] | None, split: str, column: str | None) -> None:
    """JSON lets a column mix "1" and 1, which would be two labels or two ids that look alike."""
    flat = [one for value in values or [] for one in (value if isinstance(value, list) else [value]) if one is not None]
    kinds = {str if isinstance(one, str) else int: one for one in flat}
    if len(kinds) > 1:
        raise UserError(
            f"The column {column!r} of the split {split} mixes text ({kinds[str]!r}) and numbers ({kinds[int]!r}); "
            "write all of them as one type."
        )


def _ids(values: Sequence[Any] | None, split: str, column: str | None) -> list[str] | None:
    if values is None:
        return None
    if any(value is None or value == "" for value in values):
        raise UserError(f"The column {column!r} of the split {split} lacks an id in some rows; give every row one.")
    ids = [str(value) for value in values]
    twice, count = Counter(ids).most_common(1)[0] if ids else ("", 0)
    if count > 1:
        raise UserError(
            f"The id {twice!r} stands {count} times in column {column!r} of the split {split}; ids are unique."
        )
    return ids


def label_names(task: Task, splits: Mapping[str, Sequence[Example]], given: Mapping[str, str] | None) -> list[str]:
    """The task's labels: as given, or read off the train split where each of its rows has one.

    Raises:
        UserError: they can't be derived, or a split holds a label that is none of them.
    """
    used = {
        name: {n for e in examples if e.label is not None for n in task.names_in(e.label)}
        for name, examples in splits.items()
    }
    if given is None and any(example.label is None for example in splits["train"]):
        raise UserError("Some rows of train have no label, so the labels can't be derived: list them under 'labels'.")
    names = list(given) if given is not None else sorted(used["train"], key=_natural)
    for split, found in used.items():
        extra = found - set(names)
        if extra:
            source = "under 'labels'" if given is not None else "in train"
            raise UserError(f"The split {split} holds the label {min(extra)!r}, which is not {source}.")
    return names


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, before all else by letter."""
    return (0, int(name), name) if name.lstrip("-").isdecimal() else (1, 0, name)
