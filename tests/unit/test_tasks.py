"""What the adapters make of rows, models and numbers."""

import pytest
import torch
from helpers import tiny_model

from nlp_al.decisions import Decisions
from nlp_al.errors import UserError
from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import Rows, make_task

TAGS = ["O", "B-PER", "I-PER"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(tiny_model(tmp_path_factory.mktemp("model")))


def ner(**options):
    return make_task("token-classification", options).with_labels(TAGS)


def test_a_text_costs_its_words():
    task = make_task("text-classification", {})
    assert task.read({"text": "three small  words", "label": 2}, None) == ("three small  words", 3, "2")


def test_a_class_label_of_minus_one_is_no_label():
    assert make_task("text-classification", {}).read({"text": "x", "label": -1}, ["neg", "pos"])[2] is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"tokens": [], "tags": []}, "the sentence is empty"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens but 1 tags"),
        ({"tokens": "a b", "tags": ["O", "O"]}, "no list of words"),
        ({"tokens": ["a"], "tags": [None]}, "a tag is missing"),
    ],
)
def test_a_sentence_that_is_none(row, told):
    with pytest.raises(UserError, match=told):
        make_task("token-classification", {}).read(row, None)


def test_the_first_sub_word_alone_speaks_for_a_word(tokenizer):
    # "teamed" is no word of the vocabulary and has no pieces in it: one [UNK]; "goal" and "match" are one token each.
    encoding = ner().encode(tokenizer, [["goal", "goal-match", "team"]])[0]
    # [CLS] goal | goal - match | team [SEP]: the second word has three tokens.
    assert encoding["first"] == [0, 1, 1, 0, 0, 1, 0]
    assert ner().targets(encoding, ["O", "B-PER", "I-PER"]) == [-100, 0, 1, -100, -100, 2, -100]


def test_values_of_later_sub_words_and_padding_reach_nothing(tokenizer):
    task = ner()
    batch = task.pad(tokenizer, task.encode(tokenizer, [["goal", "goal-match"], ["team"]]))
    values = torch.arange(batch["input_ids"].numel()).reshape(*batch["input_ids"].shape, 1).float()
    rows, offsets = task.pick_rows(values, batch)
    assert offsets.tolist() == [0, 2, 3]
    assert rows.flatten().tolist() == [1.0, 2.0, 7.0]  # positions 1 and 2 of the first row; position 1 of the second


def test_words_past_the_window_have_no_row(tokenizer):
    task = ner(max_length=4)
    encoding = task.encode(tokenizer, [["goal", "team", "coach"]])[0]
    assert sum(encoding["first"]) == 2
    assert task.row_targets(["B-PER", "O", "B-PER"], rows=2) == [1, 0]


def test_pooling_leaves_padding_out():
    task = make_task("text-classification", {})
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    rows, offsets = task.pool_rows(hidden, {"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])})
    assert rows.flatten().tolist() == [2.0, 4.0]
    assert offsets.tolist() == [0, 1, 2]


def test_gradients_of_a_sentence_by_hand():
    """½[(−.3, .3) ⊗ (1, 0) + (.4, −.4) ⊗ (0, 1)] = (−.15, .2, .15, −.2), class by class; its squared norm is .125."""
    probs = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    offsets = torch.tensor([0, 2])
    hidden = torch.eye(2)
    task = make_task("token-classification", {}).with_labels(["O", "B"])
    r, h, _ = task.gradients(Rows(hidden, probs.log(), offsets), Decisions(probs, offsets))
    dense = torch.einsum("jr,jd->rd", r, h)
    torch.testing.assert_close(dense.flatten(), torch.tensor([-0.15, 0.2, 0.15, -0.2]))
    assert dense.square().sum().item() == pytest.approx(0.125)


def test_embeddings_of_a_sentence_are_the_mean_of_its_words():
    rows = Rows(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), None, torch.tensor([0, 2, 3]))
    assert ner().embeddings(rows).tolist() == [[2.0, 3.0], [5.0, 6.0]]


def test_a_tag_for_every_word_or_the_answer_is_unreadable():
    from nlp_al.pool import Example

    example = Example("a", ["goal", "team"], 2)
    assert ner().readable(["O", "B-PER"], example)
    assert not ner().readable(["O"], example)
    assert not ner().readable(["O", "B-ORG"], example)
    assert not ner().readable("O", example)


def test_left_padding_where_the_tokenizer_wants_it(tokenizer):
    task = make_task("text-classification", {})
    encodings = task.encode(tokenizer, ["goal", "goal team coach"])
    tokenizer.padding_side = "left"
    try:
        batch = task.pad(tokenizer, encodings)
    finally:
        tokenizer.padding_side = "right"
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
