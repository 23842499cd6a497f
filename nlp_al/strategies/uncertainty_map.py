"""Where in an example a committee is at odds, as a map, and examples by what is on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import check_one_of
from nlp_al.strategies.disagreement import Disagreement

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class McTokenMap(Disagreement):
    """The variance of the members' probabilities at each word, more the farther it lies from the ends of entities.

    The ends of an entity are doubtful in any case; what counts is what may be missed, or of another type. Of a dialogue
    each candidate takes the place of a word, farther the lower it ranks; of other texts the whole counts.
    weight: `distance`, in words from the nearest first or last word of a predicted entity, over the largest of the
    sentence, and 1 where there is none; or `none`, the standard deviation in place of the variance.
    agg: `mean`, `sum` (the paper's, for images of one size), `max`, or `topm` (the mean of the highest 20%).
    Use when: entities are missed, not just cut short. Needs: a committee (`sampler`; the paper has `mc_dropout`).
    Cost: one pass over the pool a member. Reference: Lubrano di Scandalea et al. 2019, arXiv 1907.05143.
    """

    weight: str = "distance"

    reference: ClassVar[str] = "Lubrano di Scandalea et al. 2019, arXiv 1907.05143"
    needs: ClassVar[frozenset[str]] = frozenset({"sampled", "outside", "transitions"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("weight", self.weight, ("distance", "none"))

    def scores(self, signals: Signals) -> Tensor:
        """float64[n]: what is on the map of each example."""
        from nlp_al.decisions import reduce

        return reduce(*self.map(signals), self.agg)

    def score(self, signals: Signals) -> Tensor:
        """float64[J]: what stands on the map, example by example."""
        return self.map(signals)[0]

    def map(self, signals: Signals) -> tuple[Tensor, Tensor]:
        """float64[J] and int64[n + 1]: how doubtful each word or candidate is, and which are those of an example."""
        return (_candidates if signals.options is not None else _words)(signals, self.weight == "distance")


def _words(signals: Signals, weighed: bool) -> tuple[Tensor, Tensor]:
    import torch

    from nlp_al.selection.spans import distance_to, share_of_farthest, spans_of

    found, offsets = signals.statistics(), signals.offsets
    assert offsets is not None
    variance = found.std().square().sum(1)
    if not weighed:
        return variance.sqrt(), offsets
    starts, ends = spans_of(found.mean.argmax(1), offsets, signals.outside, signals.transitions)
    marked = torch.zeros_like(variance, dtype=torch.bool)
    marked[torch.cat([starts, ends - 1])] = True
    return variance * share_of_farthest(distance_to(marked, offsets), offsets), offsets


def _candidates(signals: Signals, weighed: bool) -> tuple[Tensor, Tensor]:
    import torch

    from nlp_al.decisions import leading

    found, options, offsets = signals.statistics(), signals.options, signals.offsets
    assert offsets is not None
    assert options is not None
    own = leading(options, found.mean.shape[1])
    spread = found.std(options)
    ends = torch.cat([options.new_zeros(1), options.cumsum(0)])[offsets]
    if not weighed:
        return spread[own], ends
    order = found.mean.masked_fill(~own, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(1).double() / (options[:, None] - 1).clamp(min=1)
    return (spread.square() * rank)[own], ends
