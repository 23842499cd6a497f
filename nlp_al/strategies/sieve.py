"""Strategies that look at a part of the pool, and leave the choice among it to another one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nlp_al.strategies.base import Selection, affordable
from nlp_al.strategies.wrapper import Wrapper

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Sieve(Wrapper):
    """A base that chooses among what `sieve` lets through.

    The two steps may be taken apart, so that what only the base reads is made of what is let through: `sift` reads the
    fields that the class needs, then `inner()` selects among what it hands on.
    """

    @abstractmethod
    def sieve(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The positions that it lets through, in the order of the pool. count: how many the base is to choose."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """What the base chooses among what is let through; all else has a score of minus infinity."""
        import torch

        kept = self.sieve(signals, count, generator)
        positions = kept.indices.to(signals.device)
        inside = signals.take(positions)
        found = self.inner().choose(inside, min(count, len(inside)), generator)
        scores = found.scores
        if scores is not None:
            scores = scores.new_full((len(signals),), -torch.inf).index_copy_(0, positions, scores)
        note = "; ".join(filter(None, (kept.note, found.note)))
        abstained = found.abstained if kept.abstained is None else kept.abstained
        return Selection(positions[found.indices], scores, note, abstained)

    def sift(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        """The positions that the base is to choose among, in the order of the pool, for a batch of `size`.

        signals: the fields in `needs` of the class. Examples with nothing to decide go along, but through no filter.

        Raises:
            SignalError: a needed field is missing, or holds NaN or infinity.
        """
        import torch

        own = type(self)
        signals.require(own.needs, own.needs_labelled, own.needs_validation)
        can_ask = signals.can_ask()
        asked = torch.nonzero(can_ask).flatten()
        pool = signals.take(asked)
        count = int(min(max(size, 0), len(pool))) if pool.cost is None else affordable(pool.cost, size)
        found = self.sieve(pool, count, generator)
        kept = torch.zeros_like(can_ask) if self.filters else ~can_ask
        kept[asked[found.indices]] = True
        return replace(found, indices=torch.nonzero(kept).flatten().cpu())
