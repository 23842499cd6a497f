"""What people type into the search box, as a query of SQLite's full-text search."""

from __future__ import annotations

import re

PLACES = 12
"""Columns of fields in `nlp_al_text`."""

PART = re.compile(r'(?P<no>-)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s|"]+))|(?P<alternative>\|)')

BETWEEN = re.compile("[^\\w\u0300-\u036f]|_")
"""What separates words. An accent that is a character of its own does not, for SQLite drops it."""

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, Kana, Hangul and Chinese characters: what is looked for may stand inside of a token."""


def columns(place: int | None) -> list[str]:
    """The columns of one field, or of all."""
    return [f"f{at}" for at in range(PLACES)] if place is None else [f"f{place}"]


def match_expression(typed: str, dataset_id: str, place: int | None) -> str | None:
    """Words that must all occur, "a phrase", begin*, -without, this | that, in the records of a dataset.

    place: the field where they must stand, as `search.sql` numbers them; None for any. None comes back where nothing is
    asked for.
    """
    alternatives: list[tuple[list[str], list[str]]] = [([], [])]
    for part in PART.finditer(typed):
        if part["alternative"]:
            alternatives.append(([], []))
            continue
        text = part["phrase"] if part["word"] is None else part["word"]
        begins = part["word"] is not None and text.endswith("*")
        words = BETWEEN.sub(" ", text).split()
        if words:
            alternatives[-1][bool(part["no"])].append(f'"{" ".join(words)}"{" *" if begins else ""}')
    asked = [_together(wanted, unwanted) for wanted, unwanted in alternatives if wanted]
    if not asked:
        return None
    return f'dataset : "{dataset_id}" AND {{{" ".join(columns(place))}}} : ({" OR ".join(asked)})'


def _together(wanted: list[str], unwanted: list[str]) -> str:
    inside = " AND ".join(wanted)
    return f"(({inside}) NOT ({' OR '.join(unwanted)}))" if unwanted else f"({inside})"
