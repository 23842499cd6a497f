"""The posterior of a last layer: a regression computed by hand, autograd's curvature, and quadrature beside draws."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nlp_al import laplace
from nlp_al.decisions import Decisions
from nlp_al.heads import SLACK, softmax_head
from nlp_al.laplace import alike, drawn, kind_of, posterior, probit, together, variances
from nlp_al.signals import Gradients, SignalError, Signals
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals

VARIANTS = [{"kind": kind, "form": form} for kind in ("mi", "variance", "probit") for form in ("shared", "exact")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(signals: Signals, seed: int = 0, **parameters: object) -> Tensor:
    found = make_strategy("laplace", **parameters).select(signals, len(signals), seeded(seed)).scores
    assert found is not None
    return found


def of(probs: Tensor, points: Tensor) -> tuple[Decisions, Gradients]:
    """Examples with one softmax each."""
    signals = Signals(probs=probs, embeddings=points)
    return signals.decisions, signals.factors()


@pytest.mark.parametrize("parameters", VARIANTS)
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("laplace", **parameters), seed=1)


# --- the posterior


def test_a_line_through_three_points() -> None:
    """Rows (1, 0), (1, 1), (1, 2), λ = 1: variance 4/15 in their middle, 76/15 far from them."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    found = alike(rows, torch.ones(3), 1.0).variances(torch.tensor([[1.0, 1.0], [1.0, 5.0]]))
    assert found.flatten().tolist() == pytest.approx([0.266667, 5.066667], abs=1e-6)


def test_one_more_label_takes_away_what_the_formula_says() -> None:
    """Sherman and Morrison: Σ − Σ x xᵀ Σ / (1 + xᵀ Σ x), which is less everywhere that x reaches."""
    rows = torch.randn(6, 4, generator=seeded(), dtype=torch.float64)
    x, others = rows[:1], torch.randn(9, 4, generator=seeded(1), dtype=torch.float64)
    before, after = (alike(r, torch.ones(len(r)), 0.7) for r in (rows, torch.cat([rows, x])))
    sigma = torch.linalg.inv(rows.T @ rows + 0.7 * torch.eye(4).double())
    shift = (others @ sigma @ x.T).flatten() ** 2 / (1 + float(x @ sigma @ x.T))
    found = after.variances(others).flatten()
    torch.testing.assert_close(found, before.variances(others).flatten() - shift, rtol=0, atol=1e-12)
    assert float(after.variances(x)) < float(before.variances(x))


def test_all_outputs_share_one_matrix_or_have_their_own() -> None:
    points, spread = torch.randn(8, 3, generator=seeded()), torch.rand(8, 2, generator=seeded(1))
    shared = alike(points, spread[:, 0], 1.0, outputs=2)
    assert torch.equal(*shared.variances(points).unbind(1))
    own = alike(points, spread, 1.0)
    for column in (0, 1):
        alone = alike(points, spread[:, column], 1.0)
        torch.testing.assert_close(own.variances(points)[:, column], alone.variances(points)[:, 0])


def test_of_yes_and_no_the_exact_form_has_a_matrix_a_label() -> None:
    signals = synthetic_signals("multi", 12)
    known, h = (signals.decisions, signals.factors()), signals.embeddings.double()
    spread = signals.probs.double().prod(1).reshape(12, 3)
    for exact in (False, True):
        found = posterior(*known, exact, prior=1.0)
        for label in range(3):
            weight = spread[:, label] if exact else spread.mean(1)
            sigma = torch.linalg.inv(h.T @ (h * weight[:, None]) + torch.eye(6).double())
            torch.testing.assert_close(found.variances(h)[:, label], ((h @ sigma) * h).sum(1), rtol=1e-9, atol=0)


def curvature(points: Tensor, weight: Tensor, prior: float) -> Tensor:
    """The Hessian of the loss by autograd, under any labels, and the prior's."""
    labels = torch.zeros(len(points), dtype=torch.int64)

    def loss(flat: Tensor) -> Tensor:
        own = flat.reshape(weight.shape)
        return torch.nn.functional.cross_entropy(points @ own.T, labels, reduction="sum")

    hessian: Tensor = torch.autograd.functional.hessian(loss, weight.flatten())
    return hessian + prior * torch.eye(weight.numel(), dtype=torch.float64)


def test_the_exact_form_is_the_curvature_of_the_loss() -> None:
    """Of a softmax the generalised Gauss-Newton matrix is the Hessian."""
    points = torch.randn(7, 3, generator=seeded(), dtype=torch.float64)
    weight = torch.randn(4, 3, generator=seeded(1), dtype=torch.float64)
    found = together(points, (points @ weight.T).softmax(1), 0.5)
    want = curvature(points, weight, 0.5)
    torch.testing.assert_close(found.factors[0] @ found.factors[0].T, want, rtol=1e-9, atol=1e-9)
    sigma = torch.linalg.inv(want)
    for c in range(4):
        block = sigma[3 * c : 3 * c + 3, 3 * c : 3 * c + 3]
        expected = ((points @ block) * points).sum(1)
        torch.testing.assert_close(found.variances(points)[:, c], expected, rtol=1e-8, atol=1e-10)


def test_the_exact_form_of_options_is_the_curvature_of_their_softmax() -> None:
    """One weight vector scores the options of a context, three here."""
    points = torch.randn(3, 2, generator=seeded(), dtype=torch.float64)
    w = torch.randn(2, generator=seeded(1), dtype=torch.float64)
    probs = (points @ w).softmax(0)[None]
    decisions = Decisions(probs, torch.tensor([0, 1]), torch.tensor([3]))
    factors = Gradients(torch.zeros(3, 1), points, torch.tensor([0, 3]))
    found = posterior(decisions, factors, prior=0.3)

    def loss(own: Tensor) -> Tensor:
        return -(points @ own).log_softmax(0)[1]

    want = torch.autograd.functional.hessian(loss, w) + 0.3 * torch.eye(2).double()
    torch.testing.assert_close(found.factors[0] @ found.factors[0].T, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["alike", "apart", "together"])
def test_draws_have_the_covariance_of_the_posterior(form: str) -> None:
    points = torch.randn(6, 2, generator=seeded())
    probs = torch.rand(6, 3, generator=seeded(1)).softmax(1)
    made = {
        "alike": lambda: alike(points, probs[:, 0], 0.5, outputs=3),
        "apart": lambda: alike(points, probs, 0.5),
        "together": lambda: together(points, probs, 0.5),
    }[form]()
    draws = made.draws(40_000, seeded(2))
    assert draws.shape == (40_000, 3, 2)
    found = torch.einsum("trd,jd->tjr", draws, points.double())
    torch.testing.assert_close(found.var(0), made.variances(points), rtol=0.04, atol=0)
    if form == "together":
        sigma = torch.linalg.inv(made.factors[0] @ made.factors[0].T)
        torch.testing.assert_close(draws.flatten(1).T.cov(), sigma, rtol=0, atol=0.03 * float(sigma.max()))
    assert torch.equal(draws, made.draws(40_000, seeded(2)))


def test_too_many_weights_are_told() -> None:
    with pytest.raises(SignalError, match="10 x 410 weights here, and may have 4096; take the shared form"):
        together(torch.ones(2, 410), torch.full((2, 10), 0.1), 1.0)


def test_the_prior_is_the_penalty_of_the_heads() -> None:
    """From far away, where no label is: 1 / λ with λ = mean‖h‖² / 32; the gradient of the head is λ W there."""
    points = torch.randn(40, 5, generator=seeded(), dtype=torch.float64)
    labels = (points[:, 0] > 0).long()
    head = softmax_head(points, labels, 2)
    probs = (points @ head.weight.T + head.bias).softmax(1)
    lam = float(points.square().sum(1).mean()) / SLACK
    # The two rows of a softmax share the penalty of one, the logit of the second against the first.
    slope = (probs[:, 1] - labels) @ points + lam * head.weight[1]
    assert slope.abs().max() < 1e-2
    found = posterior(*of(probs, points))
    want = points.T @ (points * (probs * (1 - probs)).mean(1)[:, None]) + lam * torch.eye(5).double()
    torch.testing.assert_close(found.factors[0] @ found.factors[0].T, want, rtol=1e-6, atol=1e-6)
    assert torch.equal(posterior(*of(probs, points), prior=lam).factors, found.factors)


@pytest.mark.parametrize(
    ("shape", "kind"), [("single", "classes"), ("sequence", "classes"), ("multi", "yes_no"), ("ranking", "choice")]
)
def test_what_a_row_of_the_layer_is_shows_in_its_gradients(shape: str, kind: str) -> None:
    signals = synthetic_signals(shape, 12, undecided=2)
    assert kind_of(signals.decisions, signals.factors()) == kind


def test_gradients_of_something_else_are_refused() -> None:
    signals = synthetic_signals("sequence", 5)
    for r in (torch.ones(len(signals.probs), 3), torch.ones(len(signals.probs), 1)):
        other = signals.gradients._replace(r=r)
        with pytest.raises(SignalError, match="gradients are not those of one last layer"):
            scores(replace(signals, gradients=other))


# --- what it says of probabilities


def test_variance_flattens_a_probability() -> None:
    """σ(1 / √(1 + π s² / 8)) with s² = 0, 1, 4: .731059, .700014, .651056."""
    sure = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64))
    for squared, expected in ((0.0, 0.731059), (1.0, 0.700014), (4.0, 0.651056)):
        # Yes or no of one label: λ = 1 and no labels, so that s² = ‖h‖².
        decisions = Decisions(torch.stack([sure, 1 - sure])[None], torch.tensor([0, 1]))
        factors = Gradients(
            torch.zeros(1, 1), torch.tensor([[math.sqrt(squared)]], dtype=torch.float64), torch.arange(2)
        )
        prior_alone = alike(torch.zeros(0, 1), torch.zeros(0), 1.0)
        assert kind_of(decisions, factors) == "yes_no"
        assert float(probit(prior_alone, decisions, factors)[0, 0]) == pytest.approx(expected, abs=1e-6)


def test_draws_come_to_the_information_that_quadrature_gives() -> None:
    """I(y; z) of y ~ σ(z), z ~ N(1, 2): the entropy of the mean less the mean entropy."""
    z = torch.linspace(1 - 12, 1 + 12, 20_001, dtype=torch.float64)
    density = torch.exp(-((z - 1) ** 2) / 4)
    density /= density.sum()

    def entropy(p: Tensor) -> Tensor:
        return torch.special.entr(p) + torch.special.entr(1 - p)

    want = float(entropy((density * z.sigmoid()).sum()) - (density * entropy(z.sigmoid())).sum())
    sure = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64))
    signals = Signals(
        probs=torch.stack([sure, 1 - sure])[None],
        gradients=(torch.zeros(1, 1), torch.tensor([[math.sqrt(2.0)]]), torch.tensor([0, 1])),
    )
    few, many = (float(scores(signals, prior=1.0, draws=draws)[0]) for draws in (50, 100_000))
    assert many == pytest.approx(want, abs=1e-3)
    assert few == pytest.approx(want, abs=0.08)


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
@pytest.mark.parametrize("exact", [False, True])
def test_each_draw_is_the_layer_with_moved_weights(shape: str, exact: bool) -> None:
    """Against logits that are made and moved one example at a time."""
    signals = synthetic_signals(shape, 9)
    decisions, factors = signals.decisions, signals.factors()
    known = signals.labelled
    found = posterior(known.decisions, known.factors(), exact)
    draws = found.draws(4, seeded())
    parts = list(drawn(decisions, factors, draws))
    passes = torch.cat([part for _, part in parts], 1)
    assert [rows.stop for rows, _ in parts][-1] == len(decisions.probs)
    for t, draw in enumerate(draws):
        expected = []
        for at in range(9):
            rows = slice(int(decisions.offsets[at]), int(decisions.offsets[at + 1]))
            h = factors.h[int(factors.offsets[at]) : int(factors.offsets[at + 1])].double()
            logs = decisions.masked[rows].double().log()
            moved = h @ draw.T
            if shape == "multi":
                yes = (logs[:, 0] - logs[:, 1] + moved[0]).sigmoid()
                expected.append(torch.stack([yes, 1 - yes], 1))
            elif shape == "ranking":
                k = len(h)
                expected.append(torch.nn.functional.pad((logs[0, :k] + moved[:, 0]).softmax(0), (0, 5 - k))[None])
            else:
                expected.append((logs + moved).softmax(1))
        torch.testing.assert_close(passes[t], torch.cat(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
@pytest.mark.parametrize("parameters", VARIANTS)
def test_pools_are_read_in_parts_of_any_size(shape: str, parameters: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = synthetic_signals(shape, 30, undecided=3)
    whole = scores(signals, **parameters)
    monkeypatch.setattr(laplace, "_FLOATS_AT_ONCE", 1)
    torch.testing.assert_close(scores(signals, **parameters), whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("parameters", VARIANTS)
def test_the_pool_may_come_in_any_order(parameters: dict) -> None:
    """Draws are of weights, not of examples."""
    for shape in ("single", "multi", "sequence", "ranking"):
        signals = synthetic_signals(shape, 30)
        order = torch.randperm(30, generator=seeded(1))
        moved = scores(signals.take(order), **parameters)
        torch.testing.assert_close(moved, scores(signals, **parameters)[order], rtol=1e-5, atol=1e-6)


def test_what_all_options_have_in_common_decides_nothing() -> None:
    """A context whose options are all far away in one direction is no more doubtful."""
    signals = synthetic_signals("ranking", 10)
    h = signals.gradients.h
    away = signals.gradients._replace(h=h + 7.0)
    for parameters in ({"kind": "variance"}, {"kind": "probit"}, {"kind": "mi"}):
        near = scores(signals, **parameters)
        torch.testing.assert_close(scores(replace(signals, gradients=away), **parameters), near, rtol=1e-4, atol=1e-5)


def test_variance_is_larger_where_no_label_is() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    probs = torch.full((3, 2), 0.5)
    known = Signals(probs=probs[:2].repeat(5, 1), embeddings=points[:1].repeat(10, 1))
    for form in ("shared", "exact"):
        found = scores(Signals(probs=probs, embeddings=points, labelled=known), kind="variance", form=form, prior=1.0)
        assert found[1] == pytest.approx(1.0)
        assert found[0] == found[2] < 0.7


def test_with_nothing_labelled_the_prior_is_all_there_is() -> None:
    points = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    signals = Signals(probs=torch.full((2, 2), 0.5), embeddings=points)
    assert scores(signals, kind="variance", prior=0.5).tolist() == pytest.approx([8.0, 2.0])
    assert scores(signals, kind="variance").tolist() == pytest.approx([4 / (2.5 / 32), 1 / (2.5 / 32)])
    nothing = replace(signals, labelled=Signals(probs=torch.ones(0, 2), embeddings=torch.ones(0, 2)))
    assert torch.equal(scores(nothing, kind="mi"), scores(signals, kind="mi"))


def test_features_without_a_scale_are_no_trouble() -> None:
    signals = Signals(
        probs=torch.full((2, 2), 0.5),
        embeddings=torch.zeros(2, 3),
        labelled=Signals(probs=torch.full((1, 2), 0.5), embeddings=torch.zeros(1, 3)),
    )
    for parameters in VARIANTS:
        assert scores(signals, **parameters).isfinite().all()


def test_variances_of_decisions_are_means_over_options() -> None:
    signals = synthetic_signals("ranking", 6)
    known = signals.labelled
    found = posterior(known.decisions, known.factors(), prior=1.0)
    sigma = torch.linalg.inv(found.factors[0] @ found.factors[0].T)
    per_decision = variances(found, signals.decisions, signals.factors())
    for at in range(6):
        h = signals.gradients.h[int(signals.gradients.offsets[at]) : int(signals.gradients.offsets[at + 1])].double()
        h = h - h.mean(0)
        assert float(per_decision[at]) == pytest.approx(float(((h @ sigma) * h).sum(1).mean()), rel=1e-9)
