"""k-centre looks at few distances twice, and picks as if it looked at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nlp_al.selection import kcenter
from nlp_al.selection.kcenter import k_center
from nlp_al.selection.shards import Peers, Shard
from nlp_al.testing import blocks_of
from nlp_al.testing.peers import with_peers


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(points: Tensor, centres: Tensor, count: int) -> list[int]:
    picks: list[int] = []
    nearest = torch.cdist(points, centres).amin(1)
    for _ in range(count):
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.linalg.vector_norm(points - points[picks[-1]], dim=1))
        nearest[picks] = -torch.inf
    return picks


KINDS: dict[str, Callable[[int], Tensor]] = {
    "normal": lambda n: normal(n, 16),
    "sphere": lambda n: torch.nn.functional.normalize(normal(n, 16), dim=1),
    "blobs": lambda n: 10 * normal(40, 16).repeat(n // 40 + 1, 1)[:n] + normal(n, 16, seed=1),
    "outliers": lambda n: normal(n, 16) * (1 + 20 * (torch.arange(n) % 50 == 0))[:, None],
}


@pytest.fixture(params=["usual", "early"])
def _when(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the usual sizes, and with such that small pools are treated as large ones are."""
    if request.param == "early":
        monkeypatch.setattr(kcenter, "_FEW", 2)
        monkeypatch.setattr(kcenter, "_SHARE", 3)
        monkeypatch.setattr(kcenter, "_ROWS_AT_ONCE", 5)
        monkeypatch.setattr(kcenter, "_CENTRES_AT_ONCE", 3)


@pytest.mark.usefixtures("_when")
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("labelled", [1, 30])
def test_picks_are_those_of_looking_at_everything(kind: str, labelled: int) -> None:
    points = KINDS[kind](2000)
    centres = points[:labelled] + 0.1 * normal(labelled, 16, seed=2)
    assert k_center(points, centres, 200).tolist() == naive(points, centres, 200)
    far = torch.full((1, 16), 1e3, dtype=torch.float64)
    assert k_center(points, far, 100).tolist() == naive(points, far, 100)


@pytest.mark.usefixtures("_when")
def test_ties_and_copies() -> None:
    alike = torch.eye(600)  # each as far from the others as any
    assert k_center(alike, alike[:1], 50).tolist() == list(range(1, 51))
    points = normal(200, 4).repeat(3, 1)
    picks = k_center(points, points[:1], 250).tolist()
    assert sorted(picks[:199]) == list(range(1, 200))  # the first copy of each, before any second one
    assert picks[199:] == [0, *range(200, 250)]
    assert sorted(k_center(points[:200], None, 200).tolist()) == list(range(200))


@pytest.mark.usefixtures("_when")
def test_what_is_not_known_anew_is_never_taken_for_a_tie() -> None:
    """After -10, its neighbour is near a pick, though before it was as far as 10, up to rounding."""
    points = torch.tensor([[-10.0], [-10.0 + 7e-15], [10.0], [10.0 - 4e-15], *[[0.1]] * 20], dtype=torch.float64)
    assert k_center(points, torch.zeros(1, 1, dtype=torch.float64), 2).tolist() == [0, 2]


def pairs_of(points: Tensor, count: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """How many distances are computed after the first, in passes over the points."""
    seen = 0
    usual = kcenter.squared_distances

    def counted(rows: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
        nonlocal seen
        seen += len(rows) * len(centres)
        return usual(rows, squares, centres)

    monkeypatch.setattr(kcenter, "squared_distances", counted)
    k_center(points, points[:100], count)
    return seen / len(points) - 100


def test_little_is_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("normal", "outliers"):
        assert pairs_of(KINDS[kind](20_000), 100, monkeypatch) < 15


def test_at_most_everything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pairs_of(torch.eye(1024), 100, monkeypatch) < 110


@pytest.mark.usefixtures("_when")
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", list(KINDS))
def test_several_processes_pick_what_one_picks(size: int, kind: str) -> None:
    points = KINDS[kind](1500)

    def work(peers: Peers) -> Tensor:
        shard = Shard.of(len(points), peers)
        return k_center(points[shard.start : shard.stop].clone(), points[:3], 60, None, shard)

    with blocks_of(100):
        found = [picks.tolist() for picks in with_peers(size, work)]
    assert found == [naive(points, points[:3], 60)] * size
