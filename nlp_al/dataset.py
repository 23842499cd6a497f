"""From `datasets.load_dataset` to examples by stable id; every mistake in the data is told here, once."""

from __future__ import annotations

import errno
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from nlp_al.errors import RunError, UserError
from nlp_al.json_files import check_json
from nlp_al.pool import Example, content_hash, made_ids
from nlp_al.source import SPLITS, Dataset, found_files
from nlp_al.tasks import Task
from nlp_al.values import shown, suggest

JSON_READ_OTHERWISE = {"field", "encoding", "encoding_errors", "features"}
"""Arguments that change what a line of a JSON file means."""


def load_splits(config: Dataset, task: Task, given: Mapping[str, str] | None = None) -> dict[str, list[Example]]:
    """The examples of train, and of validation and test where there are any, gold labels by name.

    given: the labels of the config; where they are words and the column holds numbers, the numbers are their positions.

    Raises:
        UserError: the data set, a file, a column or a row is not what it must be; the sentence names it.
        RunError: the disk under the cache of `datasets` is full, or can't be written.
    """
    raw = _load(config, task)
    if "train" not in raw:
        raise UserError(
            f"The data set {config.path!r} has no split 'train'; it has {', '.join(map(str, raw))}: "
            "say in dataset.split which of them is train."
        )
    return {str(name): _examples(raw[name], str(name), config.columns, task, given) for name in SPLITS if name in raw}


def _load(config: Dataset, task: Task) -> Mapping[str, datasets.Dataset]:
    arguments = dict(config.arguments)
    columns = [column for role in ("id", *task.columns) for column in _listed(config.columns.get(role, role))]
    if "data_files" in arguments:
        arguments["data_files"] = found_files(arguments["data_files"])
        if config.path == "json" and not JSON_READ_OTHERWISE & set(arguments):
            check_json(_flat(arguments["data_files"]), columns)
    if config.path == "csv":
        # As text, or "None" and "N/A" would count as missing and the id 007 would become 7.
        arguments = {"keep_default_na": False, "converters": dict.fromkeys(columns, str), **arguments}
    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.CRITICAL)  # its errors come back as exceptions, told below
    loaded: dict[str, datasets.Dataset] = {}
    for name, part in _parts(arguments):
        try:
            found = datasets.load_dataset(config.path, **part)
        except Exception as error:  # the builders raise all kinds; each means that this config can't be loaded
            raise _why(config.path, name, "split" in config.arguments, part, error) from error
        loaded |= {name: found} if name else found
    return loaded


def _parts(arguments: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The splits that are loaded each on its own, with their arguments; ("", ...) stands for all of a data set.

    Files of different splits may have different columns: a pool without labels, a test set with them.
    """
    split, files = arguments.get("split"), arguments.get("data_files")
    if split:
        return [(name, {**arguments, "split": part}) for name, part in split.items()]
    if isinstance(files, dict):
        return [(name, {**arguments, "data_files": {name: item}, "split": name}) for name, item in files.items()]
    return [("", {name: value for name, value in arguments.items() if name != "split"})]


def _listed(names: Any) -> list[str]:
    return names if isinstance(names, list) else [names]


def _label_role(task: Task) -> str:
    return list(task.columns)[-1]


def _flat(files: Any) -> list[str]:
    inside = files.values() if isinstance(files, dict) else files if isinstance(files, list) else None
    return [files] if inside is None else [path for item in inside for path in _flat(item)]


def _why(path: str, name: str, by_split: bool, arguments: Mapping[str, Any], error: Exception) -> Exception:
    """What went wrong in load_dataset, in one sentence. name: of the part; by_split: it is one of dataset.split."""
    cause = error.__cause__ or error
    kinds = {kind.__name__ for one in (error, cause) for kind in type(one).__mro__}
    reason = " ".join(str(cause).split())[:200].rstrip(".") or type(cause).__name__
    if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
        return RunError(f"The data set {path!r} can't be put in the cache of datasets: {reason}.")
    if "DatasetNotFoundError" in kinds:
        return UserError(f"dataset.path is {path!r}, but there is no such data set on the Hub (or it is private).")
    if kinds & {"ConnectionError", "OfflineModeIsEnabled", "ConnectError", "TimeoutError", "TimeoutException"}:
        return UserError(
            f"dataset.path is {path!r}, which is no local data set, and the Hub can't be reached (offline): "
            "check the name, or the connection."
        )
    unknown = re.search(r"unexpected keyword argument '(\w+)'|doesn't have a '(\w+)' key", reason)
    if unknown:
        name = unknown[1] or unknown[2]
        return UserError(f"Unknown key 'dataset.{name}': load_dataset does not take it for {path!r}.")
    files = ", ".join(_flat(arguments.get("data_files", path)))
    if by_split and "DatasetGenerationError" not in kinds:
        problem = "holds no row" if "corresponds to no data" in reason else f"can't be loaded: {reason}"
        return UserError(f"dataset.split.{name} is {arguments['split']!r}, which {problem}.")
    if "corresponds to no data" in reason:
        return UserError(f"The data set holds no row ({files}).")
    if "CastError" in kinds:
        found, first = (set(getattr(cause, f"{of}_column_names", ())) for of in ("table", "requested"))
        odd = f"{', '.join(sorted(first - found)) or 'none'} missing, {', '.join(sorted(found - first)) or 'none'} new"
        reason = f"a file has other columns than the first one ({odd})" if found != first else reason
    if "UnicodeDecodeError" in kinds:
        return UserError(f"The data set is not UTF-8 ({files}): save it as UTF-8, or name its dataset.encoding.")
    if "DatasetGenerationError" in kinds:
        return UserError(f"The data set can't be read ({files}): {reason}.")
    return UserError(f"The data set {path!r} can't be loaded: {reason}.")


def _examples(
    split: datasets.Dataset, name: str, columns: Mapping[str, Any], task: Task, given: Mapping[str, str] | None
) -> list[Example]:
    label_role, present = _label_role(task), set(split.column_names)
    wanted = {role: columns.get(role, role) for role in (*_roles(name, task, columns, present), "id")}
    for role, names in wanted.items():
        bare = role == label_role and name == "train" and (given is not None or not task.named)
        optional = role == "id" or role in task.optional() or bare
        for column in _listed(names):
            if column not in present and (role in columns or not optional):
                raise UserError(
                    f"The split {name} has no column {column!r} for dataset.columns.{role}: {suggest(column, present)}."
                )
    wanted = {role: names for role, names in wanted.items() if present.issuperset(_listed(names))}
    label_names = _class_names(split, wanted.get(label_role), given)
    values = {role: _values(split, name, column) for role, column in wanted.items()}
    if label_names and all(_is_whole(value) for value in values[label_role]):
        values[label_role] = [int(value) if value else None for value in values[label_role]]
    made = []
    for at in range(len(split)):
        try:
            made.append(task.read({role: items[at] for role, items in values.items()}, label_names))
        except UserError as error:
            column = wanted[getattr(error, "role", label_role)]
            raise UserError(f"Row {at + 1} of the split {name}, column {column!r}: {error}.") from None
    if not made:
        raise UserError(f"The split {name} is empty.")
    ids = _ids(values.get("id"), name, wanted.get("id")) or made_ids(content_hash(inputs) for inputs, _, _ in made)
    return [Example(i, inputs, words, label) for i, (inputs, words, label) in zip(ids, made, strict=True)]


def _roles(split: str, task: Task, columns: Mapping[str, Any], present: set[str]) -> list[str]:
    """The roles that this data set fills: all, but of `either` the one that the config names, or that is there."""
    named = [role for role in task.either if role in columns]
    if len(named) > 1:
        raise UserError(f"dataset.columns names both {' and '.join(named)}; name the one that the model is to read.")
    found = named or [role for role in task.either if role in present]
    if task.either and not found:
        raise UserError(
            f"The split {split} has no column {' or '.join(map(repr, task.either))}: name one under "
            f"dataset.columns.{' or '.join(task.either)}; there are: {', '.join(sorted(present))}."
        )
    return [role for role in task.columns if role not in task.either or role == found[0]]


def _values(split: datasets.Dataset, name: str, column: str | list[str]) -> list[Any]:
    """A column as a list; one that `datasets` could give no type of its own to is no column for us."""
    if isinstance(column, list):
        parts = [_values(split, name, one) for one in column]
        return [list(row) for row in zip(*parts, strict=True)]
    feature = split.features[column]
    if isinstance(getattr(feature, "feature", feature), getattr(datasets, "Json", ())):
        raise UserError(f"The column {column!r} of the split {name} mixes types of values; write all as one type.")
    return list(split[column])


def _is_whole(value: Any) -> bool:
    """A CSV file has no numbers, only text that looks like them."""
    return value is None or (isinstance(value, str) and re.fullmatch(r"(-?\d+)?", value) is not None)


def _class_names(split: datasets.Dataset, column: str | None, given: Mapping[str, str] | None) -> list[str] | None:
    """The names behind a column of numbers: those of a ClassLabel, or the config's."""
    if column is None:
        return None
    feature = split.features[column]
    feature = getattr(feature, "feature", feature)
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names)
    return list(given) if given and not any(re.fullmatch(r"-?\d+", name) for name in given) else None


def _ids(values: Sequence[Any] | None, split: str, column: str | None) -> list[str] | None:
    if values is None:
        return None
    where = f"column {column!r} of the split {split}"
    for at, value in enumerate(values):
        if value is None or (isinstance(value, str) and not value.strip()):
            raise UserError(f"Row {at + 1} has no id in {where}; give every row one, or leave the column out.")
        if isinstance(value, (bool, list, dict)):
            raise UserError(f"Row {at + 1} has the id {shown(value)} in {where}; an id must be text or a number.")
    ids = [str(int(value) if isinstance(value, float) and value.is_integer() else value) for value in values]
    twice, count = Counter(ids).most_common(1)[0]
    if count > 1:
        rows = " and ".join([str(at + 1) for at, one in enumerate(ids) if one == twice][:2])
        raise UserError(f"The id {twice!r} stands {count} times in {where} (as rows {rows}); each row needs its own.")
    return ids


def label_names(task: Task, splits: Mapping[str, Sequence[Example]], given: Mapping[str, str] | None) -> list[str]:
    """The task's labels: as given, or read off the train split where each of its rows has one.

    Raises:
        UserError: they can't be derived, or a split holds a label that is none of them.
    """
    if not task.named:
        return []
    if given is None:
        bare = next((at + 1 for at, example in enumerate(splits["train"]) if example.label is None), None)
        if bare is not None:
            raise UserError(
                f"Row {bare} of the split train has no label, so the labels can't be derived: list them under "
                "'labels', or give every row one."
            )
        names = sorted({n for e in splits["train"] for n in task.names_in(e.label)}, key=_natural)
    else:
        names = list(given)
    names = task.label_set(names)
    known = set(names)
    for split, examples in splits.items():
        for at, example in enumerate(examples):
            extra = set(task.names_in(example.label)) - known if example.label is not None else None
            if extra:
                source = "which no row of train has" if given is None else "which is not under 'labels'"
                raise UserError(
                    f"Row {at + 1} of the split {split} has the label {min(extra)!r}, {source}: "
                    f"{suggest(min(extra), known)}."
                )
    return names


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, before all else by letter."""
    return (0, int(name), name) if re.fullmatch(r"-?\d+", name) else (1, 0, name)
