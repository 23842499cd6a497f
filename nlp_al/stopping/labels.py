"""Rules that read labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from nlp_al.stopping.base import Observation, Rule, checked, last, rounds, scores_of
from nlp_al.values import about


@dataclass(frozen=True)
class SelectedAccuracy(Rule):
    """The model had the batch right before it was trained on it, though these were the examples that it asked about.

    Use with strategies that ask what is hard; under `random` it is an estimate of accuracy, on a small sample.
    Needs answers to a batch that a model chose; the holdout's share does not count. Cost: a pass over the batch.
    Reference: Zhu, Wang and Hovy, Multi-Criteria-Based Strategy to Stop Active Learning for Data Annotation (COLING
    2008, https://aclanthology.org/C08-1142)
    """

    threshold: float = about("stops where the accuracy on the batch is at least this", 0.9)

    name = "selected_accuracy"
    reference = "Zhu, Wang and Hovy 2008, aclanthology.org/C08-1142"
    reads = frozenset({"accuracy"})
    stops = "at least"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which model."""
        return "the accuracy on the batch, before training on it,"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Of the last batch alone."""
        return seen[-1].accuracy


@dataclass(frozen=True)
class PerformancePlateau(Rule):
    """The score on validation or holdout does not rise any more.

    Use when there is a validation set. Its labels were paid for too, and it is noisy: with 500 texts a score near 0.9
    has a standard error of 0.013, which is more than the default threshold.
    Needs a validation split, or loop.holdout, and window + 1 rounds. Cost: none.
    Reference: Laws and Schütze, Stopping Criteria for Active Learning of Named Entity Recognition (COLING 2008,
    https://aclanthology.org/C08-1059)
    """

    threshold: float = about("stops where the gain is below this", 0.002)
    window: int = about("over how many rounds the gain is taken", 3)
    metric: str | None = about("of validation or holdout; null: the task's main one")

    name = "performance_plateau"
    reference = "Laws and Schütze 2008, aclanthology.org/C08-1059"
    reads = frozenset({"scores"})
    stops = "below"

    def __post_init__(self) -> None:
        checked(window=self.window)

    @property
    def measure(self) -> str:
        """Over how many rounds."""
        return f"the gain in {self.metric or 'the score'} over {rounds(self.window)}"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """The score now less that of `window` rounds ago."""
        scores = scores_of(last(seen, self.window + 1), self.metric)
        if not scores or scores[0] is None or scores[-1] is None:
            return None
        return scores[-1] - scores[0]


@dataclass(frozen=True)
class Target(Rule):
    """A score on validation or holdout is reached.

    Use when it is known how good is good enough. A score that passes by luck counts: choose the target with a margin.
    Needs a validation split, or loop.holdout. Cost: none. Reference: common practice.
    """

    threshold: float = field(metadata={"help": "stops where the score is at least this; must be given"})
    metric: str | None = about("of validation or holdout; null: the task's main one")

    name = "target"
    reference = "common practice"
    reads = frozenset({"scores"})
    stops = "at least"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Which metric."""
        return self.metric or "the score"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """The newest score."""
        return scores_of(seen[-1:], self.metric)[-1]


@dataclass(frozen=True)
class ExpectedGain(Rule):
    """The next batch will not be worth its price, by the line err(n) = err∞ + c/n through the scores so far.

    Use when a label has a price in terms of the score. n counts labels (or words); rounds weigh by n, for the line
    holds late; err∞ is not below zero.
    Needs a validation split, or loop.holdout, and `rounds` rounds. Cost: none.
    Reference: Mussmann and Dasgupta, Constants Matter: The Performance Gains of Active Learning (ICML 2022,
    https://proceedings.mlr.press/v162/mussmann22a.html), for the rate
    """

    price: float = about("the gain in the score that a label (a word, with loop.unit words) must bring", 1e-4)
    rounds: int = about("the fewest rounds that a line is laid through", 3)
    since: float = about("rounds with fewer labels (or words) than this do not count", 0.0)
    metric: str | None = about("of validation or holdout; null: the task's main one")

    name = "expected_gain"
    reference = "Mussmann and Dasgupta 2022, proceedings.mlr.press/v162/mussmann22a.html"
    reads = frozenset({"scores"})
    stops = "below"

    def __post_init__(self) -> None:
        if self.price <= 0:
            raise ValueError(f"price is {self.price}; it must be more than 0.")
        if self.rounds < 2:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 2.")

    @property
    def measure(self) -> str:
        """Of what."""
        return f"the gain in {self.metric or 'the score'} that the next batch promises"

    def bar(self, seen: Sequence[Observation]) -> float:
        """The price of the next batch."""
        return seen[-1].batch * self.price

    def value(self, seen: Sequence[Observation]) -> float | None:
        """c/n − c/(n + b) for a next batch of b."""
        pairs = zip(seen, scores_of(seen, self.metric), strict=True)
        points = [(one.spent, 1.0 - y) for one, y in pairs if y is not None and one.spent > 0]
        points = [(n, error) for n, error in points if n >= self.since]
        if len(points) < self.rounds or len({n for n, _ in points}) < 2:
            return None
        _, c = inverse_fit(points)
        now = seen[-1]
        return c / now.spent - c / (now.spent + now.batch)


def inverse_fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(err∞, c) of the line err(n) = err∞ + c/n through points (n, err), by least squares with weights n; err∞ ≥ 0.

    Raises:
        ValueError: all points lie at one n.
    """
    if len({n for n, _ in points}) < 2:
        raise ValueError("A line needs points at two numbers of labels.")
    weight = math.fsum(n for n, _ in points)
    x = len(points) / weight  # the weighted mean of 1/n
    y = math.fsum(n * error for n, error in points) / weight
    above = math.fsum(n * (1 / n - x) * (error - y) for n, error in points)
    c = above / math.fsum(n * (1 / n - x) ** 2 for n, _ in points)
    if y - c * x >= 0:
        return y - c * x, c
    return 0.0, math.fsum(error for _, error in points) / math.fsum(1 / n for n, _ in points)
