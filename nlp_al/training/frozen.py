"""A linear head on features of an encoder that reads each text once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from nlp_al.heads import Head
from nlp_al.pool import Example
from nlp_al.processes import shared
from nlp_al.selection import BLOCK
from nlp_al.signals.features import Encoder
from nlp_al.signals.live import Live
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

    def live(self) -> Live:
        """The encoder and the head together; the head's weights are `head.weight`."""
        encoder, head = self.encoder, shared(self.head)
        assert head is not None

        def read(batch: Mapping[str, Tensor], pieces: Tensor, examples: Sequence[Example]) -> Rows:
            with encoder.precision.on(batch["input_ids"].device):
                values, offsets = encoder.read(encoder.model, batch)
            return self.task.score_rows(self.task.assemble(values.cpu(), offsets.cpu()[pieces], examples), head)

        head_ = {"head.weight": head.weight}
        return Live(encoder.model, encoder.tokenizer, self.task, read, encoder.batch_size, encoder.precision, head_)

    def rest(self) -> None:
        """Leaves the accelerator."""
        self.encoder.rest()

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """The head on the features, which come as they are where there is none."""
        rows = self.encoder.rows(prepared)
        return rows if self.head is None else self.task.score_rows(rows, self.head)


def fit_head(encoder: Encoder, task: Task, labelled: Sequence[tuple[Example, Any]]) -> FrozenModel:
    """The task's convex fit on the features of labelled examples."""
    rows = encoder.rows([example for example, _ in labelled])
    return FrozenModel(encoder, task, task.fit_head(rows, [label for _, label in labelled]))
