"""Strategies around another one: draws in place of the top, shares of classes, and what they make of their base."""

import math
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from nlp_al.pool import Example
from nlp_al.selection.quotas import by_quota, quotas
from nlp_al.signals import SignalError, Signals
from nlp_al.signals.targets import targets
from nlp_al.strategies import STRATEGIES, Selection, make_strategy
from nlp_al.strategies.weighted import from_zero
from nlp_al.tasks import make_task
from nlp_al.testing import check_strategy, synthetic_signals


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(name: str, signals: Signals, size: float, seed: int = 0, **parameters: object) -> Selection:
    return make_strategy(name, **parameters).select(signals, size, seeded(seed))


# --- the promises


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("power", {"base": "margin"}),
        ("softmax", {"base": {"name": "mnlp", "constrained": True}, "beta": 3.0}),
        ("softrank", {"base": "cal"}),
        ("class_balanced", {"base": "bald"}),
        ("class_balanced", {"base": "power"}),
        ("info_density", {"base": "power_bald"}),
    ],
)
def test_they_keep_the_promises_over_any_scorer(name: str, parameters: dict) -> None:
    check_strategy(make_strategy(name, **parameters), seed=1)


@pytest.mark.parametrize("name", [name for name, kind in STRATEGIES.items() if kind.scored])
def test_what_is_said_to_score_does(name: str) -> None:
    strategy = make_strategy(name)
    signals = synthetic_signals(strategy.shapes[0], 12)
    if any(need.startswith("scores.") for need in strategy.needs):
        pytest.skip("made by a pass of its own")
    found = strategy.select(signals, 3, seeded(0))
    assert found.scores is not None
    assert make_strategy("softrank", base=name).needs == strategy.needs


# --- power, softmax, softrank


DRAWS = 1500


def binary(*margins: float) -> Signals:
    """Examples with these margins."""
    first = torch.tensor(margins, dtype=torch.float64) / 2 + 0.5
    return Signals(probs=torch.stack([first, 1 - first], 1))


def shares(name: str, signals: Signals, draws: int = DRAWS, **parameters: object) -> list[float]:
    generator, strategy = seeded(0), make_strategy(name, **parameters)
    firsts = [int(strategy.select(signals, 1, generator).indices[0]) for _ in range(draws)]
    return (torch.bincount(torch.tensor(firsts), minlength=len(signals)) / draws).tolist()


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        # Counted from the lowest, 0.9: scores of 0, .1, .2 and .7.
        ("power", {"base": "margin"}, [0.0, 0.1, 0.2, 0.7]),
        ("power", {"base": "margin", "beta": 2.0}, [0.0, 1 / 54, 4 / 54, 49 / 54]),
        # 1 / rank: 1/4, 1/3, 1/2, 1 of 25/12.
        ("softrank", {"base": "margin"}, [3 / 25, 4 / 25, 6 / 25, 12 / 25]),
        ("softmax", {"base": "margin", "beta": 10.0}, [1 / 1108.74, math.e / 1108.74, math.e**2 / 1108.74, 0.98998]),
        # 1 − p of .05, .1, .15 and .4 is above 0: nothing is taken off.
        ("power", {"base": "least_confidence"}, [1 / 14, 2 / 14, 3 / 14, 8 / 14]),
    ],
)
def test_chances_follow_the_scores_whatever_their_sign(name: str, parameters: dict, expected: list[float]) -> None:
    signals = binary(0.9, 0.8, 0.7, 0.2)
    assert sum(expected) == pytest.approx(1.0, abs=1e-3)
    for share, chance in zip(shares(name, signals, **parameters), expected, strict=True):
        assert abs(share - chance) < 3 * math.sqrt(chance * (1 - chance) / DRAWS) + 1e-3


@pytest.mark.parametrize("base", ["margin", "entropy", "least_confidence", "mnlp", "bald", "cal", "egl"])
@pytest.mark.parametrize("name", ["power", "softmax", "softrank"])
def test_without_noise_they_take_the_top_of_their_base(name: str, base: str) -> None:
    signals = synthetic_signals("single", 30)
    wanted = select(base, signals, 8).indices.tolist()
    assert select(name, signals, 8, 3, base=base, beta=1e9).indices.tolist() == wanted
    assert len({tuple(select(name, signals, 8, seed, base=base).indices.tolist()) for seed in range(9)}) > 1


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
def test_over_bald_they_are_what_has_its_name(kind: str) -> None:
    signals = synthetic_signals("sequence", 30)
    long = select(kind, signals, 9, 5, base={"name": "bald", "agg": "max"}, beta=2.0)
    short = select(f"{kind}_bald", signals, 9, 5, agg="max", beta=2.0)
    assert long.indices.tolist() == short.indices.tolist()
    torch.testing.assert_close(long.scores, short.scores, rtol=0, atol=0)


def test_scores_are_counted_from_the_lowest_where_some_are_negative() -> None:
    assert from_zero(torch.tensor([0.5, 2.0])).tolist() == [0.5, 2.0]
    assert from_zero(torch.tensor([-1.0, -torch.inf, 2.0, 0.0])).tolist() == [0.0, -math.inf, 3.0, 1.0]
    assert from_zero(torch.tensor([-torch.inf])).tolist() == [-math.inf]
    assert from_zero(torch.zeros(0)).tolist() == []


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("power", {"beta": 0.0}, "beta is 0; it must be more than 0"),
        ("power", {"base": "badge"}, "base is 'badge', which gives examples no scores; those that do are: .*entropy"),
        ("softmax", {"base": "class_balanced"}, "base is 'class_balanced', which gives examples no scores"),
        ("softrank", {"base": "entropi"}, "base is 'entropi': There is no strategy 'entropi'"),
        ("class_balanced", {"base": {"name": "margin", "agg": "median"}}, "agg is 'median'"),
        ("class_balanced", {"base": {"agg": "max"}}, "it must be the name of a strategy, or a mapping with one"),
    ],
)
def test_a_wrong_base_is_told(name: str, parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy(name, **parameters)


# --- quotas


def test_quotas_by_hand() -> None:
    """Labels 10, 5, 1 and 8 more are 8 each; 0, 3 and 7 are lacking: 8 (1/6 + (0, .15, .35)) = 1.33, 2.53, 4.13."""
    assert quotas(torch.tensor([10, 5, 1]), 8).tolist() == [1, 3, 4]
    # Nothing is labelled: an even share, and what is over goes to the lowest.
    assert quotas(torch.tensor([0, 0, 0]), 8).tolist() == [3, 3, 2]
    assert quotas(torch.tensor([7, 7]), 5).tolist() == [3, 2]
    assert quotas(torch.tensor([100, 0]), 10).tolist() == [3, 7]  # 2.5 and 7.5: the tie goes to the lowest
    assert quotas(torch.tensor([1, 2]), 0).tolist() == [0, 0]


def exact_quotas(counts: list[int], batch: int) -> list[int]:
    lacking = [max(Fraction(0), Fraction(sum(counts) + batch, len(counts)) - count) for count in counts]
    even, total = Fraction(1, len(counts)), sum(lacking)
    wanted = [batch * (even + (lack / total if total else even)) / 2 for lack in lacking]
    found = [math.floor(want) for want in wanted]
    by_remainder = sorted(range(len(counts)), key=lambda at: (found[at] - wanted[at], at))
    for at in by_remainder[: batch - sum(found)]:
        found[at] += 1
    return found


def test_quotas_equal_those_in_fractions() -> None:
    """Ties are ties, whatever floats make of them."""
    assert exact_quotas([2, 12, 2], 20) == quotas(torch.tensor([2, 12, 2]), 20).tolist() == [9, 3, 8]
    draws = random.Random(0)
    for _ in range(500):
        counts, batch = [draws.randrange(13) for _ in range(draws.randint(1, 7))], draws.randrange(21)
        found = quotas(torch.tensor(counts), batch)
        assert found.tolist() == exact_quotas(counts, batch), (counts, batch)
        assert int(found.sum()) == batch


def by_loop(scores: list[float], classes: list[int], quota: list[int]) -> list[int]:
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    left, taken = list(quota), set()
    for at in order:
        if left[classes[at]] > 0:
            left[classes[at]] -= 1
            taken.add(at)
    for at in order:
        if len(taken) < sum(quota):
            taken.add(at)
    return [at for at in order if at in taken]


@pytest.mark.parametrize("seed", range(30))
def test_choosing_by_quota_equals_a_loop(seed: int) -> None:
    draws = seeded(seed)
    n = int(torch.randint(1, 40, (), generator=draws))
    scores = torch.randint(0, 6, (n,), generator=draws).float()  # with ties
    scores[torch.rand(n, generator=draws) < 0.1] = -torch.inf
    classes = torch.randint(0, 4, (n,), generator=draws)
    quota = quotas(torch.randint(0, 9, (5,), generator=draws), int(torch.randint(0, n + 1, (), generator=draws)))
    assert by_quota(scores, classes, quota).tolist() == by_loop(scores.tolist(), classes.tolist(), quota.tolist())


# --- class_balanced


def of_classes(predicted: list[int], classes: int = 3) -> Tensor:
    """The further behind, the less sure."""
    sure = torch.linspace(0.9, 0.6, len(predicted))[:, None]
    one_hot = torch.nn.functional.one_hot(torch.tensor(predicted), classes)
    return torch.where(one_hot > 0, sure, (1 - sure) / (classes - 1))


def test_each_class_has_its_share() -> None:
    """Labels 10, 5, 1: quotas 1, 3, 4; class 2 is predicted for two alone, and class 0 fills up by score."""
    labelled = Signals(targets=torch.tensor([0] * 10 + [1] * 5 + [2]))
    predicted = [2, 1, 1, 2, 1, 1, 0, 0, 0, 0, 0, 0]
    signals = Signals(probs=of_classes(predicted), labelled=labelled)
    found = select("class_balanced", signals, 8, base="margin").indices.tolist()
    assert found == [11, 10, 9, 5, 4, 3, 2, 0]
    assert Counter(predicted[at] for at in found) == {0: 3, 1: 3, 2: 2}
    assert select("margin", signals, 8).indices.tolist() == list(range(11, 3, -1))


def test_with_nothing_labelled_classes_have_equal_shares() -> None:
    signals = Signals(probs=of_classes([0] * 20 + [1] * 20 + [2] * 20))
    for known in (None, Signals(count=0)):
        found = select("class_balanced", replace(signals, labelled=known), 9).indices.tolist()
        assert Counter(at // 20 for at in found) == {0: 3, 1: 3, 2: 3}
        assert sorted(found) == [17, 18, 19, 37, 38, 39, 57, 58, 59]


def test_a_text_with_several_labels_counts_for_the_rarest_of_those_predicted() -> None:
    """Labels occur 3, 2 and 0 times. Predicted: 0 and 2; 0 and 1; 0; none, but 1 most probably; 0."""
    yes = torch.tensor([[0.9, 0.2, 0.6], [0.9, 0.8, 0.1], [0.7, 0.1, 0.1], [0.1, 0.4, 0.3], [0.6, 0.5, 0.1]])
    probs = torch.stack([yes, 1 - yes], 2).reshape(-1, 2)
    labels = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0]])
    labelled = Signals(targets=1 - labels.flatten(), offsets=torch.tensor([0, 3, 6, 9]))
    signals = Signals(probs=probs, offsets=torch.arange(0, 16, 3), labelled=labelled)
    # Of 3, one for each: 8/3 − (3, 2, 0) is lacking, so 3 (1/6 + (0, .1, .4)) = .5, .8, 1.7: 0, 1 and 2.
    assert quotas(torch.tensor([3, 2, 0]), 3).tolist() == [0, 1, 2]
    margin = [sum(abs(2 * p - 1) for p in row) for row in yes.tolist()]
    assert sorted(range(5), key=margin.__getitem__) == [4, 3, 0, 2, 1]
    # 0 is the only one of label 2, 3 goes before 1 for label 1; the last place goes by score, to 4.
    assert select("class_balanced", signals, 3, base="margin").indices.tolist() == [4, 3, 0]
    assert select("class_balanced", signals, 2, base="margin").indices.tolist() == [3, 0]


def test_a_sentence_counts_for_its_rarest_predicted_tag() -> None:
    """Tags 0 (outside), 1, 2 are in 3, 2 and 1 labelled sentences; the pool's count for 0, 1, 2, 0, 1."""
    labelled = Signals(targets=torch.tensor([0, 0, 1, 0, 0, 1, 0, 0, 2]), offsets=torch.tensor([0, 3, 6, 9]))
    words = [[0, 0, 0], [0, 1], [2, 0, 1], [0], [1]]
    signals = Signals(
        probs=torch.cat([of_classes(one) for one in words]),
        offsets=torch.tensor([0, 3, 5, 8, 9, 10]),
        labelled=labelled,
    )
    # (3 + 2 + 1 + 3) / 3 = 3 of each: 0, 1 and 2 are lacking, so 3 (1/6 + (0, 1/6, 1/3)) = .5, 1, 1.5: one of each.
    assert sorted(select("class_balanced", signals, 3, base="least_confidence").indices.tolist()) == [0, 1, 2]


def test_sentences_with_a_tag_are_counted_not_words() -> None:
    """Tag 1 is in one labelled sentence, six times; 0 and 2 are in two."""
    labelled = Signals(targets=torch.tensor([1] * 6 + [0, 2, 0, 2]), offsets=torch.tensor([0, 6, 8, 10]))
    sure, unsure = of_classes([0, 1]), torch.tensor([[0.4, 0.3, 0.3]])
    signals = Signals(probs=torch.cat([sure, unsure]), offsets=torch.tensor([0, 2, 3]), labelled=labelled)
    assert select("entropy", signals, 1).indices.tolist() == [1]
    assert select("class_balanced", signals, 1).indices.tolist() == [0]


def test_sentences_over_two_tags_are_not_taken_for_texts_with_several_labels() -> None:
    """All of the pool have two words, but a labelled one has three: the classes are the tags, not the places."""
    labelled = Signals(targets=torch.tensor([0, 0, 0, 1]), offsets=torch.tensor([0, 3, 4]))
    probs = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
    signals = Signals(probs=probs, offsets=torch.tensor([0, 2, 4, 6]), labelled=labelled)
    # Tag 1 is predicted for the last two; of three 1.5 are for each tag, and the tie goes to the lowest.
    assert sorted(select("class_balanced", signals, 2, base="margin").indices.tolist()) == [0, 2]


def test_a_label_that_the_model_does_not_know_is_told() -> None:
    signals = Signals(probs=of_classes([0, 1]), labelled=Signals(targets=torch.tensor([0, 3])))
    with pytest.raises(SignalError, match=r"labelled\.targets holds 3; the pool has 3 classes"):
        select("class_balanced", signals, 1)


def test_it_serves_no_rankings() -> None:
    assert make_strategy("class_balanced").shapes == ("single", "multi", "sequence")


# --- labels as columns


@pytest.mark.parametrize(
    ("name", "options", "labels", "given", "columns", "offsets"),
    [
        ("text-classification", {}, ["a", "b", "c"], ["c", "a"], [2, 0], [0, 1, 2]),
        ("text-classification", {"multi_label": True}, ["a", "b"], [["b"], []], [1, 0, 1, 1], [0, 2, 4]),
        ("token-classification", {}, ["O", "B-X", "I-X"], [["B-X", "I-X", "O"], ["O"]], [1, 2, 0, 0], [0, 3, 4]),
        ("text-classification", {}, ["a", "b"], [], [], [0]),
    ],
)
def test_targets_are_the_columns_that_labels_take(name, options, labels, given, columns, offsets) -> None:
    task = make_task(name, options).with_labels(labels)
    pairs = [(Example(str(at), ("w",) * len(label), 1), label) for at, label in enumerate(given)]
    made = targets(task, pairs)
    assert made.targets.tolist() == columns
    assert made.offsets.tolist() == offsets
    assert len(made) == len(given)


def test_targets_go_with_their_examples() -> None:
    made = Signals(targets=torch.tensor([1, 2, 0, 0]), offsets=torch.tensor([0, 3, 4]))
    assert made.take(torch.tensor([1, 0, 1])).targets.tolist() == [0, 1, 2, 0, 0]
    assert Signals(targets=torch.tensor([3, 1])).offsets.tolist() == [0, 1, 2]
    with pytest.raises(SignalError, match="targets must not be negative"):
        Signals(targets=torch.tensor([0, -1]))
    with pytest.raises(SignalError, match="offsets of targets must rise from 0 to its 2 rows"):
        Signals(targets=torch.tensor([0, 1]), offsets=torch.tensor([0, 1]))


def of(signals: Signals, name: str, size: int = 6, **parameters: Any) -> tuple[list[int], Tensor | None]:
    found = make_strategy(name, **parameters).select(signals, size, torch.Generator().manual_seed(0))
    return found.indices.tolist(), found.scores


@pytest.mark.parametrize("base", ["least_confidence", "entropy", "mnlp", "info_density", "cal"])
@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_the_mean_of_a_committee_stands_for_the_model(base: str, shape: str) -> None:
    signals = synthetic_signals(shape, 20, labelled=4)
    assert signals.labelled is not None
    mean = [replace(own, probs=own.statistics().mean.float()) for own in (signals, signals.labelled)]
    expected, scores = of(replace(mean[0], labelled=mean[1]), base)
    found, own = of(signals, "committee_mean", base=base)
    assert found == expected
    torch.testing.assert_close(own, scores)
    assert found != of(signals, base)[0]


def test_the_margin_of_the_mean_is_that_of_the_ensemble() -> None:
    signals = synthetic_signals("single", 20)
    assert of(signals, "committee_mean", base="margin")[0] == of(signals, "margin_ensemble")[0]


@pytest.mark.parametrize("base", ["least_confidence", {"name": "mnlp", "constrained": True}, "cal", "isal"])
def test_a_mean_breaks_no_promise_of_its_base(base: Any) -> None:
    made = make_strategy("committee_mean", base=base)
    assert "probs" not in made.needs | made.needs_labelled | made.needs_validation
    check_strategy(made, seed=1)


def test_what_reads_no_probabilities_has_no_use_for_a_mean() -> None:
    with pytest.raises(ValueError, match="base is 'coreset', which reads no probabilities"):
        make_strategy("committee_mean", base="coreset")
