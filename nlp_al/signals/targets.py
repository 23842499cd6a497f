"""What people said of the labelled examples, in the terms of signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nlp_al.pool import Example
from nlp_al.signals import Signals
from nlp_al.tasks import Task


def targets(task: Task, labelled: Sequence[tuple[Example, Any]]) -> Signals:
    """targets and offsets of examples with their labels."""
    columns = [task.columns_of(label, example) for example, label in labelled]
    return Signals(
        targets=torch.tensor([column for own in columns for column in own], dtype=torch.int64),
        offsets=torch.tensor([0, *map(len, columns)]).cumsum(0),
    )
