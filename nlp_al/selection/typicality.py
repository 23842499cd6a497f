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
    points = points.double()
    k = min(neighbours, len(points) // 2)
    if k == 0:
        return points.new_zeros(len(points))
    squares = row_squares(points)
    found = []
    for rows in torch.arange(len(points)).split(max(1, _DISTANCES_AT_ONCE // len(points))):
        distances = squared_distances(points[rows], squares[rows], points)
        distances[torch.arange(len(rows)), rows] = torch.inf
        nearest = distances.topk(k, dim=1, largest=False).values
        found.append((nearest if squared else nearest.sqrt()).mean(1))
    return 1.0 / (torch.cat(found) + 1e-5)


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
    sizes = torch.bincount(torch.cat([assigned, assigned_labelled]))
    labels_inside = torch.bincount(assigned_labelled, minlength=len(sizes))
    order = sorted(range(len(sizes)), key=lambda c: (int(labels_inside[c]), -int(sizes[c])))
    members = [_thinned(torch.nonzero(assigned == c).flatten(), generator) for c in range(len(sizes))]
    picks: list[int] = []
    for smallest in (min_cluster_size, 1):
        cycle = [c for c in order if sizes[c] >= smallest]
        while len(picks) < count and (cycle := [c for c in cycle if len(members[c])]):
            for c in cycle[: count - len(picks)]:
                best = int(typicality(points[members[c]], neighbours, squared).argmax())
                picks.append(int(members[c][best]))
                members[c] = torch.cat([members[c][:best], members[c][best + 1 :]])
    left = torch.ones(len(points), dtype=torch.bool)
    left[picks] = False
    return torch.cat([torch.tensor(picks, dtype=torch.int64), torch.nonzero(left).flatten()])[:count]


def _thinned(members: Tensor, generator: torch.Generator) -> Tensor:
    """`LARGEST` of int64[m] members at random, in their order; all where there are no more."""
    if len(members) <= LARGEST:
        return members
    return members[torch.randperm(len(members), generator=generator)[:LARGEST].sort().values]
