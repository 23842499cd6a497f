"""How good a model is on examples whose labels are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from nlp_al.bench import Bench
from nlp_al.decisions import Decisions
from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals.collector import Committee, Scorer, collect, collect_members
from nlp_al.signals.saliency import Salient, saliency
from nlp_al.tasks import Task
from nlp_al.training.fit import Fit

RESAMPLES = 100

WORDS = 5
"""The most words that are told of a prediction."""

Judges = Callable[[], Iterator[Committee]]
"""Committees whose mean is judged in place of a model."""


def predict(
    model: Scorer | None,
    only_label: Any,
    task: Task,
    examples: Sequence[Example],
    generator: torch.Generator,
    judges: Judges | None = None,
) -> list[Any] | None:
    """The labels that a model predicts, or, while all labels are of one class, that class.

    judges: what speaks in place of the model, by the mean of its members. None where there is neither a model nor a
    class, and on all processes but the main one. All processes call it together.
    """
    if model is not None and judges is not None:
        told = collect_members(model, judges(), examples, {"sampled"}, generator)
        if told is None or not examples or told.offsets is None:
            return None
        return task.predict(Decisions(told.statistics().mean, told.offsets, told.options))
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


def explain(model: Scorer, examples: Sequence[Example], words: int = WORDS) -> list[Salient] | None:
    """The words of each example that the model's prediction hangs on the most; None on all processes but the main one.

    It alone reads them: a batch is too small to be dealt out. All processes call it together.
    """
    live = model.live()
    if not processes().is_main_process:
        return None
    items, batches = live.prepare(examples)
    found: list[Salient] = [{}] * len(examples)
    for members in batches:
        for at, said in zip(members, saliency(live, [items[i] for i in members]), strict=True):
            found[at] = dict(itertools.islice(said.items(), words))
    return found


def all_scores(
    bench: Bench,
    holdout: Sequence[tuple[Example, Any]],
    fit: Fit,
    generator: torch.Generator,
    judges: Judges | None = None,
) -> dict[str, Any]:
    """The task's metrics on validation, test and holdout, as far as there are any; all processes call it together."""
    found = {name: bench.gold(name) for name in ("validation", "test")} | {"holdout": holdout}
    made: dict[str, Any] = {}
    for name, pairs in found.items():
        examples = [example for example, _ in pairs]
        predicted = predict(fit.model, fit.only_label, bench.task, examples, generator, judges)
        if predicted is not None and pairs:
            gold = [label for _, label in pairs]
            made[name] = bench.task.score(predicted, gold)
            if name == "holdout":
                made["holdout_interval"] = interval(bench.task, predicted, gold, generator)
    return made


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
