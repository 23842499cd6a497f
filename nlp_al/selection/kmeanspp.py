"""k-means++ seeding (Arthur & Vassilvitskii 2007) over factored gradients, never multiplied out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nlp_al import selection
from nlp_al.decisions import segment_sum
from nlp_al.selection import in_blocks
from nlp_al.selection.distances import clip_rounding, farthest
from nlp_al.selection.shards import Shard

Factors = tuple[Tensor, Tensor, Tensor]

_GRAM_FLOATS = 2**20  # of one group of equally long examples, and of their factors


def kmeans_plus_plus(
    factors: Factors, count: int, generator: torch.Generator | None, shard: Shard | None = None
) -> Tensor:
    """Picks `count` ≤ n of g_i = Σ_j r_j ⊗ h_j, given as (r: float[J, R], h: float[J, d], offsets: int64[n + 1]).

    The first is the longest; the next ones are drawn in proportion to the squared distance to the nearest pick, or are
    the farthest where `generator` is None. Once all distances are 0 the rest is drawn uniformly (or taken in order).
    shard: where the factors are this process's, of a pool that several hold; of each pick its factors go round. All
    give a generator in the same state.
    int64[count]. Time O(count · J · (R + d) · terms of a pick), memory O(J · terms of a pick) beyond the input.
    """
    r, h, offsets = factors
    shard = shard or Shard.of(len(offsets) - 1)
    picks = torch.zeros(count, dtype=torch.int64)
    if count == 0:
        return picks
    blocks = list(_example_blocks(r, h, offsets))
    squares, scale = squared_norms(r, h, offsets)
    nearest = torch.full_like(squares, torch.inf)
    for step in range(count):
        if step == 0 or generator is None:
            pick = farthest(nearest if step else squares, scale, shard)
        else:
            pick = _draw(nearest, picks[:step], generator, shard)
        picks[step] = pick
        own = shard.own(pick)
        rows = slice(int(offsets[own.start]), int(offsets[own.stop]))
        square, size = shard.join(torch.stack([squares[own], scale[own]], 1))[0]
        squared = squares + square - 2.0 * _products(blocks, shard.join(r[rows]), shard.join(h[rows]))
        torch.minimum(nearest, clip_rounding(squared, scale + size), out=nearest)
        nearest[own] = -torch.inf if generator is None else 0.0  # never taken twice, not even among equal ones
    return picks


def _example_blocks(r: Tensor, h: Tensor, offsets: Tensor) -> Iterator[Factors]:
    """The factors of `BLOCK` examples at a time: an example's rows stay together, whichever process holds them."""
    for at in range(0, max(len(offsets) - 1, 1), selection.BLOCK):
        own = offsets[at : at + selection.BLOCK + 1]
        rows = slice(int(own[0]), int(own[-1]))
        yield r[rows], h[rows], own - own[0]


def squared_norms(r: Tensor, h: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """‖Σ_j r_j ⊗ h_j‖² of each example, and (Σ_j ‖r_j‖ ‖h_j‖)², which bounds it and its rounding: float[n] both."""
    squares, scale = zip(*(_norms_of_block(*block) for block in _example_blocks(r, h, offsets)), strict=True)
    return torch.cat(squares), torch.cat(scale)


def _norms_of_block(r: Tensor, h: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    lengths = offsets.diff()
    terms = torch.linalg.vector_norm(r, dim=1) * torch.linalg.vector_norm(h, dim=1)
    scale = segment_sum(terms, offsets).square()
    squares = scale.clone()
    for length in lengths.unique().tolist():
        if length < 2:
            continue
        members = torch.nonzero(lengths == length).flatten()
        for group in members.split(max(1, _GRAM_FLOATS // (length * (length + h.shape[1])))):
            rows = offsets[group][:, None] + torch.arange(length, device=group.device)
            gram = (r[rows] @ r[rows].mT) * (h[rows] @ h[rows].mT)
            squares[group] = clip_rounding(gram.sum((1, 2)), scale[group])
    return squares, scale


def _products(blocks: Sequence[Factors], r: Tensor, h: Tensor) -> Tensor:
    """⟨g_i, g⟩ for all i, float[n], where g is the sum of r_j ⊗ h_j."""
    found = []
    for own_r, own_h, offsets in blocks:
        parts = zip(in_blocks(own_r), in_blocks(own_h), strict=True)
        terms = torch.cat([(a @ r.T).mul_(b @ h.T).sum(1) for a, b in parts])
        found.append(segment_sum(terms, offsets))
    return torch.cat(found)


def _draw(nearest: Tensor, picked: Tensor, generator: torch.Generator, shard: Shard) -> int:
    """A position in proportion to float[n] squared distances, 0 at those picked.

    First a block is drawn, in proportion to its sum, then a position inside. All on the CPU: running sums that many
    threads make together need not rise.
    """
    weights = nearest.cpu().double()
    if not bool(shard.join(weights.any()[None]).any()):
        mine = picked[(picked >= shard.start) & (picked < shard.stop)]
        weights.fill_(1.0)[mine - shard.start] = 0.0
    sums = [part.cumsum(0) for part in in_blocks(weights)]
    totals = shard.join(torch.cat([part[-1:] for part in sums])).cumsum(0)
    point = torch.rand((), generator=generator, dtype=torch.float64) * totals[-1]
    block = _interval(totals, point)
    start = block * selection.BLOCK
    found = torch.zeros(0, dtype=torch.int64)
    if shard.start <= start < shard.stop:
        inside = sums[(start - shard.start) // selection.BLOCK]
        found = torch.tensor([start + _interval(inside, point - totals[block - 1] if block else point)])
    return int(shard.join(found)[0])


def _interval(sums: Tensor, point: Tensor) -> int:
    """The place whose weight the point falls on, given running sums of the weights, float64[n].

    On the right, a weight of 0 has an empty interval, which not even a point of exactly 0 hits; the second search gives
    the last weight above 0, for a point that rounding brings up to the total.
    """
    return min(int(torch.searchsorted(sums, point, right=True)), int(torch.searchsorted(sums, sums[-1])))
