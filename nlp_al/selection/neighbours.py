"""Nearest neighbours by brute force, in blocks."""

import torch
from torch import Tensor

from nlp_al.selection import in_blocks
from nlp_al.selection.distances import row_squares, squared_distances

_DISTANCES_AT_ONCE = 2**21  # 16 MB of float64
_ROWS_AT_ONCE = 1024  # so that their float64 copy stays in the cache
_OTHERS_AT_ONCE = 2**14


def nearest(points: Tensor, others: Tensor, count: int) -> Tensor:
    """Positions among float[l, d] others, l ≥ 1, of the min(count, l) nearest to each of float[n, d] points.

    int64[n, min(count, l)], the nearest first. Distances that agree in float32 tie, and ties go to the lowest position.
    Time O(n · l · d).
    """
    # Filled in place: small results kept between large blocks would keep the memory of these from being used again.
    found = points.new_full((len(points), min(count, len(others))), 2**63 - 1, dtype=torch.int64)
    for start in range(0, len(others), _OTHERS_AT_ONCE):
        centres = others[start : start + _OTHERS_AT_ONCE].double()
        places = torch.arange(start, start + len(centres), device=centres.device)
        at_once = min(_ROWS_AT_ONCE, max(1, _DISTANCES_AT_ONCE // len(centres)))
        for block, room in zip(in_blocks(points), in_blocks(found), strict=True):
            for part, best in zip(block.split(at_once), room.split(at_once), strict=True):
                rows = part.double()
                squared = squared_distances(rows, row_squares(rows), centres).float()
                # The bits of floats that are not negative rise with them: with the position behind them none are equal.
                keys = (squared.view(torch.int32).long() << 32) + places
                best.copy_(torch.cat([best, keys], 1).topk(found.shape[1], largest=False).values)
    return found.bitwise_and_(2**32 - 1)
