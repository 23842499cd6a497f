"""What strategies share that read the scores of another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlp_al.strategies.base import Strategy
from nlp_al.strategies.wrapper import Wrapper

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Weighted(Wrapper):
    """A strategy over the scores of another one, which has to give each example a score."""

    def inner(self) -> Strategy:
        """The base.

        Raises:
            ValueError: there is no such strategy, its parameters are wrong, or it gives no scores.
        """
        from nlp_al.strategies import STRATEGIES

        made = super().inner()
        if not made.scored:
            known = ", ".join(name for name, kind in STRATEGIES.items() if kind.scored)
            raise ValueError(f"base is {self.base!r}, which gives examples no scores; those that do are: {known}.")
        return made

    def uncertainty(self, signals: Signals, generator: torch.Generator) -> Tensor:
        """float64[n]: the scores of the base, higher = ask first; minus infinity for what it puts last."""
        scores = self.inner().choose(signals, 0, generator).scores
        if scores is None:
            raise ValueError(f"base is {self.base!r}, which chose without giving scores.")
        return scores.double()


def from_zero(scores: Tensor) -> Tensor:
    """The scores, or where some are negative, counted from the lowest: a power of them, or a factor, keeps their order.

    float64[n]. Minus infinity stays.
    """
    usual = scores[scores.isfinite()]
    return scores - min(float(usual.min()), 0.0) if len(usual) else scores
