"""Single-label text classification: one decision an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.tasks.base import RowError, Task, label_name
from nlp_al.values import shown

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.decisions import Decisions


@dataclass(frozen=True)
class TextOptions:
    """`task_options` of text classification."""

    max_length: int = field(default=128, metadata={"help": "tokens of a text that the model reads"})

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length}; it must be at least 3.")


class TextClassification(Task):
    """One label out of C for each text."""

    name: ClassVar[str] = "text-classification"
    shape: ClassVar[str] = "single"
    columns: ClassVar[dict[str, str]] = {"text": "the text", "label": "its label: text, number or ClassLabel"}
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro")
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    Options: ClassVar[type] = TextOptions

    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """The text, its number of words, its label."""
        text = row["text"]
        if text is None or (isinstance(text, str) and not text.strip()):
            raise RowError("text", "the text is empty")
        if not isinstance(text, str):
            raise RowError("text", f"{shown(text)} is no text")
        return text, len(text.split()), label_name(row.get("label"), label_names)

    def names_in(self, label: Any) -> Sequence[str]:
        """The label itself."""
        return [label]

    def encode(self, tokenizer: Any, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Truncated to max_length tokens."""
        made = tokenizer(list(inputs), truncation=True, max_length=self.options.max_length)
        return [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]

    def targets(self, encoding: Mapping[str, Any], label: Any) -> int:
        """The label's position."""
        return self.index[label]

    def row_targets(self, label: Any, rows: int) -> list[int]:
        """One row, one class."""
        return [self.index[label]]

    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The classifier sees one row a text already."""
        import torch

        return values, torch.arange(values.shape[0] + 1)

    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The mean over the tokens that are no padding."""
        import torch

        mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1), torch.arange(hidden.shape[0] + 1)

    def predict(self, decisions: Decisions) -> list[str]:
        """The most probable label."""
        return [self.labels[at] for at in decisions.probs.argmax(1).tolist()]

    def score(self, predicted: Sequence[str], gold: Sequence[str]) -> dict[str, float]:
        """Accuracy, and F1 averaged over the labels that occur."""
        from nlp_al.metrics import TextClassificationScores

        scores: dict[str, float] = TextClassificationScores().compute(
            predictions=[self.index[p] for p in predicted], references=[self.index[g] for g in gold]
        )
        return scores
