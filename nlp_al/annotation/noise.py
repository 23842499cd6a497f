"""Mistakes that simulated people make: which option they take instead of the right one, and how often.

Reference: Han et al., Co-teaching (2018), arXiv:1804.06872 (symmetric, pair flips); Xia et al., Part-dependent Label
Noise (2020), arXiv:2006.07836 (dependent on the instance)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal

from nlp_al.tasks.tags import spans_of_tags, tags_of_spans

Kind = Literal["symmetric", "pair_flip", "instance_dependent", "spans"]

SPREAD = 0.1
"""Standard deviation of the share of mistakes over instances."""


def symmetric(at: int, options: int) -> list[float]:
    """How likely a mistake about the option `at` is each of the options: all others are equally likely."""
    return [(other != at) / max(options - 1, 1) for other in range(options)]


def pair_flip(at: int, options: int) -> list[float]:
    """It is always the next option; after the last one comes the first."""
    return [float(other != at and other == (at + 1) % options) for other in range(options)]


def instance_dependent(at: int, options: int, text: str, seed: int) -> list[float]:
    """It depends on the words of a text: each speaks for some options and against others, whatever text it is in."""
    words = re.findall(r"\w+", text.lower())
    leanings = [0.0] * options
    for word in words:
        draw = Random(f"{seed}:{at}:{word}")
        leanings = [leaning + draw.gauss(0, 1) for leaning in leanings]
    weights = [math.exp(leaning / math.sqrt(len(words) or 1)) for leaning in leanings]
    weights[at] = 0.0
    return [weight / (sum(weights) or 1) for weight in weights]


def transition(instead: Sequence[float], at: int, rate: float) -> list[float]:
    """A row of the transition matrix: how likely each option is said where `at` is right. One option is always said."""
    flips = rate if sum(instead) else 0.0
    return [1 - flips if other == at else flips * chance for other, chance in enumerate(instead)]


def swaps(kind: Kind, rate: float, text: str, seed: int, draw: Random) -> Callable[[Any, Sequence[Any]], Any]:
    """(the right option, all options) → what is said of this text."""
    # Cut off at three standard deviations on either side, so that the mean is the rate.
    spread = min(SPREAD, rate / 3, (1 - rate) / 3)
    own = rate + spread * min(max(draw.gauss(0, 1), -3), 3) if kind == "instance_dependent" else rate

    def said(option: Any, options: Sequence[Any]) -> Any:
        at = options.index(option)
        if kind == "instance_dependent":
            instead = instance_dependent(at, len(options), text, seed)
        else:
            instead = (pair_flip if kind == "pair_flip" else symmetric)(at, len(options))
        return draw.choices(options, transition(instead, at, own))[0]

    return said


def mistaken_spans(tags: Sequence[str], kinds: Sequence[str], rate: float, draw: Random) -> list[str]:
    """BIO tags, each of whose entities is mistaken with this chance: missed, one word longer or shorter at an end, or
    of another type. kinds: the types there are.
    """
    places = [[at, at + 1] for at in range(len(tags))]
    spans = spans_of_tags(places, tags)
    kept: list[dict[str, Any]] = []
    for at, span in enumerate(spans):
        before = kept[-1]["end"] if kept else 0
        after = spans[at + 1]["start"] if at + 1 < len(spans) else len(tags)
        said = _misread(span, before, after, kinds, draw) if draw.random() < rate else span
        kept += [said] if said is not None else []
    return tags_of_spans("_" * len(tags), places, kept)


def _misread(
    span: dict[str, Any], before: int, after: int, kinds: Sequence[str], draw: Random
) -> dict[str, Any] | None:
    """What is said instead of an entity that has room from `before` to `after`; None: nothing."""
    start, end = span["start"], span["end"]
    ends = [(start - 1, end), (start + 1, end), (start, end - 1), (start, end + 1)]
    moved = [{**span, "start": a, "end": b} for a, b in ends if before <= a < b <= after]
    other = [{**span, "label": kind} for kind in kinds if kind != span["label"]]
    return draw.choice(draw.choice([way for way in ([None], moved, other) if way]))
