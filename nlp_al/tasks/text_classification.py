"""Text classification, single-label: one decision an example. The text may be a pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.errors import UserError
from nlp_al.tasks.base import Piece, RowError, Rows, Task, label_name
from nlp_al.values import about, shown

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.heads import Head
    from nlp_al.pool import Example


@dataclass(frozen=True)
class TextOptions:
    """`task_options` of text classification."""

    max_length: int = about("tokens of a text that the model reads; of a pair the longer text is cut first", 128)
    multi_label: bool = about("whether a text may have several labels, or none; its label is then a list", False)
    separator: str | None = about("multi_label: what stands between labels that come as one text, as in a CSV file")

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length}; it must be at least 3.")
        if self.separator is not None and not (self.separator and self.multi_label):
            raise ValueError("separator is only for multi_label: true, and must not be empty.")


class TextClassification(Task):
    """One label out of C for each text, or pair of texts."""

    name: ClassVar[str] = "text-classification"
    shape: ClassVar[str] = "single"
    columns: ClassVar[dict[str, str]] = {
        "text": "the text, or for pairs a list of two columns",
        "label": "its label: text, number or ClassLabel; with multi_label a list of them",
    }
    several: ClassVar[frozenset[str]] = frozenset({"text"})
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1_macro")
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    Options: ClassVar[type] = TextOptions
    _how: ClassVar[str] = ""

    @classmethod
    def of(cls, options: TextOptions) -> Task:
        """With `multi_label`, the task that has yes and no for each label."""
        from nlp_al.tasks.multi_label import MultiLabelClassification

        return MultiLabelClassification(options) if options.multi_label else cls(options)

    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """The text (of a pair, a list of two), its number of words, its label."""
        text = row["text"]
        parts = text if isinstance(text, list) and len(text) == 2 else [text]
        for part in parts:
            if part is None or (isinstance(part, str) and not part.strip()):
                raise RowError("text", "the text is empty")
            if not isinstance(part, str):
                raise RowError("text", f"{shown(part)} is no text")
        return text, sum(len(part.split()) for part in parts), self.read_label(row.get("label"), label_names)

    def read_label(self, value: Any, label_names: Sequence[str] | None) -> Any:
        """A gold label by name; UserError where it can't be one."""
        if isinstance(value, list):
            raise UserError(f"{shown(value)} is a list; for several labels a text, set task_options.multi_label: true")
        return label_name(value, label_names)

    def feature(self, example: Example) -> Any:
        """One of the labels."""
        import datasets

        return datasets.ClassLabel(names=list(self.labels))

    def shown(self, inputs: Any) -> dict[str, Any]:
        """The text, or the two of a pair."""
        return (
            {"text": inputs} if isinstance(inputs, str) else {f"text_{at + 1}": text for at, text in enumerate(inputs)}
        )

    def names_in(self, label: Any) -> Sequence[str]:
        """The label itself."""
        return [label]

    def encode(self, tokenizer: Any, units: Sequence[Any]) -> list[list[Piece]]:
        """One piece a text, truncated to max_length tokens."""
        made = self._tokenized(tokenizer, units, truncation=True, max_length=self.options.max_length)
        return [[dict(zip(made, values, strict=True))] for values in zip(*made.values(), strict=True)]

    def too_long(self, tokenizer: Any, units: Sequence[Any]) -> list[bool]:
        """Whether a text has more than max_length tokens."""
        made = self._tokenized(tokenizer, units, truncation=False, verbose=False)
        return [len(ids) > self.options.max_length for ids in made["input_ids"]]

    def _tokenized(self, tokenizer: Any, units: Sequence[Any], **how: Any) -> Any:
        pairs = bool(units) and isinstance(units[0], (list, tuple))
        texts = [[unit[at] for unit in units] for at in (0, 1)] if pairs else [list(units)]
        return tokenizer(*texts, **how)

    def targets(self, pieces: Sequence[Piece], label: Any) -> list[Any]:
        """The label's position."""
        return [self.index[label]]

    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The classifier sees one row a text; that of a decoder sees every token, and the last one counts."""
        import torch

        rows = last_tokens(values, batch)
        return rows, torch.arange(len(rows) + 1)

    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The mean over the tokens that are no padding."""
        import torch

        return masked_mean(hidden, batch["attention_mask"]), torch.arange(hidden.shape[0] + 1)

    def fit_head(self, rows: Rows, labels: Sequence[Any]) -> Head:
        """Multinomial logistic regression."""
        import torch

        from nlp_al.heads import softmax_head

        return softmax_head(rows.hidden, torch.tensor([self.index[label] for label in labels]), len(self.labels))

    def usage(self, example: Example) -> str:
        """A pipeline."""
        pair = not isinstance(example.inputs, str)
        text = {"text": "A text.", "text_pair": "Its other half."} if pair else "A text."
        return f"""\
from transformers import pipeline

classify = pipeline("text-classification", model=source)
print(classify({json.dumps(text)}, {self._how}truncation=True, max_length={self.options.max_length}))
"""

    def predict(self, decisions: Decisions) -> list[Any]:
        """The most probable label."""
        return [self.labels[at] for at in decisions.probs.argmax(1).tolist()]

    def score(self, predicted: Sequence[Any], gold: Sequence[Any]) -> dict[str, float]:
        """Accuracy, and F1 averaged over the labels that occur."""
        from nlp_al.metrics import TextClassificationScores

        scores: dict[str, float] = TextClassificationScores().compute(
            predictions=[self.index[p] for p in predicted], references=[self.index[g] for g in gold]
        )
        return scores


def last_tokens(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """[B, d] as it is; of [B, T, d] the last token that is no padding, which is where a decoder's classifier reads."""
    import torch

    if values.dim() == 2:
        return values
    place = torch.arange(values.shape[1], device=values.device)
    return values[torch.arange(len(values), device=values.device), (batch["attention_mask"] * place).argmax(1)]


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens that are no padding: [B, T, d] and [B, T] to [B, d]."""
    mask = mask[:, :, None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)
