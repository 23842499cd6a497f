"""Greedy maximisation of set functions whose gains only fall as the set grows.

Within 1 − 1/e of the best where they are monotone (Nemhauser, Wolsey & Fisher 1978). What an example gained once bounds
what it gains later, so that most need no second look (Minoux 1978).
"""

import heapq
import math
from collections.abc import Callable

import torch
from torch import Tensor

MISSED = 0.01
"""So much below 1 − 1/e of the best stochastic greedy is in expectation: Mirzasoleiman et al. 2015, arXiv 1409.7938."""

EXACT = 20_000
"""Candidates from which on greedy algorithms should look at random shares of them."""

_DIGITS = 2.0**-36  # of the largest gain: equal examples differ only in what lies below
_FIRST_GROUP, _LAST_GROUP = 8, 128
_FLOATS_AT_ONCE = 2**22


def lazy_greedy(
    gains: Tensor,
    gain: Callable[[Tensor], Tensor],
    take: Callable[[int], None],
    count: int,
    *,
    prefer: Tensor | None = None,
    lazy: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Picks `count` ≤ n positions, each the one that gains most beside those before it.

    Of equal gains, which symmetry makes of late ones, the highest of float64[n] `prefer` comes first, then the lowest
    position.
    gains: float64[n], of each alone. gain: int64[c] to float64[c], what these positions would gain now. take: is told
    each pick. lazy: evaluate only what may still be the best, which changes no pick. generator: with one, pick j is the
    best of a random ceil(n / j · ln(1 / MISSED)) of those left, so that a choice begins with each smaller one.
    int64[count].
    """
    unit = _unit(gains)
    bounds, known_at = _ranks(gains, unit), [0] * len(gains)
    second = [0.0] * len(gains) if prefer is None else _ranks(prefer, _unit(prefer))
    heap = list(zip(bounds, second, range(len(bounds)), strict=True))
    heapq.heapify(heap)
    left = torch.ones(len(bounds), dtype=torch.bool)
    picks: list[int] = []
    for step in range(count):
        if generator is not None or not lazy:
            among = torch.nonzero(left).flatten()
            if generator is not None:
                drawn = math.ceil(len(bounds) / (step + 1) * math.log(1 / MISSED))
                among = among[torch.randperm(len(among), generator=generator)[:drawn]]
            heap = [(bounds[at] if lazy else -math.inf, second[at], at) for at in among.tolist()]
            heapq.heapify(heap)
        most = _FIRST_GROUP
        while stale := _stale(heap, known_at, step, most):
            for at, rank in zip(stale, _ranks(gain(torch.tensor(stale)), unit), strict=True):
                bounds[at], known_at[at] = rank, step
                heapq.heappush(heap, (rank, second[at], at))
            most = min(2 * most, _LAST_GROUP)
        pick = heapq.heappop(heap)[2]
        left[pick] = False
        picks.append(pick)
        take(pick)
    return torch.tensor(picks, dtype=torch.int64)


def _unit(values: Tensor) -> float:
    """What counts as the same, of values that are as large as these."""
    return float(values.abs().max()) * _DIGITS or 1.0 if len(values) else 1.0


def _ranks(values: Tensor, unit: float) -> list[float]:
    """Whole numbers, the lowest for the highest value."""
    listed: list[float] = (-values / unit).round().tolist()
    return listed


def _stale(heap: list[tuple[float, float, int]], known_at: list[int], step: int, most: int) -> list[int]:
    """Takes off the heap what stands before the first gain of this step, at most so many."""
    found: list[int] = []
    while heap and len(found) < most and (known_at[heap[0][2]] != step or heap[0][0] == -math.inf):
        found.append(heapq.heappop(heap)[2])
    return found


def greedy_cover(
    similarity: Callable[[Tensor], Tensor],
    weights: Tensor,
    count: int,
    init: Tensor | None = None,
    lazy: bool = True,
    *,
    candidates: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Greedily maximises F(S) = Σ_u weights_u · max(init_u, max over s in S of similarity(u, s)): facility location.

    similarity: int64[c] positions of candidates to float[U, c]. weights: float[U], not negative. init: float[U], how
    well each u is covered from the start (0 where not given, so that negative similarities count for nothing).
    candidates: how many there are, if not U. lazy, generator: as in `lazy_greedy`. int64[min(count, candidates)].
    Time O(U · candidates) similarities and those that are looked at again; memory O(U) beside a block of them.
    """
    n = len(weights) if candidates is None else candidates
    weights = weights.double()
    covered = torch.zeros_like(weights) if init is None else init.double().clone()

    def gain(part: Tensor) -> Tensor:
        return weights @ (similarity(part).double() - covered[:, None]).clamp_(min=0)

    def take(pick: int) -> None:
        torch.maximum(covered, similarity(torch.tensor([pick]))[:, 0].double(), out=covered)

    gains, alone = weights.new_zeros(n), weights.new_zeros(n)
    for part in torch.arange(n).split(max(1, _FLOATS_AT_ONCE // max(len(weights), 1))):
        block = similarity(part).double()
        alone[part] = weights @ block
        gains[part] = weights @ (block - covered[:, None]).clamp_(min=0)
    return lazy_greedy(gains, gain, take, min(count, n), prefer=alone, lazy=lazy, generator=generator)


def greedy_cut(totals: Tensor, diagonal: Tensor, column: Callable[[int], Tensor], count: int, penalty: float) -> Tensor:
    """Greedily maximises Σ_{u, s in S} w(u, s) − penalty · Σ_{s, s' in S} w(s, s'), a generalised graph cut.

    totals: float64[n], the sums of the rows of w, which is symmetric and not negative. diagonal: float64[n], w(s, s).
    column: a position s to float64[n], w(u, s) of all u. Of equal gains the highest total comes first, then the lowest
    position. int64[count], count ≤ n. Time `count` columns, memory O(n).
    """
    gains = totals - penalty * diagonal
    same = (_unit(gains), _unit(totals))
    picks = torch.zeros(count, dtype=torch.int64)
    for step in range(count):
        best = torch.nonzero(gains >= gains.max() - same[0]).flatten()
        pick = int(best[int((totals[best] >= totals[best].max() - same[1]).int().argmax())])
        picks[step] = pick
        gains -= 2 * penalty * column(pick)
        gains[pick] = -torch.inf
    return picks
