"""The record of what a model says: what it accepts, refuses, derives and hands on."""

import math
from dataclasses import replace

import pytest
import torch

from nlp_al.signals import Gradients, SignalError, Signals
from nlp_al.testing import synthetic_signals

SHAPES = ("single", "multi", "sequence", "ranking")


def test_offsets_and_count_follow_from_probs() -> None:
    signals = Signals(probs=torch.full((3, 2), 0.5))
    assert signals.offsets is not None
    assert signals.offsets.tolist() == [0, 1, 2, 3]
    assert len(signals) == 3


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "need `count`"),
        ({"probs": torch.ones(3, 2), "embeddings": torch.ones(4, 2)}, "disagree.*embeddings 4, offsets 3"),
        ({"embeddings": torch.ones(2, 2), "count": 3}, "disagree"),
        ({"probs": torch.ones(3)}, "probs has 1 dimensions; it must have 2"),
        ({"probs": torch.ones(3, 0)}, "at least one option"),
        (
            {"probs": torch.ones(3, 2), "offsets": torch.tensor([0, 2])},
            "offsets of probs must rise from 0 to its 3 rows",
        ),
        ({"probs": torch.ones(3, 2), "offsets": torch.tensor([0, 3, 1, 3])}, "offsets of probs must rise"),
        ({"probs": torch.ones(3, 2), "offsets": torch.zeros(0, dtype=torch.int64), "count": -1}, "offsets of probs"),
        ({"probs": torch.ones(3, 2), "options": torch.tensor([2, 2])}, "options has 2 entries for 3 rows"),
        ({"probs": torch.ones(2, 2), "options": torch.tensor([2, 3])}, "options must lie between 1 and 2"),
        ({"probs": torch.ones(2, 2), "options": torch.tensor([0, 2])}, "options must lie between 1 and 2"),
        ({"gradients": (torch.ones(2, 1), torch.ones(3, 2), torch.tensor([0, 2]))}, "offsets of gradients.h"),
        ({"cost": torch.ones(2, 2)}, "cost has 2 dimensions"),
    ],
)
def test_fields_that_do_not_fit_are_refused_by_name(fields: dict, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        Signals(**fields)


def test_numbers_are_held_in_float32_or_better_and_costs_exactly() -> None:
    signals = Signals(
        embeddings=torch.ones(2, 2, dtype=torch.bfloat16, requires_grad=True),
        pretrained=torch.ones(2, 2, dtype=torch.float64),
        cost=torch.tensor([3, 4]),
    )
    assert signals.embeddings is not None
    assert signals.pretrained is not None
    assert signals.cost is not None
    assert (signals.embeddings.dtype, signals.embeddings.requires_grad) == (torch.float32, False)
    assert signals.pretrained.dtype == torch.float64
    assert signals.cost.dtype == torch.float64


@pytest.mark.parametrize("shape", SHAPES)
def test_take_gives_the_rows_of_the_examples_in_the_order_asked(shape: str) -> None:
    signals = synthetic_signals(shape, 20, undecided=3, cost=True)
    wanted = [7, 0, 19, 7, 3]
    taken = signals.take(torch.tensor(wanted))
    assert len(taken) == 5
    assert taken.labelled is signals.labelled
    for name in ("embeddings", "pretrained", "cost", "askable"):
        assert torch.equal(getattr(taken, name), getattr(signals, name)[wanted])

    def rows(values: torch.Tensor, offsets: torch.Tensor) -> list[list]:
        return [part.tolist() for part in values.split(offsets.diff().tolist())]

    def ragged(s: Signals) -> list[list[list]]:
        assert s.probs is not None
        assert s.offsets is not None
        assert s.gradients is not None
        r, h, offsets = s.gradients
        found = [rows(s.probs, s.offsets), rows(r, offsets), rows(h, offsets)]
        return found if s.options is None else [*found, rows(s.options, s.offsets)]

    for before, after in zip(ragged(signals), ragged(taken), strict=True):
        assert after == [before[at] for at in wanted]


def test_gradients_are_derived_for_one_decision() -> None:
    """p = (.7, .3), h = (1, 2): g = (p - e_0) ⊗ h = (-.3, -.6, .3, .6)."""
    r, h, offsets = Signals(probs=torch.tensor([[0.7, 0.3]]), embeddings=torch.tensor([[1.0, 2.0]])).factors()
    g = torch.einsum("jr,jd->rd", r, h).flatten()
    torch.testing.assert_close(g, torch.tensor([-0.3, -0.6, 0.3, 0.6]))
    assert offsets.tolist() == [0, 1]


@pytest.mark.parametrize("shape", ["multi", "sequence", "ranking"])
def test_gradients_are_not_guessed_for_several_decisions_or_varying_options(shape: str) -> None:
    signals = replace(synthetic_signals(shape, 5), gradients=None)
    with pytest.raises(SignalError, match="gradients can only be derived"):
        signals.factors()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_under_the_name_that_was_given(bad: float) -> None:
    good = synthetic_signals("single", 5)
    spoilt, at = torch.ones(5, 6).index_fill(0, torch.tensor([3]), bad), torch.tensor([3])
    assert good.probs is not None
    with pytest.raises(SignalError, match=r"^probs holds NaN or infinity"):
        replace(good, probs=good.probs.index_fill(0, at, bad)).require({"probs"})
    with pytest.raises(SignalError, match=r"^embeddings holds"):  # what gradients are derived from
        replace(good, gradients=None, embeddings=spoilt).require({"gradients"})
    with pytest.raises(SignalError, match=r"^embeddings holds"):  # what stands in for pretrained
        replace(good, pretrained=None, embeddings=spoilt).require({"pretrained"})
    assert good.gradients is not None
    with pytest.raises(SignalError, match=r"^gradients.h holds"):
        replace(good, gradients=Gradients(good.gradients[0], spoilt, good.gradients[2])).require({"gradients"})
    with pytest.raises(SignalError, match=r"^labelled.embeddings holds"):
        replace(good, labelled=Signals(embeddings=spoilt)).require({"embeddings"}, {"embeddings"})
    replace(good, embeddings=spoilt).require({"probs"})  # no one asked for it


def test_negative_costs_are_refused() -> None:
    with pytest.raises(SignalError, match="cost must be finite and not negative"):
        Signals(cost=torch.tensor([1.0, -1.0])).require(())


def test_missing_fields_are_named() -> None:
    nothing = Signals(count=2)
    with pytest.raises(SignalError, match="no embeddings"):
        nothing.require({"embeddings"})
    with pytest.raises(SignalError, match="no gradients, nor probs and embeddings"):
        nothing.require({"gradients"})
    some = Signals(embeddings=torch.ones(2, 3), labelled=Signals(count=1))
    with pytest.raises(SignalError, match=r"no labelled\.embeddings"):
        some.require({"embeddings"}, {"embeddings"})
    with pytest.raises(SignalError, match=r"labelled.embeddings has 2 columns, embeddings has 3"):
        replace(some, labelled=Signals(embeddings=torch.ones(1, 2))).require({"embeddings"}, {"embeddings"})
    replace(some, labelled=Signals(count=0)).require({"embeddings"}, {"embeddings"})  # nothing labelled yet


def test_columns_that_are_no_option_may_hold_anything() -> None:
    probs = torch.tensor([[1.0, math.nan], [0.5, 0.5]])
    Signals(probs=probs, options=torch.tensor([1, 2])).require({"probs"})


def test_embeddings_from_before_training_come_from_one_space() -> None:
    """Where the pool has pretrained embeddings, fine-tuned ones of the labelled set would not compare."""
    tuned, plain = torch.zeros(2, 3), torch.ones(2, 3)
    pool, known = Signals(embeddings=tuned, labelled=Signals(embeddings=plain)).before_training()
    assert torch.equal(pool, tuned)
    assert torch.equal(known, plain)
    both = Signals(embeddings=tuned, pretrained=plain)
    assert torch.equal(Signals(embeddings=tuned, labelled=both).before_training()[1], tuned)
    mixed = Signals(embeddings=tuned, pretrained=plain, labelled=Signals(embeddings=tuned))
    with pytest.raises(SignalError, match=r"no labelled\.pretrained"):
        mixed.require({"pretrained"}, {"pretrained"})


def test_an_example_is_askable_where_it_has_a_decision_or_where_it_is_said_so() -> None:
    probs = torch.full((3, 2), 0.5)
    assert Signals(probs=probs, offsets=torch.tensor([0, 0, 3])).can_ask().tolist() == [False, True]
    assert Signals(probs=probs, options=torch.tensor([1, 2, 2])).can_ask().tolist() == [False, True, True]
    assert Signals(embeddings=probs).can_ask().tolist() == [True, True, True]
    said = Signals(embeddings=probs, askable=torch.tensor([True, False, True]))
    assert said.can_ask().tolist() == [True, False, True]
