"""The best sequences and the entropy of all of them, against lists of every sequence there is."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from nlp_al.selection import sequences
from nlp_al.selection.sequences import best_independent, best_of_chain, chain_totals

INF = math.inf


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def offsets_of(*lengths: int) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def sentences(columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities of sentences of 0 to 4 words in mixed order, and their offsets."""
    offsets = offsets_of(2, 4, 0, 1, 3, 4, 1, 0)
    return normal(int(offsets[-1]), columns, seed=seed).log_softmax(1), offsets


def tagging(columns: int, seed: int, forbidden: bool = True) -> Tensor:
    """Random log-weights of transitions; some are forbidden, none of them into the first column."""
    weights = normal(columns + 1, columns, seed=seed)
    if forbidden:
        shut = torch.rand(weights.shape, generator=torch.Generator().manual_seed(seed)) < 0.3
        shut[:, 0] = False
        weights[shut] = -INF
    return weights


def weights_of_all(logs: Tensor, transitions: Tensor | None = None) -> list[float]:
    """The log-weight of each of the O^m sequences of float[m, O], the highest first."""
    found = []
    for tags in product(range(logs.shape[1]), repeat=len(logs)):
        weight = sum(float(row[tag]) for row, tag in zip(logs, tags, strict=True))
        if transitions is not None:
            steps = zip((-1, *tags), tags, strict=False)
            weight += sum(float(transitions[before, tag]) for before, tag in steps)
        found.append(weight)
    return sorted(found, reverse=True)


def first_of(weights: list[float], count: int) -> list[float]:
    return (weights + [-INF] * count)[:count]


def entropy_of(weights: list[float]) -> tuple[float, float]:
    """(log-partition, entropy) of sequences with these log-weights."""
    total = math.log(sum(map(math.exp, weights)))
    probs = [math.exp(weight - total) for weight in weights]
    return total, -sum(p * math.log(p) for p in probs if p)


def close(found: Tensor, expected: list) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


# --- by hand


def test_two_words_of_two_tags() -> None:
    """(.7, .3) and (.6, .4): .7 · .6 = .42, .7 · .4 = .28, .3 · .6 = .18 and .3 · .4 = .12."""
    logs, offsets = torch.tensor([[0.7, 0.3], [0.6, 0.4]]).log(), offsets_of(2)
    close(best_independent(logs, offsets, 5).exp(), [[0.42, 0.28, 0.18, 0.12, 0.0]])
    close(best_of_chain(logs, offsets, torch.zeros(3, 2), 5).exp(), [[0.42, 0.28, 0.18, 0.12, 0.0]])
    partition, entropy = chain_totals(logs, offsets, torch.zeros(3, 2))
    close(partition, [0.0])
    close(entropy, [1.283876])  # .610864 + .673012, those of the words


def test_a_forbidden_step_takes_its_sequences_out() -> None:
    """Without tag 1 at the start and 0 → 1 there is 0 0 alone; with a free start also 1 0 and 1 1."""
    logs, offsets = torch.tensor([[0.7, 0.3], [0.6, 0.4]]).log(), offsets_of(2)
    shut = torch.tensor([[0.0, -INF], [0.0, 0.0], [0.0, -INF]])
    close(best_of_chain(logs, offsets, shut, 3).exp(), [[0.42, 0.0, 0.0]])
    shut[2, 1] = 0.0
    close(best_of_chain(logs, offsets, shut, 3).exp(), [[0.42, 0.18, 0.12]])
    close(chain_totals(logs, offsets, shut)[0].exp(), [0.72])


def test_without_decisions_there_is_the_empty_sequence() -> None:
    for offsets in (offsets_of(0, 0), offsets_of()):
        n = len(offsets) - 1
        logs = torch.zeros(0, 3)
        assert best_independent(logs, offsets, 2).tolist() == [[0.0, -INF]] * n
        assert best_of_chain(logs, offsets, torch.zeros(4, 3), 2).tolist() == [[0.0, -INF]] * n
        partition, entropy = chain_totals(logs, offsets, torch.zeros(4, 3))
        assert partition.tolist() == entropy.tolist() == [0.0] * n


# --- against every sequence


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_independent_decisions(columns: int, count: int, seed: int) -> None:
    logs, offsets = sentences(columns, seed)
    found = best_independent(logs.float(), offsets, count)
    assert found.dtype == torch.float64
    expected = [first_of(weights_of_all(part), count) for part in logs.float().split(offsets.diff().tolist())]
    close(found, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_a_chain(columns: int, count: int, seed: int) -> None:
    logs, offsets = sentences(columns, seed)
    moves = tagging(columns, seed)
    expected = [first_of(weights_of_all(part, moves), count) for part in logs.split(offsets.diff().tolist())]
    close(best_of_chain(logs, offsets, moves, count), expected)


@pytest.mark.parametrize("forbidden", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_totals_of_a_chain(columns: int, seed: int, forbidden: bool) -> None:
    logs, offsets = sentences(columns, seed)
    moves = tagging(columns, seed, forbidden)
    every = [entropy_of(weights_of_all(part, moves)) for part in logs.split(offsets.diff().tolist())]
    partition, entropy = chain_totals(logs, offsets, moves)
    close(partition, [total for total, _ in every])
    close(entropy, [value for _, value in every])


@pytest.mark.parametrize("count", [2, 10, 40])
def test_equal_probabilities_are_counted_as_often_as_they_occur(count: int) -> None:
    """27 sequences of probability 1/27; and a word that ties with another one."""
    flat = torch.full((3, 3), 1 / 3, dtype=torch.float64).log()
    mixed = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]], dtype=torch.float64).log()
    for logs in (flat, mixed):
        expected = [first_of(weights_of_all(logs), count)]
        close(best_independent(logs, offsets_of(3), count), expected)
        close(best_of_chain(logs, offsets_of(3), torch.zeros(4, 3), count), expected)


def test_columns_that_are_no_option_are_never_taken() -> None:
    """One word over 2 options and one over 3: six sequences, and a seventh place stays empty."""
    logs = torch.tensor([[0.6, 0.4, 0.0], [0.5, 0.3, 0.2]], dtype=torch.float64).log()
    expected = sorted([p * q for p in (0.6, 0.4) for q in (0.5, 0.3, 0.2)], reverse=True)
    for found in (
        best_independent(logs, offsets_of(2), 7),
        best_of_chain(logs, offsets_of(2), torch.zeros(4, 3), 7),
    ):
        close(found.exp(), [[*expected, 0.0]])


# --- larger ones, one against the other


@pytest.mark.parametrize("columns", [2, 9])
def test_a_chain_without_weights_is_independent(columns: int) -> None:
    offsets = offsets_of(*torch.randint(0, 30, (60,), generator=torch.Generator().manual_seed(0)).tolist())
    logs = normal(int(offsets[-1]), columns).log_softmax(1)
    free = torch.zeros(columns + 1, columns)
    one, other = best_independent(logs, offsets, 12), best_of_chain(logs, offsets, free, 12)
    torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
    partition, entropy = chain_totals(logs, offsets, free)
    close(partition, [0.0] * 60)
    own = torch.special.entr(logs.exp()).sum(1).split(offsets.diff().tolist())
    close(entropy, [float(values.sum()) for values in own])


def test_a_constant_on_all_transitions_changes_no_share() -> None:
    logs, offsets = sentences(3, 0)
    moves = tagging(3, 0)
    partition, entropy = chain_totals(logs, offsets, moves)
    lifted, same = chain_totals(logs, offsets, moves + 2.0)
    torch.testing.assert_close(entropy, same)
    torch.testing.assert_close(lifted - partition, 2.0 * offsets.diff().double())


def test_long_sentences_neither_overflow_nor_vanish() -> None:
    """1,000 words that are all but certain, and 1,000 flat ones: P = 3^-1000 is far below the smallest float."""
    sure = torch.tensor([1 - 2e-12, 1e-12, 1e-12], dtype=torch.float64).log().expand(1000, 3)
    flat = torch.full((1000, 3), 1 / 3, dtype=torch.float64).log()
    logs, offsets = torch.cat([sure, flat]), offsets_of(1000, 1000)
    for found in (best_independent(logs, offsets, 3), best_of_chain(logs, offsets, torch.zeros(4, 3), 3)):
        close(found[1], [-1000 * math.log(3)] * 3)
        assert found[0, 0] == pytest.approx(-2e-9, rel=1e-3)
    assert chain_totals(logs, offsets, torch.zeros(4, 3))[1][1] == pytest.approx(1000 * math.log(3))


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
def test_groups_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logs, offsets = sentences(3, 1)
    moves = tagging(3, 1)

    def all_three() -> tuple[Tensor, ...]:
        best = best_independent(logs, offsets, 5), best_of_chain(logs, offsets, moves, 5)
        return *best, *chain_totals(logs, offsets, moves)

    before = all_three()
    monkeypatch.setattr(sequences, "_EXAMPLES_AT_ONCE", at_once)
    monkeypatch.setattr(sequences, "_FLOATS_AT_ONCE", at_once * 45)
    for one, other in zip(before, all_three(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_the_order_of_sentences_and_what_stands_beside_them_change_nothing() -> None:
    logs, offsets = sentences(3, 2)
    moves = tagging(3, 2)
    parts = logs.split(offsets.diff().tolist())
    for at, part in enumerate(parts):
        alone = offsets_of(len(part))
        torch.testing.assert_close(best_independent(part, alone, 4)[0], best_independent(logs, offsets, 4)[at])
        torch.testing.assert_close(best_of_chain(part, alone, moves, 4)[0], best_of_chain(logs, offsets, moves, 4)[at])


def test_the_arguments_are_left_alone() -> None:
    logs, offsets = sentences(3, 3)
    moves = tagging(3, 3)
    before = [value.clone() for value in (logs, offsets, moves)]
    best_independent(logs, offsets, 4), best_of_chain(logs, offsets, moves, 4), chain_totals(logs, offsets, moves)
    for value, was in zip((logs, offsets, moves), before, strict=True):
        assert torch.equal(value, was)
