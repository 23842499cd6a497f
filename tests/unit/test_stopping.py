"""Stopping rules on numbers worked out by hand, and what they are told against plain loops."""

import json
import math
import random
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from nlp_al import stability
from nlp_al.decisions import Decisions
from nlp_al.errors import UserError
from nlp_al.stability import Predictions, changed, kappa, kappas, summary, uncertainty
from nlp_al.stopping import (
    SEVERAL,
    STOPPING,
    Observation,
    f_bound,
    first_stop,
    inverse_fit,
    make_rule,
    observations,
    read_rule,
)

ONE, OTHER = (0, 0, 1, 1, 1, 0, 1, 0, 1, 1), (0, 0, 1, 1, 0, 0, 1, 0, 1, 1)


def seen(name: str, *values) -> list[Observation]:
    """Rounds in which one field was observed."""
    return [Observation(at, **{name: value}) for at, value in enumerate(values)]


def kappa_of(*values) -> list[Observation]:
    return seen("kappa", *(None if value is None else (value,) for value in values))


def scored(*values, spent=None, batch=100.0, **more) -> list[Observation]:
    spent = spent or [100.0 * (at + 1) for at in range(len(values))]
    scores = [{} if value is None else {"validation": {"accuracy": value}} for value in values]
    return [Observation(at, spent[at], batch, scores=one, main="accuracy", **more) for at, one in enumerate(scores)]


# Kappa


def test_kappa_by_hand():
    assert kappa(ONE, OTHER) == 0.8  # p_o = .9, p_e = .5


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_kappa_is_that_of_scikit_learn(classes):
    draw = np.random.default_rng(classes)
    for size in (2, 10, 400):
        before = draw.integers(classes, size=size)
        after = np.where(draw.random(size) < 0.7, before, draw.integers(classes, size=size))
        before[:2], after[:2] = (0, 1), (1, 0)  # so that chance alone would not agree
        assert kappa(before, after) == pytest.approx(cohen_kappa_score(before, after), abs=1e-12)
        order, names = draw.permutation(size), draw.permutation(classes)
        assert kappa(names[before][order], names[after][order]) == pytest.approx(kappa(before, after), abs=1e-12)
        assert kappa(after, before) == kappa(before, after)


def test_models_that_always_say_the_same_one_class_agree():
    assert kappa([1] * 5, [1] * 5) == 1.0
    assert kappa([3], [3]) == 1.0
    assert kappa([0] * 5, [1] * 5) == 0.0
    assert kappa([0, 1], [1, 0]) == -1.0


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], [1, 2]), ([[1]], [[1]])])
def test_kappa_of_nothing_is_refused(before, after):
    with pytest.raises(ValueError, match="kappa compares two equally long lists"):
        kappa(before, after)


def test_kappa_takes_many_predictions():
    before = np.tile([0, 1], 2_000_000)
    assert kappa(before, before) == 1.0
    assert kappa(before, 1 - before) == -1.0


def test_of_several_labels_each_has_its_own():
    texts = [list(pair) for pair in zip(ONE, [0] * 10, strict=True)]
    later = [list(pair) for pair in zip(OTHER, [0] * 10, strict=True)]
    assert kappas(np.ravel(texts), np.ravel(later), labels=2) == (0.8, 1.0)
    ((value,),) = [kappas(ONE, OTHER)]
    assert value == 0.8
    said = make_rule("kappa_average", window=1, threshold=0.9).update(seen("kappa", (0.8, 1.0)))
    assert (said.stop, said.value) == (True, 0.9)


# Predictions of two rounds


def test_what_is_in_both_rounds_is_compared_whatever_its_order():
    first = Predictions.of(["a", "b", "c", "gone"], [0, 1, 1, 5, 9], [0, 1, 3, 4, 5])
    later = Predictions.of(["new", "c", "b", "a"], [7, 4, 1, 2, 0], [0, 1, 2, 4, 5])
    pairs = sorted(zip(*(list(map(int, one)) for one in first.beside(later)), strict=True))
    assert pairs == [(0, 0), (1, 1), (1, 2), (5, 4)]
    assert changed(*first.beside(later)) == 0.5


def test_examples_whose_decisions_are_others_do_not_compare():
    first = Predictions.of(["a", "b"], [0, 1, 1], [0, 1, 3])
    later = Predictions.of(["a", "b"], [0, 1, 1, 1], [0, 1, 4])
    assert [list(one) for one in first.beside(later)] == [[0], [0]]
    nothing = Predictions.of(["z"], [0], [0, 1])
    assert [len(one) for one in first.beside(nothing)] == [0, 0]
    none = Predictions.of([], [], [0])
    assert [len(one) for one in none.beside(none)] == [0, 0]


def test_models_with_other_labels_do_not_compare():
    one, two = (Predictions.of(["a"], [1], [0, 1], labels) for labels in (["x", "y"], ["w", "x", "y"]))
    assert [len(found) for found in one.beside(two)] == [0, 0]


@pytest.mark.parametrize("largest", [0, 1, 255, 70_000])
def test_predictions_come_back_from_their_file(tmp_path, largest):
    made = Predictions.of(["a", "é", "c"], [0, largest, 0, 1], [0, 2, 3, 4], ["ä", "b"])
    path = tmp_path / "x.safetensors"
    path.write_bytes(made.to_bytes())
    found = Predictions.from_file(str(path))
    assert found.labels == ("ä", "b")
    assert (found.ids == made.ids).all()
    assert (found.columns == made.columns).all()
    assert (found.offsets == made.offsets).all()


def test_comparing_is_what_a_loop_over_ids_finds():
    draw = random.Random(0)
    for _ in range(50):
        sides = []
        for _ in range(2):
            names = draw.sample([f"t{at}" for at in range(20)], draw.randint(0, 20))
            lengths = {name: draw.randint(0, 3) for name in names}
            said = {name: [draw.randint(0, 4) for _ in range(lengths[name])] for name in names}
            offsets = np.cumsum([0, *(len(said[name]) for name in names)])
            sides.append((said, Predictions.of(names, [at for name in names for at in said[name]], offsets)))
        (first, one), (later, two) = sides
        expected = [
            pair
            for name in first
            if name in later and len(first[name]) == len(later[name])
            for pair in zip(first[name], later[name], strict=True)
        ]
        assert sorted(zip(*(list(map(int, side)) for side in one.beside(two)), strict=True)) == sorted(expected)


# Uncertainty


def single(*rows) -> Decisions:
    return Decisions(torch.tensor(rows), torch.arange(len(rows) + 1))


def test_entropy_is_a_share_of_that_of_a_uniform_guess():
    shares, doubt = uncertainty(single([0.98, 0.02], [0.9, 0.1], [0.5, 0.5]))
    assert shares.tolist() == pytest.approx([0.141441, 0.468996, 1.0], abs=1e-6)
    assert doubt.tolist() == pytest.approx([0.02, 0.1, 0.5], abs=1e-7)
    found = summary(single([0.98, 0.02], [0.9, 0.1]))
    assert found["mean_entropy"] == pytest.approx((0.141441 + 0.468996) / 2, abs=1e-6)
    assert found["max_entropy"] == pytest.approx(0.468996, abs=1e-6)
    assert found["max_doubt"] == pytest.approx(0.1, abs=1e-7)


def test_words_are_averaged_within_their_sentence():
    probs = torch.tensor([[0.98, 0.02], [0.5, 0.5], [0.9, 0.1]])
    shares, doubt = uncertainty(Decisions(probs, torch.tensor([0, 2, 3])))
    assert shares.tolist() == pytest.approx([(0.141441 + 1.0) / 2, 0.468996], abs=1e-6)
    assert doubt.tolist() == pytest.approx([0.26, 0.1], abs=1e-7)


@pytest.mark.parametrize("rubbish", [0.0, 1.0, math.nan])
def test_candidates_count_by_their_number_and_a_single_one_not_at_all(rubbish):
    probs = torch.tensor([[0.5, 0.5, rubbish, rubbish], [0.25] * 4, [1.0, rubbish, rubbish, rubbish]])
    shares, _ = uncertainty(Decisions(probs, torch.arange(4), torch.tensor([2, 4, 1])))
    assert shares.tolist() == pytest.approx([1.0, 1.0], abs=1e-7)
    assert summary(Decisions(probs[2:], torch.arange(2), torch.tensor([1]))) == {}


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_blocks_of_any_size_give_the_same(monkeypatch, rows):
    probs = torch.rand(40, 5, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 3, 3, 10, 40])
    for options in (None, torch.arange(40) % 5 + 1):
        valid = torch.arange(5) < (options[:, None] if options is not None else 5)
        shares = probs * valid / (probs * valid).sum(1, keepdim=True)
        whole = uncertainty(Decisions(shares, offsets, options))
        monkeypatch.setattr(stability, "BLOCK", rows)
        for found, expected in zip(uncertainty(Decisions(shares, offsets, options)), whole, strict=True):
            assert torch.equal(found, expected)
        monkeypatch.undo()


def test_a_sentence_without_words_does_not_count():
    shares, _ = uncertainty(Decisions(torch.tensor([[0.9, 0.1]]), torch.tensor([0, 0, 1])))
    assert shares.tolist() == pytest.approx([0.468996], abs=1e-6)


# Each rule


@pytest.mark.parametrize(
    ("values", "stop"),
    [
        ([0.98, 0.995, 0.999], True),  # .991333
        ([0.995, 0.999], False),  # two comparisons of three: three models, and four are needed
        ([None, 0.995, 0.999], False),
        ([None, 0.98, 0.995, 0.999], True),
        ([0.1, 0.98, 0.995, 0.999], True),  # what was before the window does not count
        ([0.98, 0.995, 0.999, 0.9], False),
        ([0.98, 0.99, 1.0], True),  # exactly there
        ([0.99] * 3, True),
        ([0.98, 0.99, 0.9999], False),
        ([1.0, 1.0, None, 1.0], False),  # a gap: no model was there to compare
        ([], False),
    ],
)
def test_kappa_average(values, stop):
    assert make_rule("kappa_average").update(kappa_of(*values)).stop is stop


def test_kappa_average_tells_its_mean():
    said = make_rule("kappa_average").update(kappa_of(0.98, 0.995, 0.999))
    assert said.value == pytest.approx(0.991333, abs=1e-6)
    assert said.reason == "kappa_average: the mean kappa of the last 3 rounds is 0.9913, at least 0.99"
    said = make_rule("kappa_average", window=1).update(kappa_of(0.5))
    assert said.reason == "kappa_average: the mean kappa of the last round is 0.5, not at least 0.99"
    assert make_rule("kappa_average").update([]).reason == "kappa_average: not enough was observed yet"


def test_the_bound_on_f_by_hand():
    assert f_bound(0.99) == pytest.approx(0.040404, abs=1e-6)
    assert f_bound(1.0) == 0.0
    assert f_bound(0.0) == f_bound(-0.5) == math.inf
    rule = make_rule("stabilising_predictions_f")
    assert rule.update(kappa_of(0.99, 0.99, 0.99)).stop
    assert not rule.update(kappa_of(0.99, 0.99)).stop
    assert not rule.update(kappa_of(0.98, 0.98, 0.98)).stop  # .0816
    assert not rule.update(kappa_of(0.0, 1.0, 1.0)).stop
    assert rule.update(kappa_of(0.0, 1.0, 1.0)).value == math.inf
    assert not make_rule("stabilising_predictions_f", threshold=0.5, window=1).update(kappa_of(-1.0)).stop
    at_the_bar = make_rule("stabilising_predictions_f", threshold=1.0, window=1)
    assert not at_the_bar.update(kappa_of(0.8)).stop  # 4 · .2 / .8 = 1, which is not below 1
    assert at_the_bar.update(kappa_of(0.81)).stop


def f1(truth: np.ndarray, said: np.ndarray) -> float:
    size = int(truth.sum() + said.sum())
    return 2 * int((truth & said).sum()) / size if size else 0.0


def test_f_never_changes_by_more_than_the_bound():
    draw = np.random.default_rng(0)
    for _ in range(20_000):
        size = draw.integers(2, 40)
        truth, one = draw.random((2, size)) < draw.random((2, 1))
        other = one ^ (draw.random(size) < draw.random() * 0.3)
        agreement = kappa(one, other)
        if agreement > 0:
            assert abs(f1(truth, one) - f1(truth, other)) <= f_bound(agreement) + 1e-12


def test_of_several_labels_macro_f_never_changes_by_more_than_the_mean_of_the_bounds():
    draw, rule = np.random.default_rng(1), make_rule("stabilising_predictions_f", window=1)
    tight = 0
    for _ in range(3000):
        truth, one = draw.random((2, 30, 4)) < draw.random((2, 1, 4))
        other = one ^ (draw.random((30, 4)) < draw.random() * 0.2)
        found = kappas(one.ravel(), other.ravel(), labels=4)
        bound = rule.update(seen("kappa", found)).value
        gaps = [f1(truth[:, at], one[:, at]) - f1(truth[:, at], other[:, at]) for at in range(4)]
        assert abs(np.mean(gaps)) <= bound + 1e-12
        assert bound <= 1.0
        average = np.mean(found)
        tight += average > 0 and f_bound(average) < bound  # which is no bound on the mean
    assert tight
    assert rule.update(seen("kappa", (0.99, 0.0))).value == pytest.approx((0.040404 + 1) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "field", "value", "stop"),
    [
        ("overall_uncertainty", "mean_entropy", 0.049, True),
        ("overall_uncertainty", "mean_entropy", 0.05, False),  # below, not at
        ("overall_uncertainty", "mean_entropy", 0.141441, False),
        ("max_uncertainty", "max_entropy", 0.0999, True),
        ("max_uncertainty", "max_entropy", 0.1, False),
        ("max_uncertainty", "max_doubt", 0.0, False),
        ("classification_change", "changed", 0.0, True),
        ("classification_change", "changed", 1e-6, False),
        ("selected_accuracy", "accuracy", 0.9, True),
        ("selected_accuracy", "accuracy", 0.899, False),
        ("selected_accuracy", "accuracy", None, False),
    ],
)
def test_rules_that_read_the_last_round(name, field, value, stop):
    assert make_rule(name).update(seen(field, None, value)).stop is stop


def test_one_uncertain_example_blocks_the_largest_and_hardly_moves_the_mean():
    pool = single(*[[0.999, 0.001]] * 99, [0.6, 0.4])
    found = [Observation(**summary(pool))]
    assert not make_rule("max_uncertainty").update(found).stop
    assert make_rule("overall_uncertainty").update(found).stop
    sure = [Observation(**summary(single(*[[0.999, 0.001]] * 99)))]
    assert make_rule("max_uncertainty").update(sure).stop


def test_the_largest_uncertainty_by_confidence():
    rule = make_rule("max_uncertainty", by="confidence", threshold=0.1)
    assert rule.update(seen("max_doubt", 0.02)).stop  # of entropy .1414, which would block it
    assert not rule.update(seen("max_doubt", 0.1)).stop
    assert "doubt (1 − p)" in rule.update(seen("max_doubt", 0.1)).reason


def test_one_change_in_ten():
    after = [*range(9), 0]
    found = seen("changed", changed(range(10), after))
    assert not make_rule("classification_change").update(found).stop
    assert make_rule("classification_change", threshold=0.1).update(found).stop
    for size in range(1, 60):  # at the bar whatever the rounding
        for count in range(size + 1):
            share = changed([0] * size, [1] * count + [0] * (size - count))
            assert (
                make_rule("classification_change", threshold=1 - (size - count) / size)
                .update(seen("changed", share))
                .stop
            )


@pytest.mark.parametrize(
    ("values", "stop"),
    [
        ([0.8, 0.81, 0.811, 0.8015], True),  # .0015 over three rounds
        ([0.8, 0.81, 0.811, 0.802], False),  # .002, not below
        ([0.8, 0.8, 0.8], False),  # four scores are three rounds apart
        ([0.8, 0.8, 0.8, 0.7], True),  # a fall is no gain
        ([0.1, 0.8, 0.81, 0.811, 0.8015], True),
        ([None, 0.81, 0.811, 0.8015], False),
    ],
)
def test_performance_plateau(values, stop):
    assert make_rule("performance_plateau").update(scored(*values)).stop is stop


def test_a_target_is_reached_where_it_is_met():
    rule = make_rule("target", threshold=0.9)
    assert rule.update(scored(0.5, 0.9)).stop
    assert not rule.update(scored(0.9, 0.8999)).stop
    assert not rule.update(scored(None)).stop
    mrr = make_rule("target", threshold=0.3, metric="mrr")
    assert not mrr.update(scored(0.9)).stop
    assert mrr.update([Observation(scores={"holdout": {"recall_at_1": 0.1, "mrr": 0.3}}, main="recall_at_1")]).stop


def test_scores_of_two_splits_are_not_mixed():
    first = replace(scored(0.5)[0], scores={"holdout": {"accuracy": 0.9}})
    both = replace(scored(0.5)[0], round=1, scores={"validation": {"accuracy": 0.9}, "holdout": {"accuracy": 0.1}})
    rule = make_rule("performance_plateau", window=1)
    assert rule.update([first, both]).value is None
    assert rule.update([first, first]).value == 0.0


def test_the_gain_of_the_next_batch_by_hand():
    """err = 1/n: from 100 to 200 labels it falls from .01 to .005."""
    rounds = scored(*(1 - 1 / n for n in (25, 50, 100)), spent=[25, 50, 100])
    rule = make_rule("expected_gain", price=0.00005)
    said = rule.update(rounds)
    assert said.value == pytest.approx(0.005, abs=1e-9)
    assert not said.stop  # the batch is worth 100 · .00005 = .005, and the gain is not below
    assert make_rule("expected_gain", price=0.0000501).update(rounds).stop
    assert rule.update(rounds[:2]).value is None
    assert make_rule("expected_gain", rounds=2).update(rounds[:2]).value == pytest.approx(1 / 50 - 1 / 150, abs=1e-9)
    assert make_rule("expected_gain", since=50).update(rounds).value is None
    assert rule.update([*rounds, *scored(None, spent=[200])]).value is None
    assert make_rule("expected_gain").update(scored(0.5, 0.5, 0.5, spent=[10, 10, 10])).value is None


def test_the_line_through_the_scores():
    points = [(n, 0.1 + 2.5 / n) for n in (50, 100, 200, 400)]
    assert inverse_fit(points) == pytest.approx((0.1, 2.5), abs=1e-9)
    noisy = [(n, error + shift) for (n, error), shift in zip(points, (0.02, -0.01, 0.01, -0.003), strict=True)]
    n, error = np.array(noisy).T
    design = np.stack([np.ones(4), 1 / n], 1) * np.sqrt(n)[:, None]
    assert inverse_fit(noisy) == pytest.approx(np.linalg.lstsq(design, error * np.sqrt(n))[0], abs=1e-9)
    # An error that falls faster than 1/n would end below zero: then the line goes through zero.
    steep = [(10, 0.5), (20, 0.2), (40, 0.05)]
    n, error = np.array(steep).T
    expected = np.linalg.lstsq((np.sqrt(n) / n)[:, None], error * np.sqrt(n))[0][0]
    assert inverse_fit(steep) == pytest.approx((0.0, expected), abs=1e-9)
    with pytest.raises(ValueError, match="two numbers of labels"):
        inverse_fit([(10, 0.5), (10, 0.4)])


def test_several_rules():
    pair = [{"name": "kappa_average", "window": 1}, "overall_uncertainty"]
    either, both = make_rule("any", rules=pair), make_rule("all", rules=pair)
    for agreement, entropy in ((1.0, 0.0), (1.0, 1.0), (0.5, 0.0), (0.5, 1.0)):
        found = [Observation(kappa=(agreement,), mean_entropy=entropy)]
        one, two = agreement == 1.0, entropy == 0.0
        assert either.update(found).stop is (one or two)
        assert both.update(found).stop is (one and two)
        named = [name for name, ends in (("kappa_average", one), ("overall_uncertainty", two)) if ends]
        reason = either.update(found).reason
        if named:  # what ends the run is named, and nothing else
            assert [name for name in ("kappa_average", "overall_uncertainty") if name in reason] == named
    assert "overall_uncertainty" in both.update([Observation(kappa=(1.0,), mean_entropy=1.0)]).reason
    assert "kappa_average" not in both.update([Observation(kappa=(1.0,), mean_entropy=1.0)]).reason
    nested = make_rule("all", rules=[{"any": pair}, {"name": "target", "threshold": 0.5}])
    assert [rule.name for rule in nested.inside()] == ["kappa_average", "overall_uncertainty", "target"]


# What a run has observed


def line(round_: int, answers: int, **more) -> dict:
    return {"round": round_, "labelled": answers - 2, "answers": answers, "cost": 9.5 * answers, **more}


def test_observations_are_read_off_the_lines_of_a_run():
    lines = [
        line(0, 12, test={"accuracy": 1.0}),
        line(1, 20, validation={"accuracy": 0.5}, test={"accuracy": 1.0}, stop={"kappa": [0.5], "changed": 0.25}),
        line(2, 20, stop={"kappa": [1.0], "changed": 0.0}),
        line(3, 25, stop={"kappa": [0.75], "accuracy": 0.5, "decision": {"stop": True, "value": 1, "reason": "x"}}),
    ]
    found = observations(json.loads(json.dumps(lines)), "accuracy", 25)
    # Round 2 brought no answer: its model is that of round 1, and that they agree says nothing.
    assert [one.round for one in found] == [0, 1, 3]
    assert [one.kappa for one in found] == [None, (0.5,), (0.75,)]
    assert [one.spent for one in found] == [10.0, 18.0, 23.0]
    assert [one.batch for one in found] == [25.0] * 3
    assert [dict(one.scores) for one in found] == [{}, {"validation": {"accuracy": 0.5}}, {}]
    assert "test" not in json.dumps([dict(one.scores) for one in found])
    assert observations(lines, "accuracy", 25, "words")[0].spent == 9.5 * 12


@pytest.mark.parametrize("name", [name for name in STOPPING if name != "target"])
def test_test_labels_move_no_rule(name):
    lines = [
        line(at, 10 + at, validation={"accuracy": 0.5 + at / 100}, stop={"kappa": [0.9], "accuracy": 0.5})
        for at in range(6)
    ]
    other = [{**one, "test": {"accuracy": random.random()}} for one in lines]
    rule = make_rule(name)
    assert rule.update(observations(lines, "accuracy", 1)) == rule.update(observations(other, "accuracy", 1))


@pytest.mark.parametrize(("share", "stop"), [(None, False), (0.0, False), (0.5, False), (0.501, True), (1.0, True)])
def test_noise_ends_a_run_when_it_is_most_of_what_is_undecided(share, stop):
    said = make_rule("noise_exit").update([Observation(abstained=1.0), Observation(abstained=share)])
    assert (said.stop, said.value) == (stop, share)
    if share == 0.501:
        assert said.reason == "noise_exit: the share of toss-ups in what was undecided is 0.501, above 0.5"
    assert make_rule("noise_exit", threshold=0.2).update([Observation(abstained=0.3)]).stop


def test_a_filter_that_lets_nothing_through_is_heard_though_nobody_answered():
    """Round 2 asked nothing, for all that was undecided was a toss-up; it fitted no model."""
    lines = [line(1, 10, stop={"kappa": [0.5], "abstained": 0.3}), line(2, 10, stop={"kappa": [1.0], "abstained": 1.0})]
    found = observations(lines, "accuracy", 25)
    assert [(one.round, one.kappa, one.abstained) for one in found] == [(2, (0.5,), 1.0)]
    assert observations(lines[:1], "accuracy", 25)[0].abstained == 0.3
    quiet = [lines[0], line(2, 10, stop={})]
    assert observations(quiet, "accuracy", 25)[0].abstained == 0.3


def test_the_first_stop_holds_whatever_comes_later():
    rule = make_rule("kappa_average", window=2)
    rounds = kappa_of(0.5, 0.99, 1.0, 0.2, 0.3)
    found, said = first_stop(rule, rounds)
    assert (found.round, said.stop) == (2, True)
    assert not rule.update(rounds).stop
    assert first_stop(rule, rounds[:2]) is None
    assert first_stop(rule, []) is None


def test_a_decision_depends_on_the_list_alone():
    rule = make_rule("kappa_average", window=2)
    rounds = kappa_of(0.5, 0.99, 1.0, 0.2)
    forwards = [rule.update(rounds[:end]) for end in range(5)]
    backwards = [rule.update(rounds[:end]) for end in reversed(range(5))]
    assert forwards == backwards[::-1]


# Names and parameters


def test_the_registry_names_what_is_there():
    assert set(STOPPING) == {
        "kappa_average",
        "stabilising_predictions_f",
        "overall_uncertainty",
        "max_uncertainty",
        "classification_change",
        "noise_exit",
        "selected_accuracy",
        "performance_plateau",
        "target",
        "expected_gain",
    }
    known = {f.name for f in fields(Observation)}
    for name, kind in STOPPING.items():
        assert kind.name == name
        assert kind.reads
        assert kind.reads <= known
        told = " ".join(kind.__doc__.split())
        assert all(part in told for part in ("Use ", "Needs", "ost: ", "Reference: ")), name
        assert all(f.metadata.get("help") for f in fields(kind)), name


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("kapa", "stop.rule: There is no stopping rule 'kapa': "),
        (5, "stop.rule is 5; it must be a name, a mapping with 'name', or {any: [...]} or {all: [...]} alone."),
        ({"threshold": 0.5}, "stop.rule is {'threshold': 0.5}; it must be a name, a mapping with 'name', or "),
        ({"any": ["target"], "all": []}, "stop.rule is {'any': ['target'], 'all': []}; it must be a name"),
        ({"any": ["kappa_average"], "name": "all"}, "stop.rule is {'any': ['kappa_average'], 'name': 'all'}; it must"),
        ({"any": "kappa_average"}, "stop.rule.any is 'kappa_average'; it must be a list of rules."),
        ({"all": []}, "stop.rule.all is []; it must be a list of rules."),
        ({"any": ["kappa_average", "nope"]}, "stop.rule.any[1]: There is no stopping rule 'nope': "),
        ({"any": [{"all": [{"name": "kappa_average", "w": 1}]}]}, "Unknown key 'stop.rule.any[0].all[0].w': "),
        ({"name": "kappa_average", "threshold": 2}, "stop.rule.threshold is 2.0; it must lie between 0 and 1."),
        ({"name": "kappa_average", "window": 0}, "stop.rule.window is 0; it must be at least 1."),
        ({"name": "kappa_average", "window": 1.5}, "stop.rule.window is 1.5; it must be a whole number."),
        ({"name": "performance_plateau", "window": 0}, "stop.rule.window is 0; it must be at least 1."),
        ({"name": "max_uncertainty", "by": "x"}, "stop.rule.by is 'x'; it must be entropy or confidence."),
        ({"name": "expected_gain", "price": 0}, "stop.rule.price is 0.0; it must be more than 0."),
        ({"name": "expected_gain", "rounds": 1}, "stop.rule.rounds is 1; it must be at least 2."),
        ("target", "The config lacks 'stop.rule.threshold'."),
    ],
)
def test_a_mistake_is_told(value, told):
    with pytest.raises(UserError) as error:
        read_rule(value)
    assert str(error.value).startswith(told)


def test_rules_by_name():
    assert make_rule("kappa_average", threshold=0.9) == read_rule({"name": "kappa_average", "threshold": 0.9})
    assert make_rule("kappa_average") != make_rule("kappa_average", window=4)
    assert set(SEVERAL) == {"any", "all"}
    with pytest.raises(UserError, match=r"Unknown key 'kappa_average\.windw'"):
        make_rule("kappa_average", windw=4)


def test_rules_are_known_before_torch_is():
    code = "import sys, nlp_al.stopping; print(sorted({'torch', 'numpy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
