"""Spans in tags, distances from their ends, and maps of where members are at odds."""

import itertools
import random
from math import inf, sqrt

import pytest
import torch
from torch import Tensor

from nlp_al.selection.spans import distance_to, share_of_farthest, spans_of
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy
from nlp_al.tasks.tags import as_bio, spans_of_tags, transitions
from nlp_al.testing import check_strategy, synthetic_signals

TAGS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
# Three members, and what they say of three words.
COLUMNS = torch.tensor([[0.9, 0.2, 0.6], [0.9, 0.4, 0.1], [0.9, 0.9, 0.2]]).double()


def scores(signals: Signals, **parameters: object) -> list[float]:
    found = make_strategy("mc_token_map", **parameters).select(signals, 1, torch.Generator()).scores
    assert found is not None
    return found.tolist()


def says(tags: str, spread: float = 0.1) -> Tensor:
    """float64[2, M, 5]: two members that differ by ± spread on the tag of each word, given as O, X, x, Y or y."""
    columns = torch.tensor(["OXxYy".index(tag) for tag in tags])
    passes = torch.full((2, len(tags), 5), 0.05).double()
    passes[:, torch.arange(len(tags)), columns] = 0.8
    shift = torch.tensor([spread, -spread]).double()
    passes[:, torch.arange(len(tags)), columns] += shift[:, None]
    passes[:, torch.arange(len(tags)), (columns + 1) % 5] -= shift[:, None] / 8
    return passes


def test_three_words() -> None:
    """Variances 0, .086667, .046667, together .133333, standard deviations together .510417; twice for p and 1 − p."""
    signals = Signals(passes=torch.stack([COLUMNS, 1 - COLUMNS], 2), offsets=torch.tensor([0, 3]))
    strategy = make_strategy("mc_token_map")
    values, offsets = strategy.map(signals)
    assert values.tolist() == pytest.approx([0.0, 2 * 0.0866667, 2 * 0.0466667], abs=1e-6)
    assert offsets.tolist() == [0, 3]
    assert scores(signals, agg="sum") == pytest.approx([2 * 0.133333], abs=1e-5)
    assert scores(signals) == pytest.approx([2 * 0.133333 / 3], abs=1e-5)
    assert scores(signals, agg="sum", weight="none") == pytest.approx([sqrt(2) * 0.510417], abs=1e-5)


def test_one_pass_over_members_gives_the_variance_of_two() -> None:
    signals = synthetic_signals("sequence", 50)
    assert signals.passes is not None
    two = signals.passes.double().var(0, correction=0)
    assert float((signals.statistics().std().square() - two).abs().max()) < 1e-10


def test_distances_from_a_hole() -> None:
    """Of 1 1 0 1 1 1 to the zero: 2 1 0 1 2 3; an example without one, and an empty one, beside it."""
    marked = torch.tensor([0, 0, 1, 0, 0, 0, 0, 0, 1, 0]).bool()
    offsets = torch.tensor([0, 6, 6, 8, 10])
    assert distance_to(marked, offsets).tolist() == [2, 1, 0, 1, 2, 3, inf, inf, 0, 1]
    shares = share_of_farthest(distance_to(marked, offsets), offsets).tolist()
    assert shares == pytest.approx([2 / 3, 1 / 3, 0, 1 / 3, 2 / 3, 1, 1, 1, 0, 1])


def test_distances_are_those_of_a_loop() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(0, 7) for _ in range(60)]
    offsets = torch.tensor([0, *itertools.accumulate(lengths)])
    marked = torch.tensor([draw.random() < 0.2 for _ in range(sum(lengths))])
    expected = []
    for low, high in itertools.pairwise(offsets.tolist()):
        for at in range(low, high):
            expected.append(min((abs(at - o) for o in range(low, high) if marked[o]), default=inf))
    assert distance_to(marked, offsets).tolist() == expected


def test_spans_are_those_of_the_tags() -> None:
    """Any tags, valid or not, as the task reads them."""
    draw, table = random.Random(1), transitions(TAGS)
    sentences = [[draw.choice(TAGS) for _ in range(draw.randint(0, 8))] for _ in range(300)]
    offsets = torch.tensor([0, *itertools.accumulate(map(len, sentences))])
    columns = torch.tensor([TAGS.index(tag) for tags in sentences for tag in tags])
    expected = []
    for start, tags in zip(offsets.tolist(), sentences, strict=False):
        places = [[start + at, start + at + 1] for at in range(len(tags))]
        expected += [(span["start"], span["end"]) for span in spans_of_tags(places, as_bio(tags)[0])]
    starts, ends = spans_of(columns, offsets, 0, table)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


def test_without_transitions_a_column_goes_on_with_itself_and_without_outside_there_are_no_spans() -> None:
    columns = torch.tensor([1, 1, 2, 0, 0, 2, 2])
    offsets = torch.tensor([0, 6, 7])
    starts, ends = spans_of(columns, offsets, 0)
    assert (starts.tolist(), ends.tolist()) == ([0, 2, 5, 6], [2, 3, 6, 7])
    assert len(spans_of(columns, offsets, None)[0]) == 0


def sentence(tags: str, *more: str) -> Signals:
    lengths = [len(one) for one in (tags, *more)]
    return Signals(
        passes=torch.cat([says(one) for one in (tags, *more)], 1),
        offsets=torch.tensor([0, *itertools.accumulate(lengths)]),
        outside=0,
        transitions=transitions(TAGS),
    )


def test_doubt_counts_by_its_distance_from_the_ends_of_entities() -> None:
    """O O X x x O: distances 2 1 0 1 0 1, over 2."""
    values, _ = make_strategy("mc_token_map").map(sentence("OOXxxO"))
    plain, _ = make_strategy("mc_token_map", weight="none").map(sentence("OOXxxO"))
    assert (values / plain.square()).tolist() == pytest.approx([1, 0.5, 0, 0.5, 0, 0.5])
    assert plain.tolist() == pytest.approx([sqrt(0.1**2 + 0.0125**2)] * 6)


@pytest.mark.parametrize("tags", ["OOOO", "Xx", "XYX"])
def test_without_entities_and_with_nothing_else_the_weight_is_off(tags: str) -> None:
    values, _ = make_strategy("mc_token_map").map(sentence(tags))
    plain, _ = make_strategy("mc_token_map", weight="none").map(sentence(tags))
    torch.testing.assert_close(values, plain.square())


def test_sentences_do_not_touch() -> None:
    alone = [scores(sentence(tags))[0] for tags in ("OOXx", "OO", "xxOY")]
    assert scores(sentence("OOXx", "OO", "xxOY")) == pytest.approx(alone)


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_equal_members_leave_an_empty_map(shape: str) -> None:
    made = synthetic_signals(shape)
    assert made.probs is not None
    same = Signals(passes=made.probs.expand(4, *made.probs.shape), offsets=made.offsets, options=made.options)
    for weight in ("distance", "none"):
        assert set(scores(same, weight=weight)) == {0.0}


def test_candidates_count_by_their_rank() -> None:
    """Means .6, .1, .3 have the distances 0, 1, ½ from the top one; the fourth is no candidate."""
    passes = torch.tensor([[[0.7, 0.1, 0.2, 9.0]], [[0.5, 0.1, 0.4, 1.0]]]).double()
    signals = Signals(passes=passes, options=torch.tensor([3]))
    values, offsets = make_strategy("mc_token_map").map(signals)
    assert values.tolist() == pytest.approx([0.0, 0.0, 0.005])
    assert offsets.tolist() == [0, 3]
    assert scores(signals, weight="none", agg="sum") == pytest.approx([0.2])


@pytest.mark.parametrize("parameters", [{"weight": "none"}, {"agg": "sum"}, {"agg": "topm", "weight": "none"}])
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("mc_token_map", **parameters), seed=1)
