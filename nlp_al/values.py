"""YAML values and dataclasses: reading, checking types, and saying in one sentence what is wrong."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from nlp_al.errors import UserError

T = TypeVar("T")

# YAML 1.2, so that 1e-4 is a number and yes, no, on and off are text.
_YAML = YAML(typ="safe", pure=True)

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; UserError names `where` and the line."""
    try:
        return _YAML.load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it can't be read"
        raise UserError(f"{where}{line} is not valid YAML: {problem}.") from error


def suggest(name: str, known: Iterable[str]) -> str:
    """The tail of a sentence about an unknown name: what it may have meant, and what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    listed = f"there are: {', '.join(known)}" if known else "there are none"
    return f"did you mean {close[0]!r}? ({listed})" if close else listed


def build(kind: type[T], values: Any, key: str) -> T:
    """A dataclass out of a mapping, every value checked against its field's type.

    Raises:
        UserError: unknown key, missing key or wrong type; the sentence names the dotted key.
    """
    assert is_dataclass(kind)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{key or 'The config'} is {values!r}; it must be a mapping of keys to values.")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}
    for name in values:
        if name not in known:
            raise UserError(f"Unknown key {_dotted(key, str(name))!r}: {suggest(str(name), known)}.")
    made = {name: convert(hints[name], value, _dotted(key, name)) for name, value in values.items()}
    try:
        return kind(**made)
    except TypeError as error:
        raise UserError(f"The config lacks {_dotted(key, str(error).split(chr(39))[-2])!r}.") from error
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error


def convert(wanted: Any, value: Any, key: str) -> Any:
    """A value as the type of a field; whole numbers serve as numbers, nothing else is bent."""
    if is_dataclass(wanted):
        return build(typing.cast(Any, wanted), value, key)
    if wanted is Any:
        return value
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            if option is type(None) and value is None:
                return None
        remaining = [o for o in arguments if o is not type(None)]
        for option in remaining:
            try:
                return convert(option, value, key)
            except UserError:
                if option is remaining[-1]:
                    raise
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        raise UserError(f"{key} is {value!r}; it must be {' or '.join(map(str, arguments))}.")
    plain = origin or wanted
    if plain is float and type(value) is int:
        return float(value)
    if type(value) is not plain:
        raise UserError(f"{key} is {value!r}; it must be {_WORDS.get(plain, plain.__name__)}.")
    if plain is list and arguments:
        return [convert(arguments[0], item, f"{key}[{at}]") for at, item in enumerate(value)]
    return value


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
