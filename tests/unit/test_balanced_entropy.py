"""Balanced entropy: the numbers of its paper's formula, integrals beside the closed form, and its edges."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.special import betaln
from torch import Tensor

from nlp_al.selection.beta import balance_score, balanced_entropy, beta_entropy, beta_of
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals


def rows(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def chosen(signals: Signals, **parameters: object) -> Tensor:
    scores = make_strategy("balent", **parameters).select(signals, 1, torch.Generator()).scores
    assert scores is not None
    return scores


def members(means: Tensor, spread: float) -> Tensor:
    """float64[2, M, 2]: two members that lie so far above and below the means, so that the variance is 2 · spread²."""
    first = torch.stack([means + spread, means - spread])
    return torch.stack([first, 1 - first], 2)


@pytest.mark.parametrize(
    ("mean", "variance", "balance", "score"),
    [
        ((0.5, 0.5), 0.05, 0.33055, 3.02525),
        ((0.5, 0.5), 1 / 12, 0.36067, 4 * math.log(2)),
        ((0.9, 0.1), 0.01, -1.02118, -1.02118),
        ((0.5, 0.5), 0.002, -0.72083, -0.72083),
        ((0.5, 0.3, 0.2), 0.02, 1 / 3.66308, 3.66308),
    ],
)
def test_balance_and_score(mean: tuple[float, ...], variance: float, balance: float, score: float) -> None:
    found = balanced_entropy(rows(*mean), torch.full((1, len(mean)), variance).double())
    assert float(found) == pytest.approx(balance, abs=1e-5)
    assert float(balance_score(found)) == pytest.approx(score, abs=1e-5)


def test_the_parts_of_the_sum() -> None:
    """(.5, .5), s² = .05: α = β = 2, Σ m h = −.23491, with H(m) .45824; (.5, .3, .2), s² = .02: .47031."""
    a, b = beta_of(rows(0.5, 0.5), rows(0.05, 0.05))
    torch.testing.assert_close((a, b), (rows(2, 2), rows(2, 2)))
    spread = float((0.5 * beta_entropy(a + 1, b)).sum())
    assert spread == pytest.approx(-0.23491, abs=1e-5)
    assert spread + math.log(2) == pytest.approx(0.45824, abs=1e-5)
    mean = rows(0.5, 0.3, 0.2)
    whole = balanced_entropy(mean, torch.full_like(mean, 0.02)) * (torch.special.entr(mean).sum() + math.log(2))
    assert float(whole) == pytest.approx(0.47031, abs=1e-5)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (3.0, 2.0), (1.4, 0.7), (25.0, 4.0), (1.001, 0.9)])
def test_the_entropy_of_a_beta_is_the_integral(a: float, b: float) -> None:
    def part(x: float) -> float:
        log = (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - betaln(a, b)
        return -math.exp(log) * log

    by_hand = quad(part, 0, 0.5, limit=200)[0] + quad(part, 0.5, 1, limit=400)[0]
    assert float(beta_entropy(torch.tensor(a).double(), torch.tensor(b).double())) == pytest.approx(by_hand, abs=1e-6)


def test_a_flat_beta_has_none_and_no_other_has_more() -> None:
    assert float(beta_entropy(rows(1), rows(1))) == 0.0
    a, b = torch.rand(2, 2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(20).exp()
    assert float(beta_entropy(a / 100, b / 100).max()) <= 0.0


@pytest.mark.parametrize("mean", [(1.0, 0.0), (0.5, 0.5), (1 - 1e-12, 1e-12), (1.0, 0.0, 0.0)])
@pytest.mark.parametrize("variance", [0.0, 1e-12, 0.25, 0.3])
def test_certain_and_opposite_members_give_numbers(mean: tuple[float, ...], variance: float) -> None:
    given = rows(*mean)
    a, b = beta_of(given, torch.full_like(given, variance))
    assert float(torch.cat([a, b]).min()) > 0
    assert bool(balance_score(balanced_entropy(given, torch.full_like(given, variance))).isfinite().all())


def test_a_balance_of_zero_comes_first_and_what_is_negative_last() -> None:
    scores = balance_score(torch.tensor([0.0, 0.2, 0.5, -0.1, -3.0], dtype=torch.float64))
    assert scores.argsort(descending=True).tolist() == [0, 1, 2, 3, 4]
    assert bool(scores.isfinite().all())
    assert scores[1:].tolist() == pytest.approx([5.0, 2.0, -0.1, -3.0])


def test_the_variance_is_over_one_member_less() -> None:
    """Two members at .5 ± √.025 have a variance of .05, not of .025."""
    found = chosen(Signals(passes=members(torch.tensor([0.5]).double(), math.sqrt(0.025))))
    assert float(found) == pytest.approx(3.02525, abs=1e-5)


def test_statistics_and_passes_give_one_number() -> None:
    for shape in ("single", "multi", "sequence", "ranking"):
        signals = synthetic_signals(shape)
        alone = Signals(passes=signals.passes, offsets=signals.offsets, options=signals.options)
        torch.testing.assert_close(chosen(signals), chosen(alone))


def test_beside_the_boundary_comes_before_the_boundary_and_before_what_is_sure() -> None:
    found = chosen(Signals(passes=members(torch.tensor([0.5, 0.62, 0.9]).double(), 0.1)))
    assert found.argsort(descending=True).tolist()[-1] == 2
    assert float(found[2]) < 0 < float(found[:2].min())


def test_options_that_are_none_add_nothing() -> None:
    two = torch.tensor([[[0.7, 0.3]], [[0.4, 0.6]]]).double()
    padded = torch.cat([two, torch.full((2, 1, 3), 7.0).double()], 2)
    wide = Signals(passes=padded, options=torch.tensor([2]))
    torch.testing.assert_close(chosen(wide), chosen(Signals(passes=two)))
    assert chosen(Signals(passes=padded, options=torch.tensor([1])))[0] == -torch.inf


def test_words_that_nobody_doubts_do_not_rule_a_sentence() -> None:
    """A doubtful word among nine certain ones, before ten that are fairly sure; a mean turns that round."""
    doubtful, certain = members(torch.tensor([0.5]).double(), 0.2), members(torch.full((9,), 1 - 1e-6).double(), 1e-7)
    passes = torch.cat([doubtful, certain, members(torch.full((10,), 0.9).double(), 0.02)], 1)
    sentences = Signals(passes=passes, offsets=torch.tensor([0, 10, 20]))
    assert chosen(sentences).argmax() == 0
    assert chosen(sentences, agg="mean").argmax() == 1


@pytest.mark.parametrize("agg", ["mean", "sum", "topm"])
def test_its_parameters_do_not_break_it(agg: str) -> None:
    check_strategy(make_strategy("balent", agg=agg), seed=1)
