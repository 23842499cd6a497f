"""Greedy k-centre (farthest-first traversal), at most twice the optimal radius: Gonzalez 1985.

Distances to the nearest centre only fall as centres come. So one from before is a bound, and none needs a second look
before it could be the largest (as in Minoux 1978): most are never looked at again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nlp_al import selection
from nlp_al.selection import in_blocks
from nlp_al.selection.distances import ROUNDING, farthest, row_squares, squared_distances
from nlp_al.selection.shards import Shard

_CENTRES_AT_ONCE = 64  # so that a block of distances stays below 17 MB
_ROWS_AT_ONCE = 1024
_FEW, _GROWTH = 32, 4
_SHARE = 16  # once more than one point in so many is looked at, looking at all in their order is faster


def k_center(
    points: Tensor, centres: Tensor | None, count: int, first: int | None = None, shard: Shard | None = None
) -> Tensor:
    """Picks `count` ≤ n of float[n, d] points, each the farthest from the float[l, d] centres and the picks before it.

    Without centres the first pick is `first`, or else the point nearest to the mean. Ties go to the lowest position.
    shard: where the points are this process's, of a pool that several hold; all give the same centres, and of each pick
    its point goes round.
    int64[count]. Time O(l · n · d) and at most O(count · n · d), of which usually little is needed; memory
    O(n + count · d) beyond the input.
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
    largest = float(shard.join(squares).max())
    bounds = _Bounds(points, squares, nearest, points.new_zeros(count, points.shape[1]), largest)
    for step in range(count):
        if step:
            bounds.settle(step)
        pick = farthest(nearest, squares, shard) if step else first
        picks[step] = pick
        own = shard.own(pick)
        bounds.centres[step] = shard.join(points[own])[0]
        nearest[own] = -torch.inf  # never taken twice, not even among equal points
    return picks


class _Bounds:
    """Squared distances to the nearest centre, float[n] `nearest`, of which some lack the last few centres."""

    def __init__(self, points: Tensor, squares: Tensor, nearest: Tensor, centres: Tensor, largest: float) -> None:
        """`centres` are filled in as they come; largest: of all |x|², other processes' among them."""
        self.points, self.squares, self.nearest, self.centres = points, squares, nearest, centres
        self._known = points.new_zeros(len(points), dtype=torch.int64)  # so many centres each distance has seen
        self._largest, self._unit = largest, ROUNDING * torch.finfo(points.dtype).eps

    def settle(self, count: int) -> None:
        """Holds the first `count` centres against all points that could be the farthest from them."""
        few = _FEW
        while few * _SHARE <= len(self.points):
            highest, rows = self.nearest.topk(few)
            stale = rows[self._known[rows] < count]
            # Those that have seen alike come together: all of a part look at what one of them lacks.
            stale = stale[self._known[stale].argsort()]
            for start in range(0, len(stale), _ROWS_AT_ONCE):
                self._update(stale[start : start + _ROWS_AT_ONCE], count)
            best = self.nearest[rows].max()
            if highest[-1] < best - self._unit * (3.0 * self._largest + 2.0 * best.abs()):  # no tie: see `farthest`
                return
            few *= _GROWTH
        for start in range(0, len(self.points), selection.BLOCK):
            self._update(slice(start, start + selection.BLOCK), count)

    def _update(self, rows: Tensor | slice, count: int) -> None:
        points, squares = self.points[rows], self.squares[rows]
        for group in self.centres[int(self._known[rows].min()) : count].split(_CENTRES_AT_ONCE):
            found = squared_distances(points, squares, group).amin(1)
            self.nearest[rows] = torch.minimum(self.nearest[rows], found)
        self._known[rows] = count


def _to_nearest(points: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each point to the nearest of some centres, float[n]."""
    parts = zip(in_blocks(points), in_blocks(squares), strict=True)
    return torch.cat([squared_distances(part, norms, centres).amin(1) for part, norms in parts])
