"""Expected gradient lengths and Fisher information, against autograd, dense matrices and numbers worked out by hand."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nlp_al.selection.bait import choose_by_information
from nlp_al.selection.last_layer import Information, expected_length, information
from nlp_al.signals import Gradients, Signals, residual
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chosen(name: str, signals: Signals, count: int, **parameters: object) -> list[int]:
    return make_strategy(name, **parameters).select(signals, count, seeded(0)).indices.tolist()


def texts(probs: Sequence[Sequence[float]], h: Sequence[Sequence[float]]) -> Signals:
    return Signals(probs=torch.tensor(probs, dtype=torch.float64), embeddings=torch.tensor(h, dtype=torch.float64))


def labels_of(yes: Sequence[Sequence[float]], h: Sequence[Sequence[float]]) -> Signals:
    """Yes or no for each of several labels, of which all read the same vector."""
    p = torch.tensor(yes, dtype=torch.float64)
    n, width = p.shape
    return Signals(
        probs=torch.stack([p, 1 - p], 2).reshape(-1, 2),
        offsets=torch.arange(n + 1) * width,
        gradients=Gradients(p - (p > 0.5).double(), torch.tensor(h, dtype=torch.float64), torch.arange(n + 1)),
    )


def gradients_of(signals: Signals) -> list[list[list[tuple[float, Tensor]]]]:
    """By autograd: of each example and each of its rows or labels, the probability and gradient of each option.

    A ranking has one such row. The gradient is that of the weights of the last layer, as a flat vector.
    """
    r, h, own = (t.double() if t.is_floating_point() else t for t in signals.factors())
    decisions = signals.decisions
    probs, places = decisions.masked.double(), decisions.offsets.tolist()
    found = []
    for at, (start, end) in enumerate(itertools.pairwise(own.tolist())):
        if decisions.options is not None:
            rows, p = h[start:end], probs[at, : end - start]
            w = torch.linalg.lstsq(rows, p.log()[:, None]).solution[:, 0].requires_grad_()
            shift = (p.log() - rows @ w).detach()  # so that the scores are those of p
            found.append(
                [list(by_option(lambda c, w=w, x=rows, s=shift: cross_entropy(x @ w + s, torch.tensor(c)), w, p))]
            )
        elif r.shape[1] == probs.shape[1] and places[at + 1] - places[at] == end - start:
            each = []
            for row in range(start, end):
                w = torch.zeros(probs.shape[1], h.shape[1], dtype=torch.float64, requires_grad=True)
                bias = probs[row].log()
                each.append(
                    list(
                        by_option(
                            lambda c, w=w, x=h[row], b=bias: cross_entropy(w @ x + b, torch.tensor(c)), w, probs[row]
                        )
                    )
                )
            found.append(each)
        else:
            each = []
            for label, place in enumerate(range(places[at], places[at + 1])):
                w = torch.zeros(r.shape[1], h.shape[1], dtype=torch.float64, requires_grad=True)
                bias = torch.special.logit(probs[place, 0])

                def loss(c: int, w: Tensor = w, x: Tensor = h[start], b: Tensor = bias, label: int = label) -> Tensor:
                    return binary_cross_entropy_with_logits(w[label] @ x + b, torch.tensor(1.0 - c).double())

                each.append(list(by_option(loss, w, probs[place])))
            found.append(each)
    return found


def by_option(loss, weight: Tensor, probs: Tensor):
    for option, p in enumerate(probs.tolist()):
        (gradient,) = torch.autograd.grad(loss(option), weight)
        yield p, gradient.flatten()


def of_shape(shape: str, n: int, seed: int) -> Signals:
    return synthetic_signals(shape, n, seed, labelled=5, undecided=0)


# --- expected gradient length


def test_a_text_of_two_classes() -> None:
    """p = (.7, .3), h = (1, 2): √5 · (.7 · ‖(−.3, .3)‖ + .3 · ‖(.7, −.7)‖) = 1.328157; squared 5 · (1 − .58) = 2.1."""
    signals = texts([[0.7, 0.3]], [[1.0, 2.0]])
    assert float(expected_length(signals.decisions, signals.factors())) == pytest.approx(1.328157, abs=1e-6)
    assert float(expected_length(signals.decisions, signals.factors(), True)) == pytest.approx(2.1)


def test_three_candidates_under_one_weight_vector() -> None:
    """h = (1,0), (0,1), (1,1), p = (.5, .3, .2): norms .583095, .860233, .583095, so .666237 in the mean."""
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    gradients = Gradients(residual(p).T, h, torch.tensor([0, 3]))
    signals = Signals(probs=p, options=torch.tensor([3]), gradients=gradients)
    assert float(expected_length(signals.decisions, signals.factors())) == pytest.approx(0.666237, abs=1e-6)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_the_closed_form_is_what_autograd_gives(shape: str, squared: bool) -> None:
    signals = of_shape(shape, 12, 3)
    wanted = []
    for rows in gradients_of(signals):
        lengths = [sum(p * float(g.norm()) ** (2 if squared else 1) for p, g in row) for row in rows]
        wanted.append(sum(lengths) / (len(rows) if shape == "sequence" else 1))
    found = expected_length(signals.decisions, signals.factors(), squared)
    assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-5)


def test_a_confident_text_has_no_length_and_an_empty_one_comes_last() -> None:
    signals = texts([[1.0, 0.0], [0.5, 0.5]], [[9.0, 9.0], [0.1, 0.0]])
    assert chosen("egl", signals, 2) == [1, 0]
    sentences = synthetic_signals("sequence", 8, 0, labelled=0, undecided=2)
    found = make_strategy("egl").select(sentences, 8, seeded(0))
    assert (
        sorted(found.indices[-2:].tolist()) == torch.nonzero(sentences.decisions.offsets.diff() == 0).flatten().tolist()
    )


def test_labels_of_one_alone_and_as_many_labels_as_columns_are_told_from_classes() -> None:
    one = labels_of([[0.5], [0.9]], [[1.0, 0.0], [1.0, 0.0]])
    assert expected_length(one.decisions, one.factors()).tolist() == pytest.approx([0.5, 0.18])
    two = labels_of([[0.5, 0.9]], [[1.0, 0.0]])
    assert expected_length(two.decisions, two.factors()).tolist() == pytest.approx([0.68])


# --- Fisher information


def dense(signals: Signals, mean_of_rows: bool) -> list[Tensor]:
    """Σ_c p_c ∇ ∇ᵀ of each example, by autograd."""
    found = []
    for rows in gradients_of(signals):
        total = sum(p * torch.outer(g, g) for row in rows for p, g in row)
        found.append(total / (len(rows) if mean_of_rows else 1))
    return found


def columns(made: Information, at: int) -> Tensor:
    """V of an example, multiplied out."""
    rows = range(int(made.offsets[at]), int(made.offsets[at + 1]))
    return torch.cat([torch.kron(made.coefficients[j], made.h[j].double()[:, None]) for j in rows], 1)


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_the_factors_multiply_out_to_the_information(shape: str) -> None:
    signals = of_shape(shape, 6, 1)
    made = information(signals.decisions, signals.factors())
    traced = information(signals.decisions, signals.factors(), traced=True)
    for at, wanted in enumerate(dense(signals, shape == "sequence")):
        v, reduced = columns(made, at), columns(traced, at)
        assert torch.allclose(v @ v.T, wanted, atol=1e-6)
        options = made.coefficients.shape[1]
        summed = wanted.reshape(options, made.h.shape[1], options, made.h.shape[1]).diagonal(dim1=0, dim2=2).sum(2)
        assert torch.allclose(reduced @ reduced.T, summed, atol=1e-6)


def brute(pool: list[Tensor], known: list[Tensor], count: int, scale: float, ridge: float, forward: int) -> list[int]:
    """The definition, with an inverse for every candidate."""
    asked = sum([*pool, *known]) / (len(pool) + len(known))
    base = ridge * torch.eye(len(asked), dtype=torch.float64)
    if known:
        base = base + len(known) / (len(known) + count) * sum(known) / len(known)

    def trace(picks: Sequence[int]) -> float:
        return float(torch.trace(torch.linalg.inv(base + scale * sum(pool[i] for i in picks)) @ asked))

    picks: list[int] = []
    for _ in range(min(forward, len(pool))):
        picks.append(min((i for i in range(len(pool)) if i not in picks), key=lambda i: trace([*picks, i])))
    while len(picks) > count:
        picks.remove(min(picks, key=lambda i: trace([p for p in picks if p != i])))
    return picks


@pytest.mark.parametrize("labelled", [0, 5])
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_updates_choose_what_inverses_choose(shape: str, traced: bool, labelled: int) -> None:
    for seed in range(4):
        signals = synthetic_signals(shape, 14, seed, labelled=labelled)
        made = information(signals.decisions, signals.factors(), traced)
        known = signals.labelled and information(signals.labelled.decisions, signals.labelled.factors(), traced)
        pool = [columns(made, at) @ columns(made, at).T for at in range(14)]
        other = [columns(known, at) @ columns(known, at).T for at in range(labelled)] if known else []
        for scaling in (False, True):
            scale = (4 if scaling else 1) / (labelled + 4)
            wanted = brute(pool, other, 4, scale, 0.1, 8)
            parameters = {"trace": traced, "ridge": 0.1, "repo_scaling": scaling}
            assert chosen("bait", signals, 4, **parameters) == wanted


@pytest.mark.parametrize(
    ("signals", "parameters"),
    [
        (labels_of([[0.5]] * 3, [[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]]), {"trace": False}),
        (texts([[0.5, 0.5]] * 3, [[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]]), {"trace": False}),
        (texts([[0.5, 0.5]] * 3, [[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]]), {"trace": True}),
    ],
)
def test_three_texts_of_which_the_one_between_tells_most(signals: Signals, parameters: dict) -> None:
    """Traces .2235, .2235, .215863 with one logit, .413889, .413889, .388143 with two."""
    made = information(signals.decisions, signals.factors(), parameters["trace"])
    asked = sum(columns(made, at) @ columns(made, at).T for at in range(3)) / 3
    one_logit = made.coefficients.shape[1] == 1 and not parameters["trace"]
    wanted = [0.2235, 0.2235, 0.215863] if one_logit else [0.413889, 0.413889, 0.388143]
    for at, trace in enumerate(wanted):
        inverse = torch.linalg.inv(torch.eye(len(asked)).double() + columns(made, at) @ columns(made, at).T)
        assert float(torch.trace(inverse @ asked)) == pytest.approx(trace, abs=1e-6)
    assert chosen("bait", signals, 1, **parameters) == [2]
    forward = choose_by_information(made, None, 1, scale=1.0, ridge=1.0, forward=1)
    assert forward.tolist() == [2]


def test_what_is_labelled_is_not_asked_again() -> None:
    """Two directions; one is labelled ten times over."""
    signals = texts([[0.5, 0.5]] * 4, [[2.0, 0.0], [1.9, 0.0], [0.0, 1.8], [0.0, 1.7]])
    assert chosen("bait", signals, 1, ridge=0.01) == [0]
    known = texts([[0.5, 0.5]] * 10, [[2.0, 0.0]] * 10)
    held = Signals(probs=signals.probs, embeddings=signals.embeddings, labelled=known)
    assert chosen("bait", held, 1, ridge=0.01) == [2]


def test_wide_information_is_reduced_and_the_selection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_al.strategies import model_change

    signals = of_shape("single", 12, 0)
    whole = make_strategy("bait").select(signals, 3, seeded(0))
    assert whole.note == ""
    monkeypatch.setattr(model_change, "WIDEST", 23)  # 4 options of 6 columns
    reduced = make_strategy("bait").select(signals, 3, seeded(0))
    assert "24 rows and columns" in reduced.note
    assert reduced.indices.tolist() == chosen("bait", signals, 3, trace=True)
    assert make_strategy("bait", trace=True).select(signals, 3, seeded(0)).note == ""


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("egl", {"squared": True}),
        ("bait", {"trace": True}),
        ("bait", {"trace": False, "repo_scaling": True, "ridge": 0.01}),
    ],
)
def test_parameters_do_not_break_the_promises(name: str, parameters: dict) -> None:
    check_strategy(make_strategy(name, **parameters))


def test_a_ridge_must_be_above_0() -> None:
    with pytest.raises(ValueError, match="ridge is 0; it must be above 0"):
        make_strategy("bait", ridge=0.0)
