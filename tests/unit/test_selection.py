"""Batch algorithms on plain tensors, against hand-made numbers and naive twins."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from nlp_al.selection import divergences, kmeans
from nlp_al.selection.divergences import (
    jensen_shannon,
    kullback_leibler,
    mean_divergence,
    mean_kullback_leibler,
)
from nlp_al.selection.kcenter import k_center
from nlp_al.selection.kmeans import central_members, kmeans_labels
from nlp_al.selection.kmeanspp import kmeans_plus_plus, squared_norms
from nlp_al.selection.neighbours import nearest
from nlp_al.selection.topk import top
from nlp_al.selection.typicality import typical_of_clusters, typicality
from nlp_al.signals import Gradients
from nlp_al.testing import blocks_of, synthetic_signals

SHAPES = ("single", "multi", "sequence", "ranking")
LINE = torch.tensor([[0.0], [1.0], [2.0], [8.0], [9.0], [20.0]])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


# --- top


def test_top_equals_a_loop_that_takes_the_first_of_the_highest() -> None:
    scores = torch.randint(0, 5, (40,), generator=seeded(0)).float()
    left, expected = dict(enumerate(scores.tolist())), []
    while left:
        best = max(left, key=lambda at: (left[at], -at))
        expected.append(best)
        del left[best]
    for count in (0, 1, 7, 40, 50):
        assert top(scores, count).tolist() == expected[:count]


# --- k-centre


def naive_k_center(points: Tensor, centres: Tensor, count: int) -> list[int]:
    """Every distance from scratch at every pick."""
    picks: list[int] = []
    for _ in range(count):
        near = torch.cdist(points, torch.cat([centres, points[picks]])).amin(1)
        near[picks] = -1.0
        picks.append(int(near.argmax()))
    return picks


def radius(points: Tensor, centres: Tensor) -> float:
    return float(torch.cdist(points, centres).amin(1).max())


def test_k_center_on_a_line() -> None:
    """Points 0, 1, 2, 8, 9, 20 with 0 labelled: the farthest are 20, then 9, then 2, which leaves a radius of 1."""
    picks = k_center(LINE, LINE[:1], 3)
    assert picks.tolist() == [5, 4, 2]
    assert radius(LINE, torch.cat([LINE[:1], LINE[picks]])) == 1.0


def test_labelled_points_repel() -> None:
    """With 20 labelled as well, 9 is the farthest, at distance 9."""
    assert k_center(LINE, LINE[[0, 5]], 1).tolist() == [4]


def test_labelled_points_need_not_be_in_the_pool() -> None:
    """The labelled set has positions of its own; taking its 0 and 1 for the pool's would pick 20 first, not 1."""
    assert k_center(LINE[1:], torch.tensor([[19.0], [10.0]]), 1).tolist() == [0]


def test_without_labels_the_point_nearest_to_the_mean_is_first() -> None:
    """The mean of the line is 40 / 6 = 6.67, nearest to 8; then 20, and then 0, 8 away from 8."""
    for centres in (None, LINE[:0]):
        assert k_center(LINE, centres, 3).tolist() == [3, 5, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labelled", [1, 5, 150])
def test_k_center_equals_the_naive_form(dtype: torch.dtype, labelled: int) -> None:
    points, centres = normal(60, 8, dtype=dtype), normal(labelled, 8, seed=1, dtype=dtype)
    expected = naive_k_center(points, centres, 20)
    assert k_center(points, centres, 20).tolist() == expected
    scattered = points.repeat_interleave(2, 1)[:, ::2]
    assert not scattered.is_contiguous()
    assert k_center(scattered, centres, 20).tolist() == expected
    assert k_center(points, centres.to(torch.float64), 20).tolist() == expected
    for rows in (1, 7):
        with blocks_of(rows):
            assert k_center(points, centres, 20).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
def test_the_radius_is_at_most_twice_the_best(seed: int) -> None:
    points = normal(10, 2, seed=seed)
    best = min(radius(points, points[[0, *others]]) for others in combinations(range(1, 10), 3))
    picks = k_center(points, points[:1], 3)
    assert radius(points, torch.cat([points[:1], points[picks]])) <= 2 * best + 1e-6


@pytest.mark.parametrize("width", [1, 2, 7, 31, 384, 768])
@pytest.mark.parametrize("n", [7, 101])
def test_equal_points_tie_wherever_they_stand_in_a_block(width: int, n: int) -> None:
    """The last rows of a matrix product are computed in another way, so their distances differ in the last digit."""
    for seed in range(5):
        points = normal(1, width, seed=seed).repeat(n, 1)
        for centres in (None, normal(1, width, seed=seed + 5), normal(3, width, seed=seed + 5), points[:1] / 100):
            assert k_center(points, centres, n).tolist() == list(range(n))


def test_copies_come_after_all_distinct_points() -> None:
    distinct = normal(10, 384)
    picks = k_center(distinct.repeat(3, 1), None, 30).tolist()
    assert sorted(at % 10 for at in picks[:10]) == list(range(10))
    assert picks[10:] == sorted(picks[10:])


# --- k-means++


def dense(factors: Gradients) -> Tensor:
    """The gradients multiplied out: float64[n, R * d]."""
    rows = torch.einsum("jr,jd->jrd", factors.r.double(), factors.h.double()).flatten(1)
    return torch.stack([part.sum(0) for part in rows.split(factors.offsets.diff().tolist())])


def naive_seeding(vectors: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """k-means++ on plain vectors; draws by the first position whose running sum passes the draw."""
    picks = [int(vectors.square().sum(1).argmax())]
    while len(picks) < count:
        squared = (vectors[:, None] - vectors[picks]).square().sum(2).amin(1).tolist()
        point = float(torch.rand((), generator=generator, dtype=torch.float64)) * sum(squared)
        running, at = squared[0], 0
        while running <= point:
            at += 1
            running += squared[at]
        picks.append(at)
    return picks


def vectors_as_factors(vectors: Tensor) -> Gradients:
    return Gradients(torch.ones(len(vectors), 1, dtype=vectors.dtype), vectors, torch.arange(len(vectors) + 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_factored_seeding_equals_dense_seeding(shape: str) -> None:
    r, h, offsets = synthetic_signals(shape, 40, seed=3, undecided=4).factors()
    factors = Gradients(r.double(), h.double(), offsets)
    vectors = dense(factors)
    torch.testing.assert_close(squared_norms(*factors)[0], vectors.square().sum(1))
    single = squared_norms(r, h, offsets)[0]
    torch.testing.assert_close(single.double(), vectors.square().sum(1), atol=1e-5, rtol=1e-5)
    for seed in range(5):
        expected = naive_seeding(vectors, 12, seeded(seed))
        assert kmeans_plus_plus(factors, 12, seeded(seed)).tolist() == expected
        with blocks_of(7):
            assert kmeans_plus_plus(factors, 12, seeded(seed)).tolist() == expected
    start = vectors[[int(vectors.square().sum(1).argmax())]]
    farthest = [kmeans_plus_plus(factors, 1, None).item(), *naive_k_center(vectors, start, 11)]
    assert kmeans_plus_plus(factors, 12, None).tolist() == farthest


def test_gradients_of_the_tasks() -> None:
    """Dense gradients and squared norms of one example of each shape, by hand."""
    one = torch.tensor([0, 1])
    single = Gradients(torch.tensor([[-0.3, 0.3]]), torch.tensor([[1.0, 2.0]]), one)
    multi = Gradients(torch.tensor([[0.9 - 1, 0.4 - 0]]), torch.tensor([[1.0, 2.0]]), one)
    # Two words, p = (.7, .3) with h = (1, 0) and p = (.4, .6) with h = (0, 1); their mean.
    words = Gradients(torch.tensor([[-0.3, 0.3], [0.4, -0.4]]) / 2, torch.eye(2), torch.tensor([0, 2]))
    # Three candidates with p = (.5, .3, .2) under one scoring vector: sum of (p_k - [k = 0]) h_k.
    candidates = Gradients(
        torch.tensor([[-0.5], [0.3], [0.2]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 3])
    )
    for factors, gradient, square in (
        (single, [-0.3, -0.6, 0.3, 0.6], 0.9),
        (multi, [-0.1, -0.2, 0.4, 0.8], 0.85),
        (words, [-0.15, 0.2, 0.15, -0.2], 0.125),
        (candidates, [-0.3, 0.5], 0.34),
    ):
        torch.testing.assert_close(dense(factors)[0], torch.tensor(gradient).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(squared_norms(*factors)[0], torch.tensor([square]), atol=1e-6, rtol=0)


def test_seeding_draws_in_proportion_to_squared_distance() -> None:
    """g = (3, 0), (0, 2), (0, 0): first (3, 0); its squared distances are 13 to (0, 2) and 9 to (0, 0).

    So (0, 2) is second in 13 of 22 draws. Plain distances would say 0.546, their fourth power 0.676.
    """
    factors = vectors_as_factors(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    draws = 4000
    picks = [kmeans_plus_plus(factors, 2, seeded(seed)).tolist() for seed in range(draws)]
    assert {tuple(p) for p in picks} == {(0, 1), (0, 2)}
    share = sum(p[1] == 1 for p in picks) / draws
    spread = (13 / 22 * 9 / 22 / draws) ** 0.5
    assert abs(share - 13 / 22) < 3.3 * spread  # 0.1% of seeds would miss it; D or its fourth power miss it by 5.8, 11


@pytest.mark.parametrize(("draw", "second"), [(0.0, 1), (1.0, 2)])
def test_no_draw_hits_a_pick_at_either_end(draw: float, second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions 0 and 3 are the first pick and a copy of it; a product with the total may round up to the total."""
    factors = vectors_as_factors(torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 0.0]]))
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.tensor(draw, dtype=torch.float64))
    assert kmeans_plus_plus(factors, 2, seeded(0)).tolist() == [0, second]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_copy_of_a_pick_is_never_drawn_while_others_remain(shape: str) -> None:
    """In float32 the factored distance between copies is not exactly 0; what lies below rounding has to count as 0."""
    signals = synthetic_signals(shape, 4, seed=1)
    _, h, offsets = signals.factors()
    r = signals.factors().r.repeat(1, 5)
    wide = h.repeat(1, 70) + 3.0  # 420 floats, far from the origin
    copies = Gradients(
        r.repeat(5, 1), wide.repeat(5, 1), torch.cat([torch.zeros(1), offsets.diff().repeat(5).cumsum(0)]).long()
    )
    for seed in range(60):
        picks = kmeans_plus_plus(copies, 8, seeded(seed)).tolist()
        assert sorted(at % 4 for at in picks[:4]) == [0, 1, 2, 3], picks
        assert len(set(picks)) == 8
    picks = kmeans_plus_plus(copies, 20, None).tolist()
    # Which of the copies is the farthest may be decided by rounding, as some processors multiply rows in other groups.
    assert sorted(at % 4 for at in picks[:4]) == [0, 1, 2, 3]
    assert picks[4:] == [at for at in range(20) if at not in picks[:4]]  # none is farther than another


def test_at_most_one_certain_example_enters_while_others_remain() -> None:
    """One-hot predictions have a gradient of zero: they all coincide at the origin."""
    vectors = torch.cat([torch.zeros(20, 2), normal(5, 2)])
    for seed in range(50):
        picks = kmeans_plus_plus(vectors_as_factors(vectors), 6, seeded(seed))
        assert int((picks < 20).sum()) == 1


def test_without_any_distance_the_draw_is_uniform_among_the_rest() -> None:
    """Four equal vectors: the first is position 0, the second each of the others with probability 1/3."""
    factors = vectors_as_factors(torch.ones(4, 3))
    seconds = [kmeans_plus_plus(factors, 2, seeded(seed)).tolist()[1] for seed in range(3000)]
    counts = [seconds.count(at) for at in (1, 2, 3)]
    assert sum(counts) == 3000
    assert sum((c - 1000) ** 2 / 1000 for c in counts) < 13.8  # chi-square, 2 degrees of freedom, 0.1%
    assert kmeans_plus_plus(factors, 4, None).tolist() == [0, 1, 2, 3]


def test_terms_that_cancel_leave_a_gradient_of_zero() -> None:
    """Three words with the same vector, whose residuals add up to 0: what rounding leaves must not count as length."""
    for seed in range(10):
        r = normal(2, 20, seed=seed)
        h = 10 * normal(1, 384, seed=seed).repeat(3, 1)
        squares, scale = squared_norms(torch.cat([r, -r.sum(0, keepdim=True)]), h, torch.tensor([0, 3]))
        assert squares.item() == 0.0
        assert scale.item() > 0.0


# --- typicality


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.1, 0.2, 0.9], [6.667, 10.0, 6.667, 1.333]), ([10.0, 10.2, 10.3, 11.5], [4.0, 6.667, 5.0, 0.8])],
)
def test_typicality_of_two_clusters(values: list[float], expected: list[float]) -> None:
    """k = min(20, 4 // 2) = 2 nearest members: .1 has its two at .1 and .1, so 1 / .1."""
    found = typicality(torch.tensor(values)[:, None], 20)
    torch.testing.assert_close(found, torch.tensor(expected).double(), atol=2e-3, rtol=0)


def test_typicality_may_take_squared_distances() -> None:
    """.1 has its nearest at .1 and .1: the mean of the squares is .01."""
    found = typicality(torch.tensor([[0.0], [0.1], [0.2], [0.9]]), 20, squared=True)
    assert found[1].item() == pytest.approx(1 / (0.01 + 1e-5), rel=1e-4)


def test_an_example_alone_in_its_cluster_has_no_typicality() -> None:
    assert typicality(torch.ones(1, 3), 20).tolist() == [0.0]
    assert typicality(torch.ones(0, 3), 20).tolist() == []


def test_typicality_equals_the_naive_form() -> None:
    points = torch.cat([normal(50, 6), normal(50, 6)[:9]])  # with copies
    near = torch.cdist(points.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    near.fill_diagonal_(torch.inf)
    expected = 1 / (near.sort(1).values[:, :20].mean(1) + 1e-5)
    torch.testing.assert_close(typicality(points, 20), expected)


def typical(
    points: Tensor, assigned: list[int], count: int, known: tuple[int, ...] = (), smallest: int = 1
) -> list[int]:
    clusters, inside = torch.tensor(assigned, dtype=torch.int64), torch.tensor(known, dtype=torch.int64)
    return typical_of_clusters(
        points, clusters, inside, count, seeded(0), neighbours=20, min_cluster_size=smallest, squared=False
    ).tolist()


CLUSTERS = torch.tensor([[0.0], [0.1], [0.2], [0.9], [10.0], [10.2], [10.3], [11.5]])


def test_each_cluster_gives_its_most_typical_member() -> None:
    assert typical(CLUSTERS, [0, 0, 0, 0, 1, 1, 1, 1], 2) == [1, 5]


def test_larger_clusters_first_and_those_with_labels_last() -> None:
    assigned = [0, 0, 0, 1, 1, 1, 1, 1]
    assert [assigned[at] for at in typical(CLUSTERS, assigned, 3)] == [1, 0, 1]
    assert [assigned[at] for at in typical(CLUSTERS, assigned, 3, known=(1,))] == [0, 1, 0]


def test_a_picked_member_is_no_longer_a_neighbour() -> None:
    """Without .1 there is k = 3 // 2 = 1: the distances of 0, .2, .9 are .2, .2, .7, and the tie goes to 0."""
    assert typical(CLUSTERS[:4], [0, 0, 0, 0], 3)[:2] == [1, 0]


def test_small_clusters_wait_until_the_others_are_used_up() -> None:
    points = torch.cat([CLUSTERS[:4], torch.tensor([[50.0]])])
    picks = typical(points, [0, 0, 0, 0, 1], 5, smallest=2)
    assert picks[-1] == 4
    assert sorted(picks) == [0, 1, 2, 3, 4]
    assert typical(points, [0, 0, 0, 0, 1], 1, smallest=6) == [1]  # where all are too small, none is


def test_labelled_members_count_for_the_size_of_a_cluster() -> None:
    points = CLUSTERS[[0, 1, 4, 5, 6]]
    assert typical(points, [0, 0, 1, 1, 1], 1, known=(0, 1, 1)) == [0]  # fewest labels
    assert typical(points, [0, 0, 1, 1, 1], 1, known=(0, 0, 0), smallest=4) == [0]  # 5 members, the other 3
    assert typical(points, [0, 0, 1, 1, 1], 1, known=(0, 0, 0), smallest=1) == [3]


def test_no_more_comes_back_than_there_is() -> None:
    assert sorted(typical(CLUSTERS, [0] * 8, 20)) == list(range(8))
    assert typical(CLUSTERS[:0], [], 3) == []
    assert typical(CLUSTERS[:0], [], 3, known=(0, 1)) == []


def test_typical_members_do_not_depend_on_where_the_clusters_lie() -> None:
    points = normal(60, 5)
    assigned = torch.randint(0, 4, (60,), generator=seeded(1)).tolist()
    turn = torch.linalg.qr(normal(5, 5, seed=2).double()).Q
    moved = points.double() @ turn + 50.0
    assert typical(points, assigned, 12) == typical(moved, assigned, 12)


# --- k-means


@pytest.mark.parametrize("clusters", [4, 60])
def test_separated_blobs_are_the_clusters(clusters: int) -> None:
    """Both with plain k-means and, above 50 clusters, with mini-batches; the same seed gives the same clusters."""
    centres = 100 * torch.arange(clusters).float()[:, None]
    points = centres.repeat(10, 1) + normal(10 * clusters, 1)
    assigned = kmeans_labels(points, clusters, seeded(0))
    assert torch.equal(assigned, kmeans_labels(points, clusters, seeded(0)))
    if clusters == 4:
        assert torch.equal(assigned[:4].repeat(10), assigned)
        assert len(assigned.unique()) == 4


@pytest.mark.filterwarnings("error")
def test_clusters_of_few_distinct_points() -> None:
    assert len(kmeans_labels(torch.ones(9, 2), 4, seeded(0)).unique()) == 1
    assert kmeans_labels(torch.ones(3, 2), 7, seeded(0)).shape == (3,)
    assert kmeans_labels(torch.ones(0, 2), 3, seeded(0)).shape == (0,)
    assert kmeans_labels(torch.ones(70, 2), 60, seeded(0)).shape == (70,)


def naive_central(points: Tensor, assigned: Tensor, count: int) -> list[int]:
    clusters = [torch.nonzero(assigned == c).flatten().tolist() for c in range(int(assigned.max()) + 1)]
    for members in clusters:
        mean = points[members].double().mean(0)
        members.sort(key=lambda at, mean=mean: (float((points[at] - mean).square().sum()), at))
    clusters.sort(key=lambda members: -len(members))
    picks: list[int] = []
    while any(clusters):
        picks += [members.pop(0) for members in clusters if members]
    return picks[:count]


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_central_members_equal_the_naive_form(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_ROWS_AT_ONCE", at_once)
    points = torch.cat([normal(50, 6), normal(50, 6)[:9]])  # with copies
    assigned = torch.randint(0, 7, (59,), generator=seeded(1))
    assigned[assigned == 3] = 4  # a number without members
    for count in (0, 1, 6, 20, 59, 80):
        assert central_members(points, assigned, count).tolist() == naive_central(points, assigned, count)


def test_central_members_on_a_line() -> None:
    """Clusters 0, 1, 5 (mean 2) and 10, 11: the nearest of each, the larger first, then what comes second."""
    points = torch.tensor([[10.0], [0.0], [1.0], [5.0], [11.0]])
    assert central_members(points, torch.tensor([0, 1, 1, 1, 0]), 5).tolist() == [2, 0, 1, 4, 3]


def test_equal_points_come_in_their_order() -> None:
    for width in (1, 7, 384):
        points = normal(1, width).repeat(101, 1)
        assert central_members(points, torch.zeros(101, dtype=torch.int64), 101).tolist() == list(range(101))
    assert central_members(torch.ones(0, 2), torch.zeros(0, dtype=torch.int64), 3).tolist() == []


# --- neighbours and divergences


@pytest.mark.parametrize("rows", [1, 7, 65_536])
def test_neighbours_equal_a_sort_of_all_distances(rows: int) -> None:
    points, others = normal(40, 5), normal(30, 5, seed=1)
    with blocks_of(rows):
        found = nearest(points, others, 6)
    assert torch.equal(found, torch.cdist(points.double(), others.double()).argsort(1)[:, :6])
    assert nearest(points, others, 99).shape == (40, 30)
    assert nearest(points[:0], others, 3).shape == (0, 3)


@pytest.mark.parametrize("width", [1, 7, 384])
def test_of_neighbours_as_near_the_lowest_come_first(width: int) -> None:
    one = normal(1, width)
    others = torch.cat([normal(3, width, seed=1) + 50, one.repeat(70, 1), one.repeat(40, 1) + 1e-3])
    for points in (one.repeat(101, 1), others[3:]):
        assert torch.equal(nearest(points, others, 5)[0], torch.arange(3, 8))
    assert bool((nearest(one.repeat(101, 1), others, 5) == torch.arange(3, 8)).all())


@pytest.mark.parametrize("rows", [1, 7, 65_536])
def test_neighbours_by_direction_equal_a_sort_of_all_cosines(rows: int) -> None:
    points, others = normal(40, 5) * (10 ** normal(40, 1, seed=2)), normal(30, 5, seed=1)
    with blocks_of(rows):
        found = nearest(points, others, 6, directions=True)
    cosines = torch.nn.functional.cosine_similarity(points.double()[:, None], others.double(), dim=2)
    assert torch.equal(found, cosines.argsort(1, descending=True)[:, :6])
    assert torch.equal(found, nearest(points, 3 * others, 6, directions=True))
    assert nearest(torch.zeros(1, 5), others, 4, directions=True).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("directions", [False, True])
@pytest.mark.parametrize("apart", [1e-7, 1e-6, 1e-3])
def test_the_order_holds_where_float32_is_too_coarse_for_it(apart: float, directions: bool) -> None:
    """The others lie 0.1 rad away, each by so much further, in directions of their own."""
    for seed in range(20):
        basis = torch.linalg.qr(normal(64, 64, seed=seed).double()).Q
        turned = (0.1 + apart * torch.arange(63).flip(0))[:, None]
        others = (30 * (turned.cos() * basis[0] + turned.sin() * basis[1:])).float()
        point = 30 * basis[:1].float()
        away = torch.cdist(point.double(), others.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
        if directions:
            away = 1 - torch.nn.functional.cosine_similarity(point.double(), others.double(), dim=1)[None]
        expected = away.float().argsort(dim=1, stable=True)
        for count in (1, 4):
            assert torch.equal(nearest(point, others, count, directions=directions), expected[:, :count])


def test_equal_directions_come_in_their_order() -> None:
    one, lengths = normal(1, 384), torch.linspace(0.1, 9, 70)[:, None]
    others = torch.cat([normal(3, 384, seed=1), one * lengths, one * lengths.flip(0)])
    found = nearest(one * torch.linspace(1, 2, 50)[:, None], others, 5, directions=True)
    assert bool((found == torch.arange(3, 8)).all())


def test_divergences_by_hand() -> None:
    """KL((.9, .1) ‖ (.5, .5)) = .9 ln 1.8 + .1 ln .2; of two certain, different ones JS is ln 2."""
    p, q = torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64)
    assert float(kullback_leibler(p, q)) == pytest.approx(0.368064, abs=1e-6)
    assert float(kullback_leibler(q, p)) == pytest.approx(0.510826, abs=1e-6)
    assert float(jensen_shannon(p, q)) == pytest.approx(float(jensen_shannon(q, p)))
    sure = torch.eye(2, dtype=torch.float64)
    assert float(jensen_shannon(sure[0], sure[1])) == pytest.approx(0.693147, abs=1e-6)
    assert float(kullback_leibler(sure[0], q)) == pytest.approx(0.693147, abs=1e-6)


@pytest.mark.parametrize("at_once", [1, 2**20])
def test_the_mean_divergence_equals_a_loop(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergences, "_FLOATS_AT_ONCE", at_once)
    here, there = normal(12, 2, 3).double().softmax(2), normal(5, 2, 3, seed=1).double().softmax(2)
    found = torch.randint(0, 5, (12, 4), generator=seeded(0))
    expected = [
        sum(float(kullback_leibler(there[j, a], here[i, a])) for j in found[i] for a in range(2)) / 8 for i in range(12)
    ]
    looped = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(mean_divergence(here, there, found, kullback_leibler), looped)
    torch.testing.assert_close(mean_kullback_leibler(here, there, found), looped)
