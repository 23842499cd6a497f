"""A linear head on features of an encoder that reads each text once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_al.heads import Head
from nlp_al.pool import Example
from nlp_al.selection import BLOCK
from nlp_al.signals.features import Encoder
from nlp_al.tasks import Rows, Task


class FrozenModel:
    """An encoder and a head. The main process alone holds the features and the head."""

    sharded = False

    def __init__(self, encoder: Encoder, task: Task, head: Head | None = None) -> None:
        self.encoder = encoder
        self.task = task
        self.head = head

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """Fixed blocks, in order, once the encoder has read what it does not know yet."""
        self.encoder.encode(examples)
        return examples, [list(range(at, min(at + BLOCK, len(examples)))) for at in range(0, len(examples), BLOCK)]

    def rest(self) -> None:
        """Leaves the accelerator."""
        self.encoder.rest()

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """The head on the features."""
        assert self.head is not None
        return self.task.score_rows(self.encoder.rows(prepared), self.head)


def fit_head(encoder: Encoder, task: Task, labelled: Sequence[tuple[Example, Any]]) -> FrozenModel:
    """The task's convex fit on the features of labelled examples."""
    rows = encoder.rows([example for example, _ in labelled])
    return FrozenModel(encoder, task, task.fit_head(rows, [label for _, label in labelled]))
