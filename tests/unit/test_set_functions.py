"""Greedy maximisation of set functions, covers by balls and determinantal point processes on plain tensors."""

import math
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor

from nlp_al.selection import coverage, submodular
from nlp_al.selection.coverage import cover_by_balls, pure_radius
from nlp_al.selection.dpp import greedy_dpp, log_sizes, sample_dpp
from nlp_al.selection.submodular import greedy_cover, greedy_cut

W = torch.tensor([[1.0, 0.8, 0.1, 0.0], [0.8, 1.0, 0.2, 0.1], [0.1, 0.2, 1.0, 0.7], [0.0, 0.1, 0.7, 1.0]])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def symmetric(n: int, seed: int) -> Tensor:
    """Similarities between random directions; the negative ones are 0."""
    rows = torch.nn.functional.normalize(normal(n, 4, seed=seed), dim=1)
    return (rows @ rows.T).clamp(min=0)


def columns(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda part: matrix[:, part]


def naive_greedy(value: Callable[[list[int]], float], n: int, count: int, alone: Tensor | None = None) -> list[int]:
    """Every value from scratch at every pick; of the best the highest of `alone`, and of these the first."""
    picks: list[int] = []
    second = [0.0] * n if alone is None else alone.tolist()
    for _ in range(count):
        values = {at: value([*picks, at]) for at in range(n) if at not in picks}
        picks.append(max(values, key=lambda at: (round(values[at], 9), round(second[at], 9), -at)))
    return picks


# --- covers by similarity


def covered(matrix: Tensor, picks: list[int], weights: Tensor | None = None, init: Tensor | None = None) -> float:
    """F of some columns."""
    start = torch.zeros(len(matrix), dtype=matrix.dtype) if init is None else init
    best = torch.cat([start[:, None], matrix[:, picks]], 1).amax(1)
    return float(best.sum() if weights is None else (weights * best).sum())


def test_a_cover_of_four() -> None:
    """Alone they are worth 1.9, 2.1, 2.0, 1.8; the second one gains 1.4 with the third and with the fourth."""
    assert [covered(W, [at]) for at in range(4)] == pytest.approx([1.9, 2.1, 2.0, 1.8])
    for lazy in (True, False):
        picks = greedy_cover(columns(W), torch.ones(4), 4, lazy=lazy).tolist()
        assert picks[:2] == [1, 2]
        assert covered(W, picks[:2]) == pytest.approx(3.5)
        assert covered(W, [1, 3]) == pytest.approx(3.5)
        assert greedy_cover(columns(W), torch.ones(4), 9, lazy=lazy).tolist() == picks
    assert greedy_cover(columns(W), torch.ones(4), 0).tolist() == []
    assert greedy_cover(columns(W[:0, :0]), torch.ones(0), 3).tolist() == []


@pytest.mark.parametrize("seed", range(10))
def test_a_cover_equals_brute_force(seed: int) -> None:
    """12 points, 3 of them: each pick the best of all, and together at least 1 − 1/e of the best three."""
    matrix, weights, init = symmetric(12, seed), torch.rand(12, generator=seeded(seed)), symmetric(12, seed + 50)[0] / 2
    for given, start in ((torch.ones(12), None), (weights, None), (torch.ones(12), init), (weights, init)):

        def value(picks: list[int], given: Tensor = given, start: Tensor | None = start) -> float:
            return covered(matrix, picks, given.double(), start)

        expected = naive_greedy(value, 12, 3, given.double() @ matrix)
        for lazy in (True, False):
            assert greedy_cover(columns(matrix), given, 3, start, lazy=lazy).tolist() == expected
        empty = float((given * start).sum()) if start is not None else 0.0
        best = max(value(list(picks)) for picks in combinations(range(12), 3)) - empty
        assert value(expected) - empty >= (1 - 1 / math.e) * best


@pytest.mark.parametrize("seed", range(5))
def test_candidates_may_be_others_than_what_is_covered(seed: int) -> None:
    """A rectangle of similarities, some of them negative, which count for nothing."""
    matrix = normal(30, 8, seed=seed)
    expected = naive_greedy(lambda picks: covered(matrix, picks), 8, 8, matrix.sum(0))
    found = greedy_cover(columns(matrix), torch.ones(30), 8, candidates=8).tolist()
    gains = [covered(matrix, found[: k + 1]) - covered(matrix, found[:k]) for k in range(8)]
    assert found[: sum(gain > 1e-9 for gain in gains)] == expected[: sum(gain > 1e-9 for gain in gains)]
    assert greedy_cover(columns(matrix), torch.ones(30), 3, candidates=8, lazy=False).tolist() == expected[:3]


def test_lazy_is_naive_and_looks_at_far_less() -> None:
    matrix, looked = symmetric(200, 3), [0]

    def counted(part: Tensor) -> Tensor:
        looked[0] += len(part)
        return matrix[:, part]

    lazy, seen = greedy_cover(counted, torch.ones(200), 40).tolist(), looked[0]
    looked[0] = 0
    assert greedy_cover(counted, torch.ones(200), 40, lazy=False).tolist() == lazy
    assert seen < looked[0] / 4
    assert lazy == naive_greedy(lambda picks: covered(matrix, picks), 200, 40, matrix.sum(0))


def test_what_is_covered_already_gains_nothing() -> None:
    """With the second point's similarities to start from, the third one gains .8 + .6 and the first .2."""
    picks = greedy_cover(columns(W), torch.ones(4), 2, W[:, 1]).tolist()
    assert picks[0] == 2
    assert covered(W, [2], init=W[:, 1]) - 2.1 == pytest.approx(1.4)


def test_points_weigh_what_they_are_given() -> None:
    """All weight on the fourth: it is covered best by itself, then nothing gains, and single sums decide."""
    assert greedy_cover(columns(W), torch.tensor([0.0, 0.0, 0.0, 1.0]), 4).tolist() == [3, 2, 1, 0]


def test_equal_gains_go_to_what_covers_most_alone_and_then_to_the_lowest() -> None:
    same = torch.ones(6, 6)
    for lazy in (True, False):
        assert greedy_cover(columns(same), torch.ones(6), 6, lazy=lazy).tolist() == list(range(6))
    rows = normal(1, 384).repeat(101, 1)
    equal = greedy_cover(lambda part: rows @ rows[part].T, torch.ones(101), 101)
    assert equal.tolist() == list(range(101))
    # Of the last two, each gains what the other does: what is between them, and what each lacks.
    order = torch.randperm(12, generator=seeded(1))
    for seed in range(5):
        matrix = symmetric(12, seed)
        picks = greedy_cover(columns(matrix), torch.ones(12), 12)
        assert order[greedy_cover(columns(matrix[order][:, order]), torch.ones(12), 12)].tolist() == picks.tolist()


def test_random_shares_come_near_to_the_whole_and_are_heads_of_each_other() -> None:
    matrix = symmetric(500, 7)
    exact = covered(matrix, greedy_cover(columns(matrix), torch.ones(500), 40).tolist())
    for seed in range(3):
        found = greedy_cover(columns(matrix), torch.ones(500), 40, generator=seeded(seed)).tolist()
        assert len(set(found)) == 40
        assert covered(matrix, found) > 0.98 * exact
        assert greedy_cover(columns(matrix), torch.ones(500), 15, generator=seeded(seed)).tolist() == found[:15]
        assert greedy_cover(columns(matrix), torch.ones(500), 40, lazy=False, generator=seeded(seed)).tolist() == found
    alone = greedy_cover(columns(matrix), torch.ones(500), 500, generator=seeded(0)).tolist()
    assert sorted(alone) == list(range(500))


def test_groups_of_any_size_give_the_same_picks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = symmetric(90, 5)
    expected = greedy_cover(columns(matrix), torch.ones(90), 30).tolist()
    for first, last, floats in ((1, 1, 1), (3, 7, 700), (100, 100, 10**6)):
        monkeypatch.setattr(submodular, "_FIRST_GROUP", first)
        monkeypatch.setattr(submodular, "_LAST_GROUP", last)
        monkeypatch.setattr(submodular, "_FLOATS_AT_ONCE", floats)
        assert greedy_cover(columns(matrix), torch.ones(90), 30).tolist() == expected


# --- graph cuts


def cut(matrix: Tensor, picks: list[int], penalty: float) -> float:
    return float(matrix[:, picks].sum() - penalty * matrix[picks][:, picks].sum())


def cuts(matrix: Tensor, count: int, penalty: float) -> list[int]:
    return greedy_cut(matrix.sum(1), matrix.diagonal(), lambda at: matrix[:, at], count, penalty).tolist()


def test_a_graph_cut_of_four() -> None:
    """Alone they are worth 1.4, 1.6, 1.5, 1.3; {1, 2} is the best pair with 2.9."""
    matrix = W.double()
    assert [cut(matrix, [at], 0.5) for at in range(4)] == pytest.approx([1.4, 1.6, 1.5, 1.3])
    assert cuts(matrix, 2, 0.5) == [1, 2]
    assert cut(matrix, [1, 2], 0.5) == pytest.approx(2.9)
    assert max(cut(matrix, list(pair), 0.5) for pair in combinations(range(4), 2)) == pytest.approx(2.9)


@pytest.mark.parametrize("penalty", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_graph_cut_equals_brute_force(seed: int, penalty: float) -> None:
    matrix = symmetric(30, seed)
    expected = naive_greedy(lambda picks: cut(matrix, picks, penalty), 30, 12, matrix.sum(0))
    assert cuts(matrix, 12, penalty) == expected


def test_a_penalty_keeps_copies_apart() -> None:
    """Two copies of a point beside three others: without a penalty they come first, with one they do not."""
    points = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.9], [0.0, 1.0]]), dim=1)
    matrix = (points @ points.T).double()
    assert cuts(matrix, 2, 0.0) == [2, 0]
    assert cuts(matrix, 2, 2.0) == [2, 0]
    assert cuts(matrix, 3, 0.0) == [2, 0, 1]
    assert cuts(matrix, 3, 2.0) == [2, 0, 3]
    assert cuts(torch.ones(5, 5).double(), 5, 0.5) == list(range(5))


# --- covers by balls

LINE = torch.tensor([[0.0], [0.5], [1.0], [1.5], [5.0], [5.4], [9.0]])


def inside(points: Tensor, radius: float) -> Tensor:
    """bool[n, n] by plain differences."""
    return (points[:, None] - points).double().square().sum(2) < radius**2


def naive_balls(points: Tensor, known: Tensor, radius: float, count: int) -> list[int]:
    together = torch.cat([points, known])
    edges = inside(together, radius)
    bare = ~edges[len(points) :].any(0)
    edges, sizes, picks = edges[: len(points)], edges[: len(points)].sum(1), []
    while len(picks) < min(count, len(points)):
        gains = (edges & bare).sum(1)
        gains[picks] = -1
        best = int(gains.argmax())
        if gains[best] < 1:
            sizes[picks] = -1
            return [*picks, *torch.argsort(sizes, descending=True, stable=True).tolist()][: min(count, len(points))]
        picks.append(best)
        bare &= ~edges[best]
    return picks


def test_balls_on_a_line() -> None:
    """At .6 they hold 2, 3, 3, 2, 2, 2, 1. The second covers three, the fifth two more, then four points hold one."""
    assert inside(LINE, 0.6).sum(1).tolist() == [2, 3, 3, 2, 2, 2, 1]
    picks, needed = cover_by_balls(LINE, LINE[:0], 0.6, 3)
    assert picks.tolist() == [1, 4, 2]
    assert needed == 3
    shares = [int(inside(LINE, 0.6)[picks[: k + 1]].any(0).sum()) for k in range(3)]
    assert shares == [3, 5, 6]
    picks, needed = cover_by_balls(LINE, LINE[:0], 0.6, 7)
    assert picks.tolist() == [1, 4, 2, 6, 0, 3, 5]  # the last three only because all is covered
    assert needed == 4


def test_what_lies_at_the_radius_is_outside() -> None:
    picks, needed = cover_by_balls(LINE[:4], LINE[:0], 0.5, 4)
    assert picks.tolist() == [0, 1, 2, 3]
    assert needed == 4


def test_balls_of_labelled_points_are_there_from_the_start() -> None:
    """A label at .9 covers .5, 1 and, at the very edge of .6, not 1.5: of the left part 0 and 1.5 are bare."""
    picks, needed = cover_by_balls(LINE, torch.tensor([[0.9]]), 0.6, 3)
    assert picks.tolist() == [4, 0, 2]
    assert needed == 3
    picks, needed = cover_by_balls(LINE, LINE, 0.6, 3)
    assert needed == 0
    assert picks.tolist() == [1, 2, 0]
    # What is labelled counts for the size of a ball: with itself 9 has seven, .5 and 1 have six.
    beside = torch.tensor([[8.9], [9.1], [9.2], [9.3], [9.4]])
    assert cover_by_balls(LINE, torch.cat([LINE, beside]), 0.6, 2)[0].tolist() == [6, 1]


@pytest.mark.parametrize("at_once", [1, 40 * 7, 2**21])
@pytest.mark.parametrize("labelled", [0, 3])
def test_balls_equal_the_naive_form(labelled: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1, of 7 of 40 points, with a last one of 5, and of all of them."""
    monkeypatch.setattr(coverage, "_DISTANCES_AT_ONCE", at_once)
    for seed in range(5):
        points, known = normal(40, 2, seed=seed, dtype=torch.float32), normal(labelled, 2, seed=seed + 9).float()
        for radius in (0.3, 0.7, 1.5, math.inf):
            for count in (0, 1, 8, 40, 50):
                found, needed = cover_by_balls(points, known, radius, count)
                assert found.tolist() == naive_balls(points, known, radius, count)
                assert 0 <= needed <= min(count, 40)


@pytest.mark.parametrize("seed", range(5))
def test_balls_cover_at_least_what_greedy_covers_promise(seed: int) -> None:
    points = normal(12, 2, seed=seed)
    edges = inside(points, 0.7)
    picks = cover_by_balls(points, points[:0], 0.7, 3)[0]
    shares = [int(edges[picks[: k + 1]].any(0).sum()) for k in range(3)]
    assert shares == sorted(shares)
    best = max(int(edges[list(trio)].any(0).sum()) for trio in combinations(range(12), 3))
    assert shares[-1] >= (1 - 1 / math.e) * best


def test_copies_are_covered_together() -> None:
    points = normal(10, 384).repeat(3, 1)
    picks, needed = cover_by_balls(points, points[:0], 1e-3, 30)
    assert needed == 10
    assert picks.tolist() == list(range(30))


def test_a_pure_radius_by_hand() -> None:
    """Classes {0, 1, 2} and {10, 11}: the nearest strangers of the points are 10, 9, 8, 8, 9 away."""
    points, classes = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0]]), torch.tensor([0, 0, 0, 1, 1])
    for purity, radius in ((1.0, 8.0), (0.95, 8.0), (0.6, 9.0), (0.2, 10.0)):
        assert pure_radius(points, classes, purity) == radius
    assert pure_radius(points, torch.zeros(5, dtype=torch.int64), 0.95) == math.inf


@pytest.mark.parametrize("purity", [0.5, 0.9, 0.95, 1.0])
def test_a_pure_radius_is_the_largest(purity: float) -> None:
    points, classes = normal(60, 3), torch.randint(0, 3, (60,), generator=seeded(1))
    points += 2.0 * classes[:, None]

    def share(radius: float) -> float:
        return float((~(inside(points, radius) & (classes[:, None] != classes)).any(1)).double().mean())

    found = pure_radius(points, classes, purity)
    assert share(found * (1 - 1e-6)) >= purity
    assert share(found * (1 + 1e-6)) < purity


# --- determinantal point processes

V = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 0.8], [0.5, 0.5]], dtype=torch.float64)


def dpp(vectors: Tensor, count: int, log_quality: Tensor | None = None) -> list[int]:
    quality = torch.zeros(len(vectors), dtype=torch.float64) if log_quality is None else log_quality
    return greedy_dpp(vectors, quality, count)[0].tolist()


def determinant(vectors: Tensor, picks: list[int]) -> float:
    return float(torch.linalg.det(vectors[picks] @ vectors[picks].T))


def test_the_volumes_of_pairs() -> None:
    pairs = {pair: determinant(V, list(pair)) for pair in combinations(range(4), 2)}
    expected = {(0, 1): 0.01, (0, 2): 0.64, (0, 3): 0.25, (1, 2): 0.5184, (1, 3): 0.16, (2, 3): 0.16}
    assert pairs == pytest.approx(expected)
    assert dpp(V, 2) == [0, 2]
    assert dpp(V, 4) == [0, 2]  # no more are independent


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_greedy_volumes_equal_determinants_from_scratch(seed: int, dtype: torch.dtype) -> None:
    vectors, quality = normal(40, 12, seed=seed, dtype=dtype), normal(40, seed=seed + 9)
    lengthened = vectors.double() * quality.exp()[:, None]
    picks, gains = greedy_dpp(vectors, quality, 10)
    assert picks.tolist() == naive_greedy(
        lambda some: float(torch.linalg.slogdet(lengthened[some] @ lengthened[some].T).logabsdet), 40, 10
    )
    kernel = lengthened[picks] @ lengthened[picks].T
    torch.testing.assert_close(gains.sum(), torch.linalg.slogdet(kernel).logabsdet)


def test_a_volume_is_the_same_however_the_kernel_is_scaled() -> None:
    """Neither very short vectors nor very different qualities are taken for dependent ones, or overflow."""
    vectors = normal(30, 8)
    expected = dpp(vectors, 8)
    for factor in (1e-9, 1e9):
        assert dpp(vectors * factor, 8) == expected
    for shift in (-1000.0, 1000.0):
        assert dpp(vectors, 8, torch.full((30,), shift, dtype=torch.float64)) == expected
    steep = torch.arange(30).double() * 50
    assert dpp(vectors, 3, steep) == [29, 28, 27]


def test_a_copy_adds_no_volume() -> None:
    vectors = normal(5, 384, dtype=torch.float32).repeat(4, 1)
    picks, gains = greedy_dpp(vectors, torch.zeros(20, dtype=torch.float64), 20)
    assert sorted(picks.tolist()) == list(range(5))
    assert bool(gains.isfinite().all())
    assert dpp(normal(1, 384).repeat(101, 1), 7) == [0]
    assert dpp(torch.zeros(6, 3), 4) == []
    assert dpp(torch.zeros(0, 3), 4) == []


def test_what_has_no_quality_is_never_picked() -> None:
    none = torch.full((4,), -torch.inf, dtype=torch.float64)
    assert dpp(V, 2, none) == []
    none[1] = 0.0
    assert dpp(V, 2, none) == [1]


def test_sizes_are_those_of_the_rows() -> None:
    torch.testing.assert_close(log_sizes(V).exp(), torch.tensor([1.0, 0.82, 0.64, 0.5]).double())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_draws_are_in_proportion_to_volume(count: int) -> None:
    """Each set of 6 vectors of 3 numbers: its share of 5,000 draws against its share of all determinants."""
    vectors = torch.cat([normal(4, 3, seed=4), normal(1, 3, seed=4) * torch.tensor([[1.0], [0.3]])])
    sets = list(combinations(range(6), count))
    volumes = torch.tensor([max(determinant(vectors, list(some)), 0.0) for some in sets])
    generator, draws = seeded(0), 5_000
    seen = [tuple(sorted(sample_dpp(vectors, count, generator).tolist())) for _ in range(draws)]
    expected = volumes / volumes.sum() * draws
    counts = torch.tensor([seen.count(some) for some in sets]).double()
    assert int(counts[expected < 1e-6].sum()) == 0
    kept = expected > 5
    statistic = float(((counts - expected)[kept].square() / expected[kept]).sum())
    degrees = int(kept.sum()) - 1
    assert statistic < degrees + 3.3 * (2 * degrees) ** 0.5 + 6  # about 0.1%


def test_the_first_drawn_has_no_more_chance_than_the_others() -> None:
    """An independent check of marginals: P(i in S) = Σ of the shares of the sets that hold i."""
    vectors = normal(7, 4, seed=2)
    sets = list(combinations(range(7), 2))
    volumes = torch.tensor([determinant(vectors, list(some)) for some in sets])
    shares = [float(volumes[[at in some for some in sets]].sum() / volumes.sum()) for at in range(7)]
    generator = seeded(5)
    drawn = torch.cat([sample_dpp(vectors, 2, generator) for _ in range(3000)])
    found = torch.bincount(drawn, minlength=7) / 3000
    assert found.tolist() == pytest.approx(shares, abs=0.03)


def test_no_more_is_drawn_than_is_independent() -> None:
    flat = normal(9, 2) @ normal(2, 5, seed=1)
    assert len(sample_dpp(flat, 6, seeded(0))) == 2
    assert sample_dpp(torch.zeros(4, 3), 2, seeded(0)).tolist() == []
    assert sample_dpp(torch.zeros(0, 3), 2, seeded(0)).tolist() == []
    many = sample_dpp(normal(300, 100), 100, seeded(0)).tolist()
    assert len(set(many)) == 100
