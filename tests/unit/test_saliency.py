"""How much each word matters to what a model says: the closed form, what autograd and differences say, real words."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from live_models import CASES, Case, case, linear, lively_model
from torch import Tensor

from nlp_al.pool import Example
from nlp_al.scores import WORDS, explain
from nlp_al.signals.live import Item, Live
from nlp_al.signals.saliency import saliency
from nlp_al.tasks import make_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lively_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


def of_linear(live: Live, items: list[Item]) -> list[list[float]]:
    return [
        [found.get(f"w{at}", 0.0) for at in range(len(item.spots))]
        for found, item in zip(saliency(live, items), items, strict=True)
    ]


TEXTS = [[[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], [[-1.0, -1.0]], [[0.0, 0.0], [-4.0, 2.0]]]


@pytest.mark.parametrize("several", [False, True])
def test_the_closed_form_of_a_linear_model(several: bool) -> None:
    """|w ⊙ e| (1 − p) / m, summed over dimensions; p is that of the predicted class, be it yes or no."""
    w = torch.tensor([0.7, -0.4])
    live, items = linear(w[None] if several else torch.stack([w, torch.zeros(2)]), TEXTS, several=several)
    signs = set()
    for text, found in zip(TEXTS, of_linear(live, items), strict=True):
        e = torch.tensor(text)
        logit = float(w @ e.mean(0))
        signs.add(logit > 0)
        sure = max(torch.tensor(logit).sigmoid().item(), torch.tensor(-logit).sigmoid().item())
        assert found == pytest.approx([float((w * own).abs().sum()) * (1 - sure) / len(text) for own in e], rel=1e-5)
    assert signs == {True, False}


def test_of_several_classes_the_predicted_one_is_meant() -> None:
    """∂ log p(ŷ) / ∂x = W(ŷ) − Σ p W."""
    weight = torch.tensor([[0.7, -0.4], [0.1, 0.9], [-1.0, 0.2]])
    live, items = linear(weight, TEXTS)
    for text, found in zip(TEXTS, of_linear(live, items), strict=True):
        e = torch.tensor(text)
        p = (weight @ e.mean(0)).softmax(0)
        slope = (weight[p.argmax()] - p @ weight) / len(text)
        assert found == pytest.approx((slope * e).abs().sum(1).tolist(), rel=1e-4)


def by_the_book(made: Case, example: Example, loss: Tensor, moved: Sequence[Tensor]) -> dict[str, float]:
    """Token by token and piece by piece; of a dialogue the same token of the context in all pieces is one."""
    model, _, _ = made.parts()
    slopes = torch.autograd.grad(loss, moved)
    total: dict[tuple[int, str], Tensor] = {}
    for piece, own, slope in zip(made.pieces(example), made.words(example), slopes, strict=True):
        table = model.get_input_embeddings()(piece["input_ids"][0]).detach()
        for place, word in enumerate(own):
            if word:  # nothing is cut here, so that the context has the same places in all pieces
                total[place, word] = total.get((place, word), torch.zeros(32)) + slope[place] * table[place]
    found: dict[str, float] = {}
    for (_, word), values in total.items():
        found[word] = found.get(word, 0.0) + float(values.abs().sum())
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_task_in_every_mode_has_what_autograd_gives(folder: str, name: str) -> None:
    """Each example by itself; all decisions count, by the log-probability of what is predicted."""
    made = case(folder, name, batch_size=5)
    live = made.scorer.live()
    items, _ = live.prepare(made.pool)
    for example, found in zip(made.pool, saliency(live, items), strict=True):
        moved = [torch.zeros(piece["input_ids"].shape[1], 32, requires_grad=True) for piece in made.pieces(example)]
        sure = made.logits(example, moved).log_softmax(1).amax(1).sum()
        wanted = by_the_book(made, example, sure, moved)
        assert dict(found) == pytest.approx(wanted, rel=5e-3, abs=1e-5)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_it_is_what_differences_say(folder: str) -> None:
    """Of a text with a word in two places, one of two tokens, in float64."""
    made = case(folder, "full text")
    example = made.pool[1]
    live = made.scorer.live()
    found = saliency(live, live.prepare([example])[0])[0]
    model, _, _ = made.parts()
    model.double()
    (piece,), (words,) = made.pieces(example), made.words(example)
    table = model.get_input_embeddings()(piece["input_ids"][0]).detach()

    def sure(added: Tensor) -> float:
        with torch.no_grad():
            return float(made.logits(example, [added]).log_softmax(1).amax())

    wanted: dict[str, float] = {}
    for place, word in enumerate(words):
        for at in range(32 * bool(word)):
            step = torch.zeros(len(words), 32, dtype=torch.float64)
            step[place, at] = 1e-5
            slope = (sure(step) - sure(-step)) / 2e-5
            wanted[word] = wanted.get(word, 0.0) + abs(slope * float(table[place, at]))
    assert words.count("goals") > 2
    assert dict(found) == pytest.approx(wanted, rel=5e-3)


def test_windows_that_share_words_add_their_gradients(folder: str) -> None:
    made = case(folder, "full words")
    short = make_task("token-classification", {"max_length": 6, "stride": 3}).with_labels(["O", "B-X", "I-X"])
    made.scorer.task = short
    live = made.scorer.live()
    words = ["the", "bank", "market", "stock", "price", "goals", "loan", "tax", "soup"]
    items, _ = live.prepare([Example("s", words, 1)])
    assert len(items[0].pieces) > 2
    assert len(items[0].spots) == len(words) + 1  # goals has two tokens
    found = saliency(live, items)[0]
    model, _, _ = made.parts()
    slopes: dict[int, Tensor] = {}
    rows = []
    for piece in items[0].pieces:
        ids = torch.tensor([piece["input_ids"]])
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        rows.append((piece, embedded, model(inputs_embeds=embedded).logits[0][torch.tensor(piece["first"]).bool()]))
    sure = torch.cat([logits for _, _, logits in rows]).log_softmax(1).amax(1)
    assert len(sure) == len(words)
    for (piece, embedded, _), slope in zip(
        rows, torch.autograd.grad(sure.sum(), [embedded for _, embedded, _ in rows]), strict=True
    ):
        for place, spot in enumerate(piece["spot"]):
            if spot:
                slopes[spot] = slopes.get(spot, torch.zeros(32)) + (slope * embedded.detach())[0, place]
    wanted = dict.fromkeys(words, 0.0)
    for spot, values in slopes.items():
        wanted[words[items[0].spots[spot - 1][1]]] += float(values.abs().sum())
    assert dict(found) == pytest.approx(wanted, rel=1e-3)


def test_words_are_told_as_they_are_written(folder: str) -> None:
    """The tokenizer knows small letters alone, and neither the name nor the sign; they stay apart."""
    live = case(folder, "full text").scorer.live()
    texts = ["The GOALS of Zebra & the goals", "Bänk!"]
    found = explain(case(folder, "full text").scorer, [Example(f"e{at}", text, 1) for at, text in enumerate(texts)], 9)
    assert [set(words) for words in found] == [{"The", "GOALS", "of", "Zebra", "&", "the", "goals"}, {"Bänk", "!"}]
    items, _ = live.prepare([Example("p", texts, 1)])  # of a pair both texts
    assert {text for text, *_ in items[0].spots} == {1, 2}


def test_tokens_of_one_character_are_told_once(tmp_path: Path) -> None:
    """A tokenizer of bytes makes several of an emoji, all of which begin and end with it."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.pre_tokenizers import ByteLevel

    letters = {letter: at + 1 for at, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE({"<pad>": 0, **letters}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    task = make_task("text-classification", {}).with_labels(["a", "b"])
    live = Live(torch.nn.Linear(1, 1), fast, task, lambda *_: None)
    items, _ = live.prepare([Example("e", "so 😀 it", 1)])
    assert len(items[0].spots) == len("so 😀 it".encode())
    assert "".join(written for *_, written in items[0].spots) == "so 😀 it"


def test_the_most_salient_words_are_kept(folder: str) -> None:
    made = case(folder, "frozen text")
    live = made.scorer.live()
    for whole, some in zip(saliency(live, live.prepare(made.pool)[0]), explain(made.scorer, made.pool), strict=True):
        assert list(some) == list(whole)[: len(some)]
        assert len(some) == min(WORDS, len(whole))
    assert json.dumps(explain(made.scorer, made.pool))
