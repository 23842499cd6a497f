"""Rules that look at what is left of the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nlp_al.stopping.base import Observation, Rule, checked
from nlp_al.values import about


@dataclass(frozen=True)
class OverallUncertainty(Rule):
    """The model is sure of what remains, on average.

    Use when a model's probabilities can be trusted: fine-tuned models are often surer than right, and stop early.
    Needs a model. Cost: one pass over the remaining pool a round.
    Reference: Zhu, Wang and Hovy, Multi-Criteria-Based Strategy to Stop Active Learning for Data Annotation (COLING
    2008, https://aclanthology.org/C08-1142)
    """

    threshold: float = about("stops where the mean entropy, as a share of the largest, is below this", 0.05)

    name = "overall_uncertainty"
    reference = "Zhu, Wang and Hovy 2008, aclanthology.org/C08-1142"
    reads = frozenset({"mean_entropy"})
    stops = "below"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples."""
        return "the mean normalised entropy of the remaining pool"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Every decision's entropy over the logarithm of its options, averaged within an example, then over all."""
        return seen[-1].mean_entropy


@dataclass(frozen=True)
class MaxUncertainty(Rule):
    """The model is sure of all that remains: one uncertain example blocks it.

    Use when a few hard examples matter. Mind that what nobody can tell keeps it from ever stopping.
    Needs a model. Cost: one pass over the remaining pool a round.
    Reference: Zhu and Hovy, Active Learning for Word Sense Disambiguation with Methods for Addressing the Class
    Imbalance Problem (EMNLP 2007, https://aclanthology.org/D07-1082)
    """

    threshold: float = about("stops where the largest uncertainty is below this", 0.1)
    by: Literal["entropy", "confidence"] = about(
        "entropy (as a share of the largest) or confidence (one less the highest probability)", "entropy"
    )

    name = "max_uncertainty"
    reference = "Zhu and Hovy 2007, aclanthology.org/D07-1082"
    reads = frozenset({"max_entropy", "max_doubt"})
    stops = "below"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples, and in what."""
        told = "normalised entropy" if self.by == "entropy" else "doubt (1 − p)"
        return f"the largest {told} in the remaining pool"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Averaged within an example."""
        return seen[-1].max_entropy if self.by == "entropy" else seen[-1].max_doubt


@dataclass(frozen=True)
class NoiseExit(Rule):
    """Most of what the model leaves open is a toss-up that no label settles.

    Use with the strategy neural_cal, where classes overlap or annotators disagree: what is still uncertain is then not
    what is not known yet, and other rules wait in vain for it to become certain.
    Needs a strategy that filters. Cost: none.
    Reference: Zhu and Nowak, Active Learning with Neural Networks: Insights from Nonparametric Statistics (NeurIPS
    2022, arXiv 2210.08367), for abstaining
    """

    threshold: float = about("stops where the share of toss-ups is above this", 0.5)

    name = "noise_exit"
    reference = "Zhu and Nowak 2022, arXiv 2210.08367"
    reads = frozenset({"abstained"})
    stops = "above"

    def __post_init__(self) -> None:
        checked(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples."""
        return "the share of toss-ups in what was undecided"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """When the last batch was chosen."""
        return seen[-1].abstained
