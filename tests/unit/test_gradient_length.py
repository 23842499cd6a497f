"""Expected lengths of gradients by words and by all weights: by hand, by autograd one by one, by differences."""

import json
import math

import pytest
import torch
from live_models import CASES, Case, case, linear, lively_model
from torch import Tensor

from nlp_al.errors import UserError
from nlp_al.signals.collector import collect
from nlp_al.signals.gradient_length import egl, egl_word
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lively_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))


# --- words


def test_the_gradient_for_a_word_is_its_share_of_the_text() -> None:
    """Logits W · mean(x): ∂ℓ/∂w = (count / m) · Wᵀ (p − e_c); with W = I that is (count / m) · Σ_c p_c ‖p − e_c‖."""
    a, b = [1.0, 0.0], [0.0, 1.0]
    live, items = linear(torch.eye(2), [[a, b], [a, b, a], [a, a, b, a]], same=True)
    for score, (count, total), mean in zip(
        egl_word(live, items).tolist(),
        ((1, 2), (2, 3), (3, 4)),
        ((0.5, 0.5), (2 / 3, 1 / 3), (0.75, 0.25)),
        strict=True,
    ):
        p = torch.tensor(mean).softmax(0)
        length = sum(p[c] * (p - torch.eye(2)[c]).norm() for c in (0, 1))
        assert score == pytest.approx(count / total * float(length), rel=1e-5)


def test_a_word_that_comes_twice_scores_double() -> None:
    """Four tokens of the same mean; in the second text two of them are one word."""
    weight, a, b = torch.tensor([[1.0, 2.0], [0.5, -1.0], [0.3, 0.3]]), [1.0, 0.0], [0.0, 1.0]
    once, items = linear(weight, [[a, a, b, b]])
    twice, others = linear(weight, [[a, a, b, b]], same=True)
    assert float(egl_word(twice, others)[0]) == pytest.approx(2 * float(egl_word(once, items)[0]), rel=1e-5)


def test_of_many_options_the_most_probable_ones_count() -> None:
    x = [[[2.0, 0.5]]]
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.3, 0.3]])
    p = (weight @ torch.tensor(x[0][0])).softmax(0)
    terms = sorted(((float(p[c]), float((weight.T @ (p - torch.eye(4)[c])).norm())) for c in range(4)), reverse=True)
    live, items = linear(weight, x)
    for options in (1, 2, 3, 4, 9):
        wanted = sum(sure * length for sure, length in terms[:options])
        assert egl_word(live, items, options=options).tolist() == pytest.approx([wanted], rel=1e-5)
    assert egl_word(live, items).tolist() == egl_word(live, items, options=3).tolist()


def test_labels_that_are_yes_or_no_add_up_the_least_sure_ones_first() -> None:
    """2 p (1 − p) ‖∂z‖ each."""
    weight = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    live, items = linear(weight, [[[0.4, -0.1]]], several=True)
    p = (weight @ torch.tensor([0.4, -0.1])).sigmoid()
    terms = sorted(zip((p - 0.5).abs().tolist(), (2 * p * (1 - p) * weight.norm(dim=1)).tolist(), strict=True))
    for options in (1, 2, 3):
        wanted = sum(term for _, term in terms[:options])
        assert egl_word(live, items, options=options).tolist() == pytest.approx([wanted], rel=1e-5)


def labels_of(made: Case, logits: Tensor, options: int = 3) -> list[tuple[Tensor, Tensor]]:
    """(p, loss) of the labels that are looked at, of one example."""
    logs = logits.log_softmax(1)
    if made.kind == "labels":
        doubtful = logs.amax(1).argsort()[:options]
        return [(logs[row, c].exp(), -logs[row, c]) for row in doubtful.tolist() for c in (0, 1)]
    ranked = logs.sort(dim=1, descending=True).values[:, :options]
    return [(own.exp().mean(), -own.mean()) for own in ranked.unbind(1)]


@pytest.mark.parametrize("name", CASES)
def test_words_have_the_gradients_that_autograd_gives_for_their_embeddings(folder, name):
    """Each example by itself; words told apart by their letters."""
    made = case(folder, name)
    found = collect(made.scorer, made.pool, {"scores.egl_word"}, seeded()).scores["egl_word"]
    for at, example in enumerate(made.pool):
        pieces, words = made.pieces(example), made.words(example)
        moved = [torch.zeros(piece["input_ids"].shape[1], 32, requires_grad=True) for piece in pieces]
        lengths: dict[str, float] = {}
        for sure, loss in labels_of(made, made.logits(example, moved)):
            slopes = torch.autograd.grad(loss, moved, retain_graph=True)
            for word in {word for own in words for word in own if word}:
                total = sum(
                    slope[place]
                    for slope, own in zip(slopes, words, strict=True)
                    for place, other in enumerate(own)
                    if other == word
                )
                lengths[word] = lengths.get(word, 0.0) + sure.item() * total.norm().item()
        assert float(found[at]) == pytest.approx(max(lengths.values()), rel=2e-3, abs=1e-6)


def test_they_are_rows_of_the_gradient_of_the_table(folder):
    """Against the weight of the embeddings itself, where each word is one token."""
    made = case(folder, "full text")
    model, tokenizer, _ = made.parts()
    pool = [example for example in made.pool if "goals" not in example.inputs][:4]
    found = collect(made.scorer, pool, {"scores.egl_word"}, seeded()).scores["egl_word"]
    for at, example in enumerate(pool):
        batch = tokenizer(example.inputs, return_tensors="pt")
        logs = model(**batch).logits[0].log_softmax(0)
        total = torch.zeros(len(tokenizer))
        for c in range(3):
            (rows,) = torch.autograd.grad(-logs[c], model.get_input_embeddings().weight, retain_graph=True)
            total += logs[c].exp().detach() * rows.norm(dim=1)
        total[[tokenizer.cls_token_id, tokenizer.sep_token_id]] = 0.0
        assert float(found[at]) == pytest.approx(float(total.max()), rel=1e-3)


def test_they_are_what_differences_say(folder):
    """Of the likeliest label of one text, in float64, word by word and coordinate by coordinate."""
    made = case(folder, "full text")
    example = made.pool[1]
    found = collect(made.scorer, [example], {'scores.egl_word {"options": 1}'}, seeded()).scores
    made.parts()[0].double()
    (words,) = made.words(example)

    def loss(added: Tensor) -> float:
        with torch.no_grad():
            return float(labels_of(made, made.logits(example, [added]), 1)[0][1])

    sure = math.exp(-loss(torch.zeros(len(words), 32, dtype=torch.float64)))
    lengths = []
    for word in {word for word in words if word}:
        own = torch.tensor([float(other == word) for other in words], dtype=torch.float64)[:, None]
        steps = 1e-5 * own * torch.eye(32, dtype=torch.float64)[:, None]
        lengths.append(math.hypot(*((loss(step) - loss(-step)) / 2e-5 for step in steps)))
    assert found['egl_word {"options": 1}'].tolist() == pytest.approx([sure * max(lengths)], rel=1e-3)


# --- all weights


def length_of(made: Case, example, weights: list[Tensor], squared: bool) -> float:
    """By the definition, each decision of an example by itself."""
    logs = made.logits(example).log_softmax(1)
    rows = logs.amax(1).argsort()[:3] if made.kind == "labels" else torch.arange(len(logs))
    total = 0.0
    for row in rows.tolist():
        for c in logs[row].argsort(descending=True)[:3].tolist():
            slopes = torch.autograd.grad(-logs[row, c], weights, retain_graph=True, allow_unused=True)
            square = sum(float(slope.square().sum()) for slope in slopes if slope is not None)
            total += logs[row, c].exp().item() * (square if squared else square**0.5)
    return total if made.kind == "labels" else total / len(rows)


@pytest.mark.parametrize("name", CASES)
def test_all_weights_have_the_lengths_that_autograd_gives(folder, name):
    made = case(folder, name)
    pool = made.pool[:3]
    key = f"egl {json.dumps({'layers': 'layer.1.', 'squared': name == 'full text'})}"
    found = collect(made.scorer, pool, {f"scores.{key}"}, seeded()).scores[key]
    model, _, _ = made.parts()
    weights = [weight for title, weight in model.named_parameters() if "layer.1." in title]
    assert len(weights) == 16
    wanted = [length_of(made, example, weights, name == "full text") for example in pool]
    assert found.tolist() == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize("name", ["full text", "full words", "full pairs", "full labels"])
def test_of_the_last_layer_it_is_the_closed_form(folder, name):
    made = case(folder, name)
    key = 'egl {"layers": "^classifier.weight$", "options": 9}'
    signals = collect(made.scorer, made.pool, {f"scores.{key}", "probs", "gradients"}, seeded())
    closed = make_strategy("egl").select(signals, 3, seeded()).scores
    torch.testing.assert_close(signals.scores[key].float(), closed, rtol=1e-3, atol=1e-6)


def test_the_head_of_frozen_features_is_one_of_the_weights(folder):
    made = case(folder, "frozen text")
    key = 'egl {"layers": "^head.weight$"}'
    signals = collect(made.scorer, made.pool, {f"scores.{key}", "probs", "gradients"}, seeded())
    closed = make_strategy("egl").select(signals, 3, seeded()).scores
    torch.testing.assert_close(signals.scores[key].float(), closed, rtol=1e-3, atol=1e-6)


def test_a_name_that_no_weight_has_is_told(folder):
    live = case(folder, "full text").scorer.live()
    items, _ = live.prepare(case(folder, "full text").pool[:1])
    with pytest.raises(
        UserError, match=r"layers is 'decoder', which matches no weight of the model; .*classifier.bias"
    ):
        egl(live, items, layers="decoder")


# --- the strategies


def test_with_layers_it_needs_a_score_and_keeps_the_promises() -> None:
    whole = make_strategy("egl", layers="", options=2)
    assert whole.needs == {'scores.egl {"layers": "", "options": 2, "squared": false}'}
    assert whole.needs_model
    check_strategy(whole, shapes=("single", "sequence"))


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        ("egl", {"layers": "("}, r"layers is '\(', which is no regular expression"),
        ("egl", {"options": 0}, "options is 0; it must be at least 1"),
        ("egl_word", {"options": 0}, "options is 0; it must be at least 1"),
    ],
)
def test_wrong_parameters_are_told(name: str, parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy(name, **parameters)
