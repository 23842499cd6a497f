"""Entities and candidates that a model is unsure of: their kind, their extent, and batches of unlike examples."""

import random
from dataclasses import replace

import pytest
import torch
from helpers import read_lines, some_sentences, tiny_model, values_of
from torch import Tensor

from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.selection.instances import best_overlap, kind_doubt, kinds_of, spread_out, top_mean
from nlp_al.signals import Gradients, Signals
from nlp_al.strategies import make_strategy
from nlp_al.tasks.tags import transitions
from nlp_al.testing import check_strategy, synthetic_signals

TAGS = ["B-X", "I-X", "O"]
TABLE = transitions(TAGS)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def said(tags: str, sure: float = 1.0) -> Tensor:
    """float64[M, 3]: the tag of each word, given as X, x or O, with this probability, and O or B-X with the rest."""
    found = torch.zeros(len(tags), 3, dtype=torch.float64)
    for word, tag in enumerate(tags):
        found[word, "XxO".index(tag)] = 1.0
        if tag != "O":
            found[word, "XxO".index(tag)], found[word, 2] = sure, 1 - sure
    return found


def sentence(probs: Tensor, *members: Tensor, h: Tensor | None = None) -> Signals:
    h = torch.eye(len(probs)) if h is None else h
    offsets = torch.tensor([0, len(probs)])
    return Signals(
        probs=probs,
        passes=torch.stack(members),
        offsets=offsets,
        gradients=Gradients(probs, h, offsets),
        outside=2,
        transitions=TABLE,
    )


def doubts(signals: Signals, **parameters: object) -> list[float]:
    return make_strategy("instance_hybrid", **parameters).instances(signals).doubt.tolist()


def texts(p: list[float], h: Tensor, **more: object) -> Signals:
    """Texts of two classes, with members that agree."""
    probs = torch.tensor([[one, 1 - one] for one in p])
    return Signals(probs=probs, passes=probs[None], embeddings=h, **more)  # type: ignore[arg-type]


def picks(signals: Signals, count: int, **parameters: object) -> list[int]:
    made = make_strategy("instance_hybrid", **parameters)
    return made.select(signals, count, torch.Generator()).indices.tolist()


def test_half_a_span_and_half_a_kind() -> None:
    """[2, 5) and [3, 6) share 2 of 4: extent .5; p = (.5, .5) of two kinds: 1; half of each .75."""
    signals = sentence(said("OOXxxO", 0.5), said("OOOXxx"))
    assert doubts(signals, alpha=0.0) == pytest.approx([0.5])
    assert doubts(signals, alpha=1.0) == pytest.approx([1.0])
    assert doubts(signals) == pytest.approx([0.75])
    assert doubts(sentence(said("OOXxxO"), said("OOXxxO"), said("OOXxxO"))) == pytest.approx([0.0])
    assert doubts(sentence(said("OOXxxO"), said("OOXxxO"), said("OOOOOO")), alpha=0.0) == pytest.approx([0.5])


def test_overlaps_are_those_of_a_loop() -> None:
    draw = random.Random(0)

    def some() -> tuple[Tensor, Tensor]:
        cuts = sorted(draw.sample(range(60), 2 * draw.randint(0, 9)))
        return torch.tensor(cuts[::2], dtype=torch.int64), torch.tensor(cuts[1::2], dtype=torch.int64)

    for _ in range(40):
        mine, theirs = some(), some()
        expected = []
        for low, high in zip(*map(Tensor.tolist, mine), strict=True):
            here = set(range(low, high))
            others = [set(range(a, b)) for a, b in zip(*map(Tensor.tolist, theirs), strict=True)]
            expected.append(max((len(here & other) / len(here | other) for other in others), default=0.0))
        assert best_overlap(*mine, theirs).tolist() == pytest.approx(expected)


def test_tags_of_one_type_are_one_kind_and_words_count_by_their_geometric_mean() -> None:
    assert kinds_of(5, transitions(["O", "B-X", "I-X", "B-Y", "I-Y"])).tolist() == [0, 1, 1, 2, 2]
    assert kinds_of(3).tolist() == [0, 1, 2]
    probs = rows([0.5, 0.3, 0.2], [0.3, 0.1, 0.6])
    span = torch.tensor([0]), torch.tensor([2])
    mean = torch.tensor([(0.8 * 0.4) ** 0.5, (0.2 * 0.6) ** 0.5])
    expected = torch.special.entr(mean / mean.sum()).sum() / torch.tensor(2.0).log()
    assert float(kind_doubt(probs, kinds_of(3, TABLE), *span)) == pytest.approx(float(expected))
    assert float(kind_doubt(probs[:1], kinds_of(3, TABLE), span[0], torch.tensor([1]))) == pytest.approx(0.721928)


def test_without_entities_the_most_doubtful_word_stands_for_one() -> None:
    probs = said("OOO")
    probs[1] = torch.tensor([0.3, 0.1, 0.6])
    nothing, there, elsewhere = said("OOO"), said("OXO"), said("XOO")
    found = make_strategy("instance_hybrid").instances(sentence(probs, nothing))
    assert found.rows is not None
    assert found.rows.tolist() == [1]
    assert doubts(sentence(probs, nothing, there), alpha=0.0) == [0.0]
    assert doubts(sentence(probs, nothing, elsewhere), alpha=0.0) == [0.5]
    # An entity that a member does not find is in doubt.
    assert doubts(sentence(there, nothing), alpha=0.0) == [1.0]


def test_candidates_are_in_doubt_of_being_right_and_of_their_rank() -> None:
    """Of three, ranks 0 1 2 and 1 0 2: variances ¼ ¼ 0 of at most 1; binary entropies over ln 2 of .5, .5 and 0."""
    probs = torch.tensor([[0.5, 0.5, 0.0, 7.0]]).double()
    passes = torch.tensor([[[0.6, 0.3, 0.1, 7.0]], [[0.3, 0.6, 0.1, 0.0]]]).double()
    h = torch.arange(6.0).reshape(3, 2)
    signals = Signals(
        probs=probs, passes=passes, options=torch.tensor([3]), gradients=(h[:, :1], h, torch.tensor([0, 3]))
    )
    assert doubts(signals, alpha=1.0) == pytest.approx([1.0, 1.0, 0.0])
    assert doubts(signals, alpha=0.0) == pytest.approx([0.25, 0.25, 0.0])
    assert doubts(signals) == pytest.approx([0.625, 0.625, 0.0])


def test_other_decisions_are_in_doubt_where_members_decide_otherwise() -> None:
    passes = torch.tensor([[[0.9, 0.1]], [[0.4, 0.6]], [[0.3, 0.7]], [[0.8, 0.2]]])
    signals = Signals(probs=torch.tensor([[0.5, 0.5]]), passes=passes, embeddings=torch.ones(1, 2))
    assert doubts(signals, alpha=0.0) == [0.5]
    assert doubts(signals) == pytest.approx([0.75])


def test_the_least_sure_instances_count() -> None:
    values, offsets = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.2]).double(), torch.tensor([0, 4, 4, 5])
    assert top_mean(values, offsets, 3).tolist() == pytest.approx([0.7, 0.0, 0.2])
    assert top_mean(values, offsets, 1).tolist() == pytest.approx([0.9, 0.0, 0.2])
    assert top_mean(values, offsets, 99).tolist() == pytest.approx([0.55, 0.0, 0.2])


def test_an_example_lies_where_its_doubtful_instances_do() -> None:
    """Two entities, one certain and one at odds: the words of the second count."""
    h = torch.arange(8.0).reshape(4, 2)
    signals = sentence(said("XOXx"), said("XOXO"), said("XOXO"), h=h)
    pool = Signals(
        probs=torch.cat([said("XOXx"), said("XO")]),
        passes=torch.cat([signals.passes, said("XO")[None].expand(2, 2, 3)], 1),  # type: ignore[list-item]
        offsets=torch.tensor([0, 4, 6]),
        gradients=Gradients(
            torch.zeros(6, 1), torch.cat([h, torch.tensor([[5.0, 6.0], [0, 0]])]), torch.tensor([0, 4, 6])
        ),
        outside=2,
        transitions=TABLE,
    )
    from nlp_al.strategies.instances import _points

    found = make_strategy("instance_hybrid").instances(pool)
    torch.testing.assert_close(_points(pool, found), torch.tensor([[5.0, 6.0], [5.0, 6.0]]))


def test_without_unlikeness_the_highest_doubt_is_asked() -> None:
    h = torch.ones(4, 2)
    assert picks(texts([0.9, 0.5, 0.7, 0.6], h), 3, gamma=0.0) == [1, 3, 2]


def test_a_copy_is_not_asked_while_anything_else_is_in_doubt() -> None:
    h = torch.tensor([[1.0, 0.2], [1.0, 0.2], [0.9, -0.3], [-1.0, 0.0]])
    assert picks(texts([0.5, 0.5, 0.99, 0.9], h), 4) == [0, 3, 2, 1]
    assert picks(texts([0.5, 0.5, 0.99, 1.0], h), 4) == [0, 2, 1, 3]
    # An opposite one is no more unlike than one at a right angle.
    assert picks(texts([0.5, 0.9, 0.901], torch.tensor([[1.0, 0], [0, 1], [-1, 0]])), 2) == [0, 1]


def test_greedy_is_greedy() -> None:
    generator = torch.Generator().manual_seed(0)
    worth = torch.rand(40, generator=generator).double()
    points, recent = (torch.randn(n, 3, generator=generator).double() for n in (40, 4))
    unit = torch.nn.functional.normalize(torch.cat([points, recent]), dim=1)
    chosen: list[int] = []
    for _ in range(10):
        near = (unit[:40] @ unit[[*chosen, *range(40, 44)]].T).amax(1).clamp(min=0)
        value = worth * (1 - near) ** 2
        value[chosen] = -1
        chosen.append(int(value.argmax()))
    assert spread_out(worth, points, recent, 10, 2.0).tolist() == chosen


def test_the_batch_before_counts_and_no_other() -> None:
    h = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    pool = texts([0.5, 0.6], h)
    known = texts([0.5, 0.5], h)
    assert picks(pool, 1) == [0]
    assert picks(replace(pool, labelled=replace(known, asked=torch.tensor([2, 1]))), 1) == [1]
    assert picks(replace(pool, labelled=replace(known, asked=torch.tensor([1, 2]))), 1) == [0]
    initial = replace(known, asked=torch.tensor([0, 0])).take(torch.tensor([0]))
    assert picks(replace(pool, labelled=initial), 1) == [0]


@pytest.mark.parametrize("parameters", [{"alpha": 0.1}, {"gamma": 0.0, "alpha": 1.0}, {"gamma": 3.0, "top": 1}])
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("instance_hybrid", **parameters), seed=1)


def test_scores_differ_from_those_of_its_parts() -> None:
    signals = synthetic_signals("sequence", 40)
    order = picks(signals, 10)
    for name, parameters in (("entropy", {}), ("bald", {})):
        other = make_strategy(name, **parameters).select(signals, 10, torch.Generator()).indices.tolist()
        assert other != order


def test_a_run_asks_by_its_entities(tmp_path) -> None:
    values = values_of(tmp_path, tiny_model(tmp_path / "weights"), some_sentences(40), test=0)
    values |= {"task": "token-classification", "strategy": "instance_hybrid", "run_dir": str(tmp_path / "run")}
    values |= {"training": {"mode": "frozen"}, "loop": {"initial": 10, "batch": 4, "rounds": 2}}
    values["dataset"] = {k: v for k, v in values["dataset"].items() if k != "columns"}
    ActiveLearner(read_config(values, tmp_path)).run()
    asked = read_lines(tmp_path / "run" / "queries.jsonl")
    assert [line["strategy"] for line in asked] == ["initial"] * 10 + ["instance_hybrid"] * 8
    assert len({line["id"] for line in asked}) == 18
