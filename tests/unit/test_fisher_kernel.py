"""`fisher_kernel`: like the validation examples that the model gets wrong; and what judges them in a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines

from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.selection import fisher_kernel as kernel
from nlp_al.selection.fisher_kernel import Descriptors, like_anchors, spread_out, standardised
from nlp_al.signals import Gradients, SignalError, Signals, residual
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals
from nlp_al.training.fit import Fitter

SHAPES = ("single", "multi", "sequence", "ranking")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(signals: Signals, size: int, seed: int = 0, **parameters: str) -> list[int]:
    return make_strategy("fisher_kernel", **parameters).select(signals, size, seeded(seed)).indices.tolist()


def singles(*rows: tuple[float, ...]) -> Descriptors:
    """Descriptors whose product is that of the numbers: an example each."""
    return Descriptors(torch.tensor(rows).double(), torch.ones(len(rows), 1).double(), torch.arange(len(rows) + 1))


# --- the kernel


@pytest.mark.parametrize("parameters", [{"combine": "product"}, {"labels": "soft"}, {"labels": "mc"}])
def test_parameters_do_not_break_it(parameters: dict[str, str]) -> None:
    check_strategy(make_strategy("fisher_kernel", **parameters), seed=1)


def test_standardised_products_are_correlations() -> None:
    one, other = standardised(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 7.0]], dtype=torch.float64))
    assert float(one @ other) == pytest.approx(0.993399, abs=1e-6)
    assert standardised(torch.full((1, 3), 0.1)).tolist() == [[0.0, 0.0, 0.0]]
    assert standardised(torch.tensor([[-3.0]])).tolist() == [[-1.0]]


def dense(signals: Signals, targets: torch.Tensor) -> list[torch.Tensor]:
    """The last-layer gradients of an example under labels, multiplied out: of each word by itself."""
    h, offsets = signals.factors().h.double(), signals.decisions.offsets.tolist()
    bounds = signals.factors().offsets.tolist()
    made = []
    for i in range(len(signals)):
        probs, own = signals.decisions.masked[offsets[i] : offsets[i + 1]].double(), h[bounds[i] : bounds[i + 1]]
        chosen = targets[offsets[i] : offsets[i + 1]]
        if signals.options is not None:
            a = probs[0, : len(own)].clone()
            a[chosen[0]] -= 1
            made.append((a[:, None] * own).sum(0)[None])
        elif len(own) == len(probs):
            a = probs - torch.nn.functional.one_hot(chosen, probs.shape[1])
            made.append(torch.einsum("mc,md->mcd", a, own).flatten(1))
        else:
            made.append(torch.outer(probs[:, 0] - (chosen == 0).double(), own[0]).flatten()[None])
    return made


@pytest.mark.parametrize("shape", SHAPES)
def test_the_product_is_that_of_last_layer_gradients(shape: str) -> None:
    signals = synthetic_signals(shape, 9)
    targets = signals.decisions.masked.argmax(1)
    weights = torch.nn.functional.one_hot(targets, signals.decisions.probs.shape[1])
    made = kernel.descriptors(signals.decisions, signals.factors(), weights, True)
    found = kernel.comparable(made, True).like(kernel.comparable(made, True), True)
    gradients = torch.cat(dense(signals, targets))
    torch.testing.assert_close(found, gradients @ gradients.T, atol=1e-6, rtol=1e-6)


def test_the_product_of_factors_under_predicted_labels_is_that_of_the_gradients_field() -> None:
    signals = synthetic_signals("single", 6)
    r, h, _ = signals.factors()
    weights = torch.nn.functional.one_hot(signals.decisions.probs.argmax(1), 4)
    made = kernel.comparable(kernel.descriptors(signals.decisions, signals.factors(), weights, True), True)
    torch.testing.assert_close(made.like(made, True), ((r @ r.T) * (h @ h.T)).double(), atol=1e-6, rtol=1e-6)


# --- the choice


def test_lists_are_merged_rank_by_rank() -> None:
    # a … e under two anchors: (a, b, c) and (a, d, e); a is .9 and .8.
    pool = singles((0.9, 0.8), (0.5, 0.0), (0.4, 0.1), (0.1, 0.6), (0.0, 0.2))
    anchors = singles((1.0, 0.0), (0.0, 1.0))
    assert like_anchors(pool, anchors, 3, True).tolist() == [0, 3, 1]
    assert like_anchors(pool, anchors, 5, True).tolist() == [0, 3, 1, 2, 4]


def test_what_no_list_holds_comes_by_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "NEIGHBOURS", 1)
    likes = torch.rand(40, 3, generator=seeded())
    pool, anchors = singles(*likes.tolist()), singles(*torch.eye(3).tolist())
    assert like_anchors(pool, anchors, 40, True).tolist() == merged(likes, 40, depth=40)
    monkeypatch.setattr(kernel, "ANCHORS_AT_ONCE", 2)
    monkeypatch.setattr(kernel, "ROWS_AT_ONCE", 7)
    assert like_anchors(pool, anchors, 3, True).tolist() == merged(likes, 3, depth=4)
    alike = torch.tensor([[0.9, 0.9], [0.3, 0.1], [0.2, 0.4]])
    assert like_anchors(singles(*alike.tolist()), singles(*torch.eye(2).tolist()), 1, True).tolist() == [0]


def merged(likes: torch.Tensor, count: int, depth: int) -> list[int]:
    """Rank by rank, one by one; what lacks by its best. likes: float[n, A]."""
    lists = [torch.argsort(column, descending=True, stable=True).tolist()[:depth] for column in likes.T]
    found: list[int] = []
    for rank in range(min(depth, len(likes))):
        row = sorted((-float(likes[own[rank], at]), own[rank]) for at, own in enumerate(lists))
        found += [place for _, place in row if place not in found]
        found = list(dict.fromkeys(found))
    rest = torch.argsort(likes.amax(1), descending=True, stable=True).tolist()
    return [*found, *(place for place in rest if place not in found)][:count]


def test_anchors_are_spread_out() -> None:
    points = singles((1.0, 0.0), (0.9, 0.1), (0.0, 1.0), (0.1, 0.9), (0.6, 0.6))
    for seed in range(5):
        picks = spread_out(points, 2, seeded(seed), True).tolist()
        likes = points.like(points.rows(torch.tensor(picks[:1])), True)[:, 0]
        assert picks[1] == int(likes.float().argmin())
    assert spread_out(points, 5, seeded(), True).tolist() == [0, 1, 2, 3, 4]
    assert len(set(spread_out(singles(*[(1.0, 1.0)] * 6), 4, seeded(), True).tolist())) == 4


def naive(signals: Signals, count: int, combine: str) -> list[int]:
    """The whole method in loops, where there are fewer mistakes than `count`."""
    known = signals.validation
    assert known is not None
    assert known.targets is not None

    def parts(some: Signals, targets: torch.Tensor) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
        h, places = some.factors().h.double(), some.factors().offsets.tolist()
        probs, bounds = some.decisions.masked.double(), some.decisions.offsets.tolist()
        found = []
        for i in range(len(some)):
            own, said = h[places[i] : places[i + 1]], probs[bounds[i] : bounds[i + 1]]
            chosen = targets[bounds[i] : bounds[i + 1]]
            if some.options is not None:
                p = said[0, : len(own)]
                a = p - (torch.arange(len(own)) == chosen[0]).double()
                found.append([((p[:, None] * own).sum(0), (a[:, None] * own).sum(0))])
            elif len(own) == len(said):
                found.append(
                    [(z, p - (torch.arange(len(p)) == c).double()) for z, p, c in zip(own, said, chosen, strict=True)]
                )
            else:
                found.append([(own[0], said[:, 0] - (chosen == 0).double())])
        return found

    def like(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> float:
        if combine == "product":
            near = 1.0 if signals.options is not None else float(one[0] @ other[0])
            return near * float(one[1] @ other[1])
        return sum(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(one, other, strict=True))

    wrong = known.decisions.masked.argmax(1) != known.targets
    anchors = []
    for i, rows in enumerate(parts(known, known.targets)):
        low, high = known.decisions.offsets[i : i + 2].tolist()
        own = wrong[low:high].tolist() if len(rows) == high - low else [bool(wrong[low:high].any())]
        anchors += [row for row, bad in zip(rows, own, strict=True) if bad]
    assert 0 < len(anchors) <= count
    pool = parts(signals, signals.decisions.masked.argmax(1))
    likes = torch.tensor([[max(like(row, anchor) for row in rows) for anchor in anchors] for rows in pool])
    return merged(likes, count, depth=32)


@pytest.mark.parametrize("combine", ["sum", "product"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_loops_find(shape: str, combine: str) -> None:
    for seed in range(3):
        signals = synthetic_signals(shape, 30, seed, labelled=4)
        assert select(signals, 20, combine=combine) == naive(signals, 20, combine)


def biased(seed: int) -> tuple[Signals, torch.Tensor]:
    """A pool of 1,010 of which 10 are of a rare class; the model takes these for the other class, in validation too."""
    draws = seeded(seed)
    rare = torch.arange(1010) % 101 == 0
    centres = torch.tensor([[3.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0]])
    points = centres[rare.long()] + torch.randn(1010, 4, generator=draws)
    held = torch.arange(40) % 2
    seen = centres[held] + torch.randn(40, 4, generator=draws)

    def said(h: torch.Tensor) -> torch.Tensor:
        return torch.stack([h[:, 0] * 0.3 + 1, h[:, 1] * 0.3 - 1], 1).softmax(1)

    known = Signals(probs=said(seen), embeddings=seen, targets=held)
    known = replace(known, gradients=Gradients(residual(said(seen)), seen, torch.arange(41)))
    return Signals(probs=said(points), embeddings=points, validation=known), rare


def test_rare_classes_are_asked_where_the_model_misses_them() -> None:
    shares = []
    for seed in range(5):
        signals, rare = biased(seed)
        shares.append(float(rare[select(signals, 20)].double().mean()))
    assert sum(shares) / 5 >= 5 * 10 / 1010, shares


def test_gradients_may_be_taken_under_what_a_committee_says() -> None:
    """a = p − p̄; of members that all say the predicted label for certain, as under that label."""
    signals = synthetic_signals("single", 12, labelled=4)
    assert signals.passes is not None
    made = make_strategy("fisher_kernel", labels="mc")
    assert made.needs == {"probs", "gradients", "sampled"}
    torch.testing.assert_close(made._guessed(signals), signals.passes.double().mean(0), atol=1e-6, rtol=0)
    sure = torch.nn.functional.one_hot(signals.decisions.probs.argmax(1), 4).float().expand(3, -1, -1)
    certain = replace(signals, passes=sure, sampled=None)
    assert select(certain, 6, labels="mc") == select(signals, 6)
    assert select(signals, 6, labels="mc") != select(signals, 6)


def test_without_mistakes_all_validation_examples_count() -> None:
    signals = synthetic_signals("single", 20, labelled=5)
    known = signals.validation
    assert known is not None
    right = known.decisions.probs.argmax(1)
    calm = replace(signals, validation=replace(known, targets=right))
    picks = select(calm, 6)
    weights = torch.nn.functional.one_hot(right, 4)
    anchors = kernel.comparable(kernel.descriptors(known.decisions, known.factors(), weights, False), False)
    guessed = torch.nn.functional.one_hot(signals.decisions.probs.argmax(1), 4)
    pool = kernel.descriptors(signals.decisions, signals.factors(), guessed, False)
    assert picks == like_anchors(pool, anchors, 6, False).tolist()
    assert picks != select(signals, 6)


def test_without_validation_it_draws() -> None:
    signals = replace(synthetic_signals("single", 30), validation=None)
    assert len({tuple(select(signals, 5, seed)) for seed in range(5)}) == 5


def test_labels_that_are_no_option_are_told() -> None:
    signals = synthetic_signals("single", 8)
    assert signals.validation is not None
    odd = replace(signals.validation, targets=torch.full((6,), 4))
    with pytest.raises(SignalError, match=r"validation\.targets do not fit"):
        select(replace(signals, validation=odd), 2)
    with pytest.raises(ValueError, match="combine is 'mean'"):
        make_strategy("fisher_kernel", combine="mean")


# --- in a run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(tmp_path, model, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))

    def go(rows: list[dict[str, Any]], task: str, held: int, **sections: Any) -> list[int]:
        given = values_of(tmp_path, model, rows[held:], 0, strategy="fisher_kernel", task=task, **sections)
        if held:
            given["dataset"]["data_files"]["validation"] = write_lines(tmp_path / "held.jsonl", rows[:held])
        learner = ActiveLearner(read_config(given, Path("/")))
        learner.run()
        return [line["labelled"] for line in read_lines(Path(learner.config.run_dir) / "metrics.jsonl")]

    return go


@pytest.fixture
def aside(monkeypatch) -> list[int]:
    """How many labels each model was fitted to that was made aside."""
    sizes: list[int] = []
    plain = Fitter.aside

    def counting(self, labelled):
        sizes.append(len(labelled))
        return plain(self, labelled)

    monkeypatch.setattr(Fitter, "aside", counting)
    return sizes


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("text-classification", some_rows(80)),
        ("token-classification", some_sentences(80)),
        ("response-selection", some_dialogues(80)),
    ],
)
def test_every_task_is_served(run, aside, task, rows) -> None:
    assert run(rows, task, 20) == [10, 15, 20, 25]
    assert aside == []


@pytest.mark.parametrize("task", ["text-classification", "response-selection"])
def test_without_a_validation_split_models_of_the_rest_judge_each_fifth(run, aside, task) -> None:
    rows = some_rows(60) if task == "text-classification" else some_dialogues(60)
    assert run(rows, task, 0, loop={"rounds": 2}) == [10, 15, 20]
    assert aside == [8] * 5 + [12] * 5
