"""Batches by joint information: the numbers of the paper's formula, brute force over all labels, and draws."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nlp_al.selection.batchbald import batch_bald
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals

# Four members: B is told by the second pair of them, D by every second one.
B = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]], dtype=torch.float64)
D = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
# Two bits that four members know for certain.
A = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
C = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


def pool(*members: Tensor) -> Tensor:
    return torch.stack(members, 1)


def picked(passes: Tensor, count: int, seed: int = 0, offsets: Tensor | None = None, **how: int) -> tuple[list, list]:
    """The picks, and what they tell together after each of them."""
    offsets = torch.arange(passes.shape[1] + 1) if offsets is None else offsets
    found, added = batch_bald(
        passes,
        offsets,
        torch.full(passes.shape[1:2], passes.shape[2]),
        count,
        torch.Generator().manual_seed(seed),
        divisors=torch.ones(len(offsets) - 1),
        **how,
    )
    return found.tolist(), added.cumsum(0).tolist()


def joint(passes: Tensor, rows: list[int]) -> float:
    """H(y_S) − Σ E_t H over all labels that the rows may get."""
    columns = range(passes.shape[2])
    total = 0.0
    for labels in itertools.product(columns, repeat=len(rows)):
        p = torch.ones(len(passes), dtype=torch.float64)
        for row, label in zip(rows, labels, strict=True):
            p = p * passes[:, row, label]
        total += float(torch.special.entr(p.mean()))
    return total - float(torch.special.entr(passes[:, rows].double()).sum(2).mean(0).sum())


def test_the_information_of_one_and_of_two() -> None:
    assert joint(pool(B, D), [0]) == pytest.approx(0.275396, abs=1e-6)  # the reference agrees with the numbers
    assert joint(pool(B, B), [0, 1]) == pytest.approx(0.423310, abs=1e-6)
    assert picked(pool(B, B), 2) == ([0, 1], pytest.approx([0.275396, 0.423310], abs=1e-6))
    assert picked(pool(D, B), 2) == ([1, 0], pytest.approx([0.275396, 0.480434], abs=1e-6))
    assert picked(pool(D), 1) == ([0], pytest.approx([0.205038], abs=1e-6))


def test_a_copy_waits_for_what_tells_something_else() -> None:
    signals = Signals(passes=pool(B, B, D))
    generator = torch.Generator().manual_seed(0)
    assert make_strategy("bald").select(signals, 2, generator).indices.tolist() == [0, 1]
    assert make_strategy("batchbald").select(signals, 2, generator).indices.tolist() == [0, 2]
    assert make_strategy("batchbald", exact_up_to=0).select(signals, 2, generator).indices.tolist() == [0, 2]


@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_bits_that_are_certain_add_up_and_copies_add_nothing(exact_up_to: int) -> None:
    assert picked(pool(A, A), 2, exact_up_to=exact_up_to)[1] == pytest.approx([0.693147, 0.693147], abs=1e-6)
    found, told = picked(pool(A, A, C), 3, exact_up_to=exact_up_to)
    assert found[:2] == [0, 2]
    assert told == pytest.approx([0.693147, 1.386294, 1.386294], abs=2e-3 if exact_up_to == 0 else 1e-6)


def some(members: int = 5, rows: int = 9, columns: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (1.5 * torch.randn(members, rows, columns, generator=generator, dtype=torch.float64)).softmax(2)


@pytest.mark.parametrize("seed", range(4))
def test_every_pick_is_the_best_of_all_and_counted_exactly(seed: int) -> None:
    passes = some(seed=seed)
    found, told = picked(passes, 4)
    chosen: list[int] = []
    for step in range(4):
        gains = [joint(passes, [*chosen, at]) if at not in chosen else -1.0 for at in range(9)]
        best = max(range(9), key=gains.__getitem__)
        assert found[step] == best
        assert told[step] == pytest.approx(gains[best], abs=1e-6)
        chosen.append(best)


def test_information_grows_and_never_faster_than_that_of_single_labels() -> None:
    passes = some(rows=12)
    found, told = picked(passes, 12)
    assert sorted(found) == list(range(12))
    steps = [b - a for a, b in itertools.pairwise([0.0, *told])]
    assert min(steps) >= -1e-6
    assert told[-1] <= math.log(5) + 1e-6  # five members are told apart, and that is all
    for at, step in zip(found, steps, strict=True):
        assert step <= joint(passes, [at]) + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_draws_agree_with_the_exact_count(seed: int) -> None:
    """What the fourth label adds, from outcomes of three that are drawn: within three standard errors of the count."""
    passes = some(rows=4, seed=seed)
    exact = picked(passes, 4)[1]
    drawn = [picked(passes, 4, seed=draw, exact_up_to=0, samples=500)[1] for draw in range(30)]
    totals = torch.tensor([one[-1] for one in drawn], dtype=torch.float64)
    error = float(totals.std() / len(totals) ** 0.5)
    assert abs(float(totals.mean()) - exact[-1]) < 3 * error + 1e-9
    assert error < 0.01
    assert picked(passes, 4, exact_up_to=0, samples=200_000)[1] == pytest.approx(exact, abs=0.003)


def test_the_count_gives_way_to_draws_in_the_middle_of_a_batch() -> None:
    passes = some(rows=8)
    exact = picked(passes, 6)[1]
    mixed = picked(passes, 6, exact_up_to=3**4, samples=100_000)[1]
    assert mixed[:3] == pytest.approx(exact[:3], abs=1e-6)
    assert mixed != pytest.approx(exact, abs=1e-9)
    assert mixed == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("exact_up_to", [0, 100_000])
def test_several_decisions_of_an_example_are_counted_together(exact_up_to: int) -> None:
    """Examples of one to three words: what all words of some tell, against all labels that these may get."""
    passes, offsets = some(rows=6, columns=2), torch.tensor([0, 3, 5, 6])
    found, told = picked(passes, 3, offsets=offsets, exact_up_to=exact_up_to, samples=100_000)
    rows: list[int] = []
    for at, together in zip(found, told, strict=True):
        rows += range(int(offsets[at]), int(offsets[at + 1]))
        assert together == pytest.approx(joint(passes, rows), abs=1e-6 if exact_up_to else 0.01)


def test_many_labels_do_not_underflow() -> None:
    passes = some(members=4, rows=400, columns=6)
    found, told = picked(passes, 300, samples=400)
    assert len(set(found)) == 300
    assert all(map(math.isfinite, told))
    assert told[-1] == pytest.approx(math.log(4), abs=0.02)


@pytest.mark.parametrize("shape", ["single", "ranking"])
def test_a_batch_of_one_is_that_of_bald(shape: str) -> None:
    for seed in range(5):
        signals = synthetic_signals(shape, 40, seed)
        one = [make_strategy(n).select(signals, 1, torch.Generator()).indices.tolist() for n in ("bald", "batchbald")]
        assert one[0] == one[1]


def test_sentences_are_compared_by_what_a_word_tells() -> None:
    """Two words that tell as much as one each do not outrank a single better one."""
    weak = torch.tensor([[0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    strong = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64)
    signals = Signals(passes=pool(*[weak] * 8, strong), offsets=torch.tensor([0, 8, 9]))
    assert make_strategy("batchbald").select(signals, 1, torch.Generator()).indices.tolist() == [1]


def test_candidates_come_first_and_the_others_by_bald() -> None:
    signals = synthetic_signals("single", 30)
    by_bald = make_strategy("bald").select(signals, 30, torch.Generator()).indices.tolist()
    found = make_strategy("batchbald", prefilter=8).select(signals, 30, torch.Generator()).indices.tolist()
    assert set(found[:8]) == set(by_bald[:8])
    assert found[:8] != by_bald[:8]
    assert found[8:] == by_bald[8:]


def test_the_pool_may_come_in_any_order() -> None:
    signals = replace(synthetic_signals("single", 40), sampled=None)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    first, other = (
        make_strategy("batchbald").select(s, 5, torch.Generator()).indices for s in (signals, signals.take(order))
    )
    assert order[other].tolist() == first.tolist()


def test_equal_examples_go_by_position() -> None:
    equal = synthetic_signals("single", 40).take(torch.zeros(40, dtype=torch.int64))
    assert make_strategy("batchbald").select(equal, 6, torch.Generator()).indices.tolist() == list(range(6))


def test_what_tells_nothing_more_goes_by_position() -> None:
    """Once two bits tell all members apart, neither of the others adds anything, though one has the higher BALD."""
    weak, strong = (torch.tensor([[p, 1 - p], [1 - p, p]] * 2, dtype=torch.float64) for p in (0.6, 0.8))
    for order in ([weak, A, strong, C], [strong, A, weak, C]):
        chosen = make_strategy("batchbald").select(Signals(passes=pool(*order)), 4, torch.Generator())
        assert chosen.indices.tolist() == [1, 3, 0, 2]


def test_the_user_is_told_when_the_members_are_told_apart() -> None:
    """Two bits tell four members apart, and a third label of the batch is as good as any."""
    signals = Signals(passes=pool(A, A, C, C))
    chosen = make_strategy("batchbald").select(signals, 3, torch.Generator())
    assert chosen.note == "2 labels tell the 4 members apart, and what comes after them tells no more"
    assert make_strategy("batchbald").select(signals, 2, torch.Generator()).note == ""


@pytest.mark.parametrize("parameters", [{"prefilter": 5}, {"exact_up_to": 0, "samples": 50}])
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("batchbald", **parameters), seed=1)
