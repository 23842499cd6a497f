"""Doubt about the probabilities weighed against doubt about the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.disagreement import Disagreement

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class BalEnt(Disagreement):
    """Balanced entropy: BalEnt = (Σ_c p̄_c h(P_c⁺) + H(p̄)) / (H(p̄) + ln 2), asked in the order of 1 / BalEnt.

    The probability of each option is taken to be Beta-distributed over the members; h(P_c⁺) is the differential entropy
    that is left of it once that option has been seen. What lies beside a boundary comes first, what lies on it later;
    a negative BalEnt, where members agree, comes behind all others.
    agg: `max`, `mean`, `sum`, or `topm` (the mean of the highest 20%). The surer a decision, the more negative its
    score, without end, so that a mean over words is ruled by those that nobody doubts.
    Use when: batches should spread by themselves, without comparing examples. Needs: a committee (`sampler`), the
    larger the better: the authors take 100 passes. Cost: one pass over the pool a member.
    Reference: Woo 2023, arXiv 2105.14559.
    """

    agg: str = "max"

    reference: ClassVar[str] = "Woo 2023, arXiv 2105.14559"

    def score(self, signals: Signals) -> Tensor:
        """1 / BalEnt of each decision, or BalEnt where it is negative, float32[M]; minus infinity of a single option.

        The last digits of float64 differ between equal decisions, which must tie.
        """
        import torch

        from nlp_al.decisions import Decisions
        from nlp_al.selection.beta import balance_score, balanced_entropy

        found, options = signals.statistics(), signals.options
        assert signals.offsets is not None
        mean = Decisions(found.mean, signals.offsets, options).masked
        variance = found.std(options).square() * found.members / max(found.members - 1, 1)
        scores = balance_score(balanced_entropy(mean, variance)).float()
        return scores if options is None else scores.masked_fill(options < 2, -torch.inf)
