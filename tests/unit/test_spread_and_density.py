"""Densities, draws and discriminators on plain tensors, and the strategies that spread or weigh by them."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from nlp_al.config import Stage
from nlp_al.progress import Progress
from nlp_al.query import choose_batch
from nlp_al.selection import density
from nlp_al.selection.density import mean_cosine, mixture_density, neighbour_cosine
from nlp_al.selection.discriminate import shares, unlike_labelled
from nlp_al.selection.kcenter import k_center
from nlp_al.selection.lightweight import draw_in_proportion, lightweight_probabilities
from nlp_al.selection.pca import principal_axes
from nlp_al.selection.rows import per_row, total_of_rows
from nlp_al.signals import SignalError, Signals
from nlp_al.strategies import STRATEGIES, Selection, make_strategy, representatives
from nlp_al.testing import synthetic_signals
from nlp_al.view import View

SPREADING = ("lightweight_coreset", "probcover", "facility_location", "graph_cut", "kdpp", "dal")
WEIGHING = ("info_density", "density_weighted", "kdpp")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def selection(name: str, signals: Signals, size: float, seed: int = 0, **parameters: Any) -> Selection:
    return make_strategy(name, **parameters).select(signals, size, seeded(seed))


def select(name: str, signals: Signals, size: float, seed: int = 0, **parameters: Any) -> list[int]:
    found: list[int] = selection(name, signals, size, seed, **parameters).indices.tolist()
    return found


def scores(name: str, signals: Signals, **parameters: Any) -> Tensor:
    found = selection(name, signals, 0, **parameters).scores
    assert found is not None
    return found


def binary(*uncertainties: float) -> Tensor:
    """Probabilities whose least confidence, 1 − p₍₁₎, is as given."""
    return torch.tensor([[1 - u, u] for u in uncertainties])


# --- passes over rows


@pytest.mark.parametrize("n", [0, 1, 4095, 4096, 9000])
def test_passes_over_rows_equal_those_over_all(n: int) -> None:
    points = normal(n, 3)
    torch.testing.assert_close(per_row(points, lambda rows: rows.sum(1)), points.double().sum(1))
    torch.testing.assert_close(total_of_rows(points), points.double().sum(0))
    torch.testing.assert_close(total_of_rows(points, lambda rows: rows * 2), 2 * points.double().sum(0))


# --- densities

DIRECTIONS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])


def cosines(points: Tensor) -> Tensor:
    rows = [row / max(float(row.norm()), 1e-300) for row in points.double()]
    return torch.tensor([[float(one @ other) for other in rows] for one in rows], dtype=torch.float64)


def test_mean_cosines_of_three() -> None:
    """(1 + .8 + 0) / 3, (.8 + 1 + .6) / 3 and (0 + .6 + 1) / 3; without themselves .8 / 2, 1.4 / 2 and .6 / 2."""
    torch.testing.assert_close(mean_cosine(DIRECTIONS), torch.tensor([0.6, 0.8, 1.6 / 3]))
    torch.testing.assert_close(mean_cosine(DIRECTIONS, exclude_self=True), torch.tensor([0.4, 0.7, 0.3]))
    torch.testing.assert_close(mean_cosine(7 * DIRECTIONS), mean_cosine(DIRECTIONS))


def test_mean_cosines_equal_a_double_loop() -> None:
    """Lengths do not matter, not even very small ones, but a row of zeros is like nothing, not like itself either."""
    points = torch.cat([normal(50, 7) + 0.5, torch.zeros(2, 7), normal(3, 7, seed=1) * 1e-20])
    expected, own = cosines(points), torch.tensor([1.0] * 50 + [0.0] * 2 + [1.0] * 3)
    torch.testing.assert_close(mean_cosine(points), expected.mean(1).float(), atol=1e-6, rtol=0)
    others = ((expected.sum(1) - own) / 54).float()
    torch.testing.assert_close(mean_cosine(points, exclude_self=True), others, atol=1e-6, rtol=0)
    assert float(mean_cosine(points[:1], exclude_self=True)) == pytest.approx(0.0, abs=1e-12)
    assert mean_cosine(points[:0]).tolist() == []


@pytest.mark.parametrize("at_once", [1, 300, 2**21])
@pytest.mark.parametrize("count", [1, 5, 200])
def test_neighbour_cosines_equal_a_sort(count: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density, "_COSINES_AT_ONCE", at_once)
    points = torch.cat([normal(40, 5), normal(40, 5)[:9]])  # with copies
    near = cosines(points).fill_diagonal_(-torch.inf)
    expected = near.sort(1, descending=True).values[:, : min(count, 48)].mean(1)
    torch.testing.assert_close(neighbour_cosine(points, torch.arange(49), count), expected.float())


def test_neighbours_are_looked_for_among_references() -> None:
    points, references = normal(60, 5), torch.arange(0, 60, 3)
    near = cosines(points).fill_diagonal_(-torch.inf)[:, references]
    expected = near.sort(1, descending=True).values[:, :4].mean(1)
    torch.testing.assert_close(neighbour_cosine(points, references, 4), expected.float())
    assert neighbour_cosine(points[:1], torch.arange(1), 4).tolist() == [0]


def test_one_gaussian_is_the_closed_form() -> None:
    points = torch.nn.functional.normalize(normal(80, 4).double() + 2, dim=1)
    mean, variance = points.mean(0), points.var(0, correction=0) + 1e-6
    logs = -0.5 * ((points - mean).square() / variance).sum(1)
    expected = (logs - logs.min()) / (logs.max() - logs.min())
    found = mixture_density(points, torch.arange(80), 1, seeded(0))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_gaussians_are_scikit_learns() -> None:
    points, references = normal(200, 4), torch.arange(0, 200, 2)
    rows = torch.nn.functional.normalize(points.double(), dim=1)
    seed = int(torch.randint(2**31 - 1, (), generator=seeded(3)))
    model = GaussianMixture(3, covariance_type="diag", random_state=seed).fit(rows[references].numpy())
    logs = torch.from_numpy(model.score_samples(rows.numpy()))
    expected = (logs - logs.min()) / (logs.max() - logs.min())
    found = mixture_density(points, references, 3, seeded(3))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("error")
def test_gaussians_of_few_or_equal_points() -> None:
    assert mixture_density(torch.ones(7, 3), torch.arange(7), 10, seeded(0)).tolist() == [1.0] * 7
    assert mixture_density(torch.ones(1, 3), torch.arange(1), 10, seeded(0)).tolist() == [1.0]
    assert mixture_density(normal(4, 3), torch.arange(4), 10, seeded(0)).isfinite().all()


# --- uncertainty and density


def test_information_density_of_three() -> None:
    """Uncertainties .3, .5, .6 times densities .6, .8, .533333."""
    signals = Signals(probs=binary(0.3, 0.5, 0.4), embeddings=DIRECTIONS)
    signals = replace(signals, probs=torch.tensor([[0.7, 0.15, 0.15], [0.5, 0.25, 0.25], [0.4, 0.3, 0.3]]))
    base = {"base": "least_confidence"}
    expected = torch.tensor([0.18, 0.40, 0.32], dtype=torch.float64)
    torch.testing.assert_close(scores("info_density", signals, **base), expected, atol=1e-6, rtol=0)
    assert select("info_density", signals, 2, **base) == [1, 2]
    without = torch.tensor([0.12, 0.35, 0.18], dtype=torch.float64)
    torch.testing.assert_close(scores("info_density", signals, exclude_self=True, **base), without, atol=1e-6, rtol=0)
    squared = torch.tensor([0.3 * 0.36, 0.5 * 0.64, 0.6 * 0.284444], dtype=torch.float64)
    torch.testing.assert_close(scores("info_density", signals, beta=2.0, **base), squared, atol=1e-6, rtol=0)
    alone = torch.tensor([0.3, 0.5, 0.6], dtype=torch.float64)
    torch.testing.assert_close(scores("info_density", signals, beta=0.0, **base), alone, atol=1e-6, rtol=0)
    assert select("info_density", signals, 3, beta=0.0, **base) == [2, 1, 0]


@pytest.mark.parametrize("name", ["info_density", "density_weighted"])
@pytest.mark.parametrize("base", ["entropy", "least_confidence", "margin", "mnlp", "token_margin", "sequence_margin"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_what_is_certain_is_never_asked_for_being_dense(name: str, base: str, beta: float) -> None:
    """Three examples alike and one a little off: the uncertain one of the three comes first, never the most probable.

    Maximum probability times density would take a certain one; so would a margin, which is negative, times density.
    """
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [0.8, 0.6]])
    signals = Signals(probs=binary(0.02, 0.45, 0.03, 0.4), embeddings=embeddings)
    found = select(name, signals, 4, base=base, beta=beta)
    assert found[:2] == [1, 3]
    assert set(found[2:]) == {0, 2}


@pytest.mark.parametrize("base", ["entropy", "margin"])
@pytest.mark.parametrize("name", ["info_density", "density_weighted"])
def test_of_equally_uncertain_ones_the_dense_come_first(name: str, base: str) -> None:
    """An outlier stands across ten neighbours; of a sure one, which gives margins a place to count from, later too."""
    embeddings = torch.cat([torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]) + 0.1 * normal(10, 2)])
    signals = Signals(probs=binary(*[0.5] * 10, 0.1), embeddings=embeddings)
    found = select(name, signals, 11, base=base)
    assert found[-2:] == [10, 0] or found[-2:] == [0, 10]
    assert 0 not in found[:9]


@pytest.mark.parametrize("name", ["info_density", "density_weighted"])
def test_a_negative_density_counts_as_none(name: str) -> None:
    """The last one points away from all others: whatever the power, its score is 0 and not negative or NaN."""
    embeddings = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, -0.1], [-1.0, 0.0]])
    signals = Signals(probs=binary(0.1, 0.2, 0.3, 0.5), embeddings=embeddings)
    for beta in (0.5, 1.0, 2.0):
        found = scores(name, signals, beta=beta, **({"exclude_self": True} if name == "info_density" else {}))
        assert float(found[3]) == pytest.approx(0.0, abs=1e-8)
        assert bool((found[:3] > 0).all())
    assert select(name, signals, 1, beta=0.0) == [3]


def undecided() -> Signals:
    """Sentences of 1, 0, 2 and 1 words, of which the second may be asked about, though nothing in it is decided."""
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    return Signals(
        probs=probs,
        offsets=torch.tensor([0, 1, 1, 3, 4]),
        embeddings=embeddings,
        askable=torch.ones(4, dtype=torch.bool),
    )


@pytest.mark.parametrize("base", ["entropy", "margin", "mnlp"])
@pytest.mark.parametrize("name", WEIGHING)
def test_what_the_base_puts_last_stays_last(name: str, base: str) -> None:
    """A score of minus infinity; times a density of 0 it would be NaN, and exp of it a quality of 0."""
    assert select(name, undecided(), 4, base=base)[-1] == 1
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert select(name, replace(undecided(), embeddings=opposite), 4, base=base)[-1] == 1
    assert select(name, replace(undecided(), embeddings=torch.zeros(4, 2)), 4, base=base)[-1] == 1
    if name != "kdpp":
        found = scores(name, undecided(), base=base)
        assert found[1] == -math.inf
        assert not bool(found.isnan().any())


@pytest.mark.parametrize("name", WEIGHING)
def test_any_score_of_uncertainty_may_be_the_base(name: str) -> None:
    assert make_strategy(name).needs == {"probs", "embeddings"}
    assert make_strategy(name, base={"name": "margin", "agg": "max"}).needs == {"probs", "embeddings"}
    assert make_strategy(name, base="entity_uncertainty").needs == {"probs", "embeddings", "outside"}
    for base, says in (
        ("entropie", "base is 'entropie': There is no strategy 'entropie'"),
        ("coreset", "base is 'coreset', which gives examples no scores; those that do are: .*entropy"),
        ("kdpp", "base is 'kdpp', which gives examples no scores"),
        ({"agg": "max"}, "it must be the name of a strategy, or a mapping with one"),
        ({"name": "margin", "agg": "median"}, "agg is 'median'; it must be one of mean, sum, max, topm"),
        (3, f"base of strategy {name} is 3; it must be text or a mapping"),
    ):
        with pytest.raises(ValueError, match=says):
            make_strategy(name, base=base)


def test_parameters_of_the_base_count() -> None:
    """One word of two is in doubt: by the mean .3 of uncertainty, by the maximum .5, against .4."""
    probs = binary(0.1, 0.5, 0.4)
    signals = Signals(probs=probs, offsets=torch.tensor([0, 2, 3]), embeddings=torch.ones(2, 2))
    assert select("info_density", signals, 1, base="least_confidence") == [1]
    assert select("info_density", signals, 1, base={"name": "least_confidence", "agg": "max"}) == [0]


def test_neighbours_and_gaussians_know_several_dense_regions() -> None:
    """Two groups across each other, of 20 and of 8, and one example between: only the mean over the pool favours it."""
    groups = torch.cat([torch.tensor([[1.0, 0.0]]).repeat(20, 1), torch.tensor([[0.0, 1.0]]).repeat(8, 1)])
    embeddings = torch.cat([groups + 0.02 * normal(28, 2), torch.tensor([[0.7, 0.7]])])
    signals = Signals(probs=binary(*[0.5] * 29), embeddings=embeddings)
    assert select("density_weighted", signals, 29, neighbours=5)[-1] == 28
    assert select("density_weighted", signals, 29, density="gmm", components=2)[-1] == 28
    assert select("info_density", signals, 29)[-1] != 28


# --- lightweight coresets


def test_lightweight_probabilities_of_three() -> None:
    """The mean of 0, 1, 5 is 2: squared distances 4, 1, 9 of 14, of which half is added to a sixth."""
    expected = torch.tensor([0.309524, 0.202381, 0.488095], dtype=torch.float64)
    found = lightweight_probabilities(torch.tensor([[0.0], [1.0], [5.0]]))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert lightweight_probabilities(torch.ones(4, 2)).tolist() == [0.25] * 4
    assert lightweight_probabilities(torch.ones(0, 2)).tolist() == []
    torch.testing.assert_close(lightweight_probabilities(normal(9000, 3)).sum(), torch.tensor(1.0).double())


def chi_square(counts: list[int], expected: list[float]) -> float:
    return sum((c - e) ** 2 / e for c, e in zip(counts, expected, strict=True))


def test_draws_without_replacement_are_in_proportion_to_what_is_left() -> None:
    """Weights 1, 2, 7: pairs in order have .1 · 2/9, .1 · 7/9, .2 · 1/8, .2 · 7/8, .7 · 1/3 and .7 · 2/3."""
    weights, generator, draws = torch.tensor([1.0, 2.0, 7.0]).double(), seeded(0), 9000
    pairs = {(0, 1): 0.1 * 2 / 9, (0, 2): 0.1 * 7 / 9, (1, 0): 0.025, (1, 2): 0.175, (2, 0): 0.7 / 3, (2, 1): 1.4 / 3}
    seen = [tuple(draw_in_proportion(weights, 2, generator).tolist()) for _ in range(draws)]
    assert chi_square([seen.count(pair) for pair in pairs], [draws * share for share in pairs.values()]) < 20.5  # 0.1%
    assert draw_in_proportion(weights, 3, seeded(1))[:1].tolist() == draw_in_proportion(weights, 1, seeded(1)).tolist()


def test_a_lightweight_coreset_is_drawn_from_the_whole_pool() -> None:
    """Of 10,000 the last 1,000 lie far away: a draw for each block of 100 would give each block its share."""
    points = torch.cat([normal(9000, 2), normal(1000, 2, seed=1) + 50])
    share = float(lightweight_probabilities(points)[9000:].sum())
    assert share == pytest.approx(0.05 + 0.45, abs=0.01)  # a tenth of one half, nine tenths of the other
    taken = torch.tensor([select("lightweight_coreset", Signals(embeddings=points), 40, seed) for seed in range(50)])
    assert float((taken >= 9000).double().mean()) == pytest.approx(share, abs=0.04)
    near = taken[taken < 9000].double()
    assert float(near.mean()) == pytest.approx(4500, abs=300)
    assert len(near.unique()) > 0.9 * len(near)


# --- telling labelled from unlabelled


def test_parts_add_up() -> None:
    assert shares(7, 3) == [3, 2, 2]
    assert shares(2, 10) == [1, 1]
    assert shares(0, 10) == []
    assert shares(100, 10) == [10] * 10


@pytest.mark.parametrize("stochastic", [False, True])
def test_what_no_label_speaks_for_is_found(stochastic: bool) -> None:
    """Half of the pool lies four deviations aside, where nothing is labelled."""
    aside = torch.zeros(400, 8)
    aside[200:, 0] = 4.0
    found: list[bool] = []
    for seed in range(2):
        known = Signals(embeddings=normal(60, 8, seed=seed + 100))
        signals = Signals(embeddings=normal(400, 8, seed=seed) + aside, labelled=known)
        picks = select("dal", signals, 10, seed, rounds=2, stochastic=stochastic)
        assert len(set(picks)) == 10
        found += [at >= 200 for at in picks]
    assert sum(found) / 20 >= (0.75 if stochastic else 0.9)


def test_later_parts_take_the_earlier_ones_for_labelled() -> None:
    """Two regions without labels: the farther one fills a first part, and is as good as labelled in the second."""
    aside, away = torch.tensor([0.0, 4.0, 0.0, 0.0]), torch.tensor([-40.0, 0.0, 0.0, 0.0])
    points = torch.cat([normal(60, 4), normal(60, 4, seed=1) + aside, normal(60, 4, seed=2) + away])
    for rounds, expected in ((1, [2] * 20), (2, [2] * 10 + [1] * 10)):
        picks = unlike_labelled(points, normal(20, 4, seed=3), 20, seeded(0), rounds=rounds, stochastic=False)
        assert (picks // 60).tolist() == expected


def test_scale_and_place_of_embeddings_do_not_matter() -> None:
    points, known = normal(100, 6), normal(15, 6, seed=1) + 1
    expected = unlike_labelled(points.double(), known.double(), 10, seeded(0), rounds=2, stochastic=False)
    moved = unlike_labelled(
        1000 * points.double() + 7, 1000 * known.double() + 7, 10, seeded(0), rounds=2, stochastic=False
    )
    assert moved.tolist() == expected.tolist()


def test_without_labels_the_first_part_is_random() -> None:
    points = normal(50, 4)
    for seed in range(3):
        picks = unlike_labelled(points, points[:0], 10, seeded(seed), rounds=2, stochastic=False)
        assert len(picks.unique()) == 10
        assert picks[:5].tolist() == torch.randperm(50, generator=seeded(seed))[:5].tolist()
    assert (
        unlike_labelled(torch.ones(9, 3), torch.ones(4, 3), 9, seeded(0), rounds=10, stochastic=False).unique().numel()
        == 9
    )


# --- coresets


def test_principal_axes_are_those_of_the_covariance() -> None:
    points = normal(300, 5) * torch.tensor([1.0, 5.0, 0.1, 3.0, 2.0]) + 100
    axes = principal_axes((points[:200], points[200:]), 3)
    assert axes.shape == (5, 3)
    assert axes.abs().argmax(0).tolist() == [1, 3, 4]
    centred = points.double() - points.double().mean(0)
    expected = torch.linalg.svd(centred, full_matrices=False).Vh[:3].T
    torch.testing.assert_close((axes.T @ expected).abs(), torch.eye(3).double(), atol=1e-9, rtol=0)
    assert principal_axes((points[:0], points[:0]), 9).shape == (5, 5)


def test_a_coreset_may_look_at_principal_components() -> None:
    """Of 20 coordinates two tell points apart, and the others are small noise that adds up."""
    points, known = normal(40, 20), normal(6, 20, seed=1)
    points[:, :2] *= 10
    known[:, :2] *= 10
    signals = Signals(embeddings=points, labelled=Signals(embeddings=known))
    together = torch.cat([points, known]).double()
    axes = torch.linalg.svd(together - together.mean(0), full_matrices=False).Vh[:2].T
    expected = k_center(points.double() @ axes, known.double() @ axes, 10).tolist()
    assert select("coreset", signals, 10, pca=2) == expected
    assert select("coreset", signals, 10) != expected
    assert select("coreset", signals, 10, pca=20) == select("coreset", signals, 10)
    assert select("coreset", signals, 10, pca=99) == select("coreset", signals, 10)
    equal = Signals(embeddings=normal(1, 384).repeat(40, 1))
    assert select("coreset", equal, 40, pca=10) == list(range(40))


def test_a_coreset_may_start_anywhere() -> None:
    points = normal(30, 3)
    signals = Signals(embeddings=points)
    firsts = {select("coreset", signals, 3, seed, start="random")[0] for seed in range(40)}
    assert len(firsts) > 15
    for seed in range(3):
        first, *others = select("coreset", signals, 6, seed, start="random")
        assert others == k_center(points, points[[first]], 6).tolist()[:5]
    known = replace(signals, labelled=Signals(embeddings=points[:2]))
    assert select("coreset", known, 6, 1, start="random") == select("coreset", known, 6)
    assert make_strategy("coreset").group == "deterministic"
    assert make_strategy("coreset", start="random").group == "seeded"


# --- covers, cuts and volumes by their names


def test_facility_location_stands_for_groups_not_for_outliers() -> None:
    """Groups of 9, 6 and 3 and one outlier: one of each group, the largest first; what is labelled is served."""
    turns = [(0.0, 9), (1.8, 6), (3.6, 3), (5.0, 1)]
    angles = torch.cat([torch.full((size,), turn) for turn, size in turns]) + 0.02 * normal(19)
    points = torch.stack([angles.cos(), angles.sin()], 1)
    group = torch.tensor([at for at, (_, size) in enumerate(turns) for _ in range(size)])
    for kernel in ("cosine", "rbf"):
        found = select("facility_location", Signals(embeddings=points), 3, kernel=kernel)
        assert group[found].tolist() == [0, 1, 2]
        signals = Signals(embeddings=points, labelled=Signals(embeddings=2 * points[:1]))
        assert 0 not in group[select("facility_location", signals, 2, kernel=kernel)].tolist() or kernel == "rbf"
        assert group[select("facility_location", signals, 1, kernel=kernel, include_labelled=False)].tolist() == [0]


def test_facility_location_equals_dense_similarities() -> None:
    points, known = normal(60, 5), normal(70, 5, seed=1)
    squared = (points[:, None] - points).double().square().sum(2)
    for kernel, own, other in (
        ("cosine", cosines(points), cosines(torch.cat([points, known]))[:60, 60:]),
        (
            "rbf",
            (-squared / squared.mean()).exp(),
            (-torch.cdist(points, known).double().square() / squared.mean()).exp(),
        ),
    ):
        served = other.amax(1).clamp(min=0) if kernel == "cosine" else other.amax(1)
        for labelled in (None, Signals(embeddings=known)):
            best = torch.zeros(60).double() if labelled is None else served.clone()
            chosen = select("facility_location", Signals(embeddings=points, labelled=labelled), 25, kernel=kernel)
            assert len(set(chosen)) == 25
            for at, pick in enumerate(chosen):  # two that are left alike gain the same, but for the last digits
                gains = (own.clamp(min=0) - best[:, None]).clamp(min=0).sum(0)
                gains[chosen[:at]] = -1
                assert gains[pick] >= gains.max() - 1e-9
                best = torch.maximum(best, own[:, pick])


@pytest.mark.parametrize("penalty", [0.0, 0.5, 4.0])
def test_graph_cut_equals_dense_similarities(penalty: float) -> None:
    points = torch.cat([normal(40, 5), torch.zeros(1, 5)])
    w = (1 + torch.cat([torch.cat([cosines(points[:40]), torch.zeros(40, 1)], 1), torch.zeros(1, 41)])) / 2
    expected: list[int] = []
    for _ in range(10):
        values = {
            at: float(w[:, [*expected, at]].sum() - penalty * w[[*expected, at]][:, [*expected, at]].sum())
            for at in range(41)
            if at not in expected
        }
        expected.append(max(values, key=values.__getitem__))
    assert select("graph_cut", Signals(embeddings=points), 10, penalty=penalty) == expected


def test_probcover_of_a_line() -> None:
    line = torch.tensor([[0.0], [0.5], [1.0], [1.5], [5.0], [5.4], [9.0]])
    signals = Signals(pretrained=line)
    chosen = selection("probcover", signals, 3, delta=0.6)
    assert chosen.indices.tolist() == [1, 4, 2]
    assert chosen.note == ""
    chosen = selection("probcover", signals, 6, delta=0.6)
    assert chosen.indices.tolist() == [1, 4, 2, 6, 0, 3]
    assert chosen.note == "4 picks cover the pool at a radius of 0.6; the rest come by the size of balls"
    assert select("probcover", Signals(embeddings=line), 3, delta=0.6) == [1, 4, 2]
    labelled = replace(signals, labelled=Signals(pretrained=line[1:2]))
    assert select("probcover", labelled, 2, delta=0.6) == [4, 2]


def test_probcover_finds_a_radius_between_clusters() -> None:
    """Three groups of 20 a hundred apart: each is covered by one pick, whatever the seed."""
    points = torch.cat([normal(20, 3, seed=at) + 100 * at for at in range(3)])
    for seed in range(3):
        found = select("probcover", Signals(pretrained=points), 3, seed, classes=3)
        assert sorted(at // 20 for at in found) == [0, 1, 2]


def test_probcover_may_look_at_directions() -> None:
    """With lengths from 1 to 60 and a radius of .3, what lies in a ball is told by direction alone."""
    unit, lengths = torch.nn.functional.normalize(normal(60, 3), dim=1), 1 + torch.arange(60.0)[:, None]
    known = torch.nn.functional.normalize(normal(4, 3, seed=1), dim=1)
    short = Signals(pretrained=unit, labelled=Signals(pretrained=known))
    long = Signals(pretrained=unit * lengths, labelled=Signals(pretrained=known * 50))
    expected = select("probcover", short, 20, delta=0.3)
    assert select("probcover", long, 20, delta=0.3, metric="cosine") == expected
    assert select("probcover", long, 20, delta=0.3) != expected


def test_kdpp_of_four() -> None:
    """The first and the third span .64; with all uncertainty on the second, it and the third do, .5184 before that."""
    points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 0.8], [0.5, 0.5]])
    alone = Signals(embeddings=points)
    assert select("kdpp", alone, 2, omega=0.0) == [0, 2]
    signals = Signals(probs=binary(0.01, 0.5, 0.01, 0.01), embeddings=points)
    assert select("kdpp", signals, 2, omega=2.0) == [1, 2]
    chosen = selection("kdpp", signals, 4, omega=2.0)
    assert chosen.indices.tolist() == [1, 2, 0, 3]
    assert chosen.note == "only 2 examples are independent, the rest of the batch comes by length alone"
    assert selection("kdpp", signals, 2).note == ""


def test_kdpp_may_look_at_directions() -> None:
    """By length the first two span most; by direction the second and the third, which are at right angles."""
    points = torch.tensor([[90.0, 30.0], [0.0, 30.0], [0.1, 0.0]])
    signals = Signals(probs=binary(0.1, 0.3, 0.2), embeddings=points)
    assert select("kdpp", signals, 2, omega=1.0) == [0, 1]
    assert select("kdpp", signals, 2, omega=1.0, metric="cosine") == [1, 2]
    zero = replace(signals, embeddings=torch.tensor([[0.0, 0.0], [0.0, 3.0], [1.0, 0.0]]))
    for metric in ("linear", "cosine"):
        assert select("kdpp", zero, 3, metric=metric)[-1] == 0


def test_kdpp_needs_no_model_for_diversity_alone() -> None:
    assert not make_strategy("kdpp", omega=0.0).needs_model
    assert make_strategy("kdpp").needs_model
    with pytest.raises(SignalError, match="probs"):
        select("kdpp", Signals(embeddings=torch.ones(3, 2)), 1)


def test_kdpp_draws_sets_in_proportion_to_volume() -> None:
    """Pairs span .01, .64, .25, .5184, .16, .16 of 1.7384; with ln 2 of uncertainty the last one's count four times."""
    points = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 0.8], [0.5, 0.5]])
    probs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    volumes = {(0, 1): 0.01, (0, 2): 0.64, (0, 3): 1.0, (1, 2): 0.5184, (1, 3): 0.64, (2, 3): 0.64}
    strategy, draws = make_strategy("kdpp", sample=True), 1500
    generator = seeded(0)
    signals = Signals(probs=probs, embeddings=points)
    seen = [tuple(sorted(strategy.select(signals, 2, generator).indices.tolist())) for _ in range(draws)]
    total = sum(volumes.values())
    assert chi_square([seen.count(p) for p in volumes], [draws * v / total for v in volumes.values()]) < 20.5  # 0.1%
    assert strategy.group == "seeded"
    assert not strategy.nested


def test_kdpp_draws_out_of_two_thousand() -> None:
    signals = Signals(embeddings=normal(3000, 4))
    chosen = selection("kdpp", signals, 3, omega=0.0, sample=True)
    assert chosen.note == "drawn out of 2,000 of the 3,000 examples"
    assert selection("kdpp", signals, 9, omega=0.0, sample=True).note == (
        "drawn out of 2,000 of the 3,000 examples; "
        "only 4 examples are independent, the rest of the batch comes by length alone"
    )


# --- pools too large to compare all with all


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(representatives, "DIRECT", 30)
    monkeypatch.setattr(representatives, "SAMPLE", 12)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("name", ["probcover", "facility_location"])
def test_a_sample_stands_for_a_large_pool(name: str) -> None:
    signals = synthetic_signals("single", 40)
    order = torch.randperm(40, generator=seeded(0))
    some = order[:12].sort().values
    parameters: dict[str, Any] = {"delta": 1.5} if name == "probcover" else {}
    chosen = selection(name, signals, 8, **parameters)
    inside = selection(name, signals.take(some), 8, **parameters)
    assert chosen.indices.tolist() == some[inside.indices].tolist()
    assert chosen.note.startswith("12 of the 40 examples, drawn at random, stood for all of them")
    whole = select(name, signals, 40, **parameters)
    assert sorted(whole) == list(range(40))
    assert sorted(whole[:12]) == some.tolist()
    assert whole[12:] == order[12:].tolist()
    assert whole[:8] == chosen.indices.tolist()
    small = selection(name, synthetic_signals("single", 30), 8, **parameters)
    assert "drawn at random" not in small.note


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("by", ["knn", "gmm"])
def test_density_in_a_large_pool_is_measured_by_a_sample(by: str) -> None:
    signals = synthetic_signals("single", 40)
    chosen = selection("density_weighted", signals, 40, density=by, neighbours=3)
    assert chosen.note == "density was measured among 12 of the 40 examples, drawn at random"
    assert len(chosen.indices.unique()) == 40
    assert chosen.scores is not None
    if by == "knn":
        some = torch.randperm(40, generator=seeded(0))[:12].sort().values
        near = cosines(signals.embeddings).fill_diagonal_(-torch.inf)[:, some]
        dense = near.sort(1, descending=True).values[:, :3].mean(1).clamp(min=0)
        doubt = scores("info_density", signals, beta=0.0)
        torch.testing.assert_close(chosen.scores, dense * doubt, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("small_limits")
def test_a_note_reaches_the_one_who_asked() -> None:
    """Through budgets in words, stages and the batch; the progress tells it once, though the pool shrinks."""
    signals = synthetic_signals("single", 60, cost=True, undecided=5)
    told = "12 of the 55 examples, drawn at random, stood for all of them"
    assert selection("facility_location", signals, 20.0).note == told
    assert selection("facility_location", replace(signals, cost=None), 5).note == told
    stages = [Stage("facility_location", keep=50), Stage("probcover", {"delta": 9.0})]
    view = View(list(range(60)), (), Signals(count=60), lambda left, *_: signals.take(torch.tensor(left)), False)  # type: ignore
    choice = choose_batch(view, stages, 4, 0.0, lambda purpose: seeded(0))
    assert choice is not None
    assert choice.chosen.note == (
        "12 of the 55 examples, drawn at random, stood for all of them; "
        "12 of the 50 examples, drawn at random, stood for all of them; "
        "1 picks cover the pool at a radius of 9; the rest come by the size of balls"
    )


def test_a_note_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(None, None, enabled=True)  # type: ignore[arg-type]  # it needs neither for this
    for note in ("", "20,000 of the 1,000,000 examples", "20,000 of the 999,500 examples", "all at a radius of 0.5"):
        progress.chosen("probcover", note)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == [
        "probcover: 20,000 of the 1,000,000 examples.",
        "probcover: all at a radius of 0.5.",
    ]


# --- parameters


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("coreset", {"pca": 0}, "pca is 0; it must be at least 1, or null"),
        ("coreset", {"start": "first"}, "start is 'first'; it must be mean or random"),
        ("probcover", {"delta": 0.0}, "delta is 0; it must be above 0"),
        ("probcover", {"purity": 1.5}, "purity is 1.5; it must be above 0 and at most 1"),
        ("probcover", {"classes": 0}, "classes is 0; it must be at least 1"),
        ("probcover", {"metric": "l1"}, "metric is 'l1'; it must be euclidean or cosine"),
        ("facility_location", {"kernel": "linear"}, "kernel is 'linear'; it must be cosine or rbf"),
        ("graph_cut", {"penalty": -1.0}, "penalty is -1; it must not be negative"),
        ("kdpp", {"omega": -1.0}, "omega is -1; below 0 what is certain"),
        ("kdpp", {"metric": "rbf"}, "metric is 'rbf'; it must be linear or cosine"),
        ("dal", {"rounds": 0}, "rounds is 0; it must be at least 1"),
        ("info_density", {"beta": -1.0}, "beta is -1; it must not be negative"),
        ("density_weighted", {"density": "kde"}, "density is 'kde'; it must be knn or gmm"),
        ("density_weighted", {"neighbours": 0}, "neighbours is 0; it must be at least 1"),
        ("density_weighted", {"components": 0}, "components is 0; it must be at least 1"),
    ],
)
def test_a_wrong_value_is_told(name: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"Strategy {name}: {says}"):
        make_strategy(name, **parameters)


def test_families_and_groups() -> None:
    for name in ("probcover", "graph_cut", "info_density", "density_weighted"):
        assert STRATEGIES[name].family == "density"
    for name in ("lightweight_coreset", "facility_location", "kdpp", "dal"):
        assert STRATEGIES[name].family == "diversity"
    seeded_ones = {name for name in (*SPREADING, *WEIGHING) if STRATEGIES[name].group == "seeded"}
    assert seeded_ones == {"lightweight_coreset", "probcover", "dal"}
    assert {name for name in (*SPREADING, *WEIGHING) if not STRATEGIES[name].nested} == {"dal"}
    assert make_strategy("density_weighted", density="gmm").group == "seeded"
