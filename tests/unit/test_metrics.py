"""The scores, against numbers worked out by hand."""

import pytest

from nlp_al.tasks import make_task


def test_text_classification_scores():
    task = make_task("text-classification", {}).with_labels(["a", "b", "c"])
    # a: precision 1/1, recall 1/2, F1 2/3. b: 1/2, 1/1, 2/3. c: 1/1, 1/1, 1.
    scores = task.score(["a", "b", "b", "c"], ["a", "a", "b", "c"])
    assert scores == pytest.approx({"accuracy": 0.75, "f1_macro": (2 / 3 + 2 / 3 + 1) / 3})


def test_f1_averages_over_the_labels_that_occur():
    task = make_task("text-classification", {}).with_labels(["a", "b", "never"])
    assert task.score(["a", "b"], ["a", "b"])["f1_macro"] == 1.0


def test_entities_count_whole_and_strict():
    task = make_task("token-classification", {}).with_labels(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    # Right: the LOC of the first sentence. Wrong: a PER cut short; strict BIO does not count the one without its B.
    predicted = [["B-PER", "O", "O", "B-LOC"], ["I-PER", "O"]]
    scores = task.score(predicted, gold)
    assert scores == pytest.approx({"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5})


def test_words_past_the_window_count_as_o():
    task = make_task("token-classification", {}).with_labels(["O", "B-PER"])
    assert task.score([["B-PER"]], [["B-PER", "B-PER"]])["recall"] == pytest.approx(1 / 2)


def test_nothing_predicted_is_zero_and_no_warning():
    task = make_task("token-classification", {}).with_labels(["O", "B-PER"])
    assert task.score([["O"]], [["B-PER"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
