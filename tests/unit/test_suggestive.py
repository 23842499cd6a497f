"""What a committee disagrees on, chosen for how much of the pool it stands for."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nlp_al.selection.density import directions
from nlp_al.signals import Signals
from nlp_al.strategies import Selection, make_strategy, representatives
from nlp_al.testing import check_strategy, synthetic_signals

BLOCKS = torch.tensor([[1, 0.9, 0.1, 0.2], [0.9, 1, 0.2, 0.1], [0.1, 0.2, 1, 0.6], [0.2, 0.1, 0.6, 1]]).double()


def chosen(signals: Signals, count: int, **parameters: object) -> Selection:
    made = make_strategy("suggestive_annotation", **parameters)
    return made.select(signals, count, torch.Generator().manual_seed(0))


def drawn(n: int, seed: int = 0) -> Signals:
    """Random members and embeddings."""
    generator = torch.Generator().manual_seed(seed)
    passes = torch.randn(4, n, 3, generator=generator).double().softmax(2)
    return Signals(passes=passes, embeddings=torch.randn(n, 3, generator=generator).double())


def covered(similarity: Tensor, picks: tuple[int, ...]) -> float:
    return float(similarity[:, list(picks)].clamp(min=0).amax(1).sum())


def test_one_of_each_block() -> None:
    """Singles cover 2.2, 2.2, 1.9, 1.9; {0, 1} 2.4, {0, 2} 3.5, {2, 3} 2.4: 0, then 2."""
    assert [covered(BLOCKS, (at,)) for at in range(4)] == pytest.approx([2.2, 2.2, 1.9, 1.9])
    assert [covered(BLOCKS, pair) for pair in ((0, 1), (0, 2), (2, 3))] == pytest.approx([2.4, 3.5, 2.4])
    rows = torch.linalg.cholesky(BLOCKS)
    signals = Signals(passes=drawn(1).passes.expand(4, 4, 3), embeddings=rows)
    assert chosen(signals, 2).indices.tolist() == [0, 2]
    assert chosen(signals.take(torch.tensor([2, 3, 0, 1])), 2).indices.tolist() == [2, 0]


def test_candidates_are_what_members_differ_most_on() -> None:
    signals = drawn(40)
    assert signals.passes is not None
    doubt = signals.passes.std(0, correction=0).mean(1)
    best = doubt.argsort(descending=True).tolist()
    assert set(chosen(signals, 5, candidates=1.0).indices.tolist()) == set(best[:5])
    assert set(chosen(signals, 5).indices.tolist()) < set(best[:10])
    assert set(chosen(signals, 5, candidates=1.5).indices.tolist()) < set(best[:8])


def test_all_as_candidates_are_facility_location() -> None:
    signals = drawn(30)
    facility = make_strategy("facility_location", include_labelled=False)
    expected = facility.select(signals, 6, torch.Generator()).indices.tolist()
    assert chosen(signals, 6, candidates=5.0).indices.tolist() == expected
    assert chosen(signals, 6).indices.tolist() != expected


@pytest.mark.parametrize("seed", range(5))
def test_it_covers_as_much_as_greedy_must(seed: int) -> None:
    signals = drawn(10, seed)
    assert signals.embeddings is not None
    here = directions(signals.embeddings)
    best = max(covered(here @ here.T, picks) for picks in itertools.combinations(range(10), 3))
    found = covered(here @ here.T, tuple(chosen(signals, 3, candidates=4.0).indices.tolist()))
    assert found >= (1 - 1 / math.e) * best


def test_it_covers_the_pool_and_not_the_candidates_alone() -> None:
    """Two pairs of candidates; a crowd of others, on which members agree, is like the second pair."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], *[[0.0, 1.0]] * 6])
    passes = torch.full((2, 10, 2), 0.5)
    passes[0, :4], passes[1, :4] = torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9])
    passes[0, 0], passes[1, 0] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert chosen(Signals(passes=passes, embeddings=rows), 2).indices.tolist() == [2, 0]


def test_a_sample_stands_for_a_large_pool_and_the_choice_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = drawn(60)
    assert chosen(signals, 4).note == ""
    monkeypatch.setattr(representatives, "DIRECT", 50)
    monkeypatch.setattr(representatives, "SAMPLE", 20)
    found = chosen(signals, 4)
    assert found.note == "20 of the 60 examples, drawn at random, stood for the pool"
    assert signals.passes is not None
    best = signals.passes.std(0, correction=0).mean(1).argsort(descending=True)[:8]
    assert set(found.indices.tolist()) < set(best.tolist())


def test_opposite_embeddings_cover_nothing() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-0.6, 0.8]])
    signals = Signals(passes=drawn(1).passes.expand(4, 3, 3), embeddings=rows)
    assert chosen(signals, 3).indices.tolist() == [2, 0, 1]


@pytest.mark.parametrize("parameters", [{"candidates": 1.0}, {"candidates": 50.0}, {"agg": "sum"}])
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("suggestive_annotation", **parameters), seed=1)


def test_fewer_candidates_than_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"candidates is 0\.5; it must be at least 1"):
        make_strategy("suggestive_annotation", candidates=0.5)


def test_what_has_nothing_to_decide_is_not_stood_for() -> None:
    signals = replace(synthetic_signals("single", 8), askable=torch.arange(8) < 4)
    assert signals.embeddings is not None
    far = signals.embeddings.clone()
    far[4:] = -far[:4]
    assert chosen(replace(signals, embeddings=far), 2).indices.tolist() == chosen(signals, 2).indices.tolist()
