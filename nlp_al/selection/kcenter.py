"""Greedy k-centre (farthest-first traversal), at most twice the optimal radius: Gonzalez 1985."""

import torch
from torch import Tensor

from nlp_al.selection import in_blocks
from nlp_al.selection.distances import farthest, row_squares, squared_distances
from nlp_al.selection.shards import Shard

_CENTRES_AT_ONCE = 64  # so that a block of distances stays below 17 MB


def k_center(
    points: Tensor, centres: Tensor | None, count: int, first: int | None = None, shard: Shard | None = None
) -> Tensor:
    """Picks `count` ≤ n of float[n, d] points, each the farthest from the float[l, d] centres and the picks before it.

    Without centres the first pick is `first`, or else the point nearest to the mean. Ties go to the lowest position.
    shard: where the points are this process's, of a pool that several hold; all give the same centres, and of each pick
    its point goes round.
    int64[count]. Time O((l + count) · n · d), memory O(n) beyond the input.
    """
    shard = shard or Shard.of(len(points))
    picks = torch.zeros(count, dtype=torch.int64)
    if count == 0:
        return picks
    squares = torch.cat([row_squares(part) for part in in_blocks(points)])
    nearest = torch.full_like(squares, torch.inf)
    if centres is not None and len(centres):
        for group in centres.to(points.dtype).split(_CENTRES_AT_ONCE):
            torch.minimum(nearest, _to_nearest(points, squares, group), out=nearest)
        first = farthest(nearest, squares, shard)
    elif first is None:
        sums = torch.cat([part.sum(0, keepdim=True)[: len(part)] for part in in_blocks(points)])
        mean = shard.join(sums).sum(0, keepdim=True) / shard.total
        first = farthest(-_to_nearest(points, squares, mean), squares, shard)
    for step in range(count):
        pick = first if step == 0 else farthest(nearest, squares, shard)
        picks[step] = pick
        own = shard.own(pick)
        torch.minimum(nearest, _to_nearest(points, squares, shard.join(points[own])), out=nearest)
        nearest[own] = -torch.inf  # never taken twice, not even among equal points
    return picks


def _to_nearest(points: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each point to the nearest of some centres, float[n]."""
    parts = zip(in_blocks(points), in_blocks(squares), strict=True)
    return torch.cat([squared_distances(part, norms, centres).amin(1) for part, norms in parts])
