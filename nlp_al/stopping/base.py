"""What every stopping rule is: a small class with one method, `value`, over what was observed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

SPLITS = ("validation", "holdout")
"""Where the scores come from that a rule may read, in order of preference."""

TOLERANCE = 1e-9
"""A mean that reaches a threshold reaches it, whatever its rounding."""


@dataclass(frozen=True)
class Observation:
    """What was seen after a round; a field is None where it could not be, or where no rule asked for it.

    spent: labels (or words) paid for by then. batch: what the next batch may cost, in the same unit.
    kappa: Cohen's kappa between the predictions on the stop set and those of the round before; one number, or one a
    label where a text has several.
    mean_entropy, max_entropy: over the remaining pool, of an example's entropy divided by that of a uniform guess.
    max_doubt: the largest 1 − p₍₁₎ there. changed: the share of predictions on the remaining pool that are others than
    in the round before. accuracy: the share of the batch's decisions that the model which chose it had right.
    abstained: of what was undecided when the batch was chosen, the share that no label settles.
    scores: by split, validation or holdout, the metrics. main: the one that the task is known by.
    """

    round: int = 0
    spent: float = 0.0
    batch: float = 0.0
    kappa: tuple[float, ...] | None = None
    mean_entropy: float | None = None
    max_entropy: float | None = None
    max_doubt: float | None = None
    changed: float | None = None
    accuracy: float | None = None
    abstained: float | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    main: str = ""


MEASURED = ("kappa", "mean_entropy", "max_entropy", "max_doubt", "changed", "accuracy", "abstained")
"""The fields that stand under `stop` in a line of metrics.jsonl."""


class Decision(NamedTuple):
    """Whether to stop, the number that decided (None: there is none yet, or several rules have one), and why."""

    stop: bool
    value: float | None
    reason: str


class Rule(ABC):
    """A stopping rule. Subclasses are frozen dataclasses: their fields are the parameters that a config may set.

    name: as in `STOPPING`. reference: the paper. reads: fields of `Observation`. stops: on which side of its bar.
    """

    name: ClassVar[str]
    reference: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    stops: ClassVar[Literal["at least", "at most", "above", "below"]]

    def update(self, seen: Sequence[Observation]) -> Decision:
        """What the rule says after the last of these rounds."""
        value = self.value(seen) if seen else None
        if value is None:
            return Decision(False, None, f"{self.name}: not enough was observed yet")
        bar = self.bar(seen)
        stop = {
            "at least": value >= bar - TOLERANCE,
            "at most": value <= bar + TOLERANCE,
            "above": value > bar + TOLERANCE,
            "below": value < bar - TOLERANCE,
        }[self.stops]
        told = f"{self.name}: {self.measure} is {value:.4g}, {'' if stop else 'not '}{self.stops} {bar:.4g}"
        return Decision(stop, value, told)

    @property
    @abstractmethod
    def measure(self) -> str:
        """What its number is, in words."""

    @abstractmethod
    def value(self, seen: Sequence[Observation]) -> float | None:
        """The number that decides after the last of these rounds, at least one; None where they are too few."""

    def bar(self, seen: Sequence[Observation]) -> float:
        """What the number is held against."""
        return float(self.threshold)  # type: ignore[attr-defined]  # a field of every rule that has no bar of its own

    def inside(self) -> list[Rule]:
        """The single rules that it is made of."""
        return [self]


def observations(
    lines: Iterable[Mapping[str, Any]], main: str, batch: float, unit: str = "records"
) -> list[Observation]:
    """The observations in the lines of metrics.jsonl. main: the task's main metric. batch: loop.batch. unit: loop.unit.

    A round that brought no answer fitted no new model: it is left out, or it would look as if models agreed. Where a
    filter left something out, which may be why nothing was asked, it counts as one with the round before.
    """
    found: list[Observation] = []
    answers = None
    for line in lines:
        if line.get("answers") == answers and answers is not None:
            if found and (abstained := line.get("stop", {}).get("abstained")) is not None:
                found[-1] = replace(found[-1], round=line["round"], abstained=abstained)
            continue
        answers = line.get("answers")
        measured = {name: value for name, value in line.get("stop", {}).items() if name in MEASURED}
        if "kappa" in measured:
            measured["kappa"] = tuple(measured["kappa"])
        scores = {split: line[split] for split in SPLITS if line.get(split)}
        spent = float(line["cost"] if unit == "words" else line["labelled"] + line.get("again", 0))
        found.append(Observation(line["round"], spent, float(batch), scores=scores, main=main, **measured))
    return found


def first_stop(rule: Rule, seen: Sequence[Observation]) -> tuple[Observation, Decision] | None:
    """The first round after which the rule stops, and what it says there; None where it does not."""
    for end in range(1, len(seen) + 1):
        said = rule.update(seen[:end])
        if said.stop:
            return seen[end - 1], said
    return None


def checked(threshold: float = 0.0, window: int = 1) -> None:
    """ValueError where one of them can't be."""
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold is {threshold}; it must lie between 0 and 1.")
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1.")


def rounds(window: int) -> str:
    """In words."""
    return "the last round" if window == 1 else f"the last {window} rounds"


def last(seen: Sequence[Observation], count: int) -> Sequence[Observation]:
    """The last so many; none where there are fewer."""
    return seen[-count:] if len(seen) >= count else []


def mean(values: Sequence[float | None] | None) -> float | None:
    """None where a value is missing, or all are."""
    if not values or None in values:
        return None
    return math.fsum(value for value in values if value is not None) / len(values)


def scores_of(seen: Sequence[Observation], metric: str | None) -> list[float | None]:
    """A metric of each round, on the one split that the newest of them has."""
    split = next((split for split in SPLITS if seen and split in seen[-1].scores), "")
    return [one.scores.get(split, {}).get(metric or one.main) for one in seen]
