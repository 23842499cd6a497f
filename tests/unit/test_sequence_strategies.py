"""Scores of sentences: the numbers of methods, what they become with one decision, and what constraints change."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from nlp_al.signals import SignalError, Signals
from nlp_al.signals.merging import merge, ordered
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals

# Three words, three tags: sure, fairly sure, torn.
Q = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.15, 0.05], [0.5, 0.4, 0.1]])
PAIR = torch.tensor([[0.7, 0.3], [0.6, 0.4]])
# One decision whose options have the logarithms -1, -1.5 and -3.
LOGS = torch.tensor([[-1.0, -1.5, -3.0]]).exp()

DECODED = ["seq_least_confidence", "mnlp", "sequence_entropy", "nbest_entropy", "sequence_margin"]
NAMES = [*DECODED, "token_entropy", "total_token_entropy", "token_lc", "token_margin", "entity_uncertainty"]


def sentence(words: Tensor, *others: Tensor, **fields: object) -> Signals:
    parts = [words, *others]
    offsets = torch.tensor([0, *map(len, parts)]).cumsum(0)
    return Signals(probs=torch.cat(parts), offsets=offsets, **fields)  # type: ignore[arg-type]


def scores(name: str, signals: Signals, **parameters: object) -> Tensor:
    found = make_strategy(name, **parameters).select(signals, len(signals), torch.Generator()).scores
    assert found is not None
    return found


def score(name: str, words: Tensor, **parameters: object) -> float:
    return float(scores(name, sentence(words), **parameters)[0])


# --- the numbers


@pytest.mark.parametrize(
    ("name", "words", "parameters", "expected"),
    [
        ("mnlp", Q, {}, 0.340550),  # the best tags have .9, .8 and .5: -ln(.36) / 3
        ("seq_least_confidence", Q, {}, 0.64),
        ("token_entropy", Q, {}, 0.650205),  # the words have .394398, .612869 and .943348
        ("token_entropy", Q, {"agg": "max"}, 0.943348),
        ("total_token_entropy", Q, {}, 1.950616),
        ("sequence_entropy", Q, {}, 1.950616),
        ("sequence_entropy", PAIR, {}, 1.283876),
        ("nbest_entropy", PAIR, {"n": 2}, 0.673012),  # .42 and .28 become .6 and .4
        ("nbest_entropy", PAIR, {}, 1.283876),  # all four sequences there are
        ("nbest_entropy", LOGS, {}, 0.884452),
        ("nbest_entropy", LOGS, {"renormalise": False}, 0.851935),  # 1 e^-1 + 1.5 e^-1.5 + 3 e^-3
        ("sequence_margin", PAIR, {}, -0.14),
        ("sequence_margin", PAIR, {"renormalise": True, "n": 2}, -0.2),
        ("sequence_margin", PAIR, {"renormalise": True}, -0.14),
        ("sequence_margin", LOGS, {}, -0.144749),
        ("sequence_margin", LOGS, {"renormalise": True}, -0.225890),
        ("token_lc", Q, {}, 0.8 / 3),  # .1, .2 and .5
        ("token_lc", Q, {"agg": "sum"}, 0.8),
        ("token_margin", Q, {}, -1.6 / 3),  # .85, .65 and .1
        ("token_margin", Q, {"agg": "max"}, -0.1),
        ("token_margin", Q, {"agg": "topm"}, -0.1),  # one word of three
        ("entity_uncertainty", Q, {}, 0.650205),
    ],
)
def test_scores_of_a_sentence(name: str, words: Tensor, parameters: dict, expected: float) -> None:
    assert score(name, words, **parameters) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("name", DECODED)
def test_a_sentence_without_words_comes_last(name: str) -> None:
    found = scores(name, sentence(Q, Q[:0], askable=torch.ones(2)))
    assert found[1] == -math.inf
    assert math.isfinite(found[0])


# --- one decision


@pytest.mark.parametrize("shape", ["single", "ranking"])
@pytest.mark.parametrize(
    ("name", "parameters", "usual"),
    [
        ("seq_least_confidence", {}, "least_confidence"),
        ("token_lc", {}, "least_confidence"),
        ("sequence_margin", {}, "margin"),
        ("token_margin", {}, "margin"),
        ("token_entropy", {}, "entropy"),
        ("total_token_entropy", {}, "entropy"),
        ("sequence_entropy", {}, "entropy"),
        ("nbest_entropy", {}, "entropy"),
        ("entity_uncertainty", {}, "entropy"),
    ],
)
def test_with_one_decision_they_are_the_usual_ones(shape: str, name: str, parameters: dict, usual: str) -> None:
    signals = synthetic_signals(shape, 30, undecided=3)
    torch.testing.assert_close(scores(name, signals, **parameters).float(), scores(usual, signals))


def test_with_one_decision_mnlp_is_least_confidence_as_a_logarithm() -> None:
    signals = synthetic_signals("ranking", 30)
    expected = -(1 - scores("least_confidence", signals)).log()
    torch.testing.assert_close(scores("mnlp", signals).float(), expected)


@pytest.mark.parametrize("name", ["total_token_entropy", "sequence_entropy", "nbest_entropy"])
def test_flat_contexts_of_4_and_of_10_candidates_are_alike(name: str) -> None:
    probs = torch.zeros(2, 10)
    probs[0, :4], probs[1] = 1 / 4, 1 / 10
    found = scores(name, Signals(probs=probs, options=torch.tensor([4, 10])))
    torch.testing.assert_close(found, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_best_of_more_candidates_than_n_are_compared() -> None:
    """12 candidates, and the 10 best of them flat: ln 10 over ln 10."""
    probs = torch.tensor([[0.095] * 10 + [0.03, 0.02]])
    found = scores("nbest_entropy", Signals(probs=probs, options=torch.tensor([12])))
    assert float(found) == pytest.approx(1.0, abs=1e-6)


# --- lengths


@pytest.mark.parametrize("name", NAMES)
def test_which_scores_favour_long_sentences(name: str) -> None:
    """The same word 5 and 20 times: a mean does not tell them apart, a sum or a product over words does."""
    short, long = scores(name, sentence(Q[1:2].repeat(5, 1), Q[1:2].repeat(20, 1))).tolist()
    if name in ("seq_least_confidence", "total_token_entropy", "sequence_entropy", "nbest_entropy", "sequence_margin"):
        assert long > short + 1e-3
    else:
        assert long == pytest.approx(short, rel=1e-6)


def test_a_sentence_said_twice_has_the_same_normalised_probability() -> None:
    once, twice = scores("mnlp", sentence(Q, Q.repeat(2, 1))).tolist()
    assert once == pytest.approx(twice)


def test_long_sentences_are_still_told_apart() -> None:
    """P is 2^-40 and 2^-41, of which 1 - P is 1 in float32."""
    half = torch.tensor([[0.5, 0.5]])
    assert make_strategy("seq_least_confidence").select(
        sentence(half.repeat(40, 1), half.repeat(41, 1)), 1, torch.Generator()
    ).indices.tolist() == [1]


# --- invariance


@pytest.mark.parametrize("name", NAMES)
def test_neither_the_order_of_words_nor_other_sentences_matter(name: str) -> None:
    signals = synthetic_signals("sequence", 40, seed=5)
    assert signals.probs is not None
    assert signals.offsets is not None
    found = scores(name, signals)
    parts = signals.probs.split(signals.offsets.diff().tolist())
    for at in range(0, 40, 7):
        backwards = sentence(parts[at].flip(0), outside=0)
        torch.testing.assert_close(scores(name, backwards)[0], found[at], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("name", DECODED)
def test_equal_sentences_tie_exactly(name: str, constrained: bool) -> None:
    made = synthetic_signals("sequence", 8, seed=3)
    pool = made.take(torch.arange(8).repeat(77))
    found = scores(name, pool, constrained=constrained).reshape(77, 8)
    assert bool((found == found[0]).all())


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "strategy",
    [
        *(make_strategy(name, constrained=True) for name in DECODED),
        make_strategy("nbest_entropy", n=2, renormalise=False),
        make_strategy("sequence_margin", n=3, renormalise=True, constrained=True),
        *(make_strategy(name, agg="topm") for name in ("token_entropy", "token_lc", "token_margin")),
        *(make_strategy("entity_uncertainty", agg=agg) for agg in ("sum", "max", "topm")),
    ],
    ids=repr,
)
def test_parameters_break_no_promise(strategy, seed: int) -> None:
    check_strategy(strategy, seed=seed)


@pytest.mark.parametrize("name", ["nbest_entropy", "sequence_margin"])
def test_one_sequence_has_nothing_beside_it(name: str) -> None:
    with pytest.raises(ValueError, match=f"Strategy {name}: n is 1; it must be at least 2"):
        make_strategy(name, n=1)


# --- constraints


def chain_scores(words: Tensor, transitions: Tensor, n: int) -> dict[str, float]:
    """Every score out of a list of all sequences."""
    weights = []
    for tags in product(range(words.shape[1]), repeat=len(words)):
        logs = [math.log(words[at, tag]) for at, tag in enumerate(tags)]
        moves = [float(transitions[before, tag]) for before, tag in zip((-1, *tags), tags, strict=False)]
        weights.append(math.exp(sum(logs) + sum(moves)))
    probs = sorted((weight / sum(weights) for weight in weights), reverse=True)
    best = [p / sum(probs[:n]) for p in probs[:n]]
    return {
        "seq_least_confidence": 1 - probs[0],
        "mnlp": -math.log(probs[0]) / len(words),
        "sequence_entropy": -sum(p * math.log(p) for p in probs if p),
        "nbest_entropy": -sum(p * math.log(p) for p in best if p),
        "sequence_margin": probs[1] - probs[0],
    }


@pytest.mark.parametrize("name", DECODED)
def test_constrained_scores_are_those_of_the_allowed_sequences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for seed in range(5):
        words = torch.randn(4, 3, generator=generator, dtype=torch.float64).softmax(1)
        transitions = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        transitions[[0, 3], [2, 1]] = -math.inf
        found = scores(name, sentence(words[: seed or 4], transitions=transitions), constrained=True)
        assert float(found) == pytest.approx(chain_scores(words[: seed or 4], transitions, 10)[name], abs=1e-9)


@pytest.mark.parametrize("name", DECODED)
def test_without_constraints_or_with_empty_ones_words_are_independent(name: str) -> None:
    signals = synthetic_signals("sequence", 30)
    plain = scores(name, signals)
    assert not torch.allclose(scores(name, signals, constrained=True), plain)
    torch.testing.assert_close(scores(name, replace(signals, transitions=None), constrained=True), plain)
    free = replace(signals, transitions=torch.zeros(5, 4))
    torch.testing.assert_close(scores(name, free, constrained=True), plain, rtol=1e-6, atol=1e-6)
    # Columns mean nothing from one decision to the next where they are candidates.
    ranking = replace(synthetic_signals("ranking", 30), transitions=torch.randn(6, 5))
    torch.testing.assert_close(scores(name, ranking, constrained=True), scores(name, ranking))


def test_a_forbidden_sequence_does_not_count_as_the_best() -> None:
    """Outside, begin, inside. "Outside, inside" has .5 · .6, but inside needs a begin before it."""
    words = torch.tensor([[0.5, 0.4, 0.1], [0.3, 0.1, 0.6]])
    transitions = torch.zeros(4, 3)
    transitions[[0, 3], 2] = -math.inf
    allowed = 1 - 0.1 - 0.5 * 0.6  # none starts inside, none goes from outside to inside
    signals = sentence(words, transitions=transitions)
    assert float(scores("seq_least_confidence", signals)) == pytest.approx(1 - 0.3)
    assert float(scores("seq_least_confidence", signals, constrained=True)) == pytest.approx(1 - 0.4 * 0.6 / allowed)


@pytest.mark.parametrize("name", DECODED)
def test_a_model_that_is_sure_of_what_is_forbidden_still_gets_a_number(name: str) -> None:
    shut = torch.tensor([[0.0, 0.0], [-math.inf, 0.0], [0.0, 0.0]])
    signals = sentence(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), transitions=shut)
    assert math.isfinite(float(scores(name, signals, constrained=True)))
    assert math.isfinite(float(scores(name, signals)))


def test_only_a_constrained_strategy_asks_for_transitions() -> None:
    for name in DECODED:
        assert make_strategy(name).needs == type(make_strategy(name)).needs == {"probs"}
        assert make_strategy(name, constrained=True).needs == {"probs", "transitions"}
        assert make_strategy(name, constrained=True) == make_strategy(name, constrained=True)
        assert make_strategy(name, constrained=True).needs_model


# --- entities


def test_words_that_are_surely_outside_do_not_count() -> None:
    """P(outside) is .9, .4, .6 and .5, the highest entropy that of the last: it and the second count."""
    words = torch.tensor([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.6, 0.4, 0.0], [0.5, 0.3, 0.2]])
    entropy = torch.special.entr(words).sum(1).tolist()
    signals = sentence(words, outside=0)
    assert float(scores("entity_uncertainty", signals)) == pytest.approx((entropy[1] + entropy[3]) / 2)
    assert float(scores("entity_uncertainty", signals, agg="sum")) == pytest.approx(entropy[1] + entropy[3])
    assert float(scores("entity_uncertainty", replace(signals, outside=2))) == pytest.approx(sum(entropy) / 4)
    assert float(scores("entity_uncertainty", replace(signals, outside=None))) == pytest.approx(sum(entropy) / 4)


def test_a_sentence_without_any_likely_entity_has_its_most_uncertain_word() -> None:
    words = torch.tensor([[0.99, 0.01], [0.7, 0.3], [0.95, 0.05]])
    found = scores("entity_uncertainty", sentence(words[:1], words, words[2:], outside=0))
    expected = torch.special.entr(words).sum(1)[[0, 1, 2]]
    torch.testing.assert_close(found, expected)


# --- facts about the options, in the record


def test_facts_about_the_options_stay_with_every_part() -> None:
    signals = synthetic_signals("sequence", 6)
    moves = signals.transitions
    assert moves is not None
    parts = [signals.take(torch.tensor([4, 1])), signals.take(torch.tensor([0]))]
    told = Signals(count=2, transitions=moves, outside=0)
    bare = [replace(part, transitions=None, outside=None) for part in parts]
    places = [[1, 2], [0]]
    for record in (*parts, ordered(list(zip(places, parts, strict=True))), merge([bare[0], told])):
        assert record.outside == 0
        assert record.transitions is not None
        assert torch.equal(record.transitions, moves)
    assert ordered(list(zip(places, bare, strict=True))).transitions is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"transitions": torch.zeros(3)}, "transitions has 1 dimensions; it must have 2"),
        ({"transitions": torch.zeros(3, 3)}, "transitions is 3 x 3; for 3 columns it is 4 x 3"),
        ({"outside": 3}, "outside is 3; it must be one of the 3 columns"),
        ({"outside": -1}, "outside is -1"),
    ],
)
def test_facts_that_do_not_fit_the_columns_are_refused(fields: dict, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        sentence(Q, **fields)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([math.nan, 0.0, 0.0], "transitions holds NaN or infinity"),
        ([math.inf, 0.0, 0.0], "transitions holds NaN or infinity"),
        ([-math.inf] * 3, "transitions has a row that forbids every option"),
    ],
)
def test_transitions_that_lead_nowhere_are_refused_by_who_needs_them(row: list[float], says: str) -> None:
    transitions = torch.zeros(4, 3)
    transitions[2] = torch.tensor(row)
    signals = sentence(Q, transitions=transitions)
    with pytest.raises(SignalError, match=says):
        scores("mnlp", signals, constrained=True)
    scores("mnlp", signals)
