"""Fitting: the frozen head against an independent solver, fine-tuning on Trainer."""

import numpy as np
import pytest
import torch
from helpers import some_rows, tiny_model
from scipy.optimize import minimize

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.errors import UserError
from nlp_al.heads import SLACK
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.signals.features import Pretrained
from nlp_al.tasks import make_task
from nlp_al.training.frozen import fit_head
from nlp_al.training.full import _arguments, fine_tune, last_linear, load_model

LABELS = ["sport", "money", "food", "never"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def encoder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))
    return Pretrained(folder, make_task("text-classification", {}).with_labels(LABELS))


def labelled(count=40, only=("sport", "money", "food")):
    rows = [r for r in some_rows(count) if r["label"] in only]
    return [(Example(r["id"], r["text"], 1), r["label"]) for r in rows]


def probabilities(model, pairs):
    return collect(model, [e for e, _ in pairs], {"probs"}, torch.Generator().manual_seed(0)).probs


@pytest.mark.parametrize("only", [("sport", "money", "food"), ("sport", "money")])
def test_the_head_is_the_minimum_of_the_penalised_loss(encoder, only):
    pairs = labelled(only=only)
    encoder.encode([e for e, _ in pairs])
    model = fit_head(encoder, encoder.task, pairs)
    x = encoder.rows([e for e, _ in pairs]).hidden.double().numpy()
    y = np.array([only.index(label) for _, label in pairs])
    penalty = np.square(x).sum(1).mean() / SLACK
    # For two classes the head has one weight vector, the difference of two: half the penalty of two opposite ones.
    scale = 1.0 if len(only) > 2 else 2.0

    def loss(flat):
        w, b = flat[: x.shape[1] * len(only)].reshape(len(only), -1), flat[x.shape[1] * len(only) :]
        logits = x @ w.T + b
        top = logits.max(1)
        fit = (np.log(np.exp(logits - top[:, None]).sum(1)) + top - logits[np.arange(len(y)), y]).sum()
        return fit + scale * penalty / 2 * np.square(w).sum()

    best = minimize(loss, np.zeros((x.shape[1] + 1) * len(only)), method="L-BFGS-B", options={"maxiter": 5000}).x
    w, b = best[: x.shape[1] * len(only)].reshape(len(only), -1), best[x.shape[1] * len(only) :]
    logits = torch.tensor(x @ w.T + b)
    found = probabilities(model, pairs)[:, [LABELS.index(name) for name in only]]
    torch.testing.assert_close(found, logits.softmax(1).float(), rtol=0, atol=2e-3)


def test_a_label_without_examples_keeps_probability_zero(encoder):
    pairs = labelled()
    encoder.encode([e for e, _ in pairs])
    assert probabilities(fit_head(encoder, encoder.task, pairs), pairs)[:, LABELS.index("never")].max() == 0.0


def test_the_same_labels_give_the_same_head_bit_for_bit(encoder):
    pairs = labelled()
    encoder.encode([e for e, _ in pairs])
    first, second = (fit_head(encoder, encoder.task, pairs) for _ in range(2))
    assert torch.equal(first.head.weight, second.head.weight)
    assert torch.equal(first.head.bias, second.head.bias)


def test_the_scale_of_the_features_does_not_matter(encoder, monkeypatch):
    pairs = labelled()
    encoder.encode([e for e, _ in pairs])
    plain = probabilities(fit_head(encoder, encoder.task, pairs), pairs)
    own = encoder.rows
    monkeypatch.setattr(encoder, "rows", lambda examples: own(examples)._replace(hidden=own(examples).hidden * 10))
    torch.testing.assert_close(probabilities(fit_head(encoder, encoder.task, pairs), pairs), plain, rtol=0, atol=2e-3)


def settings(**values):
    return Training(min_steps=values.pop("min_steps", 0), arguments={**TRAINING_DEFAULTS, **values})


def test_fine_tuning_learns_its_examples(folder):
    task = make_task("text-classification", {}).with_labels(LABELS[:3])
    pairs = labelled(60)
    model = fine_tune(folder, task, pairs, settings(learning_rate=3e-3, num_train_epochs=40.0), seed=0)
    predicted = probabilities(model, pairs).argmax(1).tolist()
    right = sum(LABELS[p] == label for p, (_, label) in zip(predicted, pairs, strict=True))
    assert right / len(pairs) > 0.9


def test_the_same_seed_gives_the_same_model(folder):
    task = make_task("text-classification", {}).with_labels(LABELS[:3])
    first, second = (fine_tune(folder, task, labelled(20), settings(num_train_epochs=2.0), seed=5) for _ in range(2))
    for left, right in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("floor", "epochs", "items", "steps"),
    [
        (100, 10.0, 20, 100),  # 2 steps an epoch, 20 in all: too few
        (0, 10.0, 20, -1),  # no floor: epochs decide
        (100, 10.0, 500, -1),  # 320 steps anyway
    ],
)
def test_the_floor_on_steps(tmp_path, floor, epochs, items, steps):
    made = _arguments(settings(min_steps=floor, num_train_epochs=epochs), str(tmp_path), 0, items)
    assert made.max_steps == steps


def test_max_steps_of_the_user_holds(tmp_path):
    assert _arguments(settings(min_steps=100, max_steps=7), str(tmp_path), 0, 20).max_steps == 7


def test_a_value_that_transformers_refuses_is_told_in_a_sentence(folder):
    task = make_task("text-classification", {}).with_labels(LABELS[:3])
    with pytest.raises(UserError, match=r"training: .*nonsense"):
        fine_tune(folder, task, labelled(10), settings(lr_scheduler_type="nonsense"), seed=0)


def test_the_saved_model_loads_with_transformers_alone(folder, tmp_path):
    import transformers

    task = make_task("text-classification", {}).with_labels(LABELS[:3])
    model = fine_tune(folder, task, labelled(10), settings(num_train_epochs=1.0), seed=0)
    model.save(tmp_path / "model")
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"), device="cpu", top_k=None)
    scores = {s["label"]: s["score"] for s in classify(["goal team coach"])[0]}
    assert set(scores) == set(LABELS[:3])
    mine = probabilities(model, [(Example("a", "goal team coach", 3), None)])[0]
    assert [scores[name] for name in LABELS[:3]] == pytest.approx(mine.tolist(), abs=1e-5)
    assert not [p for p in (tmp_path / "model").iterdir() if p.suffix in (".bin", ".pt", ".pkl")]


def test_weights_with_the_head_of_another_task_start_afresh(folder, tmp_path):
    seven = make_task("text-classification", {}).with_labels([str(i) for i in range(7)])
    load_model(folder, seven).save_pretrained(tmp_path / "seven")
    two = make_task("text-classification", {}).with_labels(["a", "b"])
    assert last_linear(load_model(str(tmp_path / "seven"), two)).out_features == 2


@pytest.mark.parametrize("kind", ["Bert", "DistilBert", "Roberta", "Electra", "Albert"])
def test_the_layer_that_makes_the_logits_is_found(kind):
    import transformers

    names = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "DistilBert":
        names = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    config = getattr(transformers, f"{kind}Config")(vocab_size=30, num_labels=5, **names)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    assert last_linear(model).out_features == 5


def test_float32_products_are_set_while_a_model_is_trained_and_asked(folder, monkeypatch):
    task = make_task("text-classification", {}).with_labels(LABELS)
    seen = []

    def watched(*arguments):
        model = load_model(*arguments)
        model.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
        return model

    monkeypatch.setattr("nlp_al.training.full.load_model", watched)
    pairs = labelled(8)
    training = Training(min_steps=1, float32_matmul="medium", arguments=TRAINING_DEFAULTS)
    made = fine_tune(folder, task, pairs, training, 0)
    trained = len(seen)
    assert trained > 0
    assert torch.get_float32_matmul_precision() == "highest"
    probabilities(made, pairs)
    assert len(seen) > trained
    assert {*seen} == {"medium"}
    assert torch.get_float32_matmul_precision() == "highest"


def test_frozen_features_are_read_in_full_whatever_is_set_for_training(encoder):
    seen = []
    encoder.model.register_forward_pre_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    encoder.encode([e for e, _ in labelled(4)])
    assert {*seen} == {"highest"}


def test_attention_as_it_is_asked_for(folder):
    task = make_task("text-classification", {}).with_labels(LABELS)
    pairs = labelled(12)
    made = {}
    for attention in (None, "eager", "sdpa"):
        training = Training(min_steps=8, attn_implementation=attention, arguments=TRAINING_DEFAULTS)
        model = fine_tune(folder, task, pairs, training, 0)
        made[attention] = probabilities(model, pairs)
        assert model.model.config._attn_implementation == (attention or "sdpa")
    assert torch.allclose(made["eager"], made["sdpa"], atol=1e-3)
    assert torch.equal(made[None], made["sdpa"])
    training = Training(attn_implementation="quick", arguments=TRAINING_DEFAULTS)
    with pytest.raises(UserError, match=r"^training\.attn_implementation is 'quick', which can't be had here: "):
        fine_tune(folder, task, pairs, training, 0)
