"""Heads at several depths of a model, and what is asked where they differ."""

from dataclasses import replace

import pytest
import torch
from helpers import read_lines, some_rows, tiny_model, values_of
from live_models import CASES, Case, case, lively_model
from torch import Tensor

from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.samplers import Fitted, make_sampler
from nlp_al.samplers.layers import LayerCommittee
from nlp_al.signals import Signals
from nlp_al.signals.collector import collect_members
from nlp_al.strategies import make_strategy
from nlp_al.tasks import Rows
from nlp_al.testing import check_strategy, synthetic_signals

THREE = torch.tensor([[[0.9, 0.1]], [[0.5, 0.5]], [[0.3, 0.7]]]).double()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return lively_model(tmp_path_factory.mktemp("model"))


def labels_of(made: Case) -> list:
    """Labels of the right form that differ from each other."""
    if made.kind in ("pairs", "apart"):
        return [at % len(example.inputs["candidates"]) for at, example in enumerate(made.pool)]
    if made.kind == "words":
        return [["B-X" if at % 2 else "O" for at, _ in enumerate(example.inputs)] for example in made.pool]
    names = ["abc"[at % 3] for at, _ in enumerate(made.pool)]
    return names if made.kind == "text" else [[name] for name in names]


def passes_of(made: Case, count: int = 0) -> Signals:
    labelled = list(zip(made.pool, labels_of(made), strict=True))
    about = Fitted(made.scorer, labelled, seed=lambda _: 0, another=lambda _: made.scorer, snapshots=lambda: iter(()))
    committees = make_sampler("layers", {"passes": count}).committees(about)
    found = collect_members(made.scorer, committees, made.pool, {"passes"}, torch.Generator())
    assert found is not None
    return found


def by_hand(made: Case, depth: int) -> Signals:
    """A head on one layer; each piece read by itself, so that nothing is padded."""
    model, tokenizer, task = made.parts()
    hidden, counts, contexts = [], [], []
    for example in made.pool:
        rows = []
        for piece in made.pieces(example):
            state = model(**piece, output_hidden_states=True).hidden_states[depth][0]
            rows.append(made._row(state, example, tokenizer, frozen=True))
        if made.kind == "apart":
            contexts.append(rows.pop(0)[None])
            rows = [row[None] for row in rows]
        hidden += rows
        counts.append(sum(len(row) for row in rows))
    context = torch.cat(contexts).detach() if contexts else None
    rows = Rows(torch.cat(hidden).detach(), None, torch.tensor([0, *counts]).cumsum(0), context)
    head = task.fit_head(rows, labels_of(made))
    decisions = task.decisions(task.score_rows(rows, head))
    return Signals(probs=decisions.probs, offsets=decisions.offsets, options=decisions.options)


@pytest.mark.parametrize("name", CASES)
def test_each_member_is_a_head_on_one_layer(name: str, folder: str) -> None:
    made = case(folder, name, batch_size=3)
    found = passes_of(made)
    assert found.passes is not None
    assert len(found.passes) == 2
    for member, depth in zip(found.members(), (1, 2), strict=True):
        want = by_hand(made, depth)
        torch.testing.assert_close(member.masked, want.decisions.masked, rtol=3e-3, atol=3e-4)
        assert member.offsets.tolist() == want.decisions.offsets.tolist()
    assert float((found.passes[0] - found.passes[1]).abs().max()) > 0.01


def test_as_many_layers_as_are_asked_for_and_no_more_than_there_are(folder: str) -> None:
    made = case(folder, "full text")
    two, three, many = (passes_of(made, count).passes for count in (2, 3, 9))
    assert two is not None
    assert three is not None
    assert many is not None
    assert torch.equal(three[1:], two)  # the word embeddings come before the first layer
    assert torch.equal(many, three)
    with pytest.raises(UserError, match="passes is 1; it must be at least 2"):
        make_sampler("layers", {"passes": 1})


def test_of_twelve_layers_the_last_four_are_read(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = case(folder, "full text")
    model, _, _ = made.parts()
    usual = model.forward

    def deep(**batch: Tensor):
        out = usual(**batch)
        if "hidden_states" in out:
            out["hidden_states"] = tuple(out.hidden_states[0] + at for at in range(13))
        return out

    monkeypatch.setattr(model, "forward", deep)
    committee = LayerCommittee(made.scorer, list(zip(made.pool, labels_of(made), strict=True)), 0)
    items, _ = committee.prepare(made.pool)
    first, *_, last = [rows.hidden for rows in committee._depths(items)]
    assert len(committee._heads) == 4
    torch.testing.assert_close(last - first, torch.full_like(first, 3.0))


@pytest.mark.parametrize(("kind", "expected"), [("margin", 0.6), ("js", 0.1412)])
def test_three_layers(kind: str, expected: float) -> None:
    """(.9, .1), (.5, .5), (.3, .7): .6 apart, divergence .141200; layers that say the same are not apart at all."""
    passes = torch.cat([THREE, THREE[:1].expand(3, 1, 2)], 1)
    strategy = make_strategy("layer_qbc", kind=kind, explore=0.0)
    scores = strategy.select(Signals(passes=passes), 2, torch.Generator()).scores
    assert scores is not None
    assert scores.tolist() == pytest.approx([expected, 0.0], abs=1e-6)


def test_words_count_by_their_mean_and_what_is_no_option_not_at_all() -> None:
    passes = torch.cat([THREE, THREE[:1].expand(3, 1, 2)], 1)
    sentence = Signals(passes=passes, offsets=torch.tensor([0, 2]))
    strategy = make_strategy("layer_qbc", explore=0.0)
    scores = strategy.select(sentence, 1, torch.Generator()).scores
    assert scores is not None
    assert scores.tolist() == pytest.approx([0.3])
    wide = torch.cat([passes, torch.tensor([-5.0, 0.0, 5.0]).double().reshape(3, 1, 1).expand(3, 2, 1)], 2)
    scores = strategy.select(Signals(passes=wide, options=torch.tensor([2, 2])), 1, torch.Generator()).scores
    assert scores is not None
    assert scores.tolist() == pytest.approx([0.6, 0.0])


def drawn(n: int) -> Signals:
    return Signals(passes=torch.rand(3, n, 2, generator=torch.Generator().manual_seed(0)), round=1)


def test_all_at_random_is_uniform() -> None:
    """χ² over 12 examples, 2,000 draws of 3: 99.9% of uniform ones are below 31.26."""
    strategy, signals = make_strategy("layer_qbc", explore=1.0), drawn(12)
    counts = torch.zeros(12)
    for seed in range(2000):
        picks = strategy.select(signals, 3, torch.Generator().manual_seed(seed)).indices
        assert len(picks.unique()) == 3
        counts[picks] += 1
    # Picks of a draw are distinct, so that counts vary less than independent ones: by (12 - 3) / (12 - 1).
    assert float(((counts - 500).square() / 500).sum()) / (9 / 11) < 31.26


def test_nothing_at_random_is_the_top_whatever_the_seed() -> None:
    strategy, signals = make_strategy("layer_qbc", explore=0.0), drawn(30)
    assert strategy.group == "deterministic"
    first = strategy.select(signals, 5, torch.Generator().manual_seed(0))
    assert first.indices.tolist() == strategy.select(signals, 5, torch.Generator().manual_seed(7)).indices.tolist()
    assert first.scores is not None
    assert first.indices.tolist() == first.scores.argsort(descending=True)[:5].tolist()


def test_places_at_random_are_fewer_each_round() -> None:
    """Of 20 among 2,000, .3, .21 and .00847 at random in rounds 1, 2 and 11, and next to none of these in the top."""
    signals = drawn(2000)
    top = set(make_strategy("layer_qbc", explore=0.0).select(signals, 20, torch.Generator()).indices.tolist())
    for round_, share in ((1, 0.3), (2, 0.21), (11, 0.3 * 0.7**10)):
        outside = 0
        for seed in range(100):
            asked = replace(signals, round=round_)
            picks = make_strategy("layer_qbc").select(asked, 20, torch.Generator().manual_seed(seed)).indices
            assert len(picks.unique()) == 20
            outside += len(set(picks.tolist()) - top)
        assert outside / 2000 == pytest.approx(share, abs=4 * (share / 2000) ** 0.5)


@pytest.mark.parametrize("parameters", [{"explore": 0.0}, {"explore": 1.0, "kind": "js"}, {"agg": "topm"}])
def test_its_parameters_do_not_break_it(parameters: dict) -> None:
    check_strategy(make_strategy("layer_qbc", **parameters), seed=1)


def test_which_round_it_is_stays_with_what_is_left() -> None:
    assert replace(synthetic_signals("single"), round=4).take(torch.tensor([3, 1])).round == 4


# --- in runs


def values(tmp_path, **more):
    model = tiny_model(tmp_path / "weights")
    made = values_of(tmp_path, model, some_rows(60), test=0)
    return {**made, **more, "run_dir": str(tmp_path / "run")}


@pytest.mark.parametrize("strategy", ["layer_qbc", {"name": "seals", "k": 5, "base": "layer_qbc"}])
def test_a_strategy_brings_its_sampler(strategy, tmp_path) -> None:
    made = values(tmp_path, strategy=strategy)
    assert read_config(made, tmp_path).sampler.name == "layers"
    assert read_config({**made, "sampler": {"passes": 2}}, tmp_path).sampler.name == "layers"
    assert read_config({**made, "strategy": "bald"}, tmp_path).sampler.name != "layers"
    with pytest.raises(
        UserError, match=r"sampler is 'heads', but strategy (layer_qbc|seals) is about the members of 'l"
    ):
        read_config({**made, "sampler": "heads"}, tmp_path)


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_a_run_asks_by_its_layers(mode: str, tmp_path) -> None:
    training = {"mode": mode, **({} if mode == "frozen" else {"num_train_epochs": 1, "use_cpu": True})}
    loop = {"initial": 12, "batch": 5, "rounds": 2}
    config = read_config(values(tmp_path, strategy="layer_qbc", training=training, loop=loop), tmp_path)
    ActiveLearner(config).run()
    asked = read_lines(tmp_path / "run" / "queries.jsonl")
    assert [line["strategy"] for line in asked] == ["initial"] * 12 + ["layer_qbc"] * 10
    assert len({line["id"] for line in asked}) == 22
