"""Where data and weights are: the `dataset` section of a config, and the paths in all of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_al.errors import UserError
from nlp_al.values import about, convert, shown, suggest

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """Where the text is. `arguments` go to `datasets.load_dataset` as they are; `columns` says which column is what."""

    path: str = about("Hub id, local folder, or csv, json, parquet, text with dataset.data_files", "")
    columns: dict[str, Any] = about("role: column of the file, as {text: body}; left out: as the role", factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


def read_dataset(value: Any, roles: set[str], several: Container[str] = ()) -> Dataset:
    """The `dataset` section. roles: what columns may hold; several: those that may be a list of columns.

    Raises:
        UserError: one sentence that names the key and what would be right.
    """
    if not isinstance(value, dict) or not isinstance(value.get("path"), str) or not value["path"]:
        raise UserError("dataset must be a mapping with 'path': a Hub id, or csv, json, parquet, text with data_files.")
    arguments = {str(name): item for name, item in value.items() if name not in ("path", "columns")}
    if "streaming" in arguments:
        raise UserError("dataset.streaming is not taken: a pool has to be known whole.")
    columns = value.get("columns") or {}
    for role, column in convert(dict, columns, "dataset.columns").items():
        if role not in roles:
            raise UserError(f"Unknown key 'dataset.columns.{role}': {suggest(str(role), roles)}.")
        listed = isinstance(column, list) and len(column) == 2 and all(isinstance(one, str) for one in column)
        if listed and role not in several:
            raise UserError(f"dataset.columns.{role} is {shown(column)}; it must be the name of one column.")
        if not listed and not isinstance(column, str):
            raise UserError(f"dataset.columns.{role} is {shown(column)}; it must be the name of a column.")
    split = arguments.get("split", {})
    if (
        not isinstance(split, dict)
        or not set(split) <= {*SPLITS}
        or not all(isinstance(s, str) for s in split.values())
    ):
        raise UserError(
            f"dataset.split is {shown(split)}; it must map {', '.join(SPLITS)} to splits of the data set, "
            "such as {train: 'train[:80%]', test: 'train[80%:]'}."
        )
    files = arguments.get("data_files")
    if isinstance(files, dict) and not split:
        for name in files:
            if name not in SPLITS:
                raise UserError(f"Unknown key 'dataset.data_files.{name}': {suggest(str(name), SPLITS)}.")
    if files is not None:
        found_files(files)
    path = Path(value["path"])
    if path.is_absolute() and not path.exists():
        raise UserError(f"dataset.path is {value['path']!r}, which is not there.")
    return Dataset(value["path"], columns, arguments)


def rooted(key: str, value: Any, base: Path) -> Any:
    """The value of a dotted key (all values: ""), every relative path of data and weights in it made absolute.

    A data file is a path unless it says otherwise (pkg:, https:, hf:). A name of weights or of a data set is one where
    it begins with . or ~ or where there is such a folder; else it is a name on the Hub.
    """
    if isinstance(value, dict):
        return {name: rooted(f"{key}.{name}".lstrip("."), item, base) for name, item in value.items()}
    if isinstance(value, list):
        return [rooted(key, item, base) for item in value]
    if not isinstance(value, str) or "://" in value or value.startswith("pkg:"):
        return value
    is_path = f"{key}.".startswith("dataset.data_files.") or key == "task_options.bank"
    if key in ("model", "dataset.path", "dataset.data_dir"):
        may_be = "/" in value or key == "dataset.data_dir"
        is_path = value.startswith((".", "~")) or (may_be and (base / value).is_dir())
    return str((base / home(value)).resolve()) if is_path else value


def home(path: str) -> Path:
    """A path, with ~ at its beginning as the home folder."""
    return Path(path).expanduser() if path.startswith("~/") else Path(path)


def package_path(name: str, key: str = "model") -> str:
    """The file behind `pkg:module/path`, found without running any of the package's code; other names as they are."""
    if not name.startswith("pkg:"):
        return name
    module, _, inside = name.removeprefix("pkg:").partition("/")
    top, *below = module.split(".")
    try:
        found = importlib.util.find_spec(top)
    except ValueError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise UserError(f"{key} is {name!r}, but no package {top!r} is installed; install it, or name a path.")
    path = Path(found.submodule_search_locations[0], *below, inside)
    if not path.exists():
        raise UserError(f"{key} is {name!r}, but the package {top!r} holds no {'/'.join([*below, inside])!r}.")
    return str(path)


def found_files(files: Any) -> Any:
    """`dataset.data_files` with pkg: names as paths; UserError where a file that is named is not there, or is empty."""
    if isinstance(files, dict):
        return {name: found_files(item) for name, item in files.items()}
    if isinstance(files, list):
        return [found_files(item) for item in files]
    if not isinstance(files, str) or not files:
        raise UserError(f"dataset.data_files holds {shown(files)}; it must hold paths.")
    path = package_path(files, "dataset.data_files")
    if "://" not in path and not any(mark in path for mark in "*?["):
        if not Path(path).is_file():
            raise UserError(f"dataset.data_files names {path}, which is no file.")
        if not Path(path).stat().st_size:
            raise UserError(f"dataset.data_files names {path}, which is empty.")
    return path


def check_weights(model: str) -> None:
    """UserError where the name of weights is a path or pkg: name with nothing there; the Hub is not asked."""
    path = Path(package_path(model))
    if path.is_absolute() and not path.is_dir():
        raise UserError(f"model is {model!r}, which is no folder; name one, or weights on the Hub.")
