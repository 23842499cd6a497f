"""Adapters: what is trained, what is saved, and what is told where they can't be had."""

import sys

import pytest
import torch
import transformers
from helpers import some_dialogues, some_rows, some_sentences, tiny_model

from nlp_al.config import TRAINING_DEFAULTS, Lora, Training, read_config
from nlp_al.errors import UserError
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.tasks import make_task
from nlp_al.training.full import fine_tune, load_model

CASES = {
    "single": ("text-classification", {}, some_rows, ("text", "label")),
    "multi": ("text-classification", {"multi_label": True}, some_rows, ("text", "label")),
    "words": ("token-classification", {}, some_sentences, ("tokens", "tags")),
    "bi": ("response-selection", {"form": "bi-encoder"}, some_dialogues, ("context", "candidates", "label")),
    "cross": ("response-selection", {"form": "cross-encoder"}, some_dialogues, ("context", "candidates", "label")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def case(name):
    kind, options, made, columns = CASES[name]
    task, pairs = make_task(kind, options), []
    for row in made(20):
        if name == "multi":
            row["label"] = [row["label"]]
        inputs, words, label = task.read({role: row[role] for role in columns}, None)
        pairs.append((Example(row["id"], inputs, words), label))
    names = sorted({n for _, label in pairs for n in task.names_in(label)})
    return task.with_labels(task.label_set(names) if task.named else []), pairs


def settings(**lora):
    arguments = {**TRAINING_DEFAULTS, "learning_rate": 3e-3}
    return Training("lora", min_steps=12, lora=Lora(**lora), arguments=arguments)


@pytest.mark.parametrize("name", CASES)
def test_the_saved_model_is_merged_and_loads_with_transformers_alone(name, folder, tmp_path):
    pytest.importorskip("peft")
    task, pairs = case(name)
    model = fine_tune(folder, task, pairs, settings(), 0)
    model.save(tmp_path)
    assert not list(tmp_path.glob("adapter*"))
    kept = getattr(transformers, task.auto_class).from_pretrained(tmp_path)
    trained = model.encoder.model if task.apart else model.model
    for key, values in kept.state_dict().items():
        torch.testing.assert_close(values, trained.state_dict()[key].cpu())


@pytest.mark.parametrize("name", CASES)
def test_adapters_move_the_linear_layers_of_the_encoder_and_nothing_else_in_it(name, folder):
    pytest.importorskip("peft")
    task, pairs = case(name)
    model = fine_tune(folder, task, pairs, settings(target_modules=["query"], dropout=0.0), 0)
    trained = (model.encoder.model if task.apart else model.model).state_dict()
    before = load_model(folder, task).state_dict()
    prefix = "" if task.apart else "bert."
    # A pooler that the checkpoint lacks is drawn anew at each load.
    moved = {
        key for key, values in before.items() if not torch.equal(values, trained[key].cpu()) and "pooler" not in key
    }
    inside = {key for key in moved if key.startswith(prefix)}
    assert inside == {f"{prefix}encoder.layer.{layer}.attention.self.query.weight" for layer in range(2)}
    assert bool(moved - inside) == (not task.apart)  # the head


def test_scores_do_not_depend_on_the_batch(folder):
    pytest.importorskip("peft")
    task, pairs = case("single")
    model = fine_tune(folder, task, pairs, settings(), 0)
    examples = [example for example, _ in pairs]
    whole = collect(model, examples, {"probs"}, torch.Generator()).probs
    alone = torch.cat([collect(model, [one], {"probs"}, torch.Generator()).probs for one in examples])
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-6)


def test_a_layer_that_is_not_there_is_told(folder):
    pytest.importorskip("peft")
    task, pairs = case("single")
    with pytest.raises(UserError, match=r"target_modules names no layer of the model; it has dense, key, query, value"):
        fine_tune(folder, task, pairs, settings(target_modules=["q_proj"]), 0)


def test_without_peft_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    task, pairs = case("single")
    with pytest.raises(UserError, match=r'pip install "nlp-al\[lora\]"'):
        fine_tune(folder, task, pairs, settings(), 0)


@pytest.mark.parametrize(
    ("training", "rate", "adapts"),
    [
        ({"mode": "lora"}, 1e-3, True),
        ({"mode": "lora", "learning_rate": 2e-3}, 2e-3, True),
        ({"mode": "frozen", "final": "lora"}, 1e-3, True),
        ({"mode": "frozen"}, 5e-5, False),
        ({"mode": "full", "final": "lora"}, 5e-5, False),
    ],
)
def test_the_learning_rate_that_holds_when_none_is_given(training, rate, adapts, folder, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    values = {"task": "text-classification", "model": folder, "training": training}
    made = read_config({**values, "dataset": {"path": "csv", "data_files": {"train": "a.csv"}}}, tmp_path).training
    assert made.arguments["learning_rate"] == rate
    assert made.adapts == adapts
