"""Typicality in clusters too large for comparing all members with each other."""

from __future__ import annotations

import pytest
import torch

from nlp_al.selection import typicality
from nlp_al.selection.typicality import typical_of_clusters
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chosen(points: torch.Tensor, assigned: torch.Tensor, count: int, seed: int) -> list[int]:
    return typical_of_clusters(
        points, assigned, assigned[:0], count, seeded(seed), neighbours=20, min_cluster_size=1, squared=False
    ).tolist()


def test_members_at_random_stand_for_a_large_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger cluster is thinned to 8 of 40, the smaller one of 8 is not; the draw is the generator's first."""
    points = torch.randn(48, 3, generator=seeded(1))
    assigned = (torch.arange(48) % 6 == 0).long()
    whole = chosen(points, assigned, 2, 0)
    monkeypatch.setattr(typicality, "LARGEST", 8)
    drawn = torch.nonzero(assigned == 0).flatten()[torch.randperm(40, generator=seeded(5))[:8].sort().values]
    best = drawn[typicality.typicality(points[drawn], 20).argmax()]
    found = chosen(points, assigned, 2, 5)
    assert found == [int(best), whole[1]]
    assert len({chosen(points, assigned, 1, seed)[0] for seed in range(30)}) > 5


@pytest.mark.parametrize("squared", [False, True])
def test_looking_anew_at_few_is_looking_anew_at_all(squared: bool) -> None:
    """Down to clusters of one, through those of fewer than 40, where there are fewer neighbours with each pick."""
    points = torch.randn(130, 4, generator=seeded(0), dtype=torch.float64)
    assigned = torch.tensor([0] * 70 + [1] * 45 + [2] * 15)
    left = [torch.nonzero(assigned == c).flatten().tolist() for c in range(3)]
    wanted: list[int] = []
    while any(left):
        for members in filter(None, left):
            found = typicality.typicality(points[members], 20, squared)
            wanted.append(members.pop(int(found.argmax())))
    rules = {"neighbours": 20, "min_cluster_size": 1, "squared": squared}
    assert typical_of_clusters(points, assigned, assigned[:0], 130, seeded(0), **rules).tolist() == wanted


def test_few_are_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, usual = [], typicality._of_rows

    def counted(points: torch.Tensor, rows: torch.Tensor, k: int, squared: bool) -> tuple[torch.Tensor, torch.Tensor]:
        looked.append(len(rows))
        return usual(points, rows, k, squared)

    monkeypatch.setattr(typicality, "_of_rows", counted)
    chosen(torch.randn(1000, 4, generator=seeded(0)), torch.zeros(1000, dtype=torch.int64), 20, 0)
    assert looked[0] == 1000
    assert max(looked[1:]) < 150


def test_what_was_not_drawn_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typicality, "LARGEST", 4)
    points, assigned = torch.randn(20, 2, generator=seeded(0)), torch.zeros(20, dtype=torch.int64)
    found = chosen(points, assigned, 20, 0)
    assert sorted(found) == list(range(20))
    drawn = torch.randperm(20, generator=seeded(0))[:4].tolist()
    assert set(found[:4]) == set(drawn)
    assert found[4:] == sorted(set(range(20)) - set(drawn))
    assert len(chosen(points, assigned, 7, 0)) == 7
    assert chosen(torch.zeros(20, 2), assigned, 4, 0) == sorted(drawn)  # ties go to the lowest position


def test_the_selection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typicality, "LARGEST", 30)
    points = torch.cat([torch.randn(50, 3, generator=seeded(0)), 90 + torch.randn(20, 3, generator=seeded(1))])
    found = make_strategy("typiclust").select(Signals(pretrained=points), 2, seeded(0))
    assert found.note == "of clusters with more than 30 members, so many drawn at random stood for all"
    assert make_strategy("typiclust").select(Signals(pretrained=points[40:]), 2, seeded(0)).note == ""
