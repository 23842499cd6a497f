"""Batches drawn in place of the top: what many examples say alike should not fill a batch.

Each score gets Gumbel noise, which makes the highest a draw without replacement. Kirsch et al. 2021, arXiv 2106.12059.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection
from nlp_al.strategies.disagreement import Bald

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals

_KIRSCH = "Kirsch et al. 2021, arXiv 2106.12059"


@dataclass(frozen=True)
class Stochastic(Bald):
    """The largest of what `levels` makes of the scores, with Gumbel noise over beta."""

    beta: float = 1.0

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = _KIRSCH
    group: ClassVar[Group] = "seeded"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta:g}; it must be more than 0.")

    @abstractmethod
    def levels(self, scores: Tensor) -> Tensor:
        """float64[n] out of float64[n], rising with them; minus infinity stays."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest of the noisy levels; those of minus infinity come last, in their order."""
        import torch

        from nlp_al.selection.topk import top

        levels = self.levels(self.scores(signals))
        # The argument of the inner logarithm is above 0, and that of the outer one too.
        uniform = torch.rand(len(levels), generator=generator, dtype=torch.float64)
        uniform = uniform.clamp(torch.finfo(torch.float64).tiny, 1 - torch.finfo(torch.float64).eps)
        noisy = levels - (-uniform.log()).log() / self.beta
        return Selection(top(noisy, count), noisy)


@dataclass(frozen=True)
class PowerBald(Stochastic):
    """ln BALD + Gumbel / beta: an example is drawn with a chance in proportion to BALD to the power of beta.

    What no member would learn from (BALD of 0) comes last. beta: large takes the top, small draws evenly.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: batches are large and the pool repeats itself; as cheap as `bald`. Needs: a committee (`sampler`).
    Cost: as `bald`. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    def levels(self, scores: Tensor) -> Tensor:
        """ln u; minus infinity of 0."""
        return scores.clamp(min=0.0).log()


@dataclass(frozen=True)
class SoftmaxBald(Stochastic):
    """BALD + Gumbel / beta: an example is drawn with a chance in proportion to exp(beta · BALD).

    beta: at 1 all are nearly alike, since BALD is far below 1. agg: `mean`, `sum`, `max`, or `topm` (the mean of the
    highest 20%).
    Use when: as `power_bald`, where also what has a BALD of 0 may be drawn. Needs: a committee (`sampler`).
    Cost: as `bald`. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    def levels(self, scores: Tensor) -> Tensor:
        """The scores themselves."""
        return scores


@dataclass(frozen=True)
class SoftrankBald(Stochastic):
    """−ln rank + Gumbel / beta, rank 1 having the highest BALD: only the order of scores counts, not their size.

    beta: large takes the top, small draws evenly. agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: as `power_bald`, where the committee is small and its scores are rough. Needs: a committee (`sampler`).
    Cost: as `bald`. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    def levels(self, scores: Tensor) -> Tensor:
        """−ln rank; ties are ranked by position."""
        import torch

        from nlp_al.selection.topk import top

        ranks = torch.empty_like(scores)
        ranks[top(scores, len(scores))] = torch.arange(1, len(scores) + 1, dtype=scores.dtype)
        return (-ranks.log()).masked_fill(scores == -torch.inf, -torch.inf)
