"""Strategies that want examples both uncertain and different from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Badge(Strategy):
    """k-means++ seeding over last-layer gradients under the predicted label: long ones are uncertain, far ones new.

    deterministic: take the farthest gradient at each step in place of sampling in proportion to squared distance.
    Use when: batches are large and a plain score would ask for the same thing many times; robust across tasks.
    Needs: gradients (factors). Cost: one pass over the factors a pick.
    Reference: Ash et al. 2020, arXiv 1906.03671.
    """

    deterministic: bool = False

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Ash et al. 2020, arXiv 1906.03671"
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    group: ClassVar[Group] = "seeded"
    sharded: ClassVar[bool] = True
    batch_aware: ClassVar[bool] = True

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The first centre is the longest gradient."""
        from nlp_al.selection.kmeanspp import kmeans_plus_plus

        draws = None if self.deterministic else generator
        return Selection(kmeans_plus_plus(signals.factors(), count, draws, signals.shard))
