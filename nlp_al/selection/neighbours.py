"""Nearest neighbours by brute force, in blocks."""

import torch
from torch import Tensor

from nlp_al.selection import in_blocks
from nlp_al.selection.distances import row_squares, squared_distances

_DISTANCES_AT_ONCE = 2**21  # 16 MB of float64


def nearest(points: Tensor, others: Tensor, count: int) -> Tensor:
    """Positions among float[l, d] others, l ≥ 1, of the min(count, l) nearest to each of float[n, d] points.

    int64[n, min(count, l)], the nearest first. Distances that agree in float32 tie, and ties go to the lowest position.
    Time O(n · l · d).
    """
    centres = others.double()
    places = torch.arange(len(centres))
    # Filled in place: small results kept between large blocks would keep the memory of these from being used again.
    found = torch.empty(len(points), min(count, len(centres)), dtype=torch.int64)
    for block, room in zip(in_blocks(points), in_blocks(found), strict=True):
        at_once = max(1, _DISTANCES_AT_ONCE // len(centres))
        for part, place in zip(block.split(at_once), room.split(at_once), strict=True):
            rows = part.double()
            squared = squared_distances(rows, row_squares(rows), centres).float()
            # The bits of floats that are not negative rise with them: with the position behind them no two are equal.
            keys = (squared.view(torch.int32).long() << 32) + places
            place.copy_(keys.topk(found.shape[1], largest=False).indices)
    return found
