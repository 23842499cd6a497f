"""Greedy k-centre (farthest-first traversal), at most twice the optimal radius: Gonzalez 1985."""

import torch
from torch import Tensor

from nlp_al.selection import in_blocks
from nlp_al.selection.distances import ROUNDING, row_squares, squared_distances

_CENTRES_AT_ONCE = 64  # so that a block of distances stays below 17 MB


def k_center(points: Tensor, centres: Tensor | None, count: int, first: int | None = None) -> Tensor:
    """Picks `count` ≤ n of float[n, d] points, each the farthest from the float[l, d] centres and the picks before it.

    Without centres the first pick is `first`, or else the point nearest to the mean. Ties go to the lowest position.
    int64[count]. Time O((l + count) · n · d), memory O(n) beyond the input.
    """
    picks = torch.zeros(count, dtype=torch.int64)
    if count == 0:
        return picks
    squares = torch.cat([row_squares(part) for part in in_blocks(points)])
    nearest = torch.full_like(squares, torch.inf)
    if centres is not None and len(centres):
        for group in centres.to(points.dtype).split(_CENTRES_AT_ONCE):
            torch.minimum(nearest, _to_nearest(points, squares, group), out=nearest)
        first = _farthest(nearest, squares)
    elif first is None:
        mean = torch.stack([part.sum(0) for part in in_blocks(points)]).sum(0) / len(points)
        first = _farthest(-_to_nearest(points, squares, mean[None]), squares)
    for step in range(count):
        pick = first if step == 0 else _farthest(nearest, squares)
        picks[step] = pick
        torch.minimum(nearest, _to_nearest(points, squares, points[pick][None]), out=nearest)
        nearest[pick] = -torch.inf  # never taken twice, not even among equal points
    return picks


def _to_nearest(points: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each point to the nearest of some centres, float[n]."""
    parts = zip(in_blocks(points), in_blocks(squares), strict=True)
    return torch.cat([squared_distances(part, norms, centres).amin(1) for part, norms in parts])


def _farthest(distances: Tensor, squares: Tensor) -> int:
    """The lowest of the positions that share the largest distance, up to its rounding.

    A row's product may differ in its last digits with the place it has in a block, so equal rows would not tie exactly.
    """
    best = distances.argmax()
    # A centre at distance D from x has |c|² ≤ 2|x|² + 2D².
    slack = ROUNDING * torch.finfo(distances.dtype).eps * (3.0 * squares[best] + 2.0 * distances[best].abs())
    return int((distances >= distances[best] - slack).int().argmax())
