"""What differs between tasks, and nothing else: reading rows, encoding, decisions, gradients, metrics.

Torch and transformers are imported inside the functions: a config is checked against these classes before they load.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from nlp_al.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nlp_al.decisions import Decisions
    from nlp_al.pool import Example
    from nlp_al.signals import Gradients


class RowError(UserError):
    """What is wrong with a row outside its label. role: that of the column to blame."""

    def __init__(self, role: str, told: str) -> None:
        super().__init__(told)
        self.role = role


class Rows(NamedTuple):
    """What a model computes for some examples, a row for each thing that it classifies.

    hidden: float[J, d], the input of the last linear layer. logits: float[J, R], None before there is a head.
    offsets: int64[n + 1], the rows of each example.
    """

    hidden: Tensor
    logits: Tensor | None
    offsets: Tensor


@dataclass(frozen=True)
class Options:
    """`task_options` of a task that has none."""


class Task(ABC):
    """A task over a fixed list of labels.

    name: the Hub's task name. shape: `single`, `multi`, `sequence` or `ranking`. columns: role → what it holds.
    metrics: names of the scores, the most telling first. auto_class: the transformers class of its models.
    """

    name: ClassVar[str]
    shape: ClassVar[str]
    columns: ClassVar[dict[str, str]]
    metrics: ClassVar[tuple[str, ...]]
    auto_class: ClassVar[str]
    Options: ClassVar[type] = Options

    def __init__(self, options: Any, labels: Sequence[str] = ()) -> None:
        self.options = options
        self.labels = tuple(labels)
        self.index = {label: at for at, label in enumerate(self.labels)}

    def with_labels(self, labels: Sequence[str]) -> Task:
        """The same task, its labels known."""
        return type(self)(self.options, labels)

    # Rows of a data set

    @abstractmethod
    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """(inputs, words, label) of one row whose columns were renamed to their roles.

        label_names: names of a ClassLabel column, whose values are then positions in it.

        Raises:
            RowError: what is wrong with the row, without its place. UserError: the same, where the label is to blame.
        """

    @abstractmethod
    def names_in(self, label: Any) -> Sequence[str]:
        """The label names that one gold label is made of."""

    def readable(self, label: Any, example: Example) -> bool:
        """Whether an answer is a label that this example can have."""
        return isinstance(label, str) and label in self.index

    # Models

    @abstractmethod
    def encode(self, tokenizer: Any, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """What the tokenizer makes of the inputs, one mapping an example, and what `pick_rows` needs beside it."""

    @abstractmethod
    def targets(self, encoding: Mapping[str, Any], label: Any) -> Any:
        """The `labels` entry that the model is trained with."""

    @abstractmethod
    def row_targets(self, label: Any, rows: int) -> list[int]:
        """The class of each of an example's rows; −100 where it has none."""

    @abstractmethod
    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows and offsets out of a padded batch's values, as the model's classifier saw or gave them."""

    @abstractmethod
    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows and offsets out of the last hidden layer [B, T, d] of an encoder without a head."""

    def decisions(self, rows: Rows) -> Decisions:
        """The distributions: here a softmax a row."""
        from nlp_al.decisions import Decisions

        assert rows.logits is not None
        return Decisions(rows.logits.float().softmax(dim=1), rows.offsets)

    def gradients(self, rows: Rows, decisions: Decisions) -> Gradients:
        """Last-layer gradients under the predicted labels, averaged over an example's rows."""
        from nlp_al.signals import Gradients, residual

        lengths = rows.offsets.diff()
        share = lengths.repeat_interleave(lengths).to(decisions.probs.dtype)
        return Gradients(residual(decisions.probs) / share[:, None], rows.hidden.float(), rows.offsets)

    def embeddings(self, rows: Rows) -> Tensor:
        """float[n, d]: the mean of an example's rows."""
        from nlp_al.decisions import segment_mean

        return segment_mean(rows.hidden.float(), rows.offsets)

    def pad(self, tokenizer: Any, encodings: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A padded batch."""
        import torch

        longest = max(len(e["input_ids"]) for e in encodings)
        fill = {"input_ids": tokenizer.pad_token_id or 0, "labels": -100}
        right = tokenizer.padding_side == "right"
        batch = {}
        for name in encodings[0]:
            values = [e[name] for e in encodings]
            if not isinstance(values[0], list):
                batch[name] = torch.tensor(values)
                continue
            padded = []
            for value in values:
                padding = [fill.get(name, 0)] * (longest - len(value))
                padded.append([*value, *padding] if right else [*padding, *value])
            batch[name] = torch.tensor(padded)
        return batch

    def new_model(self, source: str) -> nn.Module:
        """A model with a fresh head for this task's labels on the weights of a Hub id or folder."""
        import transformers

        names = {"id2label": dict(enumerate(self.labels)), "label2id": dict(self.index), "num_labels": len(self.labels)}
        # A checkpoint may bring the head of another task; then this one starts afresh.
        model: nn.Module = getattr(transformers, self.auto_class).from_pretrained(
            source, ignore_mismatched_sizes=True, **names
        )
        return model

    # Scores

    def constant(self, name: str, example: Example) -> Any:
        """The label of an example all of whose decisions fall on one name."""
        return name

    @abstractmethod
    def predict(self, decisions: Decisions) -> list[Any]:
        """The predicted label of each example, by name."""

    @abstractmethod
    def score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> dict[str, float]:
        """The task's metrics."""


def label_name(value: Any, label_names: Sequence[str] | None) -> str | None:
    """One gold label by name; None where there is none.

    Raises:
        UserError: it is neither text nor a whole number.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserError(f"the label {value!r} is neither text nor a whole number; write it as text")
    if isinstance(value, float):
        if not value.is_integer():
            raise UserError(f"the label {value!r} is neither text nor a whole number; write it as text")
        value = int(value)
    if label_names is not None and isinstance(value, int):
        if value >= len(label_names):
            raise UserError(f"the label {value} is not among the {len(label_names)} labels, which count from 0")
        return label_names[value] if value >= 0 else None  # −1 means unlabelled in a ClassLabel column
    return str(value)
