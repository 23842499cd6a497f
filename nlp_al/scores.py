"""How good a model is on examples whose labels are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nlp_al.pool import Example
from nlp_al.signals.collector import Scorer, collect
from nlp_al.tasks import Task

RESAMPLES = 100


def predict(
    model: Scorer | None, only_label: Any, task: Task, examples: Sequence[Example], generator: torch.Generator
) -> list[Any] | None:
    """The labels that a model predicts, or, while all labels are of one class, that class.

    None where there is neither, and on all processes but the main one. All processes call it together.
    """
    if model is not None:
        signals = collect(model, examples, {"probs"}, generator)
        return None if signals is None or not examples else task.predict(signals.decisions)
    return None if only_label is None else [task.constant(only_label, example) for example in examples]


def suggest(
    model: Scorer | None, task: Task, examples: Sequence[Example], generator: torch.Generator
) -> list[tuple[Any, Any]] | None:
    """(label, how probable it is) of each example; None as in `predict`. All processes call it together."""
    signals = collect(model, examples, {"probs"}, generator) if model is not None and examples else None
    if signals is None:
        return None
    predicted = task.predict(signals.decisions)
    sure = task.confidence(signals.decisions, predicted)
    labels = [task.as_label(one, example) for one, example in zip(predicted, examples, strict=True)]
    return list(zip(labels, sure, strict=True))


def interval(
    task: Task, predicted: Sequence[Any], gold: Sequence[Any], generator: torch.Generator
) -> dict[str, list[float]]:
    """[low, high] of each metric, within which it lies with 95%: the percentile bootstrap over examples."""
    found = []
    for _ in range(RESAMPLES):
        drawn = torch.randint(len(gold), (len(gold),), generator=generator).tolist()
        found.append(task.score([predicted[i] for i in drawn], [gold[i] for i in drawn]))
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
    values = {name: torch.tensor([scores[name] for scores in found], dtype=torch.float64) for name in task.metrics}
    return {name: value.quantile(quantiles).tolist() for name, value in values.items()}
