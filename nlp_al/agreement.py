"""How far people agree who labelled the same examples, and how each of them compares with the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from nlp_al.aggregation import Aggregation, Majority, submitted
from nlp_al.pool import DATASET, Answer
from nlp_al.tasks import Task

NOBODY = frozenset({"oracle", DATASET})
"""Annotators who are no people."""


@dataclass(frozen=True)
class Person:
    """One annotator. submitted, discarded: numbers of examples.

    shared: how many of those submitted have a label by the others alone; alike: the share of these in which it is the
    same as this person's, None where there are none.
    """

    name: str
    submitted: int
    discarded: int
    shared: int
    alike: float | None


@dataclass(frozen=True)
class Agreement:
    """examples: those with two labels or more by different people, of whoever decides apart.

    observed: the share of pairs of people who gave the same label, a mean over examples. alpha: Krippendorff's, None
    where it is not defined. people: by name.
    """

    examples: int
    observed: float | None
    alpha: float | None
    people: tuple[Person, ...]


def agreement(last: Mapping[str, Sequence[Answer]], task: Task, decides: str | None = None) -> Agreement:
    """How far people agree. last: by id, the last answer of each annotator.

    decides: who is asked about what others dispute, so that what they say is no measure of agreement.
    """
    fold = Majority(task, decides)
    real = {name: [a for a in answers if a.annotator not in NOBODY] for name, answers in last.items()}
    free = [[a for a in submitted(answers) if a.annotator != decides] for answers in real.values()]
    several = [[fold.parts(answer.label) for answer in answers] for answers in free if len(answers) > 1]
    observed = [np.mean([one == other for one, other in combinations(labels, 2)]) for labels in several]
    names = sorted({answer.annotator for answers in real.values() for answer in answers})
    return Agreement(
        len(several),
        float(np.mean(observed)) if several else None,
        krippendorff_alpha(_tables(several, task.alike)),
        tuple(_person(name, real, fold) for name in names),
    )


def _person(name: str, last: Mapping[str, Sequence[Answer]], fold: Aggregation) -> Person:
    own = {key: answer for key, answers in last.items() for answer in answers if answer.annotator == name}
    said = {key: answer.label for key, answer in own.items() if answer.status == "submitted"}
    others = fold({key: [answer for answer in last[key] if answer.annotator != name] for key in said})
    same = [fold.parts(said[key]) == fold.parts(label) for key, label in others.items()]
    discarded = sum(answer.status == "discarded" for answer in own.values())
    alike = float(np.mean(same)) if same and name != fold.decides else None
    return Person(name, len(said), discarded, len(same), alike)


def _tables(several: Iterable[Sequence[Sequence[Any]]], alike: bool) -> list[npt.NDArray[np.int64]]:
    """int64[U, O] for each kind of decision: how many people gave each option. several: people's options, by example.

    alike: whether all decisions are of one kind, or each place in an example is one.
    """
    kinds: dict[int, list[Counter[Any]]] = {}
    for people in several:
        for at, options in enumerate(zip(*people, strict=True)):
            kinds.setdefault(0 if alike else at, []).append(Counter(options))
    options_of = [sorted({option for unit in units for option in unit}) for units in kinds.values()]
    return [
        np.array([[unit[option] for option in options] for unit in units])
        for units, options in zip(kinds.values(), options_of, strict=True)
    ]


def krippendorff_alpha(tables: Sequence[npt.NDArray[np.int64]]) -> float | None:
    """1 − observed / expected disagreement, both summed over the tables; None where none is to be expected.

    tables: int64[U, O], how many annotators gave each option to each unit. A unit with one value has no pair and does
    not count. One table is alpha for nominal data, missing values included.

    Reference: Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), https://repository.upenn.edu/asc_papers/43;
    Hayes & Krippendorff, Answering the Call for a Standard Reliability Measure (2007), doi:10.1080/19312450709336664
    """
    observed = expected = 0.0
    for table in tables:
        paired = table[table.sum(1) > 1].astype(np.float64)
        values, options = paired.sum(1), paired.sum(0)
        observed += float(((values**2 - (paired**2).sum(1)) / (values - 1)).sum())
        expected += float((options.sum() ** 2 - (options**2).sum()) / max(options.sum() - 1, 1))
    return 1 - observed / expected if expected else None
