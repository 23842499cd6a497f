"""Uncertain examples for people, and the model's own labels for those that it is sure of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy
from nlp_al.strategies.wrapper import Wrapper

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Ceal(Wrapper):
    """Another strategy, whose round is fitted on what the model is sure of as well, under the labels that it predicts.

    An example is sure while its entropy, the mean over its decisions, is below a threshold. Made labels are made anew
    each round, of examples that were not asked about, and are never counted as labels.
    base: the strategy, or a mapping of its name and parameters. threshold: that of the first round after the initial
    one. step: what it is less in each round that follows, never below 0. normalised: entropy is divided by that of a
    flat distribution. cumulative: `step` is taken times the round, from the threshold before. most: of many, so many
    that the model is surest of.
    Use when: the model is right where it is sure, and labels are dear; what it is wrong about it may learn to believe.
    Needs: probs, and what the base needs. Cost: that of the base, and fits on more examples.
    Reference: Wang et al. 2016, arXiv 1701.03551.
    """

    threshold: float = 0.05
    step: float = 0.0033
    normalised: bool = True
    cumulative: bool = False
    most: int | None = None

    family: ClassVar[str] = "semi-supervised"
    reference: ClassVar[str] = "Wang et al. 2016, arXiv 1701.03551"
    needs: ClassVar[frozenset[str]] = frozenset({"probs"})

    def __post_init__(self) -> None:
        for name in ("threshold", "step"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must not be negative.")
        if self.most is not None and self.most < 1:
            raise ValueError(f"most is {self.most}; it must be at least 1, or null for no limit.")
        super().__post_init__()

    def inner(self) -> Strategy:
        """The base.

        Raises:
            ValueError: there is no such strategy, its parameters are wrong, or it is this one.
        """
        made = super().inner()
        if isinstance(made, Ceal):
            raise ValueError("base is 'ceal'; it must be another strategy.")
        return made

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """What the base chooses, in its order."""
        return self.inner().choose(signals, count, generator)

    def limit(self, round_: int) -> float:
        """The entropy below which an example is sure; rounds count from 0, the initial one."""
        passed = max(round_ - 1, 0)
        steps = passed * (passed + 1) / 2 if self.cumulative else passed
        return max(0.0, self.threshold - self.step * steps)

    def sure(self, signals: Signals, round_: int) -> Tensor:
        """Positions below the threshold, the surest first."""
        import torch

        from nlp_al.decisions import reduce

        decisions = signals.decisions
        entropy = torch.special.entr(decisions.masked.double()).sum(1)
        if self.normalised:
            options = decisions.options if decisions.options is not None else torch.tensor(decisions.probs.shape[1])
            entropy = entropy / options.clamp(min=2).double().log()
        doubt = reduce(entropy, decisions.offsets).masked_fill(~signals.can_ask(), torch.inf)
        order = torch.argsort(doubt, stable=True)
        return order[doubt[order] < self.limit(round_)]
