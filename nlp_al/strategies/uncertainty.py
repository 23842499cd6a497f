"""Scores of one model's own uncertainty, a number an example; the largest are asked."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Uncertainty(Strategy):
    """A score a decision, reduced over the decisions of an example.

    agg: `mean` (default; does not favour long examples), `sum`, `max`, or `topm` (the mean of the highest 20%).
    """

    agg: str = "mean"

    family: ClassVar[str] = "uncertainty"
    needs: ClassVar[frozenset[str]] = frozenset({"probs"})
    sharded: ClassVar[bool] = True
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.agg not in ("mean", "sum", "max", "topm"):
            raise ValueError(f"agg is {self.agg!r}; it must be one of mean, sum, max, topm.")

    @abstractmethod
    def score(self, signals: Signals) -> Tensor:
        """float[M]: how uncertain each decision is, higher = more."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        from nlp_al.decisions import reduce
        from nlp_al.selection.topk import top

        scores = reduce(self.score(signals), signals.decisions.offsets, self.agg)
        return Selection(top(scores, count, signals.shard), scores)


@dataclass(frozen=True)
class LeastConfidence(Uncertainty):
    """1 − p₍₁₎: the examples whose best option is least probable.

    Use when: only the top prediction matters. Needs: probs. Cost: one pass over the pool.
    Reference: Lewis & Gale 1994, A Sequential Algorithm for Training Text Classifiers, arXiv cmp-lg/9407020.
    """

    reference: ClassVar[str] = "Lewis & Gale 1994, arXiv cmp-lg/9407020"

    def score(self, signals: Signals) -> Tensor:
        """1 − p₍₁₎ of each decision, float[M]."""
        from nlp_al.decisions import least_confidence

        return least_confidence(signals.decisions)


@dataclass(frozen=True)
class Margin(Uncertainty):
    """−(p₍₁₎ − p₍₂₎), also called breaking ties: the examples whose two best options are closest.

    Use when: a first choice for classification; strong and cheap. Needs: probs. Cost: one pass over the pool.
    Reference: Scheffer, Decomain & Wrobel 2001, Active Hidden Markov Models for Information Extraction.
    """

    reference: ClassVar[str] = "Scheffer, Decomain & Wrobel 2001"

    def score(self, signals: Signals) -> Tensor:
        """−(p₍₁₎ − p₍₂₎) of each decision, float[M]."""
        from nlp_al.decisions import margin

        return -margin(signals.decisions)


@dataclass(frozen=True)
class Entropy(Uncertainty):
    """−Σ p ln p: the examples whose whole distribution is flattest; over ln K where the number of options varies.

    Use when: all options matter, not just the two best. Needs: probs. Cost: one pass over the pool.
    Reference: Shannon 1948; for active learning Settles 2009, Active Learning Literature Survey.
    """

    reference: ClassVar[str] = "Shannon 1948; Settles 2009"

    def score(self, signals: Signals) -> Tensor:
        """−Σ p ln p of each decision, float[M]."""
        from nlp_al.decisions import entropy

        return entropy(signals.decisions)
