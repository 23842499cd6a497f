"""Average-linkage clusters, and rounds over clusters: Citovsky et al. 2021, arXiv 2107.14263."""

from __future__ import annotations

from itertools import zip_longest

import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from nlp_al.selection.distances import row_squares, squared_distances
from nlp_al.selection.neighbours import nearest

_ROWS_AT_ONCE = 1024


def average_linkage(points: Tensor, sample: Tensor, least: int, threshold: float | None = None) -> tuple[Tensor, float]:
    """The cluster of each of float[n, d] points, int64[n], and the distance up to which clusters were joined.

    Only the points at int64[s] sample are joined; the others go to the cluster whose mean is nearest. Clusters are
    joined while the mean distance between their members is at most `threshold`; unless given it is the largest at which
    there are `least` clusters or more. Points that coincide are one cluster always. Time and memory O(s²).
    """
    if len(sample) < 2:
        return points.new_zeros(len(points), dtype=torch.int64), 0.0
    tree = linkage(_condensed(points[sample]).numpy(), "average")
    heights = torch.from_numpy(tree[:, 2].copy())
    if threshold is None:
        allowed = heights[: max(len(sample) - least, 0)]  # so many of the lowest may be joined
        too_far = heights[len(allowed)] if len(allowed) < len(heights) else torch.inf
        below = allowed[allowed < too_far]
        threshold = float(below[-1]) if len(below) else 0.0
    inside = torch.from_numpy(fcluster(tree, threshold, "distance")).long().to(points.device) - 1
    if len(sample) == len(points):
        return inside, threshold
    sizes = torch.bincount(inside)
    means = points.new_zeros(len(sizes), points.shape[1], dtype=torch.float64)
    means.index_add_(0, inside, points[sample].double())
    assigned = nearest(points, means / sizes[:, None], 1)[:, 0]
    assigned[sample] = inside
    return assigned, threshold


def _condensed(points: Tensor) -> Tensor:
    """float64[s (s − 1) / 2], on the CPU: the distances of each point to those behind it, one after the other."""
    points = points.double()
    points = points - points.mean(0)
    squares, n = row_squares(points), len(points)
    found = torch.empty(n * (n - 1) // 2, dtype=torch.float64)
    filled = 0
    for start in range(0, n, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        block = squared_distances(points[part], squares[part], points[start:]).sqrt_().cpu()
        for row in range(len(block)):
            behind = block[row, row + 1 :]
            found[filled : filled + len(behind)] = behind
            filled += len(behind)
    return found


def round_robin(order: Tensor, assigned: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """One member at random of each cluster in turn, again and again, until there are `count` ≤ len(order).

    order: int64[m], positions, the most wanted first. assigned: int64[n], the cluster of each position. The cluster
    with the fewest members among `order` comes first; of equal ones that whose member is wanted most.
    """
    members: dict[int, list[int]] = {}
    for position, cluster in zip(order.tolist(), assigned[order].tolist(), strict=True):
        members.setdefault(cluster, []).append(position)
    groups = []
    for own in sorted(members.values(), key=len):  # stable: what is wanted most came first
        shuffled = torch.randperm(len(own), generator=generator).tolist()
        groups.append([own[at] for at in shuffled])
    turns = [position for turn in zip_longest(*groups) for position in turn if position is not None]
    return torch.tensor(turns[:count], dtype=torch.int64)
