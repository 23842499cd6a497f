"""The tasks' scores as `evaluate.Metric`s that need no hub."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as label_f1_score


class _Scores(evaluate.Metric):  # type: ignore[misc]
    """A metric that keeps its inputs in memory, so that runs beside each other share no file."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)


class TextClassificationScores(_Scores):
    """accuracy and f1_macro of integer labels. f1_macro averages over the labels that occur in either list."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy and macro-averaged F1.",
            citation="",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "f1_macro": float(label_f1_score(references, predictions, average="macro", zero_division=0)),
        }


class EntityScores(_Scores):
    """precision, recall and f1 of entities in tag sequences, strict BIO, micro-averaged (seqeval)."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Entity precision, recall and F1.",
            citation="",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
        return {
            "precision": float(precision_score(references, predictions, **strict)),
            "recall": float(recall_score(references, predictions, **strict)),
            "f1": float(f1_score(references, predictions, **strict)),
        }
