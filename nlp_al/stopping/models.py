"""Rules that compare successive models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nlp_al.stopping.base import Observation, Rule, checked, last, mean, rounds
from nlp_al.values import about


def f_bound(kappa: float) -> float:
    """4(1 − κ)/κ, the most by which F can differ between two models with this kappa; infinite where κ ≤ 0.

    Proven for the F of one class of two, on the examples that kappa is of.

    Reference: Bloodgood and Grothendieck, Analysis of Stopping Active Learning based on Stabilizing Predictions (CoNLL
    2013, arXiv 1504.06329)
    """
    return 4.0 * (1.0 - kappa) / kappa if kappa > 0 else math.inf


@dataclass(frozen=True)
class KappaAverage(Rule):
    """Stabilising predictions: successive models agree on what nobody labels.

    Use when labels are to be saved without a validation set; the most widely tested rule, and the one to begin with.
    Needs the stop set, and predictions of window + 1 models. Cost: one pass over the stop set a round.
    Reference: Bloodgood and Vijay-Shanker, A Method for Stopping Active Learning Based on Stabilizing Predictions and
    the Need for User-Adjustable Stopping (CoNLL 2009, arXiv 1409.5165)
    """

    threshold: float = about("stops where the mean kappa is at least this", 0.99)
    window: int = about("over how many comparisons of successive models", 3)

    name = "kappa_average"
    reference = "Bloodgood and Vijay-Shanker 2009, arXiv 1409.5165"
    reads = frozenset({"kappa"})
    stops = "at least"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold, window=self.window)

    @property
    def measure(self) -> str:
        """Over how many rounds."""
        return f"the mean kappa of {rounds(self.window)}"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Where a text has several labels, the mean over these first."""
        return mean([mean(one.kappa) for one in last(seen, self.window)])


@dataclass(frozen=True)
class StabilisingPredictionsF(Rule):
    """As `kappa_average`, with the bar in terms of F: how much it can have changed between successive models.

    Use when "no more than five points of F" says more than a kappa. The bound is on the F of one class of two; where a
    text has several labels, it is the mean of their bounds, each at most 1, and bounds the change of macro F1. For more
    classes it is a yardstick, no bound.
    Needs, cost: as kappa_average.
    Reference: Bloodgood and Grothendieck, Analysis of Stopping Active Learning based on Stabilizing Predictions (CoNLL
    2013, arXiv 1504.06329)
    """

    threshold: float = about("stops where the mean bound on the change of F is below this", 0.05)
    window: int = about("over how many comparisons of successive models", 3)

    name = "stabilising_predictions_f"
    reference = "Bloodgood and Grothendieck 2013, arXiv 1504.06329"
    reads = frozenset({"kappa"})
    stops = "below"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold, window=self.window)

    @property
    def measure(self) -> str:
        """Over how many rounds."""
        return f"the mean bound on the change of F over {rounds(self.window)}"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Infinite where one kappa is not above zero."""
        return mean([self._bound(one.kappa) for one in last(seen, self.window)])

    @staticmethod
    def _bound(kappa: tuple[float, ...] | None) -> float | None:
        if kappa is None or len(kappa) == 1:
            return f_bound(kappa[0]) if kappa else None
        return mean([min(1.0, f_bound(one)) for one in kappa])


@dataclass(frozen=True)
class ClassificationChange(Rule):
    """Nothing, or next to nothing, of the remaining pool is predicted otherwise than in the round before.

    Use when the pool itself is what is to be labelled. Strict for sequences, where one word in thousands blocks it.
    Needs two models. Cost: one pass over the remaining pool a round.
    Reference: Zhu, Wang and Hovy, Multi-Criteria-Based Strategy to Stop Active Learning for Data Annotation (COLING
    2008, https://aclanthology.org/C08-1142)
    """

    threshold: float = about("stops where the share of predictions that changed is at most this", 0.0)

    name = "classification_change"
    reference = "Zhu, Wang and Hovy 2008, aclanthology.org/C08-1142"
    reads = frozenset({"changed"})
    stops = "at most"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples."""
        return "the share of changed predictions on the remaining pool"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Of the examples that remained in both rounds."""
        return seen[-1].changed
