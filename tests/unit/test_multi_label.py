"""Several labels a text, and pairs of texts."""

import pytest
import torch
from helpers import some_rows, tiny_model, values_of

from nlp_al.annotation.noise import swaps
from nlp_al.bench import Bench
from nlp_al.config import TRAINING_DEFAULTS, Training, read_config
from nlp_al.decisions import Decisions
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.tasks import Rows, make_task
from nlp_al.training.full import fine_tune

LABELS = ["sport", "money", "food"]


def task(**options):
    return make_task("text-classification", {"multi_label": True, **options}).with_labels(LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def rows_of(count, seed=0, prefix="t"):
    """Texts with one, two or no topic."""
    one, two = some_rows(count, seed, prefix), some_rows(count, seed + 100)
    labels = [[], ["x"], ["x", "y"]]
    made = []
    for at, (a, b) in enumerate(zip(one, two, strict=True)):
        kind = len(labels[at % 3])
        names = sorted({a["label"], b["label"]} if kind == 2 else {a["label"]} if kind == 1 else set())
        text = {0: "the old and the new", 1: a["text"], 2: f"{a['text']} {b['text']}"}[kind]
        made.append({"id": a["id"], "text": f"{text} {at}", "label": names})
    return made


def test_a_decision_a_label_and_the_gradient_of_the_fixture():
    probs = torch.tensor([[0.9, 0.4]])
    two = make_task("text-classification", {"multi_label": True}).with_labels(["a", "b"])
    rows = Rows(torch.tensor([[1.0, 2.0]]), probs.logit(), torch.tensor([0, 1]))
    decisions = two.decisions(rows)
    torch.testing.assert_close(decisions.probs, torch.tensor([[0.9, 0.1], [0.4, 0.6]]))
    assert decisions.offsets.tolist() == [0, 2]
    r, h, offsets = two.gradients(rows, decisions)
    torch.testing.assert_close(r, torch.tensor([[-0.1, 0.4]]))
    torch.testing.assert_close(torch.outer(r[0], h[0]).flatten(), torch.tensor([-0.1, -0.2, 0.4, 0.8]))
    assert offsets.tolist() == [0, 1]
    assert two.predict(decisions) == [["a"]]


def test_the_scores_by_hand():
    predicted, gold = [["sport"], ["money", "food"], []], [["sport"], ["money"], ["food"]]
    found = task().score(predicted, gold)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["f1_micro"] == pytest.approx(2 * 2 / (3 + 3))  # 2 right of 3 said and 3 true
    assert found["f1_macro"] == pytest.approx((1 + 1 + 0) / 3)
    assert task().score([[]], [[]]) == {"f1_macro": 1.0, "f1_micro": 1.0, "accuracy": 1.0}


@pytest.mark.parametrize(
    ("options", "value", "label"),
    [
        ({}, ["money", "sport"], ["money", "sport"]),
        ({}, [], []),
        ({}, None, None),
        ({"separator": "|"}, "money | sport", ["money", "sport"]),
        ({"separator": "|"}, "", None),
    ],
)
def test_reading_labels(options, value, label):
    assert task(**options).read({"text": "a b", "label": value}, None) == ("a b", 2, label)


def test_positions_of_a_class_label_are_names():
    assert task().read({"text": "a", "label": [2, 0]}, LABELS)[2] == ["food", "sport"]


@pytest.mark.parametrize(
    ("options", "value", "told"),
    [
        ({"multi_label": True}, "money", "no list of labels"),
        ({"multi_label": True}, ["money", "money"], "twice"),
        ({"multi_label": True}, ["money", None], "empty"),
        ({}, ["money"], "task_options.multi_label: true"),
    ],
)
def test_a_label_of_the_wrong_form_is_told(options, value, told):
    with pytest.raises(UserError, match=told):
        make_task("text-classification", options).read({"text": "a", "label": value}, None)


def test_answers():
    example = Example("a", "goal", 1)
    assert task().readable(["sport", "food"], example)
    assert task().readable([], example)
    assert not task().readable("sport", example)
    assert not task().readable(["sport", "sport"], example)
    assert not task().readable(["opera"], example)


def test_noise_flips_each_label_on_its_own():
    import random

    example, draw = Example("a", "goal", 1), random.Random(0)
    said = swaps("symmetric", 0.25, example.inputs, 0, draw)
    flips = [task().mistaken(["sport"], example, said) for _ in range(4000)]
    for name, before in (("sport", True), ("money", False)):
        assert sum((name in label) != before for label in flips) / 4000 == pytest.approx(0.25, abs=0.03)


def test_while_all_texts_have_the_same_labels_there_is_nothing_to_learn():
    assert task().only_label([["sport", "food"], ["food", "sport"]]) == ["food", "sport"]
    assert task().only_label([[], []]) == []
    assert task().only_label([["sport"], []]) is None
    assert task().only_label([]) is None


def test_padding_and_batches_change_nothing(folder):
    pairs = [(Example(r["id"], r["text"], 1), r["label"]) for r in rows_of(24)]
    model = fine_tune(folder, task(), pairs, Training("full", min_steps=5, arguments=TRAINING_DEFAULTS), 0)
    examples = [e for e, _ in pairs]
    generator = torch.Generator()
    whole = collect(model, examples, {"probs", "embeddings", "gradients"}, generator)
    assert whole.probs.shape == (24 * 3, 2)
    for at in (0, 7, 23):
        alone = collect(model, [examples[at]], {"probs", "embeddings", "gradients"}, generator)
        torch.testing.assert_close(alone.probs, whole.probs[3 * at : 3 * at + 3], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.gradients[0][0], whole.gradients[0][at], rtol=1e-5, atol=1e-6)


def test_fine_tuning_learns_its_examples(folder):
    pairs = [(Example(r["id"], r["text"], 1), r["label"]) for r in rows_of(30)]
    values = {**TRAINING_DEFAULTS, "learning_rate": 2e-3}
    model = fine_tune(folder, task(), pairs, Training("full", min_steps=250, arguments=values), 0)
    signals = collect(model, [e for e, _ in pairs], {"probs"}, torch.Generator())
    found = task().score(task().predict(Decisions(signals.probs, signals.offsets)), [label for _, label in pairs])
    assert found["f1_micro"] > 0.9


@pytest.mark.parametrize("strategy", ["margin", "badge", "coreset", "cal", "mnlp"])
def test_a_frozen_run(folder, tmp_path, monkeypatch, strategy):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path / "cache"))
    values = values_of(tmp_path, folder, rows_of(90), strategy=strategy, task_options={"multi_label": True})
    import json

    test = [{**row, "id": f"u{row['id']}"} for row in rows_of(30, seed=5)]
    path = tmp_path / "multi.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in test))
    values["dataset"]["data_files"]["test"] = str(path)
    config = read_config(values, tmp_path)
    learner = ActiveLearner(config, Bench.of(config))
    learner.run()
    lines = [json.loads(line) for line in (tmp_path / config.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert list(lines[-1]["test"]) == ["f1_macro", "f1_micro", "accuracy"]
    assert lines[-1]["test"]["f1_micro"] > 0.4


def test_pairs_are_read_as_pairs(folder, tmp_path):
    from nlp_al.signals.loading import load_tokenizer

    one = make_task("text-classification", {"max_length": 12})
    assert one.read({"text": ["goal match", "team"], "label": "a"}, None) == (["goal match", "team"], 3, "a")
    tokenizer = load_tokenizer(folder)
    ((piece,),) = one.encode(tokenizer, [["goal match", "team"]])
    assert tokenizer.convert_ids_to_tokens(piece["input_ids"]) == ["[CLS]", "goal", "match", "[SEP]", "team", "[SEP]"]
    ((cut,),) = one.encode(tokenizer, [["goal " * 30, "team coach"]])
    assert len(cut["input_ids"]) == 12
    assert tokenizer.decode(cut["input_ids"]).endswith("goal [SEP] team coach [SEP]")  # the longer one is cut
    assert one.too_long(tokenizer, [["goal " * 30, "team"], ["goal", "team"]]) == [True, False]
    with pytest.raises(UserError, match="the text is empty"):
        one.read({"text": ["goal", " "], "label": "a"}, None)
