"""Examples of small margin, spread over clusters of the pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy, check_one_of

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals

SAMPLE = 10_000
"""Points that are joined to clusters; their distances take 400 MB, and as much again while they are joined."""


@dataclass(frozen=True)
class ClusterMargin(Strategy):
    """Of the examples of smallest margin, one at random of each cluster in turn, the cluster with fewest of them first.

    Of more than 10,000 points, so many at random are joined, and what is looked at goes to the nearest cluster.
    candidates: how many are looked at, in batches; 1.25 is usual where a batch is thousands. clusters: how many there
    are at least, in batches. threshold: the mean distance up to which clusters are joined, in place of their number.
    metric: `euclidean`, or `cosine` (euclidean between normalised embeddings). agg: how margins of several decisions
    are reduced: `mean`, `sum`, `max`, or `topm` (the mean of the smallest 20%).
    Use when: batches are large, and `margin` alone would ask for the same thing many times.
    Needs: probs, and pretrained embeddings of the pool and the labelled set, so that clusters stay as they are.
    Cost: all distances between 10,000 points. Reference: Citovsky et al. 2021, arXiv 2107.14263.
    """

    candidates: float = 10.0
    clusters: float = 10.0
    threshold: float | None = None
    metric: str = "euclidean"
    agg: str = "mean"

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Citovsky et al. 2021, arXiv 2107.14263"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "pretrained"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.candidates >= 1:
            raise ValueError(f"candidates is {self.candidates:g}; it must be at least 1, or a batch can't be filled.")
        if not self.clusters > 0:
            raise ValueError(f"clusters is {self.clusters:g}; it must be above 0.")
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"threshold is {self.threshold:g}; it must not be negative.")
        check_one_of("metric", self.metric, ("euclidean", "cosine"))
        check_one_of("agg", self.agg, ("mean", "sum", "max", "topm"))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Clusters pool and labelled set together."""
        import torch

        from nlp_al.decisions import margin, reduce
        from nlp_al.selection.clusters import average_linkage, round_robin
        from nlp_al.selection.topk import top

        pool, known = signals.before_training()
        doubt = reduce(-margin(signals.decisions), signals.decisions.offsets, self.agg)
        closest = top(doubt, math.ceil(self.candidates * count)).cpu()
        total = len(pool) + len(known)
        some = joined = torch.arange(total)
        if total > SAMPLE:
            drawn = torch.randperm(total, generator=generator)[:SAMPLE].sort().values
            some = torch.cat([drawn, closest]).unique()  # no one asks for the clusters of others
            joined = torch.searchsorted(some, drawn)
        inside = some < len(pool)
        points = torch.cat([pool[some[inside]], known[some[~inside] - len(pool)]])
        if self.metric == "cosine":
            points = torch.nn.functional.normalize(points, dim=1)
        assigned, _ = average_linkage(points, joined, math.ceil(self.clusters * count), self.threshold)
        picks = some[round_robin(torch.searchsorted(some, closest), assigned, count, generator)]
        told = f"{SAMPLE:,} of {total:,} points, drawn at random, were joined to clusters"
        return Selection(picks, note=told if total > SAMPLE else "")
