"""Batches chosen for what their labels, taken together, would tell about the members of a committee."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class BatchBald(Strategy):
    """Greedily the example whose label adds most to what those of the batch tell about which member is right.

    The information that one adds is divided by the number of its decisions, and where options vary by ln K. All labels
    that a batch may get are counted, and once there are too many some are drawn.
    prefilter: so many examples of the highest BALD are looked at, ten times the batch and more is usual; what is asked
    for beyond them comes by BALD. samples: labels that are drawn. exact_up_to: the most that are counted.
    Use when: a batch of `bald` would say the same ten times. T members tell apart no more than ln T in all, so take
    many: 20 at least, for a batch of 10. Needs: a committee (`sampler`), all passes of which are kept.
    Cost: prefilter · members · options · samples a pick at most, and times the words for sentences: a batch of 10 takes
    seconds, sentences minutes. Reference: Kirsch, van Amersfoort & Gal 2019, arXiv 1906.08158.
    """

    prefilter: int = 200
    samples: int = 10_000
    exact_up_to: int = 100_000

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Kirsch, van Amersfoort & Gal 2019, arXiv 1906.08158"
    needs: ClassVar[frozenset[str]] = frozenset({"passes"})
    group: ClassVar[Group] = "seeded"
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("prefilter", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Candidates one by one, then the others by BALD."""
        import torch

        from nlp_al.decisions import reduce
        from nlp_al.selection.batchbald import batch_bald
        from nlp_al.selection.topk import top

        assert signals.offsets is not None
        single = signals.statistics().information(signals.options)
        order = top(reduce(single, signals.offsets), len(signals))
        decided = signals.offsets.diff()[order] > 0
        candidates = order[decided][: self.prefilter].sort().values
        part, wanted, note = signals.take(candidates), min(count, len(candidates)), ""
        picks = candidates[:0]
        if wanted and part.offsets is not None:
            passes = torch.stack([member.masked for member in part.members()])
            found, added = batch_bald(
                passes,
                part.offsets,
                _options(part),
                wanted,
                generator,
                divisors=_divisors(part),
                samples=self.samples,
                exact_up_to=self.exact_up_to,
            )
            picks = candidates[found]
            telling = int((added.cumsum(0) < 0.99 * math.log(len(passes))).sum()) + 1
            if telling < wanted:
                note = f"{telling} labels tell the {len(passes)} members apart, and what comes after them tells no more"
        rest = order[~torch.isin(order, picks)]
        return Selection(torch.cat([picks, rest])[:count], note=note)


def _options(signals: Signals) -> Tensor:
    """int64[M]: how many options each decision has."""
    import torch

    assert signals.passes is not None
    if signals.options is not None:
        return signals.options
    return signals.passes.new_full(signals.passes.shape[1:2], signals.passes.shape[2], dtype=torch.int64)


def _divisors(signals: Signals) -> Tensor:
    """float64[n]: the number of decisions, and where options vary ln K of it."""
    assert signals.offsets is not None
    counts = signals.offsets.diff().double()
    if signals.options is None:
        return counts
    from nlp_al.decisions import segment_mean

    return counts * segment_mean(signals.options.clamp(min=2).double().log(), signals.offsets)
