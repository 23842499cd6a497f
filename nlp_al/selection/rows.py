"""Passes over the rows of a pool in float64, a few thousand rows at a time, so that no copy of the pool is made."""

from collections.abc import Callable

import torch
from torch import Tensor

ROWS_AT_ONCE = 4096


def per_row(points: Tensor, measure: Callable[[Tensor], Tensor], at_once: int = ROWS_AT_ONCE) -> Tensor:
    """float64[n]: what `measure`, float64[c, d] to [c], says of float[n, d] points."""
    # Filled in place: small results kept between large blocks would keep the memory of these from being used again.
    found = points.new_empty(len(points), dtype=torch.float64)
    for part, room in zip(points.split(at_once), found.split(at_once), strict=True):
        room.copy_(measure(part.double()))
    return found


def total_of_rows(points: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The sum of the rows of float[n, d] points, each changed by `change`, float64[c, d] to [c, d]: float64[d]."""
    total = points.new_zeros(points.shape[1], dtype=torch.float64)
    for part in points.split(ROWS_AT_ONCE):
        rows = part.double()
        total += (rows if change is None else change(rows)).sum(0)
    return total
