"""Scores of committees, and batches drawn by them: numbers computed by hand, and loops beside the fast code."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals

# Two members each: opposite, equal, somewhat apart.
ABC = torch.tensor([[[1.0, 0.0], [0.5, 0.5], [0.9, 0.1]], [[0.0, 1.0], [0.5, 0.5], [0.7, 0.3]]])
VARIANTS = [
    ("qbc_ve", {"normalise": True}),
    ("qbc_ve", {"level": "sequence"}),
    ("qbc_ve", {"level": "sequence", "normalise": True}),
    ("qbc_ve", {"level": "ranking"}),
    ("variation_ratio", {"kind": "soft"}),
    ("margin_ensemble", {"of": "mean"}),
    ("margin_ensemble", {"of": "min", "agg": "max"}),
    ("bald", {"agg": "topm"}),
    ("mean_std", {"agg": "sum"}),
    ("power_bald", {"beta": 4.0, "agg": "max"}),
]


def scores(name: str, signals: Signals, **parameters: object) -> list[float]:
    found = make_strategy(name, **parameters).select(signals, len(signals), torch.Generator().manual_seed(0)).scores
    assert found is not None
    return found.tolist()


def voted(*votes: list[int], options: int = 3) -> Signals:
    """A decision for each list of votes, one a member, each quite sure."""
    picked = torch.nn.functional.one_hot(torch.tensor(votes).T, options).double()
    return Signals(passes=picked * 0.9 + 0.1 / options)


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
@pytest.mark.parametrize("seed", [1, 2])
def test_their_parameters_do_not_break_them(name: str, parameters: dict, seed: int) -> None:
    check_strategy(make_strategy(name, **parameters), seed=seed)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("bald", {}, [0.693147, 0.0, 0.032429]),
        ("qbc_kl", {}, [0.693147, 0.0, 0.032429]),
        ("mean_std", {}, [0.5, 0.0, 0.1]),
        ("variation_ratio", {"kind": "soft"}, [0.5, 0.5, 0.2]),
        ("variation_ratio", {"kind": "vote"}, [0.5, 0.0, 0.0]),
        ("variation_ratio", {}, [0.5, 0.0, 0.0]),
        ("margin_ensemble", {}, [0.0, 0.0, -0.6]),
        ("margin_ensemble", {"of": "mean"}, [-1.0, 0.0, -0.6]),
        ("margin_ensemble", {"of": "min"}, [-1.0, 0.0, -0.4]),
    ],
)
def test_two_members_that_are_opposite_equal_and_apart(name: str, parameters: dict, expected: list) -> None:
    assert scores(name, Signals(passes=ABC.double()), **parameters) == pytest.approx(expected, abs=1e-6)


def test_consensus_divergence_is_the_mean_from_the_mean() -> None:
    """(.8, .2), (.4, .6), (.6, .4) from (.6, .4): .057536, which is their BALD."""
    passes = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]], [[0.6, 0.4]]], dtype=torch.float64)
    middle = passes.mean(0)
    by_hand = (passes * (passes / middle).log()).sum(2).mean(0)
    assert float(by_hand) == pytest.approx(0.057536, abs=1e-6)
    for name in ("qbc_kl", "bald"):
        assert scores(name, Signals(passes=passes)) == pytest.approx(by_hand.tolist(), abs=1e-12)


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_bald_and_consensus_divergence_are_one_number_on_every_shape(shape: str) -> None:
    signals = synthetic_signals(shape, 30)
    assert scores("bald", signals) == scores("qbc_kl", signals)
    loops = []
    for low, high in itertools.pairwise(signals.offsets.tolist()):
        terms = []
        for row in range(low, high):
            k = signals.probs.shape[1] if signals.options is None else int(signals.options[row])
            p = signals.passes[:, row, :k].double()
            kl = (p * (p / p.mean(0)).log()).sum(1).mean()
            terms.append(float(kl) / (1.0 if signals.options is None else math.log(k)))
        loops.append(sum(terms) / len(terms))
    assert scores("bald", signals) == pytest.approx(loops, abs=1e-9)


def test_votes_have_an_entropy() -> None:
    """0, 0, 1, 2: 1.039721; over ln 4 (four members of four options) .75, over ln 3 .946395."""
    assert scores("qbc_ve", voted([0, 0, 1, 2])) == pytest.approx([1.039721], abs=1e-6)
    assert scores("qbc_ve", voted([0, 0, 1, 2], options=4), normalise=True) == pytest.approx([0.75], abs=1e-6)
    assert scores("qbc_ve", voted([0, 0, 1, 2]), normalise=True) == pytest.approx([0.946395], abs=1e-6)
    assert scores("qbc_ve", voted([0, 1], options=9), normalise=True) == pytest.approx([1.0])  # two members


def test_five_snapshots_vote() -> None:
    """a, a, a, b, c: two of five are not of the majority."""
    assert scores("variation_ratio", voted([0, 0, 0, 1, 2])) == pytest.approx([0.4])


def test_votes_over_candidates_are_over_the_logarithm_of_their_number() -> None:
    passes = torch.tensor([[[0.9, 0.1, 5.0, 5.0], [0.7, 0.1, 0.1, 0.1]], [[0.1, 0.9, 9.0, 9.0], [0.1, 0.7, 0.1, 0.1]]])
    signals = Signals(passes=passes, options=torch.tensor([2, 4]))
    assert scores("qbc_ve", signals) == pytest.approx([1.0, 0.5])
    assert scores("qbc_ve", signals, normalise=True) == pytest.approx([1.0, 1.0])
    assert scores("variation_ratio", signals) == pytest.approx([0.5, 0.5])
    assert scores("mean_std", signals) == pytest.approx([0.4, 0.15])


def test_votes_on_whole_sequences() -> None:
    """Of four members three give the tags 0 1, one gives 0 0: shares 3/4 and 1/4. Word by word half of that."""
    signals = replace(voted([0, 0, 0, 0], [1, 1, 1, 0]), offsets=None, count=None)
    signals = Signals(passes=signals.passes, offsets=torch.tensor([0, 2]))
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert scores("qbc_ve", signals, level="sequence") == pytest.approx([entropy])
    assert scores("qbc_ve", signals, level="sequence", normalise=True) == pytest.approx([entropy / math.log(4)])
    assert scores("qbc_ve", signals) == pytest.approx([entropy / 2])


def test_votes_on_whole_sequences_equal_a_count() -> None:
    signals = synthetic_signals("sequence", 40, undecided=3)
    expected = []
    for low, high in itertools.pairwise(signals.offsets.tolist()):
        given = Counter(tuple(member[low:high].argmax(1).tolist()) for member in signals.passes)
        shares = [count / 5 for count in given.values()]
        expected.append(-sum(s * math.log(s) for s in shares) if high > low else -math.inf)
    assert scores("qbc_ve", signals, level="sequence") == pytest.approx(expected, abs=1e-12)


def test_rankings_are_compared_by_pairs() -> None:
    """From 0 1 2 to 0 2 1 one of three pairs turns round, to 2 1 0 all do."""
    orders = {"same": [0.6, 0.3, 0.1], "last": [0.6, 0.1, 0.3], "back": [0.1, 0.3, 0.6], "none": [1 / 3] * 3}

    def distance(*names: str) -> float:
        passes = torch.tensor([[orders[name]] for name in names])
        (found,) = scores("qbc_ve", Signals(passes=passes, options=torch.tensor([3])), level="ranking")
        return found

    assert distance("same", "last") == pytest.approx(1 / 3)
    assert distance("same", "back") == pytest.approx(1.0)
    assert distance("same", "same") == 0.0
    assert distance("same", "last", "same") == pytest.approx(2 / 3 * 1 / 3)
    assert distance("same", "none") == pytest.approx(0.5)
    wide = torch.tensor([[[0.6, 0.3, 0.1, 0.0]], [[0.6, 0.1, 0.3, 7.0]]])
    assert scores("qbc_ve", Signals(passes=wide, options=torch.tensor([3])), level="ranking") == pytest.approx([1 / 3])


def test_a_committee_of_equal_members_has_the_margin_of_one() -> None:
    for shape in ("single", "multi", "sequence", "ranking"):
        signals = synthetic_signals(shape, 20)
        for count in (1, 4):
            alike = Signals(passes=signals.probs.repeat(count, 1, 1), offsets=signals.offsets, options=signals.options)
            margins = scores("margin", signals)
            for of in ("mean_probs", "mean", "min"):
                assert scores("margin_ensemble", alike, of=of) == pytest.approx(margins, abs=1e-6)
            assert set(scores("bald", alike)) == {0.0}
            assert set(scores("variation_ratio", alike)) == {0.0}


def test_scores_of_words_are_averaged() -> None:
    """BALD .693147 and 0 in one sentence, .032429 in the other; votes .5 and 0, and 0."""
    signals = Signals(passes=ABC.double(), offsets=torch.tensor([0, 2, 3, 3]))
    assert scores("bald", signals) == pytest.approx([0.693147 / 2, 0.032429, -math.inf], abs=1e-6)
    assert scores("variation_ratio", signals) == pytest.approx([0.25, 0.0, -math.inf])
    assert scores("bald", signals, agg="sum") == pytest.approx([0.693147, 0.032429, -math.inf], abs=1e-6)


# --- draws


def members_of(*information: float) -> Signals:
    """Two members, p and 1 − p, with the BALD that is asked for."""
    found = []
    for value in information:
        low, high = 0.5, 1.0
        for _ in range(60):
            p = (low + high) / 2
            bald = math.log(2) - (-p * math.log(p) - (1 - p) * math.log(1 - p) if p < 1 else 0.0)
            low, high = (p, high) if bald < value else (low, p)
        found.append([p, 1 - p])
    first = torch.tensor(found, dtype=torch.float64)
    return Signals(passes=torch.stack([first, first.flip(1)]))


def shares(name: str, signals: Signals, draws: int = 4000, **parameters: object) -> Tensor:
    generator, strategy = torch.Generator().manual_seed(0), make_strategy(name, **parameters)
    firsts = [int(strategy.select(signals, 1, generator).indices[0]) for _ in range(draws)]
    return torch.bincount(torch.tensor(firsts), minlength=len(signals)) / draws


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("power_bald", {}, [0.1, 0.2, 0.7]),
        ("power_bald", {"beta": 2.0}, [1 / 54, 4 / 54, 49 / 54]),
        ("softrank_bald", {}, [2 / 11, 3 / 11, 6 / 11]),  # 1 / rank: 1/3, 1/2, 1
        ("softmax_bald", {"beta": 10.0}, [math.e**0.5 / 37.4824, math.e / 37.4824, math.e**3.5 / 37.4824]),
    ],
)
def test_examples_are_drawn_with_the_chances_that_the_paper_gives_them(name, parameters, expected) -> None:
    """BALD .05, .1 and .35: 1 : 2 : 7."""
    signals = members_of(0.05, 0.1, 0.35)
    assert scores("bald", signals) == pytest.approx([0.05, 0.1, 0.35], abs=1e-9)
    assert sum(expected) == pytest.approx(1.0, abs=1e-4)
    for share, chance in zip(shares(name, signals, **parameters).tolist(), expected, strict=True):
        assert abs(share - chance) < 3 * math.sqrt(chance * (1 - chance) / 4000) + 1e-3


@pytest.mark.parametrize("name", ["power_bald", "softmax_bald", "softrank_bald"])
def test_without_noise_they_take_the_top(name: str) -> None:
    signals = synthetic_signals("single", 30)
    top = make_strategy("bald").select(signals, 8, torch.Generator()).indices.tolist()
    chosen = make_strategy(name, beta=1e9).select(signals, 8, torch.Generator().manual_seed(3)).indices.tolist()
    assert chosen == top
    noisy = [
        make_strategy(name).select(signals, 8, torch.Generator().manual_seed(s)).indices.tolist() for s in range(9)
    ]
    assert len({tuple(one) for one in noisy}) > 1


def test_what_tells_nothing_comes_last_and_in_order() -> None:
    """Equal members at 0, 2 and 3: power sampling draws them only when 1 and 4 are gone. Example 5 has no decisions."""
    passes = torch.cat([ABC[:, 1:2], ABC[:, 2:3], ABC[:, 1:2], ABC[:, 1:2], ABC[:, 0:1]], dim=1)
    signals = Signals(passes=passes, offsets=torch.tensor([0, 1, 2, 3, 4, 5, 5]), askable=torch.ones(6) > 0)
    for seed in range(20):
        chosen = make_strategy("power_bald").select(signals, 6, torch.Generator().manual_seed(seed))
        assert set(chosen.indices[:2].tolist()) == {1, 4}
        assert chosen.indices[2:].tolist() == [0, 2, 3, 5]
        assert chosen.scores[[0, 2, 3, 5]].tolist() == [-math.inf] * 4
    for name in ("softmax_bald", "softrank_bald"):
        chosen = make_strategy(name).select(signals, 6, torch.Generator().manual_seed(0))
        assert chosen.indices[-1] == 5
        assert chosen.scores[:5].isfinite().all()


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("power_bald", {"beta": 0.0}, "beta is 0; it must be more than 0"),
        ("qbc_ve", {"level": "word"}, "level is 'word'; it must be decision or sequence or ranking"),
        ("variation_ratio", {"kind": "votes"}, "kind is 'votes'; it must be vote or soft"),
        ("margin_ensemble", {"of": "max"}, "of is 'max'; it must be mean_probs or mean or min"),
        ("batchbald", {"samples": 0}, "samples is 0; it must be at least 1"),
        ("laplace", {"kind": "mean"}, "kind is 'mean'; it must be mi or variance or probit"),
        ("laplace", {"form": "kron"}, "form is 'kron'; it must be shared or exact"),
        ("laplace", {"prior": 0.0}, "prior is 0; it must be more than 0, or null"),
        ("laplace", {"draws": 1}, "draws is 1; it must be at least 2"),
        ("bald", {"agg": "median"}, "agg is 'median'"),
    ],
)
def test_a_wrong_parameter_is_told(name: str, parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy(name, **parameters)
