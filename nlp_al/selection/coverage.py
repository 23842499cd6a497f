"""Covering points by balls of one radius: Yehuda et al. 2022, arXiv 2205.11320.

Edges are counted, never kept: each point is covered once, so that taking it off the counts of those that see it costs
no more than counting did.
"""

import torch
from torch import Tensor

from nlp_al.selection.distances import row_squares, squared_distances

_DISTANCES_AT_ONCE = 2**21  # 16 MB of float64


def pure_radius(points: Tensor, classes: Tensor, purity: float) -> float:
    """The largest radius at which a share of at least `purity` of the points have a ball of their own class alone.

    points: float[n, d], n ≥ 1. classes: int64[n]. A ball is what is strictly nearer than the radius; infinity where
    there is one class. Time O(n² · d).
    """
    points = points.double()
    squares = row_squares(points)
    strangers = points.new_empty(len(points), dtype=torch.float32)  # filled in place: see nlp_al.selection.rows
    at_once = max(1, _DISTANCES_AT_ONCE // len(points))
    for rows in torch.arange(len(points)).split(at_once):
        squared = squared_distances(points[rows], squares[rows], points).float()
        strangers[rows] = squared.masked_fill_(classes[rows][:, None] == classes, torch.inf).amin(1)
    impure = int((1.0 - purity) * len(points) + 1e-9)
    return float(strangers.sort().values[impure].double().sqrt())


def cover_by_balls(points: Tensor, known: Tensor, radius: float, count: int) -> tuple[Tensor, int]:
    """Picks the points whose balls hold most of what no ball holds yet; the balls of `known` are there from the start.

    points: float[n, d]; known: float[l, d]. A ball is what is strictly nearer than the radius. Once all is covered the
    points come by how many of points and known their own balls hold. Ties go to the lowest position.
    (int64[min(count, n)], how many of these were picked before all was covered). Time O(n · (n + l) · d), memory O(n)
    beside a block of distances.
    """
    points, known = points.double(), known.double()
    squares = row_squares(points)
    # Rounded to float32, a distance is the same wherever in a block it was computed.
    limit = torch.tensor(radius, dtype=torch.float64).square().float()

    def inside(centres: Tensor, group: Tensor, norms: Tensor) -> Tensor:
        return squared_distances(group, norms, centres).float() < limit

    def held(centres: Tensor) -> Tensor:
        """int64[n]: how many centres are in the ball of each point."""
        found = points.new_zeros(len(points), dtype=torch.int64)
        at_once = max(1, _DISTANCES_AT_ONCE // max(len(centres), 1))
        for group, norms, room in zip(points.split(at_once), squares.split(at_once), found.split(at_once), strict=True):
            room.copy_(inside(centres, group, norms).sum(1))
        return found

    sizes, by_known = held(points), held(known)
    bare = by_known == 0
    gains = sizes - held(points[~bare])
    left = torch.ones_like(bare)
    picks: list[int] = []
    while len(picks) < min(count, len(points)) and bool(bare.any()):
        pick = int(gains.masked_fill(~left, -1).argmax())
        if gains[pick] < 1:
            break
        picks.append(pick)
        left[pick] = False
        covered = bare & inside(points[[pick]], points, squares)[:, 0]
        gains -= held(points[covered])
        bare &= ~covered
    others = torch.nonzero(left).flatten()
    by_size = others[torch.argsort((sizes + by_known)[others], descending=True, stable=True)]
    found = torch.cat([by_size.new_tensor(picks), by_size])[:count]
    return found, min(len(picks), count)
