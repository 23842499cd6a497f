"""Examples that are like others under a Fisher kernel: Gudovskiy et al. 2020, arXiv 2003.00393."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, leading, owners
from nlp_al.selection.last_layer import Factors, residuals
from nlp_al.selection.rows import ROWS_AT_ONCE
from nlp_al.selection.shards import first_highest

NEIGHBOURS = 32
"""So many are kept of each anchor."""
ANCHORS_AT_ONCE = 512


class Descriptors(NamedTuple):
    """What the kernel compares: ⟨z, z'⟩ + ⟨s, s'⟩, or ⟨z, z'⟩ · ⟨s, s'⟩.

    z: float[J, q], activations. s: float64[J, R], gradients. offsets: int64[n + 1], the rows of each example.
    """

    z: Tensor
    s: Tensor
    offsets: Tensor

    def rows(self, places: Tensor) -> Descriptors:
        """Some rows, an example each."""
        return Descriptors(self.z[places], self.s[places], torch.arange(len(places) + 1, device=self.z.device))

    def like(self, anchors: Descriptors, product: bool) -> Tensor:
        """The kernel between all rows and those of the anchors, both `comparable`: float64[J, A]."""
        near, alike = self.z @ anchors.z.T, self.s @ anchors.s.T
        return near * alike if product else near + alike


def descriptors(decisions: Decisions, factors: Factors, weights: Tensor, product: bool) -> Descriptors:
    """Of each row of the last layer, or where options of one example share their weights of the example.

    weights: float[M, O], of the options of each decision, as the labels that gradients are taken under.
    product: whether it is for the product of the last-layer gradients.
    """
    _, h, offsets = factors
    r = residuals(decisions, factors, weights)
    if decisions.options is None:
        return Descriptors(h, r, offsets)
    flat = decisions.masked.double()[leading(offsets.diff(), decisions.probs.shape[1])]
    mean, gradient = _summed(flat[:, None], h, offsets), _summed(r, h, offsets)
    each = torch.arange(len(offsets), device=offsets.device)
    return Descriptors(torch.ones_like(mean[:, :1]) if product else mean, gradient, each)


def _summed(weights: Tensor, h: Tensor, offsets: Tensor) -> Tensor:
    """Σ_j w_j h_j over the rows of each example, float64[n, d]. weights: float64[J, 1]."""
    owner, found = owners(offsets), h.new_zeros(len(offsets) - 1, h.shape[1], dtype=torch.float64)
    for rows in torch.arange(len(h)).split(ROWS_AT_ONCE):
        found.index_add_(0, owner[rows], weights[rows] * h[rows].double())
    return found


def comparable(points: Descriptors, product: bool) -> Descriptors:
    """In float64, and but for the product each part centred and of length 1."""
    z, s = points.z.double(), points.s.double()
    return (
        Descriptors(z, s, points.offsets) if product else Descriptors(standardised(z), standardised(s), points.offsets)
    )


def standardised(rows: Tensor) -> Tensor:
    """Centred and scaled to length 1, so that products are Pearson correlations; 0 where all entries are equal."""
    # Rows of one entry have no spread, but a sign.
    centred = rows - rows.mean(1, keepdim=True) if rows.shape[1] > 1 else rows
    lengths: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    scale: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    flat = lengths <= 16 * torch.finfo(rows.dtype).eps * scale
    return torch.where(flat, 0.0, centred / lengths.masked_fill(flat, 1.0))


def spread_out(points: Descriptors, count: int, generator: torch.Generator, product: bool) -> Tensor:
    """Rows of what is `comparable`: the first at random, each next one the least like those before it.

    int64[min(count, J)]. Time O(count · J · (q + R)).
    """
    total = len(points.z)
    if total <= count:
        return torch.arange(total)
    picks = torch.zeros(count, dtype=torch.int64)
    picks[0] = torch.randint(total, (), generator=generator)
    nearest = points.z.new_full((total,), -torch.inf)
    for step in range(1, count):
        last = points.rows(picks[step - 1 : step])
        nearest = torch.maximum(nearest, points.like(last, product)[:, 0])
        nearest[picks[step - 1]] = torch.inf
        picks[step] = int(first_highest(-nearest.float()))
    return picks


def like_anchors(pool: Descriptors, anchors: Descriptors, count: int, product: bool) -> Tensor:
    """The examples most like each anchor: first the most alike of all anchors, the highest first, then the second ones.

    An example is as much like an anchor as the most alike of its rows. Each anchor gives NEIGHBOURS, or more where the
    batch is large; what then lacks comes by how much it is like any anchor. Ties go to the lowest position.
    pool: as it is. anchors: `comparable`.
    int64[count]. Time O(J · A · (q + R)), memory O(A · NEIGHBOURS + n).
    """
    n, many = len(pool.offsets) - 1, len(anchors.z)
    depth = min(n, max(NEIGHBOURS, -(-4 * count // max(many, 1))))
    kept, best = [], pool.z.new_full((n,), -torch.inf, dtype=torch.float32)
    for start in range(0, many, ANCHORS_AT_ONCE):
        part = anchors.rows(torch.arange(start, min(start + ANCHORS_AT_ONCE, many)))
        keys = part.offsets.new_zeros(len(part.z), 0)
        for low, likes in _by_example(pool, part, product):
            best[low : low + len(likes)] = torch.maximum(best[low : low + len(likes)], likes.amax(1))
            keys = torch.cat([keys, _keys(likes, low).T], 1)
            keys = keys.topk(min(depth, keys.shape[1]), dim=1).values
        kept.append(keys)
    merged = torch.cat(kept).T if kept else pool.offsets.new_zeros(0, 0)
    ranked = merged.sort(dim=1, descending=True).values.flatten()
    rest = _keys(best[:, None], 0).flatten().sort(descending=True).values
    return _first_of_each(_places(torch.cat([ranked, rest])), n)[:count]


def _by_example(pool: Descriptors, anchors: Descriptors, product: bool) -> Iterator[tuple[int, Tensor]]:
    """Runs of examples: the first one's position, and how much each is like the anchors, float32[m, A].

    In float32, where last digits that depend on the size of a block are gone, so that equal examples tie.
    """
    low, n = 0, len(pool.offsets) - 1
    while low < n:
        stop = int(torch.searchsorted(pool.offsets, pool.offsets[low] + ROWS_AT_ONCE, right=True)) - 1
        stop = min(max(stop, low + 1), n)
        own = pool.offsets[low : stop + 1]
        rows = slice(int(own[0]), int(own[-1]))
        likes = comparable(Descriptors(pool.z[rows], pool.s[rows], own), product).like(anchors, product).float()
        found = likes.new_full((stop - low, likes.shape[1]), -torch.inf)
        owner = owners(own - own[0])[:, None].expand_as(likes)
        yield low, found.scatter_reduce(0, owner, likes, "amax")
        low = stop


_LAST = 2**31 - 1


def _keys(likes: Tensor, low: int) -> Tensor:
    """int64, of float32[m, A]: larger where it is more alike, and among equals where the position is lower."""
    bits = (likes + 0.0).view(torch.int32).long()  # + 0.0, for −0 is another number in bits
    ordered = torch.where(bits < 0, -(bits & _LAST), bits)
    return (ordered << 32) + (_LAST - torch.arange(low, low + len(likes), device=likes.device))[:, None]


def _places(keys: Tensor) -> Tensor:
    return _LAST - (keys & (2**32 - 1))


def _first_of_each(places: Tensor, n: int) -> Tensor:
    """The positions without repetition, in the order in which they first come. places: int64[m], all of 0 … n − 1."""
    first = places.new_full((n,), len(places))
    first.scatter_reduce_(0, places, torch.arange(len(places), device=places.device), "amin")
    return torch.argsort(first)
