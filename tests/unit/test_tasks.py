"""What the adapters make of rows, models and numbers."""

import pytest
import torch
from helpers import tiny_model

from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import make_task


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(tiny_model(tmp_path_factory.mktemp("model")))


def test_a_text_costs_its_words():
    task = make_task("text-classification", {})
    assert task.read({"text": "three small  words", "label": 2}, None) == ("three small  words", 3, "2")


def test_a_class_label_of_minus_one_is_no_label():
    assert make_task("text-classification", {}).read({"text": "x", "label": -1}, ["neg", "pos"])[2] is None


def test_pooling_leaves_padding_out():
    task = make_task("text-classification", {})
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    rows, offsets = task.pool_rows(hidden, {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])})
    assert rows.flatten().tolist() == [2.0, 4.0]
    assert offsets.tolist() == [0, 1, 2]


def test_left_padding_where_the_tokenizer_wants_it(tokenizer):
    task = make_task("text-classification", {})
    encodings = [piece for (piece,) in task.encode(tokenizer, ["goal", "goal team coach"])]
    tokenizer.padding_side = "left"
    try:
        batch = task.pad(tokenizer, encodings)
    finally:
        tokenizer.padding_side = "right"
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
