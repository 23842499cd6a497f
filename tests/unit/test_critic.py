"""The critic between pool and labelled set, and what `waal` makes of it."""

import math

import pytest
import torch
from torch import Tensor

from nlp_al.selection.critic import steepness, unlike
from nlp_al.selection.network import fresh, output
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy
from nlp_al.testing import blocks_of, check_strategy


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def halves(n: int = 400, width: int = 8, away: float = 3.0) -> tuple[Tensor, Tensor]:
    """A pool of two clusters, the second half of it in the second one, and labelled examples of the first."""
    points = torch.randn(n, width, generator=seeded(1))
    points[n // 2 :, 0] += away
    return points, torch.randn(30, width, generator=seeded(2))


def waal(signals: Signals, count: int = 1, seed: int = 0, **parameters: object):
    return make_strategy("waal", **parameters).select(signals, count, seeded(seed))


# --- the critic


def test_it_is_high_for_what_no_label_speaks_for() -> None:
    points, known = halves()
    for seed in range(3):
        found = unlike(points, known, seeded(seed), 2.0)
        assert float(found[200:].quantile(0.1)) > float(found[:200].quantile(0.8))
        assert set(found.topk(100).indices.tolist()) <= set(range(200, 400))


def test_training_brings_the_steepness_towards_1() -> None:
    """With a large penalty there is little else; a network that begins flat, and one that begins steep."""
    points, known = halves(200)
    lengths = []
    for penalty in (0.01, 2.0, 50.0):
        values = unlike(points, known, seeded(), penalty)
        frame = points - points.mean(0)
        frame = frame / frame.square().sum(1).mean().sqrt()
        # Slopes along the way between the two clusters.
        lengths.append(float((values[100:].mean() - values[:100].mean()) / (frame[100:] - frame[:100]).mean(0).norm()))
    assert lengths[0] > 2 * lengths[1]
    assert lengths[1] > lengths[2]
    assert lengths[2] == pytest.approx(1.0, abs=0.25)


def test_the_penalty_is_of_gradients_by_the_features_and_may_be_trained() -> None:
    """Of w · x it is (‖w‖ − 1)², and its gradient 2 (‖w‖ − 1) w / ‖w‖."""
    net = [torch.tensor([[3.0, 4.0]], requires_grad=True), torch.zeros(1, requires_grad=True)]
    found = steepness(net, torch.randn(7, 2, generator=seeded()))
    assert float(found.detach()) == pytest.approx(16.0)
    (slope,) = torch.autograd.grad(found, net[0])
    torch.testing.assert_close(slope, torch.tensor([[4.8, 6.4]]))
    deep = fresh([5, 4, 3, 1], seeded())
    rows = torch.randn(6, 5, generator=seeded(1)).double()
    deep = [weight.detach().double().requires_grad_() for weight in deep]
    jacobian = torch.autograd.functional.jacobian(lambda x: output(deep, x), rows)
    own = torch.stack([jacobian[at, at] for at in range(6)])
    assert float(steepness(deep, rows).detach()) == pytest.approx(float((own.norm(dim=1) - 1).square().mean()))


def test_neither_scale_nor_place_of_the_features_matters_and_blocks_do_not() -> None:
    points, known = halves(60)
    found = unlike(points, known, seeded(), 2.0)
    for factor, shift in ((1e3, 0.0), (1e-3, 0.5)):
        other = unlike(factor * points + shift, factor * known + shift, seeded(), 2.0)
        torch.testing.assert_close(other, found, rtol=1e-2, atol=1e-2)
    with blocks_of(7):
        assert torch.equal(unlike(points, known, seeded(), 2.0), found)
    assert not torch.equal(unlike(points, known, seeded(1), 2.0), found)
    with torch.no_grad():  # as a selection may run in
        assert torch.equal(unlike(points, known, seeded(), 2.0), found)


def test_without_labels_or_points_it_says_nothing() -> None:
    points, known = halves(10)
    assert unlike(points, known[:0], seeded(), 2.0).tolist() == [0.0] * 10
    assert unlike(points[:0], known, seeded(), 2.0).tolist() == []
    assert unlike(torch.zeros(5, 3), torch.zeros(2, 3), seeded(), 2.0).isfinite().all()


# --- the strategy


def doubts(probs: list[list[float]], **more: Tensor) -> list[float]:
    made = torch.tensor(probs)
    n = len(more["offsets"]) - 1 if "offsets" in more else len(made)
    scores = waal(Signals(probs=made, embeddings=torch.zeros(n, 2), **more), n).scores
    return scores.tolist()


def test_doubt_is_highest_for_equal_options() -> None:
    """(2.831855 + 4.268697) / 2 = 3.550276 for (.7, .2, .1), (1.902852 + 3.295837) / 2 = 2.599345 for a third each."""
    sure, equal = doubts([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    assert sure == pytest.approx(-3.550276, abs=1e-5)
    assert equal == pytest.approx(-2.599345, abs=1e-5)
    others = torch.rand(200, 3, generator=seeded()).softmax(1).tolist()
    assert max(doubts(others)) <= equal + 1e-6


def test_over_words_and_labels_it_is_a_mean_and_candidates_are_compared_with_equal_ones() -> None:
    rows = [[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.7, 0.2, 0.1]]
    found = doubts(rows, offsets=torch.tensor([0, 2, 3]))
    assert found == pytest.approx([-(3.550276 + 2.599345) / 2, -3.550276], abs=1e-5)
    four, two, sure = doubts([[0.25] * 4, [0.5, 0.5, 9.0, 9.0], [0.9, 0.1, 9.0, 9.0]], options=torch.tensor([4, 2, 2]))
    assert (four, two) == pytest.approx((-1.0, -1.0), abs=1e-6)
    logs = [math.log(0.9), math.log(0.1)]
    wanted = (math.hypot(*logs) - sum(logs)) / ((2**0.5 + 2) * math.log(2))
    assert sure == pytest.approx(-wanted, abs=1e-5)


def test_an_option_that_was_never_seen_is_no_trouble() -> None:
    never, hardly = doubts([[0.6, 0.4, 0.0], [0.6, 0.4 - 1e-30, 1e-30]])
    assert -200 < never < hardly < 0


def test_what_the_critic_finds_unlike_is_asked_first() -> None:
    points, known = halves()
    equal = torch.full((400, 2), 0.5)
    signals = Signals(probs=equal, embeddings=points, labelled=Signals(embeddings=known))
    assert min(waal(signals, 50).indices.tolist()) >= 200
    assert waal(signals, 3, weight=0.0).indices.tolist() == [0, 1, 2]
    # Doubt decides among what the critic finds alike.
    probs = equal.clone()
    probs[300:] = torch.tensor([0.999, 0.001])
    both = Signals(probs=probs, embeddings=points, labelled=Signals(embeddings=known))
    assert sum(200 <= at < 300 for at in waal(both, 50, weight=2.0).indices.tolist()) > 45


def test_it_keeps_the_promises_with_parameters() -> None:
    check_strategy(make_strategy("waal", weight=0.0), shapes=("ranking",), seed=1)
    for parameters, says in (({"weight": -1.0}, "weight is -1"), ({"penalty": 0.0}, "penalty is 0; it must be more")):
        with pytest.raises(ValueError, match=says):
            make_strategy("waal", **parameters)
