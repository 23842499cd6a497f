"""Scores of decisions and their reductions, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from nlp_al.decisions import Decisions, entropy, least_confidence, margin, reduce

# Three documents, three classes: sure, torn between two, no idea.
P = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.45, 0.05], [0.34, 0.33, 0.33]])
# One sentence of three words.
Q = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.15, 0.05], [0.5, 0.4, 0.1]])


def one_each(probs: Tensor, options: list[int] | None = None) -> Decisions:
    return Decisions(probs, torch.arange(len(probs) + 1), None if options is None else torch.tensor(options))


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=1e-5, rtol=0)


def test_scores_of_single_label_predictions() -> None:
    close(least_confidence(one_each(P)), [0.30, 0.50, 0.66])
    close(margin(one_each(P)), [0.50, 0.05, 0.01])
    close(entropy(one_each(P)), [0.801819, 0.855689, 1.098513])
    close(entropy(one_each(P)) / math.log(3), [0.729847, 0.778881, 0.999909])


def test_scores_of_response_selection() -> None:
    """Candidates scored 2, 1, 0, -1; the padded column beside them is no candidate."""
    probs = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).softmax(1)
    close(probs[0], [0.643914, 0.236883, 0.087144, 0.032059])
    padded = one_each(torch.cat([probs, torch.tensor([[0.99]])], 1), [4])
    close(margin(padded), [0.407031])
    close(entropy(one_each(probs)), [0.947537])
    close(entropy(padded), [0.683503])  # the same over ln 4


def test_scores_of_multi_label_predictions() -> None:
    """p = (.9, .5, .2): each label is a decision between yes and no, and the example is their mean."""
    yes = torch.tensor([0.9, 0.5, 0.2])
    labels = Decisions(torch.stack([yes, 1 - yes], 1), torch.tensor([0, 3]))
    close(entropy(labels), [0.325083, 0.693147, 0.500402])
    close(reduce(entropy(labels), labels.offsets), [0.506211])
    close(reduce(least_confidence(labels), labels.offsets), [(0.1 + 0.5 + 0.2) / 3])  # mean of min(p, 1 - p)
    close(reduce(-margin(labels), labels.offsets), [-(0.8 + 0.0 + 0.6) / 3])  # mean of |2p - 1|
    close(reduce(-margin(labels), labels.offsets, "max"), [0.0])  # -min |2p - 1|


def test_scores_of_a_sentence() -> None:
    words = Decisions(Q, torch.tensor([0, 3]))
    close(entropy(words), [0.394398, 0.612869, 0.943348])
    close(reduce(entropy(words), words.offsets, "mean"), [0.650205])
    close(reduce(entropy(words), words.offsets, "sum"), [1.950616])
    close(reduce(entropy(words), words.offsets, "max"), [0.943348])
    close(reduce(entropy(words), words.offsets, "topm"), [0.943348])  # ceil(0.2 * 3) = 1 word


def test_entropy_compares_rows_with_few_and_with_many_options() -> None:
    rows = torch.zeros(2, 10)
    rows[0, :4] = 1 / 4
    rows[1] = 1 / 10
    close(entropy(one_each(rows, [4, 10])), [1.0, 1.0])
    close(entropy(one_each(rows)), [math.log(4), math.log(10)])


@pytest.mark.parametrize("columns", [1, 5])
def test_a_single_option_leaves_nothing_open(columns: int) -> None:
    """With one candidate entropy and least confidence are 0, and the missing second probability counts as 0."""
    probs = torch.full((1, columns), 0.3)
    probs[0, 0] = 1.0
    alone = one_each(probs, [1])
    close(entropy(alone), [0.0])
    close(least_confidence(alone), [0.0])
    close(margin(alone), [1.0])
    assert not alone.askable().any()


@pytest.mark.parametrize("rubbish", [0.0, 7.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("score", [entropy, least_confidence, margin])
def test_columns_that_are_no_option_are_never_read(score, rubbish: float) -> None:
    clean = one_each(torch.tensor([[0.6, 0.4, 0.0], [0.2, 0.3, 0.5]]), [2, 3])
    dirty = one_each(torch.tensor([[0.6, 0.4, rubbish], [0.2, 0.3, 0.5]]), [2, 3])
    assert torch.equal(score(clean), score(dirty))


def test_entropy_of_a_certain_prediction_is_zero_not_nan() -> None:
    close(entropy(one_each(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))), [0.0, 0.0])


def test_two_classes_are_ranked_alike_by_all_three() -> None:
    p = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    binary = one_each(torch.stack([p, 1 - p], 1))
    order = torch.argsort(entropy(binary)).tolist()
    assert torch.argsort(least_confidence(binary)).tolist() == order
    assert torch.argsort(-margin(binary)).tolist() == order


def test_margin_ignores_a_constant_added_to_all_logits() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    shifted = margin(one_each((logits + 30).softmax(1)))
    torch.testing.assert_close(margin(one_each(logits.softmax(1))), shifted, atol=1e-5, rtol=0)


def naive_reduce(values: list[float], how: str, share: float) -> float:
    if not values:
        return -math.inf
    if how == "topm":
        values = sorted(values)[-math.ceil(share * len(values) - 1e-9) :]
    return {"sum": sum, "max": max}.get(how, lambda v: sum(v) / len(v))(values)


@pytest.mark.parametrize("how", ["mean", "sum", "max", "topm"])
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_reductions_equal_a_loop_over_the_examples(how: str, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 12, (60,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.randn(int(offsets[-1]), generator=generator, dtype=torch.float64)
    values[::3] = 0.5  # ties
    parts = [part.tolist() for part in values.split(lengths.tolist())]
    expected = torch.tensor([naive_reduce(part, how, share) for part in parts], dtype=torch.float64)
    assert 0 in lengths
    torch.testing.assert_close(reduce(values, offsets, how, share), expected)


def test_top_share_counts_no_word_too_many() -> None:
    """In binary 0.07 * 100 is 7.000000000000001, which is still seven words: here seven ones and 93 zeros."""
    values = torch.tensor([1.0] * 7 + [0.0] * 93)
    close(reduce(values, torch.tensor([0, 100]), "topm", 0.07), [1.0])


def test_mean_does_not_favour_long_sentences_and_sum_does() -> None:
    """Two sentences of equal words, 5 and 20 of them."""
    words = Decisions(Q[2:].expand(25, 3), torch.tensor([0, 5, 25]))
    for how in ("mean", "max", "topm"):
        short, long = reduce(entropy(words), words.offsets, how).tolist()
        assert short == pytest.approx(long, abs=1e-6)
    short, long = reduce(entropy(words), words.offsets, "sum").tolist()
    assert long == pytest.approx(4 * short, rel=1e-5)


def test_an_example_without_decisions_comes_last() -> None:
    empty = Decisions(P, torch.tensor([0, 0, 3, 3]))
    for how in ("mean", "sum", "max", "topm"):
        assert reduce(-margin(empty), empty.offsets, how).isinf().tolist() == [True, False, True]
    assert empty.askable().tolist() == [False, True, False]


def test_one_open_decision_is_enough_to_ask() -> None:
    rows = Decisions(torch.ones(3, 4), torch.tensor([0, 2, 3]), torch.tensor([1, 2, 1]))
    assert rows.askable().tolist() == [True, False]


def test_an_empty_pool_has_no_scores() -> None:
    nothing = one_each(torch.zeros(0, 3))
    for score in (entropy, least_confidence, margin):
        assert reduce(score(nothing), nothing.offsets).shape == (0,)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="agg is 'median'; it must be one of mean, sum, max, topm"):
        reduce(torch.zeros(1), torch.tensor([0, 1]), "median")
