"""How little must be added for another prediction: numbers worked out by hand, and searches done one by one."""

import json

import pytest
import torch
from live_models import CASES, Case, case, linear, lively_model
from torch import Tensor

from nlp_al.signals.adversarial import adv_bim, adv_deepfool
from nlp_al.signals.collector import collect
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lively_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


TWO = torch.eye(2)


def squares(score: Tensor) -> list[float]:
    return (-score).tolist()


def forwards(live) -> list[int]:
    calls: list[int] = []
    read = live.read
    live.read = lambda *about: (calls.append(1), read(*about))[1]
    return calls


# --- by hand


def test_the_boundary_between_two_classes_is_reached_in_one_step() -> None:
    """Rows (1, 0), (0, 1), x = (2, .5): 1.5 / √2 = 1.060660 away, squared 1.125."""
    live, items = linear(TWO, [[[2.0, 0.5]]])
    calls = forwards(live)
    found = adv_deepfool(live, items)
    assert squares(found) == pytest.approx([1.125])
    assert float((-found).sqrt()) == pytest.approx(1.060660, abs=1e-6)
    assert len(calls) == 2  # as it is, and behind the one step
    assert squares(adv_deepfool(live, items, steps=1)) == pytest.approx([1.125])


def test_the_nearest_class_is_gone_to_whichever_comes_last() -> None:
    """Of class 0 the gaps to others are 2 and 1.5, but that to the first is nearer: 2 / √18 and 1.5 / √2."""
    x = [[[2.0, 0.5]]]
    far, near = [0.0, 1.0], [-2.0, 4.0]  # logits .5 and -2 beside 2
    for order in ([near, far], [far, near]):
        weight = torch.tensor([[1.0, 0.0], *order])
        live, items = linear(weight, x)
        away = weight[1:] - weight[0]
        gaps = (weight[0] - weight[1:]) @ torch.tensor(x[0][0])
        distances = gaps / away.norm(dim=1)
        assert distances.argmin() == order.index(near)
        assert squares(adv_deepfool(live, items)) == pytest.approx([float(distances.min()) ** 2], rel=1e-5)
        # The one of the narrowest gap alone is looked at with one option.
        assert squares(adv_deepfool(live, items, options=1)) == pytest.approx([1.125], rel=1e-5)


def test_a_farther_class_behind_the_nearest_one_changes_nothing() -> None:
    """Gaps 1.5, 3.75 and 4, which are 1.06, 1.82 and 2 away."""
    rows = [[0.0, 1.0], [-1.0, 0.5], [-1.0, 0.0]]
    for others in (rows, rows[::-1]):
        live, items = linear(torch.tensor([[1.0, 0.0], *others]), [[[2.0, 0.5]]])
        assert squares(adv_deepfool(live, items)) == pytest.approx([1.125], rel=1e-5)


def test_what_is_told_is_the_step_and_not_the_overshoot() -> None:
    live, items = linear(TWO, [[[2.0, 0.5]], [[2.0, 1.999]], [[1.0, 1.0]]])
    found = squares(adv_deepfool(live, items))
    assert found[:2] == pytest.approx([1.125, 0.001**2 / 2], rel=1e-3)
    assert found[2] == 0.0  # already as near to the one as to the other


def test_two_tokens_share_a_change() -> None:
    """The mean of two tokens moves by half of what each does: the same distance for both is √2 times as much."""
    live, items = linear(TWO, [[[2.0, 0.5]], [[3.0, 0.0], [1.0, 1.0]]])
    one, two = squares(adv_deepfool(live, items))
    assert (one, two) == pytest.approx((1.125, 2.25))


def test_equal_steps_up_the_loss_are_counted_until_the_prediction_changes() -> None:
    """‖x‖ = √4.25, a step is .05 of it, .072887 in both coordinates: 1.5 / (2 · .072887) = 10.29, so 11 steps."""
    live, items = linear(TWO, [[[2.0, 0.5]]])
    calls = forwards(live)
    assert squares(adv_bim(live, items)) == pytest.approx([11**2 * 0.05**2 * 4.25], rel=1e-5)
    assert len(calls) == 12
    assert squares(adv_bim(live, items, size=0.6)) == pytest.approx([0.6**2 * 4.25], rel=1e-5)


def test_a_step_is_relative_to_the_mean_length_of_the_tokens() -> None:
    live, items = linear(TWO, [[[3.0, 0.0], [1.0, 1.0]]])
    size = 0.05 * (3 + 2**0.5) / 2
    steps = -(-1.5 // (2**0.5 * size))
    assert squares(adv_bim(live, items)) == pytest.approx([2 * steps**2 * size**2], rel=1e-5)


def test_what_does_not_change_in_time_comes_last() -> None:
    live, items = linear(TWO, [[[2.0, 0.5]], [[2.0, 1.9]]])
    assert adv_bim(live, items, steps=10).tolist()[0] == -torch.inf
    assert adv_bim(live, items, steps=11).isfinite().all()


def test_a_tie_is_changed_already_and_an_option_of_probability_0_is_none() -> None:
    for rows in ([[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0], [-300.0, 0.0]]):
        live, items = linear(torch.tensor(rows), [[[2.0, 0.5]]])
        assert adv_deepfool(live, items).tolist() == [0.0]
    live, items = linear(torch.tensor([[1.0, 0.0], [-300.0, 0.0]]), [[[2.0, 0.5]]])
    for search in (adv_bim, adv_deepfool):
        assert search(live, items).tolist() == [-torch.inf]


def test_equal_texts_tie_and_none_waits_for_another() -> None:
    texts = [[[2.0, 0.5]], [[2.0, 1.9]], [[2.0, 0.5]], [[0.5, 2.0], [0.5, 2.0]]]
    live, items = linear(TWO, texts)
    for search in (adv_bim, adv_deepfool):
        together = search(live, items)
        assert together[0] == together[2]
        assert together.tolist() == [float(search(live, [item])[0]) for item in items]


# --- one by one


def gaps_of(made: Case, example, moved: list[Tensor], predicted: Tensor) -> tuple[Tensor, Tensor]:
    """The gap to each other option of each decision, and ln p of what was predicted."""
    logs = made.logits(example, moved).log_softmax(1)
    sure = logs[torch.arange(len(logs)), predicted]
    gaps = sure[:, None] - logs
    return gaps[torch.arange(logs.shape[1]) != predicted[:, None]], sure


def searched(made: Case, example, steps: int, how: str) -> float:
    """DeepFool or BIM on one example, as the papers have them."""
    model, _, _ = made.parts()
    real, pieces = made.real(example), made.pieces(example)
    width = model.get_input_embeddings().weight.shape[1]
    added = [torch.zeros(*piece["input_ids"].shape, width) for piece in pieces]
    predicted = made.logits(example).argmax(1)
    vectors = torch.cat(
        [model.get_input_embeddings()(p["input_ids"])[0][own[:, 0] > 0] for p, own in zip(pieces, real, strict=True)]
    )
    size = 0.05 * float(vectors.detach().norm(dim=1).mean()) / width**0.5
    farther = 1.02 if how == "adv_deepfool" else 1.0
    first, _ = gaps_of(made, example, added, predicted)
    near = first.detach().argsort()[:10]
    doubtful = int(near[0]) // (made.logits(example).shape[1] - 1)
    for step in range(steps + 1):
        moved = [(own * farther).requires_grad_() for own in added]
        gaps, sure = gaps_of(made, example, moved, predicted)
        if float(gaps.detach().min()) <= 1e-6:
            return -sum(float(own.square().sum()) for own in added)
        if step == steps:
            return -torch.inf
        if how == "adv_bim":
            slopes = torch.autograd.grad(-sure[doubtful], moved)
            added = [own + size * slope.sign() * at for own, slope, at in zip(added, slopes, real, strict=True)]
            continue
        best, towards = torch.inf, None
        for gap in gaps[near]:
            slopes = [s * at for s, at in zip(torch.autograd.grad(gap, moved, retain_graph=True), real, strict=True)]
            square = sum(float(slope.square().sum()) for slope in slopes)
            if abs(gap.item()) / square**0.5 < best:
                best = abs(gap.item()) / square**0.5
                towards = [-gap.item() / square * slope for slope in slopes]
        added = [own + more for own, more in zip(added, towards, strict=True)]
    return -torch.inf


@pytest.mark.parametrize("score", ["adv_bim", "adv_deepfool"])
@pytest.mark.parametrize("name", CASES)
def test_a_batch_finds_what_a_search_for_each_finds(folder, name, score):
    made = case(folder, name)
    pool, steps = made.pool[:4], 8
    key = f"{score} {json.dumps({'steps': steps})}"
    found = collect(made.scorer, pool, {f"scores.{key}"}, seeded()).scores[key]
    wanted = torch.tensor([searched(made, example, steps, score) for example in pool], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=1e-6)
    assert bool(found.isfinite().any())


def test_any_label_will_do_and_the_nearest_one_need_not_be_the_least_sure() -> None:
    """Logits 1 and 1.2 of labels that are yes or no, of which the second changes four times as fast: .3² and 1²."""
    live, items = linear(torch.tensor([[1.0, 0.0], [0.0, 4.0]]), [[[1.0, 0.3]]], several=True)
    assert squares(adv_deepfool(live, items)) == pytest.approx([0.09], rel=1e-4)
    assert squares(adv_deepfool(live, items, options=1)) == pytest.approx([1.0], rel=1e-4)


# --- the strategies


def test_with_parameters_they_keep_the_promises() -> None:
    check_strategy(make_strategy("adv_bim", steps=3), shapes=("single", "ranking"), seed=1)


def test_parameters_are_a_part_of_what_is_needed() -> None:
    usual, fewer = make_strategy("adv_bim"), make_strategy("adv_bim", steps=3, size=0.1)
    assert usual.needs == {"scores.adv_bim"}
    assert fewer.needs == {'scores.adv_bim {"size": 0.1, "steps": 3}'}
    assert usual.needs_model
    assert fewer.needs_model


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("adv_bim", {"steps": 0}, "steps is 0; it must be at least 1"),
        ("adv_bim", {"size": 0.0}, "size is 0; it must be more than 0"),
        ("adv_deepfool", {"steps": 0}, "steps is 0; it must be at least 1"),
        ("adv_deepfool", {"options": 0}, "options is 0; it must be at least 1"),
    ],
)
def test_wrong_parameters_are_told(name: str, parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy(name, **parameters)
