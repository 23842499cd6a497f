"""Examples by how unsure the things in them are, of their kind and of their extent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from nlp_al.strategies.base import Selection, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


class Instances(NamedTuple):
    """What is found in examples. doubt: float64[S], how unsure each instance is. offsets: int64[n + 1]: whose they are.

    places: int64[S], offsets of the rows of embeddings that belong to each, in `rows`; None where an example has one.
    """

    doubt: Tensor
    offsets: Tensor
    rows: Tensor | None = None
    places: Tensor | None = None


@dataclass(frozen=True)
class InstanceHybrid(Strategy):
    """Examples with instances that are unsure of their kind and of their extent, each unlike the others of the batch.

    Inspired by active learning for object detection, and no reproduction of a paper's formulas. An instance is a
    predicted entity (without any, the most doubtful word), a candidate of a dialogue, or a decision of other tasks. Its
    doubt is alpha · (entropy of its kind, 0 to 1) + (1 − alpha) · (how much members differ on its extent): one less the
    overlap with the nearest entity of a member; the variance of a candidate's rank, 0 to 1; else the share of members
    that decide otherwise. Then, one by one, the highest doubt · (1 − the highest cosine to a pick of this batch or of
    the one before) ** gamma.
    alpha: the weight of the kind. gamma: that of being unlike; 0 for none. top: how many instances of an example count,
    the least sure ones, by their mean.
    Use when: sentences have several entities, whose ends matter. Needs: a committee (`sampler`), probs and gradients
    (factors), of the pool and the labelled set. Cost: one pass over the pool a member, and over the embeddings a pick.
    Reference: the setting of Deep active learning for object detection 2021, Information Sciences 579.
    """

    alpha: float = 0.5
    gamma: float = 1.0
    top: int = 3

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "inspired by Deep active learning for object detection 2021, Information Sciences 579"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "passes", "gradients", "outside", "transitions"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"probs", "passes", "gradients", "asked"})
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha:g}; it must be at least 0 and at most 1.")
        if not self.gamma >= 0:
            raise ValueError(f"gamma is {self.gamma:g}; it must not be negative, or copies would be asked for.")
        if self.top < 1:
            raise ValueError(f"top is {self.top}; it must be at least 1.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Greedily; what a batch would ask twice has no worth the second time."""
        import torch

        from nlp_al.selection.instances import spread_out, top_mean

        found = self.instances(signals)
        worth = top_mean(found.doubt, found.offsets, self.top)
        points = _points(signals, found)
        recent, known = points[:0], signals.labelled
        if known is not None and len(known) and self.gamma > 0:
            assert known.asked is not None
            last = torch.nonzero((known.asked == known.asked.max()) & (known.asked > 0)).flatten()
            before = known.take(last)
            recent = _points(before, self.instances(before, like=signals))
        return Selection(spread_out(worth, points, recent, count, self.gamma))

    def instances(self, signals: Signals, like: Signals | None = None) -> Instances:
        """What is found in each example. like: the signals whose options these have, where they are not told here."""
        like = like or signals
        if signals.options is not None:
            return _candidates(signals, self.alpha)
        if like.outside is None:
            return _decisions(signals, self.alpha)
        return _spans(signals, like.outside, like.transitions, self.alpha)


def _spans(signals: Signals, outside: int, transitions: Tensor | None, alpha: float) -> Instances:
    import torch

    from nlp_al.decisions import entropy, owners, segment_max, segment_sum
    from nlp_al.selection.instances import best_overlap, kind_doubt, kinds_of, rows_of
    from nlp_al.selection.spans import spans_of

    decisions, offsets = signals.decisions, signals.decisions.offsets
    owner, n = owners(offsets), len(signals)
    starts, ends = spans_of(decisions.probs.argmax(1), offsets, outside, transitions)
    bare = torch.bincount(owner[starts], minlength=n) == 0
    doubts = entropy(decisions)
    highest = torch.nonzero((doubts == segment_max(doubts, offsets)[owner]) & bare[owner]).flatten()
    words = highest[torch.cat([highest.new_ones(1), owner[highest].diff()])[: len(highest)] > 0]
    starts, order = torch.cat([starts, words]).sort()
    ends = torch.cat([ends, words + 1])[order]
    made_up, whose = bare[owner[starts]], owner[starts]
    apart = starts.new_zeros(len(starts), dtype=torch.float64)
    for member in signals.members():
        others = spans_of(member.probs.argmax(1), offsets, outside, transitions)
        none = torch.bincount(owner[others[0]], minlength=n) == 0
        # A member that finds nothing either agrees.
        apart += (1 - best_overlap(starts, ends, others)).masked_fill(made_up & none[whose], 0.0)
    kind = kind_doubt(decisions.probs, kinds_of(decisions.probs.shape[1], transitions), starts, ends)
    rows, places = rows_of(starts, ends)
    counts = segment_sum(torch.bincount(starts, minlength=len(owner)), offsets)
    parted = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Instances(_mixed(kind, apart / len(signals.members()), alpha), parted, rows, places)


def _candidates(signals: Signals, alpha: float) -> Instances:
    import torch

    from nlp_al.decisions import leading

    decisions = signals.decisions
    options = decisions.options
    assert options is not None
    own = leading(options, decisions.probs.shape[1])
    ranks = torch.stack([_ranks(member.probs, own) for member in signals.members()])
    widest = ((options - 1).clamp(min=1).double() / 2).square()
    moved = (ranks - ranks.mean(0)).square().mean(0) / widest[:, None]
    rows = torch.arange(int(options.sum()) + 1, device=options.device)
    ends = torch.cat([options.new_zeros(1), options.cumsum(0)])[decisions.offsets]
    return Instances(_mixed(_binary(decisions.masked.double())[own], moved[own], alpha), ends, rows[:-1], rows)


def _decisions(signals: Signals, alpha: float) -> Instances:
    import torch

    decisions = signals.decisions
    probs = decisions.probs.double()
    kind = torch.special.entr(probs).sum(1) / torch.tensor(max(probs.shape[1], 2)).double().log()
    said = torch.stack([member.probs.argmax(1) for member in signals.members()])
    return Instances(_mixed(kind, (said != probs.argmax(1)).double().mean(0), alpha), decisions.offsets)


def _mixed(kind: Tensor, extent: Tensor, alpha: float) -> Tensor:
    return alpha * kind + (1 - alpha) * extent


def _binary(probs: Tensor) -> Tensor:
    """The entropy of yes or no, over ln 2."""
    import math

    import torch

    found: Tensor = (torch.special.entr(probs) + torch.special.entr(1 - probs)) / math.log(2)
    return found


def _ranks(probs: Tensor, own: Tensor) -> Tensor:
    """float64[M, O]: the place of each option, the highest first, those that are none at the end."""
    import torch

    return probs.masked_fill(~own, -torch.inf).argsort(dim=1, descending=True, stable=True).argsort(1).double()


def _points(signals: Signals, found: Instances) -> Tensor:
    """float[n, d]: the mean of the embeddings of an example's instances by their doubt."""
    from nlp_al.decisions import segment_mean, segment_sum

    factors = signals.factors()
    if found.rows is None or found.places is None:
        return segment_mean(factors.h, factors.offsets)
    each = segment_mean(factors.h[found.rows], found.places)
    weights = (found.doubt + 1e-9).to(each.dtype)[:, None]
    sums: Tensor = segment_sum(each * weights, found.offsets)
    return sums / segment_sum(weights, found.offsets).clamp(min=1e-30)
