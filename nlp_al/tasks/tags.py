"""Tags of entities. Whatever scheme they come in, they are read as BIO: B-X begins an entity of type X, I-X goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlp_al.errors import UserError
from nlp_al.values import shown

if TYPE_CHECKING:
    from torch import Tensor

OUTSIDE = "O"
_BEGIN = "BSU"  # S and U: an entity of one word (IOBES, BILOU)
_GO_ON = "IMEL"  # E and L: its last word
_END = "ESLU"


def parted(tag: str) -> tuple[str, str] | None:
    """(letter, type) of a tag, ("O", "") of O; None where the name is no tag."""
    letter, _, kind = tag.partition("-")
    if tag == OUTSIDE or (kind and len(letter) == 1 and letter in _BEGIN + _GO_ON):
        return letter, kind
    return None


def as_bio(tags: Sequence[str]) -> tuple[list[str], list[int]]:
    """The same entities in BIO, and the positions of tags that go on with an entity that has not begun.

    These begin one, as conlleval reads them (and as IOB1 means them).

    Raises:
        UserError: a name is no tag.
    """
    made, odd, going = [], [], ""
    for at, tag in enumerate(tags):
        known = parted(tag)
        if known is None:
            raise UserError(f"{tag!r} is no tag; write O, B-TYPE or I-TYPE")
        letter, kind = known
        begins = letter in _BEGIN
        if kind and not begins and kind != going:
            odd.append(at)
            begins = True
        made.append(f"{'B' if begins else 'I'}-{kind}" if kind else OUTSIDE)
        going = "" if letter in _END else kind
    return made, odd


def tag_set(names: Iterable[str]) -> list[str]:
    """O, and B-X and I-X of every type that these tags name; names that are no tags are types themselves."""
    inside = [name for name in names if name != OUTSIDE]
    known = [parted(name) for name in inside]
    kinds = [one[1] for one in known if one] if all(known) else inside
    return [OUTSIDE, *(f"{letter}-{kind}" for kind in dict.fromkeys(kinds) for letter in "BI")]


def transitions(tags: Sequence[str]) -> Tensor:
    """float[O + 1, O]: 0 where a tag may follow another (last row: begin a sentence), minus infinity where it may not.

    All may, but I-X only follows B-X and I-X.
    """
    import torch

    allowed = [
        [not tag.startswith("I-") or before in (tag, f"B-{tag[2:]}") for tag in tags] for before in (*tags, OUTSIDE)
    ]
    return torch.where(torch.tensor(allowed), 0.0, -torch.inf)


def tags_of_spans(text: str, offsets: Sequence[Sequence[int]], spans: Any) -> list[str]:
    """A BIO tag for each word of a text. spans: a list of {start, end, label}, positions of characters; offsets: those
    of the words.

    Raises:
        UserError: a span is none, lies outside the text, overlaps another one, or begins or ends inside a word.
    """
    if not isinstance(spans, list):
        raise UserError(f"{shown(spans)} is no list of spans")
    begins = {start: at for at, (start, _) in enumerate(offsets)}
    ends = {end: at + 1 for at, (_, end) in enumerate(offsets)}
    tags, before = [OUTSIDE] * len(offsets), (0, 0)
    for start, end, kind in sorted(map(_read_span, spans)):
        here = f"the span {start}–{end}"
        if not 0 <= start < end <= len(text):
            raise UserError(f"{here} is no part of the text, which has {len(text)} characters")
        if start < before[1]:
            raise UserError(f"{here} overlaps the span {before[0]}–{before[1]}; a word can be in one of them only")
        if start not in begins or end not in ends:
            right = _whole(text, offsets, start, end)
            raise UserError(f"{here} ({shown(text[start:end])}) does not keep to whole words; {right}")
        first, last = begins[start], ends[end]
        tags[first:last] = [f"B-{kind}", *[f"I-{kind}"] * (last - first - 1)]
        before = start, end
    return tags


def _read_span(span: Any) -> tuple[int, int, str]:
    start, end, kind = map(span.get, ("start", "end", "label")) if isinstance(span, Mapping) else (None, None, None)
    if type(start) is int and type(end) is int and isinstance(kind, str) and kind:
        return start, end, kind
    raise UserError(f"{shown(span)} is no span; write {{start: 0, end: 4, label: TYPE}}")


def whole_words(offsets: Sequence[Sequence[int]], span: Mapping[str, Any]) -> dict[str, Any]:
    """The same span, widened to the words that it touches; one that touches none stays."""
    touched = [(a, b) for a, b in offsets if a < span["end"] and b > span["start"]]
    return {**span, "start": touched[0][0], "end": touched[-1][1]} if touched else dict(span)


def _whole(text: str, offsets: Sequence[Sequence[int]], start: int, end: int) -> str:
    """What would be right instead of a span that cuts words."""
    touched = [(a, b) for a, b in offsets if a < end and b > start]
    if not touched:
        return "there is no word in it"
    whole = touched[0][0], touched[-1][1]
    return f"these are {whole[0]}–{whole[1]} ({shown(text[slice(*whole)])})"


def spans_of_tags(offsets: Sequence[Sequence[int]], tags: Sequence[str]) -> list[dict[str, Any]]:
    """The entities of BIO tags as {start, end, label}, positions of characters. offsets: those of the words.

    An I-X without its beginning begins one.
    """
    spans: list[dict[str, Any]] = []
    for (start, end), tag in zip(offsets, as_bio(tags)[0], strict=True):
        if tag.startswith("B-"):
            spans.append({"start": start, "end": end, "label": tag[2:]})
        elif tag != OUTSIDE:
            spans[-1]["end"] = end
    return spans
