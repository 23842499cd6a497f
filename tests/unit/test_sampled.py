"""What several members say: statistics that are the same however members and examples come."""

import math
from dataclasses import replace

import pytest
import torch

from nlp_al.decisions import Decisions
from nlp_al.signals import SignalError, Signals
from nlp_al.signals.merging import ordered, together
from nlp_al.signals.sampled import Running, Sampled, pooled, statistics
from nlp_al.testing import synthetic_signals

SHAPES = ("single", "multi", "sequence", "ranking")
# Two members each: opposite, equal, somewhat apart.
ABC = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]], [[0.0, 1.0], [0.5, 0.5], [0.7, 0.3]]], dtype=torch.float64)


def members(passes: torch.Tensor) -> list[Decisions]:
    return [Decisions(probs, torch.arange(passes.shape[1] + 1)) for probs in passes]


def same(one: Sampled, other: Sampled) -> None:
    assert one.members == other.members
    assert torch.equal(one.votes, other.votes)
    for name in ("mean", "entropy", "squares"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=1e-12)


def test_statistics_of_members_that_come_one_by_one_are_those_of_all_together() -> None:
    passes = torch.randn(7, 20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(2)
    found = statistics(members(passes))
    assert found.members == 7
    assert (found.mean.dtype, found.votes.dtype) == (torch.float64, torch.int32)
    torch.testing.assert_close(found.mean, passes.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.entropy, -(passes * passes.log()).sum(2).mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.squares, passes.square().mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.std(), passes.std(0, correction=0), rtol=0, atol=1e-8)
    for row in range(20):
        assert found.votes[row].tolist() == torch.bincount(passes[:, row].argmax(1), minlength=5).tolist()


def test_votes_that_tie_go_to_the_first_option() -> None:
    assert statistics(members(ABC)).votes.tolist() == [[1, 1], [2, 0], [2, 0]]


def test_what_a_label_tells_about_the_members() -> None:
    found = statistics(members(ABC))
    assert found.information().tolist() == pytest.approx([0.693147, 0.0, 0.032429], abs=1e-6)
    assert found.std().mean(1).tolist() == pytest.approx([0.5, 0.0, 0.1], abs=1e-12)


def test_members_that_agree_tell_nothing_to_the_last_digit() -> None:
    """Rounding would leave 1e-16, and the logarithm of that is not minus infinity."""
    row = torch.rand(1, 200, 7, generator=torch.Generator().manual_seed(0)).softmax(2)
    for count in (1, 3, 10):
        found = statistics(members(row.repeat(count, 1, 1)))
        assert found.information().max() == 0.0
        assert found.std().max() == 0.0
    one, other = (statistics(members(row.repeat(count, 1, 1))) for count in (2, 3))
    assert pooled(one, other).information().max() == 0.0


def test_groups_of_members_are_pooled_by_their_number() -> None:
    passes = torch.randn(7, 20, 5, generator=torch.Generator().manual_seed(1)).softmax(2)
    parts = [statistics(members(part)) for part in passes.split([1, 4, 2])]
    same(pooled(pooled(parts[0], parts[1]), parts[2]), statistics(members(passes)))


def test_information_is_over_the_most_that_the_options_allow() -> None:
    """Of opposite members: ln 2, over ln 2 with two options and over ln 4 with four. What is no option is not read."""
    passes = torch.tensor([[[1.0, 0.0, 9.0, 9.0], [1.0, 0.0, 0.0, 0.0]], [[0.0, 1.0, 9.0, 9.0], [0.0, 1.0, 0.0, 0.0]]])
    options = torch.tensor([2, 4])
    found = Signals(passes=passes, options=options).statistics()
    assert found.information(options).tolist() == pytest.approx([1.0, 0.5])
    assert found.votes.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    spoilt = found.each(
        lambda name, values: values.index_fill(1, torch.tensor([3]), 5) if values.dim() == 2 else values
    )
    assert spoilt.information(torch.tensor([2, 3])).tolist() == pytest.approx([1.0, math.log(2) / math.log(3)])


@pytest.mark.parametrize("shape", SHAPES)
def test_they_follow_from_passes(shape: str) -> None:
    signals = synthetic_signals(shape, 12)
    derived = replace(signals, sampled=None).statistics()
    given = signals.statistics()
    assert derived.members == given.members
    assert torch.equal(derived.information(signals.options), given.information(signals.options))
    assert torch.equal(derived.std(signals.options), given.std(signals.options))


@pytest.mark.parametrize("shape", SHAPES)
def test_take_and_merging_know_them(shape: str) -> None:
    whole = synthetic_signals(shape, 11, labelled=0, undecided=2)
    assert whole.passes is not None
    # A record of its own columns for each batch, as wide as its widest row; rubbish beyond it goes.
    parts = []
    for chosen in torch.randperm(11, generator=torch.Generator().manual_seed(0)).split(3):
        part = whole.take(chosen)
        if part.options is not None and len(part.options):
            width = int(part.options.max())
            assert part.probs is not None
            assert part.passes is not None
            narrow = Sampled(*part.sampled).each(lambda _, v, w=width: v[:, :w] if v.dim() == 2 else v)
            assert part.out_of_fold is not None
            cut = {"probs": part.probs[:, :width], "out_of_fold": part.out_of_fold[:, :width]}
            part = replace(part, **cut, passes=part.passes[..., :width], sampled=narrow)
        parts.append((chosen.tolist(), part))
    again = ordered(parts)
    assert again.statistics().members == 5
    for one, other in zip(again.members(), whole.members(), strict=True):
        assert torch.equal(one.masked, other.masked[:, : one.probs.shape[1]])
    assert torch.equal(again.statistics().information(again.options), whole.statistics().information(whole.options))
    assert torch.equal(again.statistics().entropy, whole.statistics().entropy)
    taken = whole.take(torch.tensor([4, 0, 4]))
    rows = [whole.offsets[at].item() for at in (4, 0, 4)]
    firsts = taken.offsets[:-1][taken.offsets.diff() > 0]
    kept = [row for row, at in zip(rows, (4, 0, 4), strict=True) if whole.offsets[at + 1] > whole.offsets[at]]
    assert torch.equal(taken.passes[:, firsts], whole.passes[:, kept])
    assert torch.equal(taken.statistics().votes[firsts], whole.statistics().votes[kept])


def test_members_of_two_records_come_together() -> None:
    signals = synthetic_signals("sequence", 9, labelled=0)
    one, other = (replace(signals, sampled=None, passes=part) for part in signals.passes.split([2, 3]))
    assert torch.equal(together(one, other).passes, signals.passes)
    one, other = (Signals(sampled=s.statistics(), offsets=s.offsets) for s in (one, other))
    same(together(one, other).statistics(), signals.statistics())


def test_a_record_may_hold_them_alone() -> None:
    signals = Signals(passes=ABC)
    assert len(signals) == 3
    assert signals.offsets.tolist() == [0, 1, 2, 3]
    assert signals.can_ask().tolist() == [True, True, True]
    assert Signals(sampled=tuple(signals.statistics())).statistics().members == 2
    ragged = Signals(passes=ABC, offsets=torch.tensor([0, 0, 3]))
    assert ragged.can_ask().tolist() == [False, True]
    assert Signals(passes=ABC, options=torch.tensor([1, 2, 2])).can_ask().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"passes": torch.ones(3, 2)}, "passes has 2 dimensions; it must have 3"),
        ({"passes": torch.ones(0, 3, 2)}, "passes has no members"),
        ({"passes": torch.ones(2, 3, 0)}, "passes has no columns"),
        ({"passes": ABC, "probs": torch.ones(4, 2)}, "passes is 3 x 2; it must be 4 x 2, as probs is"),
        ({"passes": ABC, "probs": torch.ones(3, 3)}, "passes is 3 x 2; it must be 3 x 3, as probs is"),
        ({"passes": ABC, "options": torch.tensor([2, 2])}, "options has 2 entries for 3 rows of passes"),
        ({"passes": ABC, "options": torch.tensor([2, 2, 3])}, "between 1 and 2, the columns of passes"),
        ({"passes": ABC, "offsets": torch.tensor([0, 2])}, "offsets of passes must rise from 0 to its 3 rows"),
        ({"passes": ABC, "count": 2}, "disagree on the number of examples"),
        ({"sampled": (ABC[0], torch.ones(2), ABC[0], ABC[0], 2)}, "sampled.entropy is 2 x 2; it must be 3 x 2"),
        ({"sampled": (ABC[0], torch.ones(3), ABC[0, :2], ABC[0], 2)}, "sampled.votes is 2 x 2; it must be 3 x 2"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(fields: dict, says: str) -> None:
    with pytest.raises(SignalError, match=says):
        Signals(**fields)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    good = Signals(passes=ABC)
    spoilt = ABC.clone()
    spoilt[1, 2, 0] = bad
    with pytest.raises(SignalError, match=r"^passes holds NaN or infinity"):
        replace(good, passes=spoilt).require({"sampled"})
    for name in ("mean", "entropy", "squares"):
        one = good.statistics()._replace(**{name: torch.full_like(getattr(good.statistics(), name), bad)})
        with pytest.raises(SignalError, match=rf"^sampled.{name} holds NaN or infinity"):
            Signals(sampled=one).require({"sampled"})
    with pytest.raises(SignalError, match=r"no sampled, nor passes to take its place"):
        Signals(probs=torch.ones(3, 2)).require({"sampled"})
    with pytest.raises(SignalError, match=r"no passes"):
        Signals(sampled=good.statistics()).require({"passes"})


def test_running_statistics_hold_no_pass() -> None:
    """Each pass goes once it is counted: of 50 members as much is held as of one."""
    running = Running()
    rows = torch.rand(2, 100, 4).softmax(2)
    for at in range(50):
        running.add(Decisions(rows[at % 2], torch.arange(101)))
    held = [v for v in vars(running).values() if isinstance(v, torch.Tensor)]
    assert sum(v.numel() for v in held) == 100 * (3 * 4 + 1)
