"""The strategies behind their common interface, and the harness that all of them pass."""

import math
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from nlp_al import strategies
from nlp_al.decisions import segment_sum
from nlp_al.selection import in_blocks
from nlp_al.selection.topk import top
from nlp_al.signals import OPTIONAL, SignalError, Signals
from nlp_al.strategies import STRATEGIES, Selection, Strategy, make_strategy
from nlp_al.strategies.base import SHAPES
from nlp_al.strategies.uncertainty import Margin
from nlp_al.testing import check_strategy, synthetic_signals

# Three documents, three classes: sure, torn between two, no idea.
P = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.45, 0.05], [0.34, 0.33, 0.33]])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def select(name: str, signals: Signals, size: float, seed: int = 0, **parameters: object) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return make_strategy(name, **parameters).select(signals, size, generator).indices.tolist()


# --- the promises


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_keeps_the_promises(name: str) -> None:
    check_strategy(name)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "strategy",
    [
        *(make_strategy(name, agg=agg) for name in ("margin", "entropy") for agg in ("sum", "max", "topm")),
        make_strategy("coreset", metric="cosine"),
        make_strategy("badge", deterministic=True),
        make_strategy("typiclust", min_cluster_size=1, squared=True, max_clusters=5),
        make_strategy("embedding_kmeans", restarts=1),
        *(make_strategy("cal", neighbours=neighbours) for neighbours in (1, 100)),
        *(make_strategy("coreset", metric=metric, pca=3, start="random") for metric in ("euclidean", "cosine")),
        make_strategy("probcover", delta=0.5, metric="cosine"),
        make_strategy("facility_location", kernel="rbf", include_labelled=False),
        make_strategy("graph_cut", penalty=5.0),
        make_strategy("kdpp", omega=0.0),
        make_strategy("kdpp", metric="cosine", base="margin"),
        make_strategy("kdpp", sample=True, base={"name": "entropy", "agg": "max"}),
        make_strategy("info_density", base="margin", exclude_self=True, beta=2.0),
        make_strategy("density_weighted", base="mnlp", neighbours=3),
        make_strategy("density_weighted", density="gmm", components=3),
        make_strategy("dal", rounds=3, stochastic=True),
    ],
    ids=repr,
)
def test_their_parameters_do_not_break_them(strategy: Strategy, seed: int) -> None:
    check_strategy(strategy, seed=seed)


# --- names and parameters


def test_the_registry_is_a_dict_of_classes_that_tell_what_they_are() -> None:
    for name, chosen in STRATEGIES.items():
        assert type(make_strategy(name)) is chosen
        assert chosen.family
        assert chosen.reference
        assert set(chosen.shapes) <= set(SHAPES)
        for word in ("Use when", "Needs", "Cost", "Reference"):
            assert f"{word}:" in (chosen.__doc__ or ""), (name, word)


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("badg", {}, "no strategy 'badg'; the closest name is 'badge'"),
        ("badge", {"temperature": 1}, "badge has no parameter 'temperature'; its parameters are: deterministic"),
        ("random", {"seed": 1}, "its parameters are: none"),
        ("badge", {"deterministic": "yes"}, "deterministic of strategy badge is 'yes'; it must be true or false"),
        ("typiclust", {"neighbours": True}, "neighbours of strategy typiclust is True; it must be a whole number"),
        ("typiclust", {"neighbours": 0}, "Strategy typiclust: neighbours is 0; it must be at least 1"),
        ("embedding_kmeans", {"restarts": 0}, "restarts is 0; it must be at least 1"),
        ("cal", {"neighbours": 0}, "neighbours is 0; it must be at least 1"),
        ("coreset", {"metric": "l1"}, "Strategy coreset: metric is 'l1'; it must be euclidean or cosine"),
        ("entropy", {"agg": "median"}, "agg is 'median'; it must be one of mean, sum, max, topm"),
    ],
)
def test_a_wrong_name_or_parameter_is_told_with_the_right_ones(name: str, parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy(name, **parameters)


def test_strategies_are_known_and_checked_before_torch_loads() -> None:
    code = (
        "import sys; from nlp_al.strategies import make_strategy; make_strategy('badge'); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_an_installed_package_adds_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "mine"

        def load(self) -> type[Strategy]:
            return Margin

    monkeypatch.setattr(strategies, "entry_points", lambda group: [Point()] if group == "nlp_al.strategies" else [])
    assert isinstance(make_strategy("mine", agg="max"), Margin)
    with pytest.raises(ValueError, match="mine"):
        make_strategy("yours")


# --- what they choose


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("least_confidence", [0.30, 0.50, 0.66]),
        ("margin", [-0.50, -0.05, -0.01]),
        ("entropy", [0.801819, 0.855689, 1.098513]),
    ],
)
def test_the_least_certain_document_is_asked_first(name: str, scores: list[float]) -> None:
    chosen = make_strategy(name).select(Signals(probs=P), 2, torch.Generator())
    assert chosen.indices.tolist() == [2, 1]
    assert chosen.scores is not None
    torch.testing.assert_close(chosen.scores, torch.tensor(scores), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["least_confidence", "margin", "entropy"])
def test_a_context_with_one_candidate_is_asked_when_nothing_else_is_left(name: str) -> None:
    """Its score would be -1 or 0, but that does not matter: it stands behind a context that is all but certain."""
    probs = torch.tensor([[1.0, 0.0], [1.0 - 1e-7, 1e-7], [0.6, 0.4]])
    chosen = make_strategy(name).select(Signals(probs=probs, options=torch.tensor([1, 2, 2])), 3, torch.Generator())
    assert chosen.indices.tolist() == [2, 1, 0]
    assert chosen.scores is not None
    assert chosen.scores[0] == -math.inf


def test_random_takes_every_example_equally_often() -> None:
    """2 of 10, 10,000 times: each is expected 2,000 times."""
    generator = torch.Generator().manual_seed(0)
    strategy, signals = make_strategy("random"), Signals(count=10)
    drawn = torch.cat([strategy.select(signals, 2, generator).indices for _ in range(10_000)])
    counts = torch.bincount(drawn, minlength=10).double()
    # Of 10 cells whose draws exclude each other, (10 - 1) / (10 - 2) of the plain sum is chi-square with 9 degrees.
    assert float(((counts - 2000) ** 2 / 2000).sum()) * 9 / 8 < 27.9  # 0.1%


def test_coreset_goes_where_no_label_is() -> None:
    """Points 0, 1, 2, 8, 9, 20. The labelled set has positions of its own: its row 0 may be the point 20."""
    line = torch.tensor([[0.0], [1.0], [2.0], [8.0], [9.0], [20.0]])
    assert select("coreset", Signals(embeddings=line, labelled=Signals(embeddings=line[:1])), 3) == [5, 4, 2]
    assert select("coreset", Signals(embeddings=line[:5], labelled=Signals(embeddings=line[5:])), 1) == [0]


def test_cosine_coreset_looks_at_directions() -> None:
    points = torch.tensor([[100.0, 0.0], [1.0, 0.1], [0.0, 0.1]])
    known = Signals(embeddings=torch.tensor([[1.0, 0.0]]))
    assert select("coreset", Signals(embeddings=points, labelled=known), 1) == [0]
    assert select("coreset", Signals(embeddings=points, labelled=known), 1, metric="cosine") == [2]
    # Of the lengths of labelled examples as well: (5, 5) is the one direction that no label has.
    known = Signals(embeddings=torch.tensor([[100.0, 0.0], [0.0, 0.01]]))
    points = torch.tensor([[7.0, 0.0], [5.0, 5.0]])
    assert select("coreset", Signals(embeddings=points, labelled=known), 1, metric="cosine") == [1]


def test_badge_starts_with_the_least_certain_of_equal_embeddings() -> None:
    """The residual takes 1 off the arg-max, so p = .97 has the shortest gradient, not the longest."""
    probs = torch.tensor([[0.97, 0.03], [0.6, 0.4], [0.9, 0.1]])
    assert select("badge", Signals(probs=probs, embeddings=torch.ones(3, 4)), 1) == [1]


def test_badge_samples_unless_told_not_to() -> None:
    """Gradients (3, 0), (0, 2), (0, 0): the second pick is (0, 2) in 13 of 22 draws, and always as the farthest one."""
    g = torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    signals = Signals(gradients=(torch.ones(3, 1), g, torch.arange(4)))
    assert {select("badge", signals, 2, seed)[1] for seed in range(20)} == {1, 2}
    assert {select("badge", signals, 2, seed, deterministic=True)[1] for seed in range(20)} == {1}


def test_typiclust_takes_the_typical_member_of_the_unlabelled_cluster() -> None:
    """Blobs of 8 at 0 and of 9 at 100; in the middle of each, position 0 and 8. One label lies in the second."""
    ring = torch.tensor([[x, y] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0) if (x, y) != (1.0, 1.0)])
    ring = torch.cat([ring[4:5], ring[:4], ring[5:]])
    signals = Signals(
        pretrained=torch.cat([ring, ring + 100.0, torch.full((1, 2), 101.0)]),
        labelled=Signals(pretrained=ring[1:2] + 100.0),
    )
    assert select("typiclust", signals, 1, min_cluster_size=1) == [0]
    assert select("typiclust", replace(signals, labelled=None), 2) in ([0, 8], [8, 0])


def test_typiclust_never_takes_an_outlier_while_a_dense_cluster_is_uncovered() -> None:
    blobs = torch.cat([torch.randn(20, 3, generator=torch.Generator().manual_seed(s)) + 50.0 * s for s in range(3)])
    signals = Signals(pretrained=torch.cat([blobs, torch.full((1, 3), 1000.0)]))
    for seed in range(5):
        assert 60 not in select("typiclust", signals, 4, seed)


def blobs_of(sizes: list[int]) -> Tensor:
    """Blobs of different sizes, far apart."""
    at = 100.0 * torch.arange(len(sizes))
    return torch.cat([torch.randn(size, 2, generator=seeded(int(x))) + x for size, x in zip(sizes, at, strict=True)])


def test_embedding_kmeans_takes_the_middle_of_each_blob_the_largest_first() -> None:
    points, blobs = blobs_of([5, 9, 7]), [range(5), range(5, 14), range(14, 21)]
    found = select("embedding_kmeans", Signals(embeddings=points), 3)
    expected = [
        min(blob, key=lambda at, blob=blob: float((points[at] - points[list(blob)].mean(0)).norm()))
        for blob in (blobs[1], blobs[2], blobs[0])
    ]
    assert found == expected
    labelled = Signals(embeddings=points[found])
    assert select("embedding_kmeans", Signals(embeddings=points, labelled=labelled), 3) == found


def test_embedding_kmeans_keeps_the_tightest_clusters_of_its_restarts() -> None:
    points = torch.randn(200, 2, generator=seeded(0))

    def spread(restarts: int) -> float:
        picks = select("embedding_kmeans", Signals(embeddings=points), 20, restarts=restarts)
        return float(torch.cdist(points, points[picks]).amin(1).square().sum())

    assert spread(30) < spread(1)


def test_bert_km_looks_at_directions_from_before_training() -> None:
    """Three directions, the first at lengths that are far apart; fine-tuned embeddings change nothing."""
    turn = torch.tensor([0.0, 2.0, 4.0]).repeat_interleave(6) + 0.05 * torch.randn(18, generator=seeded(0))
    points = torch.stack([turn.cos(), turn.sin()], 1) * torch.tensor([50.0, 100.0] * 3 + [0.1] * 12)[:, None]
    found = select("bert_km", Signals(pretrained=points, embeddings=torch.zeros(18, 3)), 3)
    assert sorted(at // 6 for at in found) == [0, 1, 2]
    assert select("bert_km", Signals(pretrained=points, embeddings=torch.randn(18, 3)), 3) == found
    assert select("bert_km", Signals(embeddings=points), 3) == found  # where nothing was fine-tuned


# --- cal


def cal(signals: Signals, **parameters: object) -> Tensor:
    found = make_strategy("cal", **parameters).select(signals, len(signals), torch.Generator()).scores
    assert found is not None
    return found


NEAR = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


def test_cal_compares_with_the_labelled_neighbours() -> None:
    """KL((.9, .1) ‖ (.5, .5)) and KL((.8, .2) ‖ (.5, .5)) have the mean .280404; the other way round it is .366985."""
    half = torch.tensor([[0.5, 0.5]])
    known = Signals(probs=torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]]), embeddings=NEAR[[0, 0, 1]])
    signals = Signals(probs=half, embeddings=NEAR[:1], labelled=known)
    assert float(cal(signals, neighbours=2)) == pytest.approx(0.280404, abs=1e-6)
    assert float(cal(signals)) == pytest.approx(0.280404 * 2 / 3, abs=1e-6)  # all three there are
    assert float(cal(signals, neighbours=1)) == pytest.approx(0.368064, abs=1e-6)  # the tie goes to the lowest


def test_cal_finds_neighbours_by_direction() -> None:
    """(100, 1) lies beside (1, 0), not beside (60, 60), though that is nearer."""
    known = Signals(probs=torch.tensor([[0.9, 0.1], [0.5, 0.5]]), embeddings=torch.tensor([[1.0, 0.0], [60.0, 60.0]]))
    signals = Signals(probs=torch.tensor([[0.9, 0.1]]), embeddings=torch.tensor([[100.0, 1.0]]), labelled=known)
    assert float(cal(signals, neighbours=1)) == pytest.approx(0.0, abs=1e-6)


def test_cal_equals_a_loop_over_neighbours() -> None:
    signals = synthetic_signals("single", 50, labelled=30)
    here, there = (torch.nn.functional.normalize(s.embeddings, dim=1) for s in (signals, signals.labelled))
    near = torch.cdist(here, there).argsort(1)[:, :10]
    p, q = signals.labelled.probs[near], signals.probs[:, None]
    torch.testing.assert_close(cal(signals), (p * (p / q).log()).sum(2).mean(1), rtol=1e-5, atol=1e-6)


def test_cal_of_equal_predictions_is_zero_and_of_impossible_ones_a_number() -> None:
    same = torch.tensor([[0.2, 0.3, 0.5]])
    known = Signals(probs=same.repeat(4, 1), embeddings=torch.eye(4))
    probs = torch.cat([same, torch.tensor([[0.0, 0.0, 1.0]])])
    zero, large = cal(Signals(probs=probs, embeddings=torch.eye(4)[:2], labelled=known)).tolist()
    assert zero == pytest.approx(0.0, abs=1e-6)
    assert 10 < large < math.inf


def test_cal_compares_labels_one_by_one() -> None:
    """Two labels, yes with .9 and .2 against .5 and .2: KL .368064 and 0; their means have another one."""

    def yes(*values: float) -> Tensor:
        return torch.tensor([[v, 1 - v] for v in values])

    two = torch.tensor([0, 2])
    known = Signals(probs=yes(0.9, 0.2), offsets=two, embeddings=NEAR[:1])
    signals = Signals(probs=yes(0.5, 0.2), offsets=two, embeddings=NEAR[:1], labelled=known)
    assert float(cal(signals)) == pytest.approx(0.368064 / 2, abs=1e-6)


def test_cal_compares_the_mean_of_the_words() -> None:
    """Words (.7, .1, .2) and (.1, .7, .2) have the mean (.4, .4, .2) of a sentence of any other length."""
    known = Signals(
        probs=torch.tensor([[0.4, 0.4, 0.2], [0.0, 0.0, 1.0]]),
        offsets=torch.tensor([0, 1, 1, 2]),  # the second has no words: it is nobody's neighbour
        embeddings=NEAR[[0, 0, 1]],
    )
    words = torch.tensor([[0.7, 0.1, 0.2], [0.1, 0.7, 0.2]])
    signals = Signals(probs=words, offsets=torch.tensor([0, 2]), embeddings=NEAR[:1], labelled=known)
    assert float(cal(signals, neighbours=1)) == pytest.approx(0.0, abs=1e-6)
    assert float(cal(signals, neighbours=2)) == pytest.approx(-math.log(0.2) / 2, abs=1e-5)


def test_cal_compares_candidates_by_rank() -> None:
    """With as many candidates everywhere, in any order and beside any padding: the divergence of sorted ones."""
    three = torch.tensor([3])
    known = Signals(probs=torch.tensor([[0.2, 0.7, 0.1]]), options=three, embeddings=NEAR[:1])
    pool = torch.tensor([[0.3, 0.2, 0.5, 9.0]])
    signals = Signals(probs=pool, options=three, embeddings=NEAR[:1], labelled=known)
    expected = 0.7 * math.log(0.7 / 0.5) + 0.2 * math.log(0.2 / 0.3) + 0.1 * math.log(0.1 / 0.2)
    assert float(cal(signals)) == pytest.approx(expected, abs=1e-6)


def test_cal_compares_the_best_candidate_with_the_rest_where_their_number_varies() -> None:
    """Best against rest are (.9, .1) and (.5, .5), whose mean is (.7, .3): half of each divergence from it."""
    known = Signals(probs=torch.tensor([[0.1, 0.9, 9.0]]), options=torch.tensor([2]), embeddings=NEAR[:1])
    signals = Signals(
        probs=torch.tensor([[0.3, 0.2, 0.5]]), options=torch.tensor([3]), embeddings=NEAR[:1], labelled=known
    )
    sure = 0.9 * math.log(0.9 / 0.7) + 0.1 * math.log(0.1 / 0.3)
    torn = 0.5 * math.log(0.5 / 0.7) + 0.5 * math.log(0.5 / 0.3)
    assert float(cal(signals)) == pytest.approx((sure + torn) / 2, abs=1e-6)


def test_with_nothing_labelled_cal_takes_the_least_certain() -> None:
    signals = Signals(probs=P, embeddings=torch.ones(3, 2))
    assert select("cal", signals, 2) == [2, 1]
    nothing = Signals(probs=P[:0], embeddings=torch.ones(0, 2))
    assert select("cal", replace(signals, labelled=nothing), 2) == [2, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_other_precisions_are_served(name: str, dtype: torch.dtype) -> None:
    made = synthetic_signals("single", 20)
    assert made.probs is not None
    assert made.embeddings is not None
    assert made.targets is not None
    turned = made.embeddings.T.contiguous().T.to(dtype)
    assert not turned.is_contiguous()
    probs = made.probs.to(dtype)
    labelled = made.take(torch.arange(3))
    known = Signals(probs=probs[:3].float(), embeddings=turned[:3].float(), targets=made.targets[:3])
    known = replace(known, passes=labelled.passes, asked=labelled.asked, votes=labelled.votes)
    known = replace(known, out_of_fold=probs[:3])
    passes = made.passes.to(dtype) if made.passes is not None else None
    surprisal = made.surprisal.to(dtype) if made.surprisal is not None else None
    scores = {key: values.to(dtype) for key, values in (made.scores or {}).items()}
    signals = Signals(probs=probs, passes=passes, embeddings=turned, surprisal=surprisal, scores=scores, labelled=known)
    assert len(set(select(name, signals, 7))) == 7


# --- budgets in words


def sentences(lengths: list[int]) -> Signals:
    """One decision each, less and less certain ones first, and what reading them costs."""
    sure = torch.linspace(0.5, 0.9, len(lengths))
    return Signals(probs=torch.stack([sure, 1 - sure], 1), cost=torch.tensor(lengths))


@pytest.mark.parametrize(
    ("budget", "chosen"),
    [(9, [0, 1]), (8, [0]), (5, [0]), (4.9, []), (0, []), (-1, []), (12, [0, 1, 2]), (100, [0, 1, 2])],
)
def test_a_word_budget_stops_at_the_first_overflow(budget: float, chosen: list[int]) -> None:
    """Lengths 5, 4, 3 in this order: 9 words pay for two; 8 for one, though the third would still fit."""
    assert select("margin", sentences([5, 4, 3]), budget) == chosen


def test_a_budget_reaches_as_far_as_cheap_examples_let_it() -> None:
    """The mean costs 34.3, so a first guess of 2 is far too low: 29 of the cheap ones come first."""
    assert select("margin", sentences([1] * 30 + [500, 500]), 29) == list(range(29))
    assert select("margin", sentences([0] * 30 + [500, 500]), 29) == list(range(30))


def test_an_example_with_nothing_to_decide_is_paid_for_last() -> None:
    signals = replace(sentences([5, 4, 3, 2]), askable=torch.tensor([False, True, True, False]))
    assert select("margin", signals, 8) == [1, 2]
    assert select("margin", signals, 12) == [1, 2, 0]
    assert select("margin", signals, 14) == [1, 2, 0, 3]


def test_without_prefixes_the_count_is_corrected_both_ways() -> None:
    """Of typiclust a smaller batch is no head of a larger one, so it asks again until the budget is all but used."""
    points = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    for cost in (torch.full((60,), 3.0), torch.arange(60.0), torch.tensor([1.0] * 50 + [50.0] * 10)):
        signals = Signals(pretrained=points, cost=cost)
        for budget in (40.0, 100.0, 400.0):
            found = select("typiclust", signals, budget)
            assert cost[found].sum() <= budget
            one_more = select("typiclust", replace(signals, cost=None), len(found) + 1)
            assert len(found) == 60 or cost[one_more].sum() > budget


def test_two_dear_examples_do_not_keep_one_from_being_asked() -> None:
    """The first guess is two, for 200 words; half of 100 / 200 of that must not be rounded down to none."""
    signals = Signals(pretrained=torch.tensor([[0.0], [9.0], [5.0]]), cost=torch.tensor([99.0, 99.0, 1.0]))
    assert len(select("typiclust", signals, 99.0)) >= 1


# --- the harness notices what is broken


@dataclass(frozen=True)
class Honest(Strategy):
    """The longest embedding first; each broken strategy below differs from it in one thing."""

    family: ClassVar[str] = "test"
    reference: ClassVar[str] = "none"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})

    def score(self, signals: Signals) -> Tensor:
        assert signals.embeddings is not None
        return signals.embeddings.square().sum(1)

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        scores = self.score(signals)
        return Selection(top(scores, count), scores)


class TheSameAgain(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return Selection(torch.zeros(count, dtype=torch.int64))


class OneTooFew(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return Selection(top(self.score(signals), max(count - 1, 0)))


class Beyond(Honest):
    """Positions behind those of a labelled set, which is another space."""

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        before = len(signals.labelled) if signals.labelled is not None else 0
        return Selection(super().select(signals, size, generator).indices + before)


class Backwards(Honest):
    """Not nested, but says so."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return Selection(top(self.score(signals), count).flip(0))


class Spendthrift(Honest):
    """Goes on past the example that overflows the budget."""

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        chosen = super().select(replace(signals, cost=None), size if signals.cost is None else len(signals), generator)
        if signals.cost is None:
            return chosen
        kept: list[int] = []
        for at in chosen.indices.tolist():
            if float(signals.cost[[*kept, at]].sum()) <= size:
                kept.append(at)
        return Selection(torch.tensor(kept, dtype=torch.int64), chosen.scores)


class AsksTheIdle(Honest):
    """Does not look whether there is anything to decide."""

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        return super().select(replace(signals, askable=None), size, generator)


class NoPrefix(Honest):
    """The budget as a number of examples, or some other share of the pool."""

    nested = False

    def affordable(self, signals: Signals, size: float) -> float:
        return size

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        count = size if signals.cost is None else self.affordable(signals, size)
        return super().select(replace(signals, cost=None), count, generator)


class Hesitant(NoPrefix):
    def affordable(self, signals: Signals, size: float) -> float:
        return len(signals) if size >= signals.cost.sum() else 0


class Stingy(NoPrefix):
    def affordable(self, signals: Signals, size: float) -> float:
        return 1 if size >= signals.cost.max() else 0


class Numbered(Honest):
    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        return Selection(super().select(signals, size, generator).indices.float())


class Moody(Honest):
    """The other way round at every second call."""

    group = "seeded"
    nested = False
    calls: ClassVar[list[int]] = []

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        self.calls.append(count)
        return Selection(top(self.score(signals) * (-1) ** len(self.calls), count))


class Curious(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        getattr(signals, "labels", None)
        return super().choose(signals, count, generator)


class GlobalDraws(Honest):
    group = "seeded"

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return Selection(torch.randperm(len(signals))[:count])


class Reseeds(GlobalDraws):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        torch.manual_seed(0)
        return super().choose(signals, count, generator)


class Scribbles(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        chosen = super().choose(signals, count, generator)
        signals.embeddings.mul_(0.5)
        return chosen


class FirstOfEachBlock(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        firsts = torch.cat([torch.arange(len(part)) for part in in_blocks(self.score(signals))])
        return Selection(torch.argsort(firsts, stable=True)[:count])


class ByPosition(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return Selection(torch.arange(count))


class LastOfEqual(Honest):
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        scores = self.score(signals)
        return Selection(len(scores) - 1 - top(scores.flip(0), count))


class Careless(Honest):
    """Makes do with any number."""

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        if signals.embeddings is not None:
            signals = replace(signals, embeddings=signals.embeddings.nan_to_num())
        return super().select(signals, size, generator)


class Vague(Honest):
    """Says that something is wrong, not what."""

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        try:
            return super().select(signals, size, generator)
        except SignalError as error:
            raise SignalError("something is wrong") from error


class Undeclared(Honest):
    needs = frozenset()


class ReadsPadding(Honest):
    needs = frozenset({"probs"})

    def score(self, signals: Signals) -> Tensor:
        assert signals.probs is not None
        assert signals.offsets is not None
        return segment_sum(signals.probs.nan_to_num().square().sum(1), signals.offsets)


class NoCopies(Honest):
    group = "seeded"

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        if len(signals.embeddings.unique(dim=0)) < len(signals):
            raise ZeroDivisionError("two are equal")
        return super().choose(signals, count, generator)


class WrongSign(Margin):
    """Higher = more certain, and the lowest are taken: what it chooses is right, what it says of it is not."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        chosen = super().choose(signals, count, generator)
        assert chosen.scores is not None
        return Selection(chosen.indices, -chosen.scores)


class ScoresOfSome(Honest):
    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        chosen = super().select(signals, size, generator)
        return Selection(chosen.indices, torch.zeros(3))


class NoNumbers(Honest):
    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        chosen = super().select(signals, size, generator)
        return Selection(chosen.indices, torch.full((len(signals),), math.nan))


class MostCertain(Margin):
    def score(self, signals: Signals) -> Tensor:
        return -super().score(signals)


def test_the_honest_one_passes() -> None:
    check_strategy(Honest)
    check_strategy(Honest())


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (TheSameAgain, "I1 .*holds a position twice"),
        (OneTooFew, "I1 .*asked for 1 of 24, it gave 0"),
        (Beyond, "I2 .*positions outside a pool of 24"),
        (Backwards, "I1 .*is not the head of"),
        (Spendthrift, "I1 .*the ranking up to the first example that overflows it"),
        (AsksTheIdle, "I1 .*nothing to decide comes before others"),
        (NoPrefix, "I1 .*words, with a budget of"),
        (Hesitant, "I1 .*pays for any example, it took none"),
        (Stingy, "I1 .*pays for the whole pool .*left some out"),
        (Numbered, "I1 .*not a list of int64"),
        (Moody, "I3 .*the same seed gave"),
        (Curious, "I2 .*read the labels of the pool"),
        (GlobalDraws, "I[13] "),
        (Reseeds, "I3 .*touched a global generator"),
        (Scribbles, "I3 .*wrote into the signals"),
        (FirstOfEachBlock, "I3 .*blocks of 7 rows gave"),
        (ByPosition, "I4 .*in another order"),
        (LastOfEqual, "I5 .*not the lowest positions"),
        (Careless, "I6 .*embeddings is NaN or infinite; it raised no SignalError"),
        (Vague, "I6 .*the SignalError does not name it: something is wrong"),
        (Undeclared, "I1 .*AssertionError"),
        (ReadsPadding, "I6 on ranking .*no option changed the choice"),
        (NoCopies, "I7 .*raised ZeroDivisionError: two are equal"),
        (WrongSign, "I8 .*the highest scores are those of"),
        (ScoresOfSome, "I8 .*not a float an example"),
        (NoNumbers, "I8 .*some scores are NaN"),
        (MostCertain, "I8 .*certain of before one that it knows nothing of"),
    ],
)
def test_the_harness_names_the_promise_that_is_broken(broken: type[Strategy], says: str) -> None:
    with pytest.raises(AssertionError, match=f"{broken.__name__} breaks {says}"):
        check_strategy(broken)


def test_missing_fields_are_refused_by_select() -> None:
    made = synthetic_signals("single", 3, labelled=0)
    for name, chosen in STRATEGIES.items():
        more = make_strategy(name).needs - chosen.needs  # those of a base, which may be told of first
        for need in chosen.needs - OPTIONAL:
            others = {other: getattr(made, other) for other in chosen.needs - OPTIONAL - {need}}
            with pytest.raises(SignalError, match="|".join({need, *(re.escape(one) for one in more)})):
                select(name, Signals(count=3, **others), 1)


def test_synthetic_signals_know_four_shapes() -> None:
    with pytest.raises(ValueError, match="no shape 'tree'; there are single, multi, sequence, ranking"):
        synthetic_signals("tree")
    ranking = synthetic_signals("ranking", 30, undecided=4)
    assert ranking.options is not None
    assert int((ranking.options == 1).sum()) == 4
    assert (synthetic_signals("sequence", 30, undecided=4).decisions.offsets.diff() == 0).sum() == 4
