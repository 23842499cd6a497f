"""k-means++ seeding (Arthur & Vassilvitskii 2007) over factored gradients, never multiplied out."""

from __future__ import annotations

import torch
from torch import Tensor

from nlp_al.decisions import segment_sum
from nlp_al.selection import in_blocks
from nlp_al.selection.distances import clip_rounding

_GRAM_FLOATS = 2**20  # of one group of equally long examples, and of their factors


def kmeans_plus_plus(factors: tuple[Tensor, Tensor, Tensor], count: int, generator: torch.Generator | None) -> Tensor:
    """Picks `count` ≤ n of g_i = Σ_j r_j ⊗ h_j, given as (r: float[J, R], h: float[J, d], offsets: int64[n + 1]).

    The first is the longest; the next ones are drawn in proportion to the squared distance to the nearest pick, or are
    the farthest where `generator` is None. Once all distances are 0 the rest is drawn uniformly (or taken in order).
    int64[count]. Time O(count · J · (R + d) · terms of a pick), memory O(J · terms of a pick) beyond the input.
    """
    r, h, offsets = factors
    picks = torch.zeros(count, dtype=torch.int64)
    if count == 0:
        return picks
    squares, scale = squared_norms(r, h, offsets)
    nearest = torch.full_like(squares, torch.inf)
    for step in range(count):
        pick = int(squares.argmax()) if step == 0 else _draw(nearest, picks[:step], generator)
        picks[step] = pick
        squared = squares + squares[pick] - 2.0 * _products(r, h, offsets, pick)
        torch.minimum(nearest, clip_rounding(squared, scale + scale[pick]), out=nearest)
        nearest[pick] = 0.0
    return picks


def squared_norms(r: Tensor, h: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """‖Σ_j r_j ⊗ h_j‖² of each example, and (Σ_j ‖r_j‖ ‖h_j‖)², which bounds it and its rounding: float[n] both."""
    lengths = offsets.diff()
    terms = torch.linalg.vector_norm(r, dim=1) * torch.linalg.vector_norm(h, dim=1)
    scale = segment_sum(terms, offsets).square()
    squares = scale.clone()
    for length in lengths.unique().tolist():
        if length < 2:
            continue
        members = torch.nonzero(lengths == length).flatten()
        for group in members.split(max(1, _GRAM_FLOATS // (length * (length + h.shape[1])))):
            rows = offsets[group][:, None] + torch.arange(length)
            gram = (r[rows] @ r[rows].mT) * (h[rows] @ h[rows].mT)
            squares[group] = clip_rounding(gram.sum((1, 2)), scale[group])
    return squares, scale


def _products(r: Tensor, h: Tensor, offsets: Tensor, pick: int) -> Tensor:
    """⟨g_i, g_pick⟩ for all i, float[n]."""
    own = slice(int(offsets[pick]), int(offsets[pick + 1]))
    parts = zip(in_blocks(r), in_blocks(h), strict=True)
    terms = torch.cat([(a @ r[own].T).mul_(b @ h[own].T).sum(1) for a, b in parts])
    return segment_sum(terms, offsets)


def _draw(nearest: Tensor, picked: Tensor, generator: torch.Generator | None) -> int:
    """A position in proportion to float[n] squared distances, 0 at those picked; the largest without a generator."""
    weights = nearest.double()
    if not bool(weights.any()):
        weights.fill_(1.0)[picked] = 0.0
    if generator is None:
        return int(weights.argmax())
    total = weights.cumsum(0)
    point = torch.rand((), generator=generator, dtype=torch.float64) * total[-1]
    # On the right, a weight of 0 has an empty interval, which not even a draw of exactly 0 hits; the second search
    # gives the last weight above 0, for a product that rounds up to the total.
    return min(int(torch.searchsorted(total, point, right=True)), int(torch.searchsorted(total, total[-1])))
