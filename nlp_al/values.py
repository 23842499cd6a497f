"""YAML values and dataclasses: reading, checking types, and saying in one sentence what is wrong."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nlp_al.errors import UserError

T = TypeVar("T")

MANY = 25
"""More names than this are not listed where a close one is known."""

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    type(None): "null",
}


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; UserError names `where` and the line.

    YAML 1.2, so that 1e-4 is a number and yes, no, on and off are text.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        told = " ".join(problem.split()).replace("'<stream end>'", "the end")
        raise UserError(f"{where}{_line(error, text)} is not valid YAML: {told}.") from error


def _line(error: Exception, text: str) -> str:
    mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
    if "\n" not in text or (mark is None and position is None):
        return ""
    line = text.count("\n", 0, position) if mark is None else mark.line
    return f" line {min(line, text.rstrip().count(chr(10))) + 1}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, empty where the file is; UserError where it is anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: byte {error.start + 1} can't be read; save it as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from error
    values = parse_yaml(text, str(path))
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{path} holds {shown(values)}; it must be a mapping of keys to values.")
    return values or {}


def shown(value: Any) -> str:
    """A value as a sentence quotes it, never long."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of a sentence about an unknown name: what it may have meant, and what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close and len(known) > MANY:
        return f"the closest name is {close[0]!r}"
    listed = f"there are: {', '.join(known)}" if known else "there are none"
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def about(text: str, default: Any = None, factory: Any = None) -> Any:
    """A field of a config with its line of --help."""
    if factory is not None:
        return field(default_factory=factory, metadata={"help": text})
    return field(default=default, metadata={"help": text})


def build(kind: type[T], values: Any, key: str) -> T:
    """A dataclass out of a mapping, every value checked against its field's type.

    Raises:
        UserError: unknown key, missing key, wrong type, or a ValueError of the dataclass; the sentence names the
            dotted key, before a ValueError that begins with a field's name too.
    """
    assert is_dataclass(kind)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{key} is {shown(values)}; it must be a mapping of keys to values.")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for name in values:
        if name not in known:
            raise UserError(f"Unknown key '{key}.{name}': {suggest(str(name), known)}.")
    made = {name: convert(hints[name], value, f"{key}.{name}") for name, value in values.items()}
    try:
        return kind(**made)
    except TypeError as error:
        raise UserError(f"The config lacks '{key}.{str(error).split(chr(39))[-2]}'.") from error
    except ValueError as error:
        told = str(error)
        raise UserError(f"{key}{'.' if told.split(' ')[0] in known else ': '}{told}") from error


def convert(wanted: Any, value: Any, key: str) -> Any:
    """A value as the type of a field; whole numbers serve as numbers, nothing else is bent."""
    if wanted is Any:
        return value
    if is_dataclass(wanted):
        return build(typing.cast(Any, wanted), value, key)
    origin, arguments = get_origin(wanted), get_args(wanted)
    plain = origin or wanted
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            with suppress(UserError):
                return convert(option, value, key)
    elif origin is typing.Literal:
        if any(value == option and type(value) is type(option) for option in arguments):
            return value
        if isinstance(value, str) and len(arguments) > MANY:
            raise UserError(f"{key} is {shown(value)}; {suggest(value, map(str, arguments))}.")
    elif plain is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    elif type(value) is plain and plain is not float:
        if plain is list and arguments:
            return [convert(arguments[0], item, f"{key}[{at}]") for at, item in enumerate(value)]
        return value
    raise UserError(f"{key} is {shown(value)}; it must be {_expected(wanted)}.")


def _expected(wanted: Any) -> str:
    """The values that a type allows, in words."""
    if get_origin(wanted) is typing.Literal:
        return " or ".join(map(str, get_args(wanted)))
    if get_origin(wanted) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_expected, get_args(wanted))))
    plain = get_origin(wanted) or wanted
    return _WORDS.get(plain, str(plain))
