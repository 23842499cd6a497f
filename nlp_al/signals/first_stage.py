"""What the model of the first stage of a run says, whatever has been labelled since."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nlp_al.decisions import margin, reduce
from nlp_al.pool import Example, Pool
from nlp_al.signals import Signals
from nlp_al.tasks import Task

MARGIN = "first_stage_margin"
"""The score's name."""


def first_stage(pool: Pool, task: Task) -> list[tuple[Example, Any]]:
    """The labelled examples of the initial set, or of as many rounds as it takes until there are two classes.

    None of them where there still is one.
    """
    labelled = pool.labelled()
    rounds = {name: query.round for name, query in pool.first_queries().items()}
    for last in sorted({rounds.get(example.id, 0) for example, _ in labelled}):
        found = [(example, label) for example, label in labelled if rounds.get(example.id, 0) <= last]
        if task.only_label([label for _, label in found]) is None:
            return found
    return []


def margins(said: Signals, agg: str = "mean") -> Tensor:
    """−(p₍₁₎ − p₍₂₎), reduced over the decisions of an example: float[n]. said: probs of the first stage's model."""
    return reduce(-margin(said.decisions), said.decisions.offsets, agg)
