"""Typicality inside clusters: Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794."""

import torch
from torch import Tensor

from nlp_al.selection.distances import row_squares, squared_distances

LARGEST = 20_000
"""So many members at random stand for a larger cluster: all are compared with each other."""

_DISTANCES_AT_ONCE = 2**22  # 32 MB of float64


def typicality(points: Tensor, neighbours: int, squared: bool = False) -> Tensor:
    """1 / (mean distance to the k nearest others + 1e-5) of float[m, d] points, k = min(neighbours, m // 2).

    float64[m], since the 1e-5 would drown in float32; 0 where k is 0. Time O(m² · d).
    """
    k = min(neighbours, len(points) // 2)
    if k == 0:
        return points.new_zeros(len(points), dtype=torch.float64)
    return _of_rows(points, torch.arange(len(points), device=points.device), k, squared)[0]


def _of_rows(points: Tensor, rows: Tensor, k: int, squared: bool) -> tuple[Tensor, Tensor]:
    """Typicality among float[m, d] points of those at int64[r] rows, float64[r], and their neighbours, int64[r, k]."""
    points = points.double()
    squares = row_squares(points)
    # Filled in place: see nlp_al.selection.rows.
    away, near = points.new_empty(len(rows)), rows.new_empty(len(rows), k)
    at_once = max(1, _DISTANCES_AT_ONCE // len(points))
    for part, mean, places in zip(rows.split(at_once), away.split(at_once), near.split(at_once), strict=True):
        distances = squared_distances(points[part], squares[part], points)
        distances[torch.arange(len(part), device=part.device), part] = torch.inf
        nearest = distances.topk(k, dim=1, largest=False)
        mean.copy_((nearest.values if squared else nearest.values.sqrt()).mean(1))
        places.copy_(nearest.indices)
    return 1.0 / (away + 1e-5), near


def typical_of_clusters(
    points: Tensor,
    assigned: Tensor,
    assigned_labelled: Tensor,
    count: int,
    generator: torch.Generator,
    *,
    neighbours: int,
    min_cluster_size: int,
    squared: bool,
) -> Tensor:
    """Cycles through the clusters, fewest labels first, then largest first, and takes the most typical member of each.

    points: float[n, d] with clusters int64[n]; assigned_labelled: int64[l], the clusters of the labelled examples.
    Picked and labelled members count for a cluster's size but are no one's neighbours, and so do those of more than
    `LARGEST` that are not drawn. Clusters smaller than `min_cluster_size` come once the others are used up, and what
    was not drawn comes last. int64[min(count, n)].
    """
    sizes = torch.bincount(torch.cat([assigned, assigned_labelled])).tolist()
    labels_inside = torch.bincount(assigned_labelled, minlength=len(sizes)).tolist()
    order = sorted(range(len(sizes)), key=lambda c: (labels_inside[c], -sizes[c]))
    drawn = [_thinned(torch.nonzero(assigned == c).flatten(), generator) for c in range(len(sizes))]
    members = [_Members(own, neighbours, squared) for own in drawn]
    picks: list[int] = []
    for smallest in (min_cluster_size, 1):
        cycle = [c for c in order if sizes[c] >= smallest]
        while len(picks) < count and (cycle := [c for c in cycle if len(members[c].left)]):
            picks += [members[c].take(points) for c in cycle[: count - len(picks)]]
    left = points.new_ones(len(points), dtype=torch.bool)
    left[picks] = False
    rest = torch.nonzero(left).flatten()
    return torch.cat([rest.new_tensor(picks), rest])[:count]


def _thinned(members: Tensor, generator: torch.Generator) -> Tensor:
    """`LARGEST` of int64[m] members at random, in their order; all where there are no more."""
    if len(members) <= LARGEST:
        return members
    return members[torch.randperm(len(members), generator=generator)[:LARGEST].sort().values]


class _Members:
    """Those of a cluster that are left, int64[m]. Once one is taken, only those it was near to are looked at anew."""

    def __init__(self, left: Tensor, neighbours: int, squared: bool) -> None:
        self.left, self._neighbours, self._squared = left, neighbours, squared
        self._typicality = left.new_zeros(len(left), dtype=torch.float64)
        self._near = left.new_empty(len(left), 0)  # positions in the pool, since those among what is left change
        self._taken = -1

    def take(self, points: Tensor) -> int:
        """The most typical one, which is left no longer."""
        k = min(self._neighbours, len(self.left) // 2)
        stale = torch.nonzero((self._near == self._taken).any(1)).flatten()
        if k != self._near.shape[1]:
            self._near = self.left.new_empty(len(self.left), k)
            stale = torch.arange(len(self.left), device=self.left.device)
        if k and len(stale):
            self._typicality[stale], near = _of_rows(points[self.left], stale, k, self._squared)
            self._near[stale] = self.left[near]
        best = int(self._typicality.argmax())
        self._taken = int(self.left[best])
        kept = torch.arange(len(self.left), device=self.left.device) != best
        self.left, self._typicality, self._near = self.left[kept], self._typicality[kept], self._near[kept]
        return self._taken
