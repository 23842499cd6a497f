"""The seeds that k-means begins with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nlp_al.selection import kmeans
from nlp_al.selection.kmeans import _seeds, kmeans_labels


def naive_seeds(points: np.ndarray, clusters: int, random_state: np.random.RandomState) -> np.ndarray:
    """The same draws, every distance written out."""
    picks = [int(random_state.randint(len(points)))]
    for _ in range(clusters - 1):
        away = np.array([min(((p - points[s]) ** 2).sum() for s in picks) for p in points])
        drawn = random_state.random_sample(2 + int(math.log(clusters))) * away.sum()
        tried = [int(np.flatnonzero(np.cumsum(away) > point)[0]) for point in drawn]
        left = [np.minimum(away, ((points - points[at]) ** 2).sum(1)).sum() for at in tried]
        picks.append(tried[int(np.argmin(left))])
    return points[picks]


@pytest.mark.parametrize("seed", range(5))
def test_seeds_equal_the_naive_form(seed: int) -> None:
    points = np.random.default_rng(seed).standard_normal((80, 5)) + 3.0
    found = _seeds(points, 12, np.random.RandomState(seed))
    np.testing.assert_array_equal(found, naive_seeds(points, 12, np.random.RandomState(seed)))


@pytest.mark.parametrize("shift", [0.0, 1e5])
def test_every_blob_gets_a_seed(shift: float) -> None:
    """Far from the origin too, where float32 squares would hide the distances."""
    centres = 10.0 * np.arange(20, dtype=np.float32)[:, None] * np.ones((1, 8), np.float32)
    points = centres.repeat(15, 0) + np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32) + shift
    for seed in range(10):
        found = _seeds(points, 20, np.random.RandomState(seed))
        assert sorted(np.rint((found - shift).mean(1) / 10.0)) == list(range(20))


def test_copies_of_a_seed_are_drawn_last() -> None:
    points = np.array([[0.1], [0.2], [0.3], [0.4]], np.float32).repeat(25, 0)
    for seed in range(20):
        assert len(np.unique(_seeds(points, 4, np.random.RandomState(seed)))) == 4
    assert _seeds(points, 6, np.random.RandomState(0)).shape == (6, 1)

    class Lowest(np.random.RandomState):
        """Draws nothing but 0, which is where the empty share of a copy lies."""

        def randint(self, *_: object) -> int:
            return 0

        def random_sample(self, size: int) -> np.ndarray:
            return np.zeros(size)

    assert _seeds(points, 4, Lowest()).ravel().tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_large_pools_are_clustered_in_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.cat([torch.zeros(60, 3), torch.ones(41, 3)])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(kmeans, "KMeans", refuse)
    monkeypatch.setattr(kmeans, "MINI_BATCH_POINTS", 100)
    assigned = kmeans_labels(points, 2, torch.Generator().manual_seed(0))
    assert torch.equal(assigned == assigned[0], points[:, 0] == 0)
    with pytest.raises(AssertionError):
        kmeans_labels(points[1:], 2, torch.Generator().manual_seed(0))
