"""Principal components."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nlp_al.selection.rows import ROWS_AT_ONCE, total_of_rows


def principal_axes(sets: Sequence[Tensor], count: int) -> Tensor:
    """The directions in which float[n, d] points, given in several sets, vary most: float64[d, min(count, d)].

    Time O(n · d²), memory O(d²). Points are projected as they are, `points @ axes`: taking the mean off changes no
    distance, and equal points would then differ by what rounding leaves.
    """
    mean = torch.stack([total_of_rows(points) for points in sets]).sum(0) / max(sum(map(len, sets)), 1)
    spread = mean.new_zeros(len(mean), len(mean))
    for part in (part for points in sets for part in points.split(ROWS_AT_ONCE)):
        centred = part.double() - mean
        spread.addmm_(centred.T, centred)
    axes: Tensor = torch.linalg.eigh(spread).eigenvectors
    return axes.flip(1)[:, :count]
