"""What people said of the labelled examples, in the terms of signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nlp_al.aggregation import submitted
from nlp_al.pool import Answer, Example
from nlp_al.signals import Signals
from nlp_al.tasks import Task


def targets(task: Task, labelled: Sequence[tuple[Example, Any]]) -> Signals:
    """targets and offsets of examples with their labels."""
    columns = [task.columns_of(label, example) for example, label in labelled]
    return Signals(
        targets=torch.tensor([column for own in columns for column in own], dtype=torch.int64),
        offsets=torch.tensor([0, *map(len, columns)]).cumsum(0),
    )


def votes(task: Task, examples: Sequence[Example], last: Mapping[str, Sequence[Answer]]) -> Signals:
    """votes and offsets of examples that have an answer at least. last: by id, the last answer of each annotator."""
    given = [submitted(last[example.id]) for example in examples]
    people = {who: at for at, who in enumerate(dict.fromkeys(one.annotator for held in given for one in held))}
    rows: list[torch.Tensor] = []
    for example, held in zip(examples, given, strict=True):
        said = [task.columns_of(answer.label, example) for answer in held]
        rows.append(torch.full((len(said[0]), len(people)), -1))
        for answer, columns in zip(held, said, strict=True):
            rows[-1][:, people[answer.annotator]] = torch.tensor(columns, dtype=torch.int64)
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return Signals(votes=torch.cat(rows), offsets=offsets)
