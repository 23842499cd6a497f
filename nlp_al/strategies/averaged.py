"""Another strategy, on what a committee says on average."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection
from nlp_al.strategies.wrapper import Wrapper

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class CommitteeMean(Wrapper):
    """Another strategy, for which the mean of a committee's probabilities stands in place of the model's.

    base: the strategy, or a mapping of its name and parameters, as in `{name: margin, agg: max}`; one that reads probs.
    Use when: one model is too sure of itself, as fine-tuned ones are, and doubt should be that of several. Needs: a
    committee (`sampler`), and what the base needs beside probs. Cost: one pass over the pool a member, and the base.
    Reference: Gal & Ghahramani 2016, arXiv 1506.02142; survey: Zhan et al. 2022, arXiv 2203.13450.
    """

    family: ClassVar[str] = "uncertainty"
    reference: ClassVar[str] = "Gal & Ghahramani 2016, arXiv 1506.02142; Zhan et al. 2022, arXiv 2203.13450"

    def __post_init__(self) -> None:
        super().__post_init__()
        inner = self.inner()
        if "probs" not in inner.needs:
            raise ValueError(f"base is {self.base!r}, which reads no probabilities that a mean could stand for.")
        for name in ("needs", "needs_labelled", "needs_validation"):
            own = getattr(self, name)
            object.__setattr__(self, name, own - {"probs"} | ({"sampled"} if "probs" in own else set()))
        for name in ("family", "scored", "sharded"):
            object.__setattr__(self, name, getattr(inner, name))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """What the base chooses."""
        averaged = _averaged(signals)
        if "sampled" in self.needs_labelled and signals.labelled:
            averaged = replace(averaged, labelled=_averaged(signals.labelled))
        if "sampled" in self.needs_validation and signals.validation:
            averaged = replace(averaged, validation=_averaged(signals.validation))
        return self.inner().choose(averaged, count, generator)


def _averaged(signals: Signals) -> Signals:
    """The signals with the mean of the members' probabilities as probs, float[M, O]."""
    return replace(signals, probs=signals.statistics().mean.float())
