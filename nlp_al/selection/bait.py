"""Batches that lower the error that Fisher information predicts for the pool: Ash et al. 2021, arXiv 2106.09675.

tr(M⁻¹ F) is made small, M being what is known and F what the pool asks about. What M gains is V Vᵀ, of few columns, so
that M⁻¹ and M⁻¹ F M⁻¹ change by products of few columns too. Of these two, only Vᵀ · V is kept of each candidate.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.selection.last_layer import Information

_FLOATS_AT_ONCE = 2**22
_FEW = 16


class _Group(NamedTuple):
    """Candidates with as many rows each.

    members: int64[g]. coefficients: float64[g, m, R, Q]. h: float64[g, m, d].
    inverse, asked: float64[g, mQ, mQ], Vᵀ M⁻¹ V and Vᵀ M⁻¹ F M⁻¹ V.
    """

    members: Tensor
    coefficients: Tensor
    h: Tensor
    inverse: Tensor
    asked: Tensor

    def against(self, columns: Tensor) -> Tensor:
        """Vᵀ · float64[D, c]: float64[g, mQ, c]."""
        found: Tensor = self.inverse.new_empty(*self.inverse.shape[:2], columns.shape[1])
        at_once = max(1, _FLOATS_AT_ONCE // (self.h.shape[1] * (self.h.shape[2] + columns.numel() // self.h.shape[2])))
        parts = (values.split(at_once) for values in (self.coefficients, self.h, found))
        for coefficients, h, room in zip(*parts, strict=True):
            room.copy_(_transposed(coefficients, h, columns))
        return found

    def column(self, at: int) -> Tensor:
        """V of a candidate, float64[D, mQ]."""
        product = torch.einsum("mrq,md->rdmq", self.coefficients[at], self.h[at])
        return product.flatten(0, 1).flatten(1)


def choose_by_information(
    pool: Information, known: Information | None, count: int, *, scale: float, ridge: float, forward: int
) -> Tensor:
    """Picks `count` ≤ n that lower tr(M⁻¹ F) most: greedily `forward` of them, of which the least useful are dropped.

    M = ridge · I + l / (l + count) · mean of known + scale · Σ of the picks; F is the mean over pool and known.
    Ties go to the lowest position. int64[count], in the order in which they were picked.
    Time O(J D² + (forward + dropped) · J · D · Q), memory O(D² + Σ (m Q)²).
    """
    labelled = 0 if known is None else len(known.offsets) - 1
    total = len(pool.offsets) - 1 + labelled
    asked = _summed(pool)
    matrix = ridge * torch.eye(pool.width, dtype=torch.float64, device=asked.device)
    if known is not None and labelled:
        own = _summed(known)
        asked += own
        matrix += own / (labelled + count)
    asked /= max(total, 1)
    greedy = _Greedy(pool, matrix, asked)
    picks: list[int] = []
    for _ in range(min(max(forward, count), len(pool.offsets) - 1)):
        gains = greedy.gains(scale)
        gains[picks] = -torch.inf
        picks.append(int(gains.argmax()))
        greedy.update(picks[-1], scale)
    greedy = greedy.only(sorted(picks))
    while len(picks) > count:
        kept = torch.tensor(sorted(picks))
        losses = -greedy.gains(-scale)[kept].cpu()
        least = int(kept[losses == losses.min()][-1])
        picks.remove(least)
        greedy.update(least, -scale)
    return torch.tensor(picks, dtype=torch.int64)


class _Greedy:
    """M⁻¹ and F as picks come and go."""

    def __init__(self, pool: Information, matrix: Tensor, asked: Tensor) -> None:
        self._inverse = torch.linalg.inv(matrix)
        self._asked = asked
        self._n = len(pool.offsets) - 1
        self._groups = _groups(pool, self._inverse, self._inverse @ asked @ self._inverse)
        self._where = _places(self._groups)

    def gains(self, scale: float) -> Tensor:
        """float32[n]: how much tr(M⁻¹ F) falls when scale · V Vᵀ is added; minus infinity for those left out.

        Rounded, so that equal candidates tie.
        """
        found: Tensor = self._inverse.new_full((self._n,), -torch.inf, dtype=torch.float32)
        for group in self._groups:
            own = _eye_like(group.inverse) / scale + group.inverse
            solved = torch.linalg.solve(own, group.asked)
            found[group.members] = solved.diagonal(dim1=1, dim2=2).sum(1).float()
        return found

    def update(self, pick: int, scale: float) -> None:
        """Adds scale · V Vᵀ of a candidate to M (Woodbury)."""
        g, at = self._where[pick]
        group = self._groups[g]
        u = self._inverse @ group.column(at)
        middle = torch.linalg.inv(_eye_like(group.inverse) / scale + group.inverse[at])
        p = self._inverse @ (self._asked @ u)
        between = middle @ (u.T @ self._asked @ u) @ middle
        for group in self._groups:
            x, y = group.against(torch.cat([u, p], 1)).chunk(2, dim=2)
            left = x @ middle
            cross = left @ y.mT
            group.inverse.sub_(left @ x.mT)
            group.asked.sub_(cross).sub_(cross.mT).add_(x @ between @ x.mT)
        self._inverse -= u @ middle @ u.T

    def only(self, members: list[int]) -> _Greedy:
        """The same M, with no other candidates than these."""
        wanted = torch.tensor(members, dtype=torch.int64, device=self._inverse.device)
        made: _Greedy = object.__new__(_Greedy)
        made._inverse, made._asked, made._n = self._inverse, self._asked, self._n
        inside = [(group, torch.isin(group.members, wanted)) for group in self._groups]
        made._groups = [_Group(*(values[mask] for values in group)) for group, mask in inside if bool(mask.any())]
        made._where = _places(made._groups)
        return made


def _places(groups: list[_Group]) -> dict[int, tuple[int, int]]:
    """Of each candidate: which group it is in, and where."""
    return {member: (g, at) for g, group in enumerate(groups) for at, member in enumerate(group.members.tolist())}


def _eye_like(matrices: Tensor) -> Tensor:
    return torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)


def _groups(pool: Information, inverse: Tensor, asked: Tensor) -> list[_Group]:
    lengths = pool.offsets.diff()
    found = []
    for length in lengths.unique().tolist():
        members = torch.nonzero(lengths == length).flatten()
        rows = pool.offsets[members][:, None] + torch.arange(length, device=members.device)
        coefficients, h = pool.coefficients[rows], pool.h[rows].double()
        size = length * coefficients.shape[3]
        room = [coefficients.new_empty(len(members), size, size) for _ in range(2)]
        at_once = max(1, _FLOATS_AT_ONCE // max(1, length * pool.width * max(coefficients.shape[2:])))
        for part in torch.arange(len(members)).split(at_once):
            own = coefficients[part], h[part]
            for matrix, held in zip((inverse, asked), room, strict=True):
                left = _transposed(*own, matrix)
                held[part] = _transposed(*own, left.mT).mT
        found.append(_Group(members, coefficients, h, *room))
    return found


def _transposed(coefficients: Tensor, h: Tensor, columns: Tensor) -> Tensor:
    """Vᵀ · columns, which are float64[D, c] or [g, D, c]: float64[g, mQ, c].

    coefficients: float64[g, m, R, Q]. h: float64[g, m, d].
    """
    r = coefficients.shape[2]
    read: Tensor
    parted = columns.unflatten(-2, (r, h.shape[2]))
    if columns.dim() == 2:
        flat = parted.transpose(0, 1).flatten(1)  # [d, R c], one product for all candidates
        read = (h.flatten(0, 1) @ flat).unflatten(0, h.shape[:2]).unflatten(2, (r, columns.shape[1]))
    else:
        read = torch.einsum("gmd,grdc->gmrc", h, parted)
    # For matrices of a few rows a product of batches takes ten times as long.
    if r > _FEW:
        return (coefficients.mT @ read).flatten(1, 2)
    found = coefficients[:, :, 0, :, None] * read[:, :, 0, None]
    for at in range(1, r):
        found += coefficients[:, :, at, :, None] * read[:, :, at, None]
    return found.flatten(1, 2)


def _summed(some: Information) -> Tensor:
    """Σ V Vᵀ over all examples, float64[D, D]."""
    r, d = some.coefficients.shape[1], some.h.shape[1]
    found = some.coefficients.new_zeros(r, d, r, d)
    at_once = max(1, _FLOATS_AT_ONCE // max(d, 1))
    for coefficients, h in zip(some.coefficients.split(at_once), some.h.split(at_once), strict=True):
        inner, rows = coefficients @ coefficients.mT, h.double()
        for a in range(r):
            for b in range(a, r):
                part = (rows * inner[:, a, b, None]).T @ rows
                found[a, :, b] += part
                if a != b:
                    found[b, :, a] += part.T
    return found.flatten(0, 1).flatten(1)
