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
