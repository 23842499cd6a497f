"""Nearest neighbours by brute force, in blocks."""

import numpy as np
import torch
from torch import Tensor

from nlp_al.selection import in_blocks
from nlp_al.selection.distances import ROUNDING, row_squares, squared_distances

_DISTANCES_AT_ONCE = 2**21
_ROWS_AT_ONCE = 256  # so that a copy of them stays in the cache
_OTHERS_AT_ONCE = 2**14


def nearest(points: Tensor, others: Tensor, count: int, *, directions: bool = False) -> Tensor:
    """Positions among float[l, d] others, l ≥ 1, of the min(count, l) nearest to each of float[n, d] points.

    int64[n, min(count, l)], the nearest first. Distances that agree in float32 tie, and ties go to the lowest position.
    directions: by the angle between them; a point of length 0 is as far from all.
    Measured in float32; where that leaves the order of a point's nearest open, in float64. Time O(n · l · d).
    """
    count = min(count, len(others))
    found = _lowest_keys(points, others, min(count + 1, len(others)), torch.float32, directions)
    away = (found >> 32).int().view(torch.float32)
    found = found[:, :count]
    close = away.diff(dim=1) > _slack(points, others, directions)
    open_ = torch.nonzero(~close.all(1)).flatten()
    found[open_] = _lowest_keys(points[open_], others, count, torch.float64, directions)
    return found & (2**32 - 1)


def _slack(points: Tensor, others: Tensor, directions: bool) -> Tensor | float:
    """What two distances from a point may differ by in float32 though they are equal: float[n, 1], or for all."""
    rounding = 2 * ROUNDING * torch.finfo(torch.float32).eps
    return rounding if directions else rounding * (row_squares(points)[:, None] + row_squares(others).max())


def _lowest_keys(points: Tensor, others: Tensor, count: int, dtype: torch.dtype, directions: bool) -> Tensor:
    """Of each point, a number for each of its `count` nearest, rising: int64[n, count].

    The upper 32 bits are those of the distance in float32, since the bits of floats that are not negative rise with
    them; the lower ones are the position, so that none are equal.
    """
    # Filled in place: small results kept between large blocks would keep the memory of these from being used again.
    found = points.new_full((len(points), count), 2**63 - 1, dtype=torch.int64)
    for start in range(0, len(others), _OTHERS_AT_ONCE):
        centres = others[start : start + _OTHERS_AT_ONCE].to(dtype)
        if directions:
            centres = torch.nn.functional.normalize(centres, dim=1)
        places = torch.arange(start, start + len(centres), device=centres.device)
        at_once = min(_ROWS_AT_ONCE, max(1, _DISTANCES_AT_ONCE // len(centres)))
        for block, room in zip(in_blocks(points), in_blocks(found), strict=True):
            for part, best in zip(block.split(at_once), room.split(at_once), strict=True):
                rows = part.to(dtype)
                away = _angles(rows, centres) if directions else squared_distances(rows, row_squares(rows), centres)
                keys = (away.float().view(torch.int32).long() << 32) + places
                best.copy_(_lowest(torch.cat([best, keys], 1), count))
    return found


def _angles(rows: Tensor, centres: Tensor) -> Tensor:
    """1 − cosine of float[r, d] rows and float[l, d] centres of length 1, 0 where it is rounding: float[r, l]."""
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=torch.finfo(rows.dtype).tiny)
    away = (rows @ centres.T).div_(lengths.neg_()).add_(1.0)
    slack = 2 * ROUNDING * torch.finfo(rows.dtype).eps
    return torch.nn.functional.threshold(away, slack, 0.0, inplace=True)


def _lowest(keys: Tensor, count: int) -> Tensor:
    """The `count` lowest of each row of int64[r, l], rising; on the CPU by numpy, in a fifth of topk's time."""
    if keys.device.type != "cpu":
        return keys.topk(count, dim=1, largest=False).values
    return torch.from_numpy(np.sort(np.partition(keys.numpy(), count - 1, axis=1)[:, :count], axis=1))
