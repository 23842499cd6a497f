"""Batches drawn in place of the top: what many examples say alike should not fill a batch.

Each score gets Gumbel noise, which makes the highest a draw without replacement. Kirsch et al. 2021, arXiv 2106.12059.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection
from nlp_al.strategies.disagreement import Bald
from nlp_al.strategies.weighted import Weighted, from_zero

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals

_KIRSCH = "Kirsch et al. 2021, arXiv 2106.12059"


@dataclass(frozen=True)
class Stochastic(Weighted):
    """The largest of what `levels` makes of the scores, with Gumbel noise over beta."""

    beta: float = 1.0

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = _KIRSCH
    group: ClassVar[Group] = "seeded"
    scored: ClassVar[bool] = True

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

        levels = self.levels(self.uncertainty(signals, generator))
        # The argument of the inner logarithm is above 0, and that of the outer one too.
        uniform = torch.rand(len(levels), generator=generator, dtype=torch.float64).to(levels.device)
        uniform = uniform.clamp(torch.finfo(torch.float64).tiny, 1 - torch.finfo(torch.float64).eps)
        noisy = levels - (-uniform.log()).log() / self.beta
        return Selection(top(noisy, count), noisy)


@dataclass(frozen=True)
class Power(Stochastic):
    """ln u + Gumbel / beta: an example is drawn with a chance in proportion to its score u to the power of beta.

    base: what gives the scores, a name or `{name: ..., parameters}`; those that may be negative (`margin`) are counted
    from the pool's lowest. What has a score of 0 comes last. beta: large takes the top, small draws evenly.
    Use when: batches are large and the pool repeats itself; as cheap as its base. Needs: what the base needs.
    Cost: as the base. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    def levels(self, scores: Tensor) -> Tensor:
        """ln u; minus infinity of 0."""
        return from_zero(scores).clamp(min=0.0).log()


@dataclass(frozen=True)
class Softmax(Stochastic):
    """u + Gumbel / beta: an example is drawn with a chance in proportion to exp(beta · u), u being its score.

    base: what gives the scores, a name or `{name: ..., parameters}`. beta: large takes the top; at 1 all examples are
    nearly alike where scores are far below 1.
    Use when: as `power`, where also what has the lowest score may be drawn. Needs: what the base needs.
    Cost: as the base. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    def levels(self, scores: Tensor) -> Tensor:
        """The scores themselves."""
        return scores


@dataclass(frozen=True)
class Softrank(Stochastic):
    """−ln rank + Gumbel / beta, rank 1 having the highest score: only the order of scores counts, not their size.

    base: what gives the scores, a name or `{name: ..., parameters}`. beta: large takes the top, small draws evenly.
    Use when: as `power`, where scores are rough, or on a scale that means nothing. Needs: what the base needs.
    Cost: as the base. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    def levels(self, scores: Tensor) -> Tensor:
        """−ln rank; ties are ranked by position."""
        import torch

        from nlp_al.selection.topk import top

        ranks = torch.empty_like(scores)
        ranks[top(scores, len(scores))] = torch.arange(1, len(scores) + 1, dtype=scores.dtype, device=scores.device)
        return (-ranks.log()).masked_fill(scores == -torch.inf, -torch.inf)


@dataclass(frozen=True)
class StochasticBald(Bald):
    """One of the above over `bald`."""

    beta: float = 1.0

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = _KIRSCH
    group: ClassVar[Group] = "seeded"
    sharded: ClassVar[bool] = False
    draws: ClassVar[type[Stochastic]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inner()

    def inner(self) -> Stochastic:
        """What it is short for."""
        return self.draws({"name": "bald", "agg": self.agg}, self.beta)

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest of the noisy levels."""
        return self.inner().choose(signals, count, generator)


@dataclass(frozen=True)
class PowerBald(StochasticBald):
    """`power` over `bald`: an example is drawn with a chance in proportion to BALD to the power of beta.

    What no member would learn from (BALD of 0) comes last. beta: large takes the top, small draws evenly.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: batches are large and the pool repeats itself; as cheap as `bald`. Needs: a committee (`sampler`).
    Cost: as `bald`. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    draws: ClassVar[type[Stochastic]] = Power


@dataclass(frozen=True)
class SoftmaxBald(StochasticBald):
    """`softmax` over `bald`: an example is drawn with a chance in proportion to exp(beta · BALD).

    beta: at 1 all are nearly alike, since BALD is far below 1. agg: `mean`, `sum`, `max`, or `topm` (the mean of the
    highest 20%).
    Use when: as `power_bald`, where also what has a BALD of 0 may be drawn. Needs: a committee (`sampler`).
    Cost: as `bald`. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    draws: ClassVar[type[Stochastic]] = Softmax


@dataclass(frozen=True)
class SoftrankBald(StochasticBald):
    """`softrank` over `bald`: only the order of scores counts, not their size.

    beta: large takes the top, small draws evenly. agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: as `power_bald`, where the committee is small and its scores are rough. Needs: a committee (`sampler`).
    Cost: as `bald`. Reference: Kirsch et al. 2021, arXiv 2106.12059.
    """

    draws: ClassVar[type[Stochastic]] = Softrank
