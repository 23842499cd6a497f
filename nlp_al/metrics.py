"""The tasks' scores as `evaluate.Metric`s that need no hub."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
from seqeval.scheme import IOB2, Entities
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


class MultiLabelScores(_Scores):
    """f1_macro (over the labels that occur in either list), f1_micro and exact-match accuracy of 0/1 vectors."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description="F1 over labels, and exact match.",
            citation="",
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        found, wanted = np.asarray(predictions), np.asarray(references)
        occurs = (found | wanted).any(0)
        settings = {"zero_division": 0, "labels": np.flatnonzero(occurs)} if occurs.any() else {"zero_division": 1}
        return {
            "f1_macro": float(label_f1_score(wanted, found, average="macro", **settings)),
            "f1_micro": float(label_f1_score(wanted, found, average="micro", **settings)),
            "accuracy": float(accuracy_score(wanted, found)),
        }


class RankingScores(_Scores):
    """recall_at_1, 2 and 5, and the mean reciprocal rank, of the ranks of the right options, counted from 1."""

    def _info(self) -> evaluate.MetricInfo:
        rank = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="Recall at k and mean reciprocal rank.",
            citation="",
            features=datasets.Features({"predictions": rank, "references": rank}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        ranks = np.asarray(predictions, dtype=np.float64)
        recalls = {f"recall_at_{k}": float((ranks <= k).mean()) for k in (1, 2, 5)}
        return {**recalls, "mrr": float((1.0 / ranks).mean())}


class EntityScores(_Scores):
    """precision, recall and f1 of entities in tag sequences, strict BIO (seqeval).

    Micro-averaged, and as f1_X, precision_X and recall_X for each type X that the references have.
    """

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Entity precision, recall and F1.",
            citation="",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        found, gold = Entities(predictions, IOB2), Entities(references, IOB2)
        by_type = {kind: (found.filter(kind), gold.filter(kind)) for kind in found.unique_tags | gold.unique_tags}
        counts = {kind: (len(mine & true), len(mine), len(true)) for kind, (mine, true) in by_type.items()}
        scores = _entity_scores(*map(sum, zip(*counts.values(), strict=True))) if counts else _entity_scores(0, 0, 0)
        for kind in sorted(gold.unique_tags):
            scores.update({f"{name}_{kind}": value for name, value in _entity_scores(*counts[kind]).items()})
        return scores


def _entity_scores(right: int, found: int, gold: int) -> dict[str, float]:
    return {
        "precision": right / found if found else 0.0,
        "recall": right / gold if gold else 0.0,
        "f1": 2 * right / (found + gold) if found + gold else 0.0,
    }
