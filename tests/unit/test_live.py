"""Models that are asked with gradients: the same answers as without, and which token is a word of what."""

import pytest
import torch
from live_models import CASES, case, lively_model

from nlp_al.pool import Example
from nlp_al.signals import Signals
from nlp_al.signals.collector import SCORED, collect
from nlp_al.signals.live import Reading
from nlp_al.tasks import make_task


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lively_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", CASES)
def test_it_says_what_the_model_says_and_what_the_book_says(folder, name):
    made = case(folder, name)
    live = made.scorer.live()
    items, _ = live.prepare(made.pool)
    plain = collect(made.scorer, made.pool, {"probs"}, seeded()).decisions
    with live.differentiating():
        found = Reading(live, items).decisions()
        assert found.probs.requires_grad is False  # nothing was moved, and no weight asked for
    torch.testing.assert_close(found.masked, plain.masked, rtol=1e-4, atol=1e-5)
    for at, example in enumerate(made.pool):
        own = found.masked[found.offsets[at] : found.offsets[at + 1]]
        logits = made.logits(example)
        torch.testing.assert_close(own[:, : logits.shape[1]], logits.softmax(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["full text", "full words", "full pairs", "frozen apart"])
def test_which_tokens_are_words_and_which_are_the_same_word(folder, name):
    made = case(folder, name)
    items, _ = made.scorer.live().prepare(made.pool)
    for item, example in zip(items, made.pool, strict=True):
        words = made.words(example)
        known: dict[str, int] = {}
        for piece, own, real in zip(item.pieces, words, made.real(example), strict=True):
            assert piece["real"] == real[:, 0].long().tolist()
            assert piece["word"] == [known.setdefault(word, len(known) + 1) if word else 0 for word in own]
        assert item.words == len(known) > 0
        assert all(any(piece["real"]) for piece in item.pieces)


def test_a_word_is_the_same_wherever_it_stands_and_an_unknown_one_is_a_word(folder):
    live = case(folder, "full text").scorer.live()
    (item,), _ = live.prepare([Example("a", "goals of bank goal goals zebra bank, zebra", 1)])
    (piece,) = item.pieces
    assert piece["word"] == [0, 1, 1, 2, 3, 4, 1, 1, 5, 3, 5, 5, 0]  # the comma is unknown as well
    assert item.words == 5


def test_a_word_that_several_windows_read_is_one_word(folder):
    """Windows of 4 tokens that share 3: the gradient of a word is the sum over all of them."""
    made = case(folder, "full words")
    short = make_task("token-classification", {"max_length": 6, "stride": 3})
    made.scorer.task = short.with_labels(["O", "B-X", "I-X"])
    live, words = made.scorer.live(), "the bank market stock price bank loan tax soup the bread"
    pool = [Example(f"s{at}", words.split()[at:], 1) for at in range(6)]
    items, _ = live.prepare(pool)
    assert [item.words for item in items] == [len(set(example.inputs)) for example in pool]
    with live.differentiating():
        reading = Reading(live, items[:1])
        moved = reading.unmoved().requires_grad_()
        sure = reading.decisions(moved).probs.amax(1)
        (slope,) = torch.autograd.grad(-sure.log().mean(), moved)
    assert max(int((reading.word == word).sum()) for word in range(1, items[0].words + 1)) > 4
    lengths = [float(slope[reading.word == word].sum(0).norm()) for word in range(1, items[0].words + 1)]
    key = 'egl_word {"options": 1}'
    found = collect(made.scorer, pool, {f"scores.{key}"}, seeded()).scores[key]
    assert float(found[0]) == pytest.approx(float(sure.detach().mean()) * max(lengths), rel=1e-3)


def test_runs_have_as_many_pieces_as_a_batch_and_no_example_is_cut(folder):
    made = case(folder, "full pairs", batch_size=5)
    live = made.scorer.live()
    items, batches = live.prepare(made.pool)
    assert sorted(at for batch in batches for at in batch) == list(range(len(items)))
    counts, seen = [len(item.pieces) for item in items], []
    for places, reading in live.readings(items):
        own = counts[places]
        assert reading.pieces.diff().tolist() == own
        assert sum(own) <= 5 or len(own) == 1
        seen += list(range(len(items)))[places]
    assert seen == list(range(len(items)))
    (part,) = [Reading(live, items).only(torch.tensor([3, 1]))]
    assert [example.id for example in part.examples] == [items[3].example.id, items[1].example.id]
    assert part.pieces.diff().tolist() == [counts[3], counts[1]]


def test_weights_ask_for_gradients_as_before(folder):
    live = case(folder, "frozen text").scorer.live()
    before = {name: weight.requires_grad for name, weight in live.weights.items()}
    assert "head.weight" in before
    with live.differentiating(["head.weight"]):
        assert [name for name, weight in live.weights.items() if weight.requires_grad] == ["head.weight"]
    assert {name: weight.requires_grad for name, weight in live.weights.items()} == before


@pytest.mark.parametrize("score", sorted(SCORED))
@pytest.mark.parametrize("name", CASES)
def test_neither_the_batch_nor_the_order_of_the_pool_changes_a_score(folder, name, score):
    need = f'scores.{score} {{"steps": 4}}' if score.startswith("adv") else f"scores.{score}"
    made = case(folder, name)
    pool = made.pool[:5]
    key = need.removeprefix("scores.")
    whole = collect(made.scorer, pool, {need, "probs"}, seeded())
    assert whole.probs is not None
    order = [3, 0, 4, 1, 2]
    other = case(folder, name, batch_size=2)
    shuffled = collect(other.scorer, [pool[at] for at in order], {need}, seeded())
    torch.testing.assert_close(shuffled.scores[key], whole.scores[key][order], rtol=1e-3, atol=1e-5)
    assert not bool(whole.scores[key].isnan().any())
    assert len(whole.scores[key].unique()) > 1


def test_scores_travel_with_the_examples() -> None:
    from nlp_al.signals.merging import merge, ordered

    one = Signals(scores={"a": torch.tensor([1.0, 2.0])}, count=2)
    both = merge([one, Signals(scores={"b": torch.tensor([3.0, 4.0])})])
    assert {name: values.tolist() for name, values in both.scores.items()} == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert both.take(torch.tensor([1])).scores["b"].tolist() == [4.0]
    put = ordered([([2, 0], both), ([1], both.take(torch.tensor([0])))])
    assert put.scores["a"].tolist() == [2.0, 1.0, 1.0]
