"""Strategies that look at a part of the pool: around the labelled examples, or what a label would settle."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.special import betaincinv
from torch import Tensor

from nlp_al.selection import abstention, neighbours
from nlp_al.selection.abstention import duel_intervals, unsettled
from nlp_al.selection.neighbours import nearest
from nlp_al.signals import SignalError, Signals
from nlp_al.strategies import Selection, Strategy, make_strategy
from nlp_al.strategies.sieve import Sieve
from nlp_al.strategies.uncertainty import Margin
from nlp_al.testing import check_strategy, synthetic_signals


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(name: str, signals: Signals, size: float, seed: int = 0, **parameters: object) -> Selection:
    return make_strategy(name, **parameters).select(signals, size, seeded(seed))


SIEVES = [
    ("seals", {"k": 2}),
    ("seals", {"k": 3, "base": "badge"}),
    ("seals", {"k": 1, "base": "coreset"}),
    ("neural_cal", {"base": "entropy", "share": 0.5}),
    ("neural_cal", {"base": "badge", "gamma": 0.3}),
    ("neural_cal", {"base": "class_balanced"}),
    ("seals", {"k": 4, "base": "neural_cal"}),
    ("ceal", {"base": "neural_cal"}),
]


@pytest.mark.parametrize(("name", "parameters"), SIEVES)
def test_they_keep_the_promises_over_any_base(name: str, parameters: dict) -> None:
    check_strategy(make_strategy(name, **parameters), seed=1)


@pytest.mark.parametrize(("name", "parameters"), SIEVES[:7])
@pytest.mark.parametrize("shape", ["single", "sequence"])
@pytest.mark.parametrize("size", [0, 3, 12, 40])
def test_one_step_after_the_other_is_the_same_as_both_at_once(name, parameters, shape: str, size: int) -> None:
    """What only the base reads is there for what is let through alone."""
    signals = synthetic_signals(shape, 30, labelled=4, undecided=3)
    strategy, generator = make_strategy(name, **parameters), seeded(2)
    left, positions, notes = signals, torch.arange(30), []
    inner = strategy
    while isinstance(inner, Sieve):
        kinds = type(inner).needs
        own = Signals(**{kind: getattr(left, kind) for kind in (*kinds, "offsets", "options", "askable")})
        known = Signals(pretrained=left.labelled.pretrained)
        found = inner.sift(replace(own, labelled=known), size, generator)
        left, positions = left.take(found.indices), positions[found.indices]
        notes.append(found.note)
        inner = inner.inner()
    last = inner.select(left, size, generator)
    whole = strategy.select(signals, size, seeded(2))
    assert positions[last.indices].tolist() == whole.indices.tolist()
    assert "; ".join(filter(None, (*notes, last.note))) == whole.note


def test_a_step_on_its_own_reads_its_own_fields_alone() -> None:
    strategy = make_strategy("seals", base="badge")
    assert strategy.needs == {"pretrained", "gradients"}
    assert type(strategy).needs == {"pretrained"}
    signals = synthetic_signals("single", 10)
    bad = replace(signals, pretrained=torch.full((10, 6), torch.nan))
    with pytest.raises(SignalError, match="pretrained holds NaN"):
        strategy.sift(bad, 3, seeded(0))
    assert make_strategy("neural_cal").needs == {"passes", "sampled"}
    assert type(make_strategy("neural_cal")).needs == {"passes"}


# --- what the harness says of others


class AsksTheIdle(Margin):
    filters = True

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        idle = torch.nonzero(~signals.can_ask()).flatten()
        return Selection(idle[: int(max(size, 0))])


class TooMany(Margin):
    filters = True

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        return super().select(signals, size + 1, generator)


class NoScores(Margin):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return replace(super().choose(signals, count, generator), scores=None)


class KnowsAll(Margin):
    needs = frozenset({"probs", "targets"})


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (AsksTheIdle, "I1 .*it filters, but an example with nothing to decide is among"),
        (TooMany, "I1 .*asked for 0 of 24, it gave 1"),
        (NoScores, "I8 .*it is scored, but gives no scores"),
        (KnowsAll, "I2 .*it needs the labels of the pool"),
    ],
)
def test_the_harness_names_the_promise_that_is_broken(broken: type[Strategy], says: str) -> None:
    with pytest.raises(AssertionError, match=f"{broken.__name__} breaks {says}"):
        check_strategy(broken, ("single",))


# --- neighbours


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize("count", [1, 5, 40, 50])
def test_neighbours_do_not_depend_on_how_many_are_looked_at_at_once(at_once, count, monkeypatch) -> None:
    points, others = torch.randn(11, 5, generator=seeded(0)), torch.randn(40, 5, generator=seeded(1))
    others[30] = others[2]  # a tie goes to the lowest
    monkeypatch.setattr(neighbours, "_OTHERS_AT_ONCE", at_once)
    expected = torch.cdist(points.double(), others.double()).float().argsort(dim=1, stable=True)[:, :count]
    assert nearest(points, others, count).tolist() == expected.tolist()
    assert nearest(points[:0], others, count).shape == (0, min(count, 40))


# --- seals


def line(*at: float) -> Tensor:
    return torch.tensor(at)[:, None]


def test_seals_looks_at_the_neighbours_of_the_labelled() -> None:
    """Points at 0 … 9, labels at 1.2 and 6.9: their nearest two are 1, 2 and 7, 6. The least certain is far off."""
    probs = torch.full((10, 2), 0.5)
    probs[:, 0] += torch.tensor([0.1, 0.3, 0.2, 0.1, 0.0, 0.1, 0.4, 0.25, 0.1, 0.1])
    probs[:, 1] = 1 - probs[:, 0]
    signals = Signals(probs=probs, pretrained=line(*range(10)), labelled=Signals(pretrained=line(1.2, 6.9)))
    chosen = select("seals", signals, 3, k=2)
    assert chosen.indices.tolist() == [2, 7, 1]
    assert chosen.scores.isfinite().nonzero().flatten().tolist() == [1, 2, 6, 7]
    assert chosen.note == "4 of the 10 examples were looked at"
    assert select("entropy", signals, 3).indices.tolist()[0] == 4


def test_seals_with_all_neighbours_is_its_base() -> None:
    for shape in ("single", "multi", "sequence", "ranking"):
        signals = synthetic_signals(shape, 30, undecided=4)
        for base in ("margin", "badge", "coreset"):
            for k in (30, 10_000):
                found, wanted = select("seals", signals, 9, 3, k=k, base=base), select(base, signals, 9, 3)
                assert found.indices.tolist() == wanted.indices.tolist()
                assert found.note == wanted.note


def test_what_is_looked_at_grows_with_every_label() -> None:
    points = torch.randn(200, 4, generator=seeded(0))
    strategy, seen = make_strategy("seals", k=7), set()
    left, known = torch.arange(200), torch.tensor([5])
    left = left[left != 5]
    for _ in range(6):
        signals = Signals(pretrained=points[left], labelled=Signals(pretrained=points[known]))
        found = set(left[strategy.sift(signals, 1, seeded(0)).indices].tolist())
        assert seen - set(known.tolist()) <= found
        assert len(found) <= 7 * len(known)
        assert not found & set(known.tolist())
        seen, fresh = found, max(found)
        known, left = torch.cat([known, torch.tensor([fresh])]), left[left != fresh]


def test_others_at_random_fill_a_batch() -> None:
    signals = replace(synthetic_signals("single", 24), labelled=Signals(pretrained=torch.zeros(1, 6)))
    near = set(nearest(torch.zeros(1, 6), signals.pretrained, 2)[0].tolist())
    drawn = [select("seals", signals, 5, seed, k=2) for seed in range(20)]
    assert all(near < set(chosen.indices.tolist()) for chosen in drawn)
    assert drawn[0].note == "5 of the 24 examples were looked at: 2 neighbours of labelled ones, and others at random"
    assert len(set().union(*(chosen.indices.tolist() for chosen in drawn))) > 20
    cold = select("seals", replace(signals, labelled=None), 5)
    assert cold.note == "5 of the 24 examples were looked at: 0 neighbours of labelled ones, and others at random"


def test_with_a_budget_of_words_about_as_many_as_it_pays_for_are_looked_at() -> None:
    signals = synthetic_signals("single", 24, cost=True)
    alone = replace(signals, labelled=Signals(pretrained=torch.zeros(1, 6)))
    found = make_strategy("seals", k=1).sift(alone, 20.0, seeded(0))
    mean = float(signals.cost.mean())
    assert len(found.indices) == math.floor(20 / mean + 1)


def test_a_rare_class_is_found_without_a_look_at_most_of_the_pool() -> None:
    """50 of 5,000 points are positive, in one tight cluster; ten rounds of 20 by the distance from its mean."""
    draws = seeded(0)
    points = torch.randn(5000, 16, generator=draws)
    points[:50] = 0.75 + 0.2 * torch.randn(50, 16, generator=draws)
    positive = torch.arange(5000) < 50

    def run(name: str, **parameters: object) -> tuple[float, float]:
        known = torch.cat([torch.arange(3), torch.arange(50, 67)])
        looked = 0.0
        for _ in range(10):
            left = torch.nonzero(~torch.isin(torch.arange(5000), known)).flatten()
            near = (-(points[left] - points[known][positive[known]].mean(0)).norm(dim=1)).exp() / 2
            labelled = Signals(pretrained=points[known])
            signals = Signals(probs=torch.stack([near, 1 - near], 1), pretrained=points[left], labelled=labelled)
            chosen = select(name, signals, 20, **parameters)
            assert chosen.scores is not None
            looked += float(chosen.scores.isfinite().double().mean()) / 10
            known = torch.cat([known, left[chosen.indices]])
        return float(positive[known].sum()) / 50, looked

    few, more, all_ = run("seals", k=20), run("seals", k=100), run("entropy")
    assert few[0] == more[0] == all_[0] == 1.0
    assert few[1] < more[1] < 0.6 * all_[1]


# --- neural_cal: the rule


@pytest.mark.parametrize(
    ("lower", "upper", "query", "abstain"),
    [
        (0.42, 0.57, True, False),
        (0.20, 0.45, False, False),
        (0.30, 0.70, True, False),
        (0.60, 0.90, False, False),
        (0.48, 0.52, False, True),
        (0.0, 1.0, True, False),
        (0.52, 0.56, False, True),  # ½ is outside, but it lies within gamma
        (0.10, 0.476, True, False),  # gamma / 4 brings ½ inside
        (0.10, 0.474, False, False),
        (0.524, 0.90, True, False),
        (0.526, 0.90, False, False),
        (0.426, 0.55, False, True),
        (0.424, 0.55, True, False),
    ],
)
def test_what_is_asked_and_what_is_a_toss_up(lower: float, upper: float, query: bool, abstain: bool) -> None:
    found = unsettled(torch.tensor([lower]), torch.tensor([upper]), 0.1)
    assert (bool(found.query), bool(found.abstain)) == (query, abstain)


def test_a_wider_interval_is_asked_where_a_narrower_one_is() -> None:
    draws = torch.rand(4, 20_000, dtype=torch.float64, generator=seeded(0))
    lower, upper = draws[:2].amin(0), draws[:2].amax(0)
    for gamma in (0.0, 0.1, 0.3, 0.49):
        narrow = unsettled(lower, upper, gamma)
        wide = unsettled(lower * draws[2], upper + (1 - upper) * draws[3], gamma)
        assert not bool((narrow.query & ~wide.query).any())
        assert not bool((narrow.query & narrow.abstain).any())
        assert bool(narrow.query.any())


@pytest.mark.parametrize("seed", range(2))
def test_questions_come_to_an_end_though_a_part_of_the_cells_is_noise(seed: int) -> None:
    """40 cells, 16 of them coin flips, a random one a step, a Beta posterior each: the rule asks no more after a while,
    one that asks whenever ½ is inside goes on."""
    draws, steps = seeded(seed), 40_000
    chance = torch.tensor([0.5] * 16 + [0.1] * 12 + [0.9] * 12)
    cells = torch.randint(0, 40, (steps,), generator=draws).tolist()
    labels = torch.rand(steps, generator=draws)
    ones = (labels < chance[cells]).tolist()

    def asked(wants: Callable[[float, float], bool]) -> tuple[int, int]:
        counts = [[1, 1] for _ in range(40)]
        want = [True] * 40
        total, half = 0, 0
        for step, (cell, one) in enumerate(zip(cells, ones, strict=True)):
            if want[cell]:
                total += 1
                counts[cell][not one] += 1
                want[cell] = wants(*betaincinv(*counts[cell], [0.05, 0.95]))
            if step + 1 == steps // 2:
                half = total
        return half, total

    def rule(lower: float, upper: float) -> bool:
        return bool(unsettled(torch.tensor([lower]), torch.tensor([upper]), 0.1).query)

    half, total = asked(rule)
    assert half == total
    assert total < 5000
    half, total = asked(lambda lower, upper: lower < 0.5 < upper)
    assert total > 1.2 * half


# --- neural_cal: intervals


def by_loop(signals: Signals, quantile: float) -> list[tuple[float, float]]:
    found = []
    for row in range(signals.passes.shape[1]):
        k = int(signals.options[row]) if signals.options is not None else signals.passes.shape[2]
        members = signals.passes[:, row, :k].double().tolist()
        mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
        best = sorted(range(k), key=lambda at, mean=mean: (-mean[at], at))[:2]
        values = sorted(own[best[0]] / sum(own[at] for at in best) for own in members)
        pair = []
        for level in (quantile, 1 - quantile):
            at = level * (len(values) - 1)
            low = min(int(at), len(values) - 2)
            pair.append(values[low] + (at - low) * (values[low + 1] - values[low]))
        found.append((pair[0], pair[1]))
    return found


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
@pytest.mark.parametrize("at_once", [1, 40, 2**21])
def test_intervals_equal_a_loop(shape: str, at_once: int, monkeypatch) -> None:
    monkeypatch.setattr(abstention, "_AT_ONCE", at_once)
    signals = synthetic_signals(shape, 20)
    for quantile in (0.0, 0.05, 0.3):
        lower, upper = duel_intervals(signals.passes, signals.options, quantile)
        torch.testing.assert_close(torch.stack([lower, upper], 1), torch.tensor(by_loop(signals, quantile)).double())


def test_intervals_of_what_is_impossible_or_has_one_option() -> None:
    passes = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 7.0, 7.0]], [[0.0, 0.0, 1.0], [1.0, 7.0, 7.0]]])
    lower, upper = duel_intervals(passes, torch.tensor([3, 1]), 0.0)
    # Of the first the mean is (.25, .25, .5): options 2 and 0, at 0 and 1.
    assert lower.tolist() == [0.0, 1.0]
    assert upper.tolist() == [1.0, 1.0]
    none = torch.tensor([[[0.4, 0.6, 0.0, 0.0]], [[0.0, 0.0, 0.5, 0.5]], [[0.6, 0.4, 0.0, 0.0]]])
    assert [float(end) for end in duel_intervals(none, None, 0.0)] == pytest.approx([0.4, 0.6])
    assert [float(end) for end in duel_intervals(torch.ones(2, 1, 1), None, 0.1)] == [1.0, 1.0]


# --- neural_cal: examples


def members_of(*values: tuple[float, ...]) -> Signals:
    """A decision for each, two options, the members' values of the first."""
    first = torch.tensor(values, dtype=torch.float64).T
    return Signals(passes=torch.stack([first, 1 - first], 2))


def test_only_what_is_open_is_asked() -> None:
    """With two members and quantile 0 the interval is from one to the other; the last two are told in two ways."""
    signals = members_of((0.42, 0.57), (0.2, 0.45), (0.3, 0.7), (0.6, 0.9), (0.48, 0.52), (0.5, 0.5))
    chosen = select("neural_cal", signals, 6, quantile=0.0)
    assert chosen.indices.tolist() == [2, 0]  # the members are farther apart on 2
    assert chosen.scores[[1, 3, 4, 5]].tolist() == [-math.inf] * 4
    assert chosen.note == "2 of the 6 examples are open, 2 a toss-up"
    assert chosen.abstained == 0.5
    assert select("neural_cal", signals, 1, quantile=0.0).indices.tolist() == [2]
    assert select("neural_cal", signals, 0, quantile=0.0).indices.tolist() == []
    assert len(select("neural_cal", signals, 6, quantile=0.0, gamma=0.0).indices) == 3  # 4 is open as well


def test_of_what_is_settled_nothing_is_asked() -> None:
    signals = members_of((0.1, 0.2), (0.9, 0.8))
    chosen = select("neural_cal", signals, 2)
    assert chosen.indices.tolist() == []
    assert chosen.abstained is None
    flat = select("neural_cal", members_of((0.5, 0.5), (0.5, 0.5), (0.9, 0.8)), 2)
    assert flat.indices.tolist() == []
    assert flat.abstained == 1.0


def test_a_sentence_is_asked_where_enough_of_its_words_are_open() -> None:
    """Open words: 1 of 20, which is not more than the share, 1 of 19, and none, but 1 toss-up of 2."""
    wide, sure, flat = (0.3, 0.7), (0.9, 0.9), (0.5, 0.5)
    words = [wide, *[sure] * 19, wide, *[sure] * 18, flat, sure]
    offsets = torch.tensor([0, 20, 39, 41])
    signals = replace(members_of(*words), offsets=offsets, count=None)
    chosen = select("neural_cal", signals, 3, quantile=0.0)
    assert chosen.indices.tolist() == [1]
    assert chosen.note == "1 of the 3 examples are open, 1 a toss-up"
    assert sorted(select("neural_cal", signals, 3, quantile=0.0, share=0.0).indices.tolist()) == [0, 1]
    none = replace(signals, offsets=torch.tensor([0, 20, 39, 39, 41]), count=None)
    assert select("neural_cal", none, 4, quantile=0.0).indices.tolist() == [1]


def test_of_a_ranking_the_two_best_candidates_count() -> None:
    """Against each other they are .5 / .8 and .3 / .8 = .625 and .375; the third changes nothing."""
    passes = torch.tensor([[[0.5, 0.3, 0.2]], [[0.3, 0.5, 0.2]]])
    lower, upper = duel_intervals(passes, torch.tensor([3]), 0.0)
    assert (float(lower), float(upper)) == pytest.approx((0.375, 0.625))
    chosen = select("neural_cal", Signals(passes=passes, options=torch.tensor([3])), 1, quantile=0.0)
    assert chosen.indices.tolist() == [0]


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_a_pool_in_another_order_gives_the_same_examples(shape: str) -> None:
    signals = synthetic_signals(shape, 40)
    order = torch.randperm(40, generator=seeded(1))
    first = select("neural_cal", signals, 40, gamma=0.2)
    other = select("neural_cal", signals.take(order), 40, gamma=0.2)
    assert order[other.indices].tolist() == first.indices.tolist()
    assert other.abstained == first.abstained


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("seals", {"k": 0}, "k is 0; it must be at least 1"),
        ("seals", {"base": "seal"}, "base is 'seal': There is no strategy 'seal'"),
        ("neural_cal", {"gamma": 0.5}, "gamma is 0.5; it must be at least 0 and below 0.5"),
        ("neural_cal", {"quantile": -0.1}, "quantile is -0.1; it must be at least 0 and below 0.5"),
        ("neural_cal", {"share": 1.0}, "share is 1; it must be at least 0 and below 1"),
    ],
)
def test_a_wrong_parameter_is_told(name: str, parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy(name, **parameters)
