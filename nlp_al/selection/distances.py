"""Squared distances as |a|² + |b|² − 2ab: one matrix product, but no more exact than the rounding of its terms."""

import torch
from torch import Tensor

from nlp_al.selection.shards import Shard, first_highest

ROUNDING = 16
"""In units of machine epsilon times |a|² + |b|². Between equal rows of up to 4,096 floats about 8 were measured."""


def row_squares(points: Tensor) -> Tensor:
    """|x|² of float[n, d] rows, float[n], without a squared copy of them."""
    norms: Tensor = torch.linalg.vector_norm(points, dim=1)
    return norms.square()


def clip_rounding(squared: Tensor, scale: Tensor) -> Tensor:
    """Sets, in place, squared distances to 0 where they are no more than the rounding of terms as large as `scale`."""
    return squared.masked_fill_(squared <= ROUNDING * torch.finfo(squared.dtype).eps * scale, 0.0)


def squared_distances(points: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """From float[n, d] points, whose |x|² are float[n] `squares`, to float[l, d] centres: float[n, l]."""
    total = squares[:, None] + row_squares(centres)
    return clip_rounding(torch.addmm(total, points, centres.T, alpha=-2.0), total)


def farthest(distances: Tensor, squares: Tensor, shard: Shard) -> int:
    """The lowest of the positions that share the largest of float[n] squared distances, up to its rounding.

    squares: float[n], |x|² of the points, or what bounds the rounding of their distances.
    A row's product may differ in its last digits with the place it has in a block, and a block's with the place it has
    in memory, so equal rows would not tie exactly.
    """
    best = first_highest(distances)
    offers = shard.join(torch.stack([distances[best], squares[best]], 1))
    largest, square = offers[offers[:, 0].argmax()]
    # A centre at distance D from x has |c|² ≤ 2|x|² + 2D².
    slack = ROUNDING * torch.finfo(distances.dtype).eps * (3.0 * square + 2.0 * largest.abs())
    return shard.first(distances >= largest - slack)
