"""Margins over clusters: the rounds, the cut of the tree, and its ends, where it is `margin` and where it is random."""

from dataclasses import replace

import pytest
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

from nlp_al.selection.clusters import average_linkage, round_robin
from nlp_al.signals import Signals
from nlp_al.strategies import clusters, make_strategy
from nlp_al.testing import check_strategy


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_margins(margins: Tensor, points: Tensor) -> Signals:
    return Signals(probs=torch.stack([(1 + margins) / 2, (1 - margins) / 2], 1), pretrained=points)


def naive(points: Tensor, least: int) -> list[set[int]]:
    """Joins the two clusters of the smallest mean distance until there are `least`."""
    distances = cdist(points.numpy(), points.numpy())
    groups = [{at} for at in range(len(points))]
    while len(groups) > least:
        pairs = [(a, b) for b in range(len(groups)) for a in range(b)]
        a, b = min(pairs, key=lambda p: distances[list(groups[p[0]])][:, list(groups[p[1]])].mean())
        groups[a] |= groups.pop(b)
    return sorted(groups, key=min)


def as_sets(assigned: Tensor) -> list[set[int]]:
    return sorted(
        ({at for at, own in enumerate(assigned.tolist()) if own == c} for c in set(assigned.tolist())), key=min
    )


@pytest.mark.parametrize("least", [1, 2, 7, 19, 20, 50])
def test_clusters_are_joined_by_mean_distance(least: int) -> None:
    points = torch.randn(20, 3, generator=seeded(0))
    assigned, threshold = average_linkage(points, torch.arange(20), least)
    assert as_sets(assigned) == naive(points, min(least, 20))
    again, _ = average_linkage(points, torch.arange(20), 0, threshold)
    assert as_sets(again) == as_sets(assigned)


def test_points_that_coincide_are_one_cluster_and_equal_distances_are_not_parted() -> None:
    points = torch.tensor([[0.0], [0.0], [5.0], [5.0], [5.0]])
    assert as_sets(average_linkage(points, torch.arange(5), 100)[0]) == [{0, 1}, {2, 3, 4}]
    pairs = torch.tensor([[0.0], [1.0], [10.0], [11.0], [40.0]])  # both are 1 apart: 4 clusters can't be had
    assert as_sets(average_linkage(pairs, torch.arange(5), 4)[0]) == [{0}, {1}, {2}, {3}, {4}]
    assert as_sets(average_linkage(pairs, torch.arange(5), 3)[0]) == [{0, 1}, {2, 3}, {4}]


def test_what_is_not_joined_goes_to_the_nearest_cluster() -> None:
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    points = centres.repeat(40, 1) + torch.randn(120, 2, generator=seeded(1))
    sample = torch.randperm(120, generator=seeded(2))[:30].sort().values
    assigned, _ = average_linkage(points, sample, 3)
    assert as_sets(assigned) == [set(range(at, 120, 3)) for at in range(3)]


def test_small_clusters_come_first_and_empty_ones_are_passed_over() -> None:
    """Of clusters A, B, C with 1, 2, 5 members, four picks are one of A, B, C, and then of B."""
    assigned = torch.tensor([2, 2, 1, 2, 0, 1, 2, 2])
    for seed in range(20):
        found = assigned[round_robin(torch.arange(8), assigned, 4, seeded(seed))].tolist()
        assert found == [0, 1, 2, 1]
    assert sorted(round_robin(torch.arange(8), assigned, 8, seeded(0)).tolist()) == list(range(8))


def test_members_are_drawn_at_random() -> None:
    firsts = [int(round_robin(torch.arange(4), torch.zeros(4, dtype=torch.int64), 1, seeded(s))[0]) for s in range(400)]
    assert min(firsts.count(at) for at in range(4)) > 70


def test_clusters_of_the_same_size_go_by_their_smallest_margin() -> None:
    assert round_robin(torch.tensor([3, 1, 0, 2]), torch.tensor([0, 1, 2, 3]), 4, seeded(0)).tolist() == [3, 1, 0, 2]


def test_where_every_point_is_a_cluster_it_is_margin() -> None:
    margins = torch.rand(60, generator=seeded(0))
    signals = of_margins(margins, torch.randn(60, 4, generator=seeded(1)))
    wanted = torch.argsort(margins)[:7].tolist()
    assert make_strategy("cluster_margin", threshold=0.0).select(signals, 7, seeded(0)).indices.tolist() == wanted


def test_where_all_are_one_cluster_it_is_random_among_the_smallest_margins() -> None:
    margins = torch.rand(60, generator=seeded(0))
    signals = of_margins(margins, torch.randn(60, 4, generator=seeded(1)))
    strategy = make_strategy("cluster_margin", threshold=1e9, candidates=3.0)
    closest = set(torch.argsort(margins)[:12].tolist())
    drawn = [set(strategy.select(signals, 4, seeded(seed)).indices.tolist()) for seed in range(60)]
    assert all(found <= closest for found in drawn)
    assert set().union(*drawn) == closest
    assert len({frozenset(found) for found in drawn}) > 40


def test_sizes_are_counted_among_the_candidates() -> None:
    """A large cluster of which one example is uncertain comes before a small one of which two are."""
    points = torch.tensor([[0.0]] * 10 + [[9.0]] * 3) + torch.arange(13)[:, None] * 0.001
    margins = torch.tensor([0.05, *[0.9] * 9, 0.01, 0.02, 0.8])
    strategy = make_strategy("cluster_margin", threshold=1.0, candidates=3.0)
    for seed in range(5):
        assert strategy.select(of_margins(margins, points), 1, seeded(seed)).indices.tolist() == [0]


def test_of_a_large_pool_a_sample_is_joined_and_the_selection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLE", 40)
    points = torch.randn(100, 4, generator=seeded(1))
    signals = of_margins(torch.rand(100, generator=seeded(0)), points)
    found = make_strategy("cluster_margin").select(signals, 5, seeded(0))
    assert found.note == "40 of 100 points, drawn at random, were joined to clusters"
    assert len(set(found.indices.tolist())) == 5
    check_strategy("cluster_margin")


def test_of_a_large_pool_only_what_is_looked_at_goes_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picks are those of assigning every point, labelled ones among them."""
    monkeypatch.setattr(clusters, "SAMPLE", 40)
    points, margins = torch.randn(130, 4, generator=seeded(1)), torch.rand(100, generator=seeded(0))
    signals = of_margins(margins, points[:100])
    signals = replace(signals, labelled=Signals(pretrained=points[100:]))
    generator = seeded(0)
    sample = torch.randperm(130, generator=generator)[:40].sort().values
    assigned, _ = average_linkage(points, sample, 10)
    wanted = round_robin(torch.argsort(margins)[:10], assigned, 5, generator)
    found = make_strategy("cluster_margin", candidates=2.0, clusters=2.0).select(signals, 5, seeded(0))
    assert found.indices.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "parameters", [{"candidates": 1.25, "clusters": 1.0, "metric": "cosine"}, {"threshold": 2.0, "agg": "max"}]
)
def test_parameters_do_not_break_the_promises(parameters: dict) -> None:
    check_strategy(make_strategy("cluster_margin", **parameters))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"candidates": 0.5}, "candidates is 0.5; it must be at least 1"),
        ({"clusters": 0.0}, "clusters is 0; it must be above 0"),
        ({"threshold": -1.0}, "threshold is -1; it must not be negative"),
    ],
)
def test_a_wrong_parameter_is_told(parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy("cluster_margin", **parameters)
