"""Labels that the model gives itself, for the fit of one round; they are answers of nobody, and never counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from nlp_al.pool import Example, Pool
from nlp_al.signals import Signals
from nlp_al.strategies import Strategy
from nlp_al.strategies.ceal import Ceal
from nlp_al.tasks import Task

Made = list[tuple[str, Any]]
"""Ids with labels."""

FILE = "made_labels.jsonl"
"""A line a round: {round, labels: [[id, label], ...]}; of two lines for a round the last one holds."""


def make_labels(
    signals: Signals,
    strategies: Iterable[Strategy],
    round_: int,
    pool: Sequence[Example],
    asked: Iterable[str],
    task: Task,
) -> Made | None:
    """(id, predicted label) of what the model is sure of, and nobody is asked about; None where no strategy wants any.

    signals: those that the batch was chosen by, of the examples `pool`. asked: the ids of the batch.
    """
    own = next((strategy for strategy in strategies if isinstance(strategy, Ceal)), None)
    if own is None:
        return None
    taken = set(asked)
    free = [at for at in own.sure(signals, round_).tolist() if pool[at].id not in taken][: own.most]
    if not free:
        return []
    predicted = task.predict(signals.take(torch.tensor(free)).decisions)
    return [(pool[at].id, task.as_label(one, pool[at])) for at, one in zip(free, predicted, strict=True)]


def examples_of(made: Made, pool: Pool, known: set[str], task: Task) -> list[tuple[Example, Any]]:
    """Those with an id that is not known otherwise, as far as they are in the pool and today's labels can say it."""
    found = [(pool[name], label) for name, label in made if name in pool and name not in known]
    return [(example, label) for example, label in found if task.readable(label, example)]
