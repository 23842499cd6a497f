"""Another strategy, on what a label would settle: no question is wasted on what is a toss-up anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.strategies.base import Selection
from nlp_al.strategies.sieve import Sieve

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class NeuralCal(Sieve):
    """Another strategy among examples that the members of a committee leave open; it may ask fewer than it could.

    Of each decision the members' values of p_a / (p_a + p_b), a and b being the two best options, make an interval. It
    is a toss-up within gamma of ½, and nobody is asked; else it is open where ½ is inside; else its side is trusted.
    base: the strategy that chooses, a name or `{name: ..., parameters}`. gamma: how far from ½ a toss-up may lie; the
    interval gets a quarter of it more at both ends. quantile: of the members' values, where the interval begins; it
    ends at 1 − quantile. share: an example is asked where more than this share of its decisions are open.
    Use when: classes overlap, or annotators disagree, so that what is most uncertain is what no label settles. With
    `stop.rule: noise_exit` the run ends when most of what is not settled is a toss-up.
    Needs: a committee (`sampler`); what the base needs, of open examples alone. Cost: one pass over the pool a member.
    Reference: Zhu & Nowak 2022, arXiv 2210.08367; of their algorithm the rule, not the bound.
    """

    base: str | dict[str, Any] = "bald"
    gamma: float = 0.1
    quantile: float = 0.05
    share: float = 0.05

    family: ClassVar[str] = "uncertainty"
    reference: ClassVar[str] = "Zhu & Nowak 2022, arXiv 2210.08367"
    needs: ClassVar[frozenset[str]] = frozenset({"passes"})
    filters: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, below in (("gamma", 0.5), ("quantile", 0.5), ("share", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be at least 0 and below {below:g}.")

    def sieve(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The open examples."""
        import torch

        from nlp_al.decisions import segment_mean
        from nlp_al.selection.abstention import duel_intervals, unsettled

        assert signals.passes is not None
        assert signals.offsets is not None
        found = unsettled(*duel_intervals(signals.passes, signals.options, self.quantile), self.gamma)
        open_ = segment_mean(found.query.double(), signals.offsets) > self.share
        either = segment_mean((found.query | found.abstain).double(), signals.offsets) > self.share
        kept, tossed = torch.nonzero(open_).flatten(), int((either & ~open_).sum())
        note = f"{len(kept):,} of the {len(signals):,} examples are open, {tossed:,} a toss-up"
        return Selection(kept, note=note, abstained=tossed / (tossed + len(kept)) if tossed + len(kept) else None)
