"""A linear head on features of a frozen encoder: a convex fit, the same from the same labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from nlp_al.pool import Example
from nlp_al.selection import BLOCK
from nlp_al.signals.features import Encoder
from nlp_al.tasks import Rows, Task

SLACK = 32.0
"""How far the head may go from zero, relative to the features' size, so that an encoder's scale does not matter."""


class FrozenModel:
    """An encoder and a head. The main process alone holds the features and the head."""

    sharded = False

    def __init__(
        self, encoder: Encoder, task: Task, weight: torch.Tensor | None = None, bias: torch.Tensor | None = None
    ) -> None:
        self.encoder = encoder
        self.task = task
        self.weight = weight
        self.bias = bias

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """Fixed blocks, in order."""
        return examples, [list(range(at, min(at + BLOCK, len(examples)))) for at in range(0, len(examples), BLOCK)]

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """The head on the features, in float32 as the features are."""
        assert self.weight is not None
        assert self.bias is not None
        hidden, _, offsets = self.encoder.rows(prepared)
        return Rows(hidden, torch.addmm(self.bias.float(), hidden, self.weight.float().T), offsets)


def fit_head(encoder: Encoder, task: Task, labelled: Sequence[tuple[Example, Any]]) -> FrozenModel:
    """Multinomial logistic regression in float64, from zero: Σ loss + mean‖h‖² / (2 · SLACK) · ‖W‖², the bias free.

    Labels that have no example yet keep probability 0. At least two must have one.
    """
    hidden, _, offsets = encoder.rows([example for example, _ in labelled])
    lengths = offsets.diff().tolist()
    targets = torch.tensor(
        [t for (_, label), rows in zip(labelled, lengths, strict=True) for t in task.row_targets(label, rows)]
    )
    used = targets >= 0
    # One thread: a fit this small gains nothing from more, and their number would show in the last digits.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # many classes, few labels: our case
        points = hidden[used].double()
        slack = SLACK / float(points.square().sum(1).mean())
        fitted = LogisticRegression(C=slack, max_iter=1000).fit(points.numpy(), targets[used].numpy())
    seen, coefficients, intercepts = fitted.classes_, fitted.coef_, fitted.intercept_
    weight = torch.zeros(len(task.labels), hidden.shape[1], dtype=torch.float64)
    bias = torch.full((len(task.labels),), -torch.inf, dtype=torch.float64)
    if len(seen) == 2:  # scikit-learn keeps one row for two classes: the logit of the second
        weight[seen[1]] = torch.from_numpy(coefficients[0])
        bias[seen] = torch.tensor([0.0, float(intercepts[0])], dtype=torch.float64)
    else:
        weight[seen] = torch.from_numpy(coefficients)
        bias[seen] = torch.from_numpy(intercepts)
    return FrozenModel(encoder, task, weight, bias)
