"""`isal`: influence functions of the last layer, against refits, dense Hessians and loops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines

from nlp_al.config import read_config
from nlp_al.decisions import Decisions
from nlp_al.learner import ActiveLearner
from nlp_al.selection.influence import (
    curvature,
    gradients_along,
    losses,
    mean_gradient,
    most_probable,
    solved,
)
from nlp_al.selection.last_layer import residuals
from nlp_al.signals import Gradients, Signals
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals

SHAPES = ("single", "multi", "sequence", "ranking")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- a logistic regression with numbers: 1 and x, ridge .5, the bias included

X = torch.tensor([2.0, 1.0, -1.0, -2.0, 0.5, -0.3], dtype=torch.float64)
Y = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
REFERENCE = torch.tensor([0.8, -0.6, 1.5], dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
RIDGE = 0.5


def design(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.ones_like(x), x], 1)


def fitted(extra: tuple[float, float] = (0.0, 0.0), weight: float = 0.0) -> torch.Tensor:
    """The weights, with so much of the loss on one more example on top: Newton's method."""
    points, labels = design(torch.cat([X, torch.tensor([extra[0]]).double()])), torch.cat([Y, torch.tensor([extra[1]])])
    shares = torch.cat([torch.full((6,), 1 / 6), torch.tensor([weight])]).double()
    theta = torch.zeros(2, dtype=torch.float64)
    for _ in range(30):
        p = (points @ theta).sigmoid()
        gradient = points.T @ (shares * (p - labels)) + RIDGE * theta
        hessian = points.T @ (points * (shares * p * (1 - p))[:, None]) + RIDGE * torch.eye(2).double()
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


def as_signals(x: torch.Tensor, theta: torch.Tensor, labels: torch.Tensor | None = None) -> Signals:
    """Texts with one label that is yes or no."""
    yes = (design(x) @ theta).sigmoid()
    r = (yes - (yes > 0.5).double())[:, None]
    targets = None if labels is None else (labels == 0).long()
    probs = torch.stack([yes, 1 - yes], 1)
    return Signals(probs=probs, gradients=Gradients(r, design(x), torch.arange(len(x) + 1)), targets=targets)


def test_the_influences_of_a_logistic_regression() -> None:
    theta = fitted()
    torch.testing.assert_close(theta, torch.tensor([-0.007314, 0.637354]).double(), atol=1e-6, rtol=0)
    pool = as_signals(torch.tensor([0.4, -2.0]).double(), theta)
    labelled, validation = as_signals(X, theta), as_signals(REFERENCE[0], theta, REFERENCE[1])
    signals = replace(pool, labelled=labelled, validation=validation)
    found = make_strategy("isal", ridge=RIDGE).select(signals, 2, seeded())
    assert found.indices.tolist() == [1, 0]  # of the lower, more negative influence
    torch.testing.assert_close(found.scores, torch.tensor([0.118217, 0.145544]), atol=1e-6, rtol=0)
    reference = validation.decisions, validation.factors()
    wanted = mean_gradient(*reference, torch.nn.functional.one_hot(validation.targets, 2))
    direction, close = solved(curvature(labelled.decisions, labelled.factors(), RIDGE), wanted)
    assert close
    no = gradients_along(pool.decisions, pool.factors(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]), direction)
    assert -float(no[0]) == pytest.approx(0.151434, abs=1e-6)


@pytest.mark.parametrize(("weight", "expected"), [(1e-3, -0.118120), (1e-5, -0.118216)])
def test_a_refit_moves_the_loss_as_told(weight: float, expected: float) -> None:
    points, labels = design(REFERENCE[0]), REFERENCE[1]

    def loss(theta: torch.Tensor) -> float:
        return float(torch.nn.functional.binary_cross_entropy_with_logits(points @ theta, labels))

    moved = (loss(fitted((0.4, 1.0), weight)) - loss(fitted())) / weight
    assert moved == pytest.approx(expected, abs=1e-6)


# --- any shape


def flat_gradient(decisions: Decisions, factors: Gradients, weights: torch.Tensor) -> torch.Tensor:
    """Mean of the gradients by autograd of Σ_c w_c · −ln p_c at logits that give the probabilities: float64[R, d]."""
    r, h, _ = factors
    theta = torch.zeros(r.shape[1], h.shape[1], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(total_loss(decisions, factors, weights, theta), theta)
    return gradient / losses(decisions, factors)


def total_loss(decisions: Decisions, factors: Gradients, weights: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """The loss after the last layer's weights have moved by theta."""
    _, h, offsets = factors
    probs, weights = decisions.masked.double(), weights.double()
    moved = h.double() @ theta.T
    loss = torch.zeros((), dtype=torch.float64)
    for i in range(len(decisions)):
        low, high = decisions.offsets[i : i + 2].tolist()
        own = moved[offsets[i] : offsets[i + 1]]
        if decisions.options is not None:
            count = int(decisions.options[i])
            logs = (probs[low, :count].log() + own[:, 0]).log_softmax(0)
            loss = loss - (weights[low, :count] * logs).sum()
        elif len(own) == high - low and own.shape[1] == probs.shape[1]:
            loss = loss - (weights[low:high] * (probs[low:high].log() + own).log_softmax(1)).sum()
        else:
            logit = probs[low:high, 0].log() - probs[low:high, 1].log() + own[0]
            logs = torch.stack([torch.nn.functional.logsigmoid(logit), torch.nn.functional.logsigmoid(-logit)], 1)
            loss = loss - (weights[low:high] * logs).sum()
    return loss


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_and_hessian_are_those_of_the_loss(shape: str) -> None:
    signals = synthetic_signals(shape, 7, 3)
    decisions, factors = signals.decisions, signals.factors()
    weights = torch.nn.functional.one_hot(decisions.masked.argmin(1) * 0, decisions.probs.shape[1]).double()
    torch.testing.assert_close(mean_gradient(decisions, factors, weights), flat_gradient(decisions, factors, weights))
    shape_ = (factors.r.shape[1], factors.h.shape[1])
    hessian = torch.autograd.functional.hessian(
        lambda theta: total_loss(decisions, factors, weights, theta.reshape(shape_)),
        torch.zeros(shape_[0] * shape_[1], dtype=torch.float64),
    ) / losses(decisions, factors)
    product, ridge = curvature(decisions, factors, 0.3), 0.3 * torch.eye(len(hessian)).double()
    right = torch.randn(shape_, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(product(right), ((hessian + ridge) @ right.flatten()).reshape(shape_))
    found, close = solved(product, right)
    assert close
    exact = torch.linalg.solve(hessian + ridge, right.flatten()).reshape(shape_)
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_the_products_summed_over_rows(shape: str) -> None:
    signals = synthetic_signals(shape, 9, 1)
    decisions, factors = signals.decisions, signals.factors()
    weights = most_probable(decisions, 0.5)
    direction = torch.randn(factors.r.shape[1], factors.h.shape[1], generator=seeded(), dtype=torch.float64)
    found = gradients_along(decisions, factors, weights, direction)
    for i in range(9):
        one = signals.take(torch.tensor([i]))
        low, high = decisions.offsets[i : i + 2].tolist()
        own = mean_gradient(one.decisions, one.factors(), weights[low:high]) * losses(one.decisions, one.factors())
        assert float(found[i]) == pytest.approx(float((own * direction).sum()), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_over_all_options_the_expected_gradient_is_zero_over_half_of_them_not(shape: str) -> None:
    signals = synthetic_signals(shape, 8)
    decisions, factors = signals.decisions, signals.factors()
    assert float(residuals(decisions, factors, decisions.masked).abs().max()) < 1e-6
    assert float(residuals(decisions, factors, most_probable(decisions, 1.0)).abs().max()) < 1e-6
    half = residuals(decisions, factors, most_probable(decisions, 0.5))
    assert bool((half.abs().amax(1) > 1e-3).all())


def test_the_more_probable_half_is_rounded_up() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.1, 0.1, 9.0], [0.1, 0.2, 0.3, 0.15, 0.25]])
    found = most_probable(Decisions(probs, torch.arange(3), torch.tensor([4, 5])), 0.5)
    torch.testing.assert_close(found.float(), torch.tensor([[0.5, 0.3, 0, 0, 0], [0, 0.2, 0.3, 0, 0.25]]))


def test_what_does_not_end_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    diagonal = torch.tensor([1.0, 1e-3, 7.0, 2.0]).double()
    found, close = solved(lambda values: diagonal * values, torch.ones(4).double())
    assert close
    torch.testing.assert_close(found, 1 / diagonal, atol=1e-4, rtol=1e-6)
    assert not solved(lambda values: diagonal * values, torch.ones(4).double(), 2)[1]
    assert solved(lambda values: diagonal * values, torch.zeros(4).double()) == (pytest.approx(torch.zeros(4)), True)


@pytest.mark.parametrize("parameters", [{"labels": "expectation"}, {"ridge": 10.0}])
def test_parameters_do_not_break_it(parameters: dict[str, Any]) -> None:
    check_strategy(make_strategy("isal", **parameters), seed=1)


def test_it_is_not_what_its_relatives_ask_for() -> None:
    signals = synthetic_signals("single", 60)
    found = {
        name: make_strategy(name, **parameters).select(signals, 10, seeded()).indices.tolist()
        for name, parameters in (("isal", {}), ("egl", {}), ("least_confidence", {}))
    }
    assert len(set(map(tuple, found.values()))) == 3
    near = make_strategy("isal", ridge=1e6).select(signals, 60, seeded()).indices.tolist()
    assert near != make_strategy("isal").select(signals, 60, seeded()).indices.tolist()  # the Hessian matters


def test_wrong_parameters_are_told() -> None:
    with pytest.raises(ValueError, match="ridge is 0; it must be above 0"):
        make_strategy("isal", ridge=0.0)
    with pytest.raises(ValueError, match="labels is 'all'"):
        make_strategy("isal", labels="all")


# --- in a run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("held", [0, 20])
@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("text-classification", some_rows(60)),
        ("token-classification", some_sentences(60)),
        ("response-selection", some_dialogues(60)),
    ],
)
def test_every_task_is_served(tmp_path, model, monkeypatch, tmp_path_factory, task, rows, held) -> None:
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    given = values_of(tmp_path, model, rows[held:], 0, strategy="isal", task=task, loop={"rounds": 2})
    if held:
        given["dataset"]["data_files"]["validation"] = write_lines(tmp_path / "held.jsonl", rows[:held])
    learner = ActiveLearner(read_config(given, Path("/")))
    learner.run()
    run = Path(learner.config.run_dir)
    assert [line["labelled"] for line in read_lines(run / "metrics.jsonl")] == [10, 15, 20]
    scores = [line["score"] for line in read_lines(run / "queries.jsonl") if line["round"]]
    assert all(score is not None for score in scores)
    assert len(set(scores)) > 1
