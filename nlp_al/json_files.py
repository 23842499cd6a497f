"""JSON files before they are loaded: `datasets` reads on where a line is wrong or a column mixes text and numbers."""

from __future__ import annotations

import bz2
import glob
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from nlp_al.errors import UserError
from nlp_al.values import shown

_OPENERS: dict[str, Callable[[str], IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
_OTHERS = (".zip", ".zst", ".tar", ".tgz", ".lz4", ".7z", ".rar")


def check_json(patterns: Iterable[str], columns: Iterable[str]) -> None:
    """Reads local files once. columns: those whose values must be of one type in all files together.

    Raises:
        UserError: names the file and the line that is no JSON object, or both places of a mixture; "1" and 1 would be
            two labels, or two ids, that look alike.
    """
    columns = tuple(columns)
    seen: dict[str, dict[str, str]] = {column: {} for column in columns}
    for file in [file for pattern in patterns for file in _matching(pattern)]:
        try:
            for place, row in _rows(file):
                if not isinstance(row, dict):
                    raise UserError(f'{place} holds {shown(row)}; it must be an object, as {{"text": ...}}.')
                for column in columns:
                    _note(seen[column], column, row.get(column), place)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{file} can't be read: {getattr(error, 'strerror', None) or error}.") from error


def _matching(pattern: str) -> list[str]:
    if Path(pattern).is_file():
        found = [pattern]
    else:
        found = [] if "://" in pattern else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # it may be absolute
    return [file for file in found if not file.endswith(_OTHERS)]


def _rows(file: str) -> Iterator[tuple[str, Any]]:
    """Each row with its place; one a line, or all of them in one list."""
    with _OPENERS.get(Path(file).suffix, _plain)(file) as lines:
        for number, line in enumerate(lines, 1):
            bare = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if number == 1 and bare.startswith(b"["):
                rows = _parsed(line.removeprefix(b"\xef\xbb\xbf") + lines.read(), file, 1)
                yield from ((f"{file} row {at}", row) for at, row in enumerate(rows, 1))
                return
            if bare:
                yield f"{file} line {number}", _parsed(bare, file, number)


def _plain(file: str) -> IO[bytes]:
    return Path(file).open("rb")


def _parsed(text: bytes, file: str, line: int) -> Any:
    try:
        return json.loads(text.decode())
    except UnicodeDecodeError as error:
        at = line + text.count(b"\n", 0, error.start)
        raise UserError(f"{file} line {at} is not UTF-8; save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file} line {line + error.lineno - 1} is not valid JSON: {error.msg}.") from error


def _note(seen: dict[str, str], column: str, value: Any, place: str) -> None:
    for one in value if isinstance(value, list) else (value,):
        if one is None:
            continue
        kind = "text" if isinstance(one, str) else "true or false" if isinstance(one, bool) else "numbers"
        if kind not in seen:
            seen[kind] = f"{kind} ({shown(one)}, {place})"
            if len(seen) > 1:
                raise UserError(f"The column {column!r} mixes {' and '.join(seen.values())}; write all as one type.")
