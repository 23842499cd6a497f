"""Response selection with a model that reads each candidate together with its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.tasks.base import READ, Piece, Rows
from nlp_al.tasks.response_selection import ResponseSelection, cutting, grouped, joined, pieces_of
from nlp_al.tasks.text_classification import last_tokens, masked_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nlp_al.heads import Head
    from nlp_al.pool import Example


class CrossEncoder(ResponseSelection):
    """A classifier with one output scores (context, option) pairs; a softmax over the options of each context.

    `AutoModelForSequenceClassification` exists for every architecture, unlike `AutoModelForMultipleChoice`, and is what
    is saved.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    pipeline_tag: ClassVar[str] = "text-ranking"

    def encode(self, tokenizer: Any, units: Sequence[Any]) -> list[list[Piece]]:
        """A piece an option; the oldest tokens of the context make room."""
        options = [self.options_of(unit) for unit in units]
        cut = iter(self._cut(tokenizer, [option for own in options for option in own]))
        contexts = [joined(unit["context"], tokenizer) for unit in units]
        pairs = [(context, next(cut)) for context, own in zip(contexts, options, strict=True) for _ in own]
        with cutting(tokenizer, "left"):
            made = tokenizer(
                [context for context, _ in pairs],
                [option for _, option in pairs],
                truncation="only_first",
                max_length=self.options.max_length,
            )
        return grouped(list(pieces_of(made)), [len(own) for own in options])

    def _cut(self, tokenizer: Any, options: Sequence[str]) -> list[str]:
        """Options of at most max_response_length tokens, and of at most half of what a pair may have."""
        limit = min(self.options.max_response_length, self.options.max_length // 2)
        made = tokenizer(list(options), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans = made["offset_mapping"]
        return [o if len(s) <= limit else o[: s[limit - 1][1]] for o, s in zip(options, spans, strict=True)]

    def too_long(self, tokenizer: Any, units: Sequence[Any]) -> list[bool]:
        """Whether a context or one of its options loses tokens."""
        found = []
        for unit in units:
            options, context = self.options_of(unit), joined(unit["context"], tokenizer)
            made = tokenizer([context] * len(options), options, truncation=False, verbose=False)
            cut = self._cut(tokenizer, options) != options
            found.append(cut or max(map(len, made["input_ids"])) > self.options.max_length)
        return found

    # Training

    def targets(self, pieces: Sequence[Piece], label: Any) -> list[Any]:
        """1 for the right option, 0 for the others."""
        right = self.position(label, len(pieces))
        return [int(at == right) for at in range(len(pieces))]

    def items(self, tokenizer: Any, labelled: Sequence[tuple[Any, Any]]) -> list[Any]:
        """The pieces of a context, with their targets."""
        encoded = self.encode(tokenizer, [inputs for inputs, _ in labelled])
        return [
            [{**piece, "labels": target} for piece, target in zip(own, self.targets(own, label), strict=True)]
            for own, (_, label) in zip(encoded, labelled, strict=True)
        ]

    def length(self, item: Any) -> int:
        """Tokens of the longest pair."""
        return max(len(piece["input_ids"]) for piece in item)

    def token_ids(self, tokenizer: Any, items: Sequence[Any]) -> set[int]:
        """Those of all pairs."""
        return super().token_ids(tokenizer, [piece for item in items for piece in item])

    def collate(self, tokenizer: Any, items: Sequence[Any]) -> dict[str, Any]:
        """All pairs of the batch, and how many each context has."""
        import torch

        batch = super().collate(tokenizer, [piece for item in items for piece in item])
        return {**batch, "counts": torch.tensor([len(item) for item in items])}

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Cross-entropy over the options of each context."""
        import torch

        from nlp_al.decisions import segment_max, segment_sum

        scores = model(**{name: values for name, values in batch.items() if name in READ}).logits[:, 0].float()
        offsets = torch.cat([batch["counts"].new_zeros(1), batch["counts"].cumsum(0)])
        top = segment_max(scores.detach(), offsets)
        away = scores - top.repeat_interleave(batch["counts"])
        chosen = segment_sum(away * batch["labels"], offsets)
        return (segment_sum(away.exp(), offsets).log() - chosen).mean()

    def head_config(self) -> dict[str, Any]:
        """One output, the score of a pair."""
        return {"num_labels": 1}

    def usage(self, example: Example) -> str:
        """A score a pair."""
        return f"""\
import torch
{super().usage(example)}
{self.example_of_use()}
tokenizer.truncation_side = "left"
batch = tokenizer(
    [context] * len(candidates),
    candidates,
    padding=True,
    truncation="only_first",
    max_length={self.options.max_length},
    return_tensors="pt",
)
with torch.no_grad():
    scores = model(**batch).logits[:, 0]
print(candidates[int(scores.argmax())])
"""

    # Rows

    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A row a pair."""
        import torch

        rows = last_tokens(values, batch)
        return rows, torch.arange(len(rows) + 1)

    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The mean over the tokens that are no padding."""
        import torch

        return masked_mean(hidden, batch["attention_mask"]), torch.arange(len(hidden) + 1)

    def fit_head(self, rows: Rows, labels: Sequence[Any]) -> Head:
        """One weight vector for all pairs."""
        import torch

        from nlp_al.heads import choice_head

        counts = rows.offsets.diff().tolist()
        chosen = [self.position(label, count) for label, count in zip(labels, counts, strict=True)]
        start = torch.zeros(rows.hidden.shape[1])
        return choice_head(rows.hidden, rows.offsets, torch.tensor(chosen), start)

    def embeddings(self, rows: Rows) -> Tensor:
        """float[n, d]: the mean of the pairs by probability."""
        from nlp_al.decisions import segment_sum

        return segment_sum(self.option_weights(rows) * rows.hidden.float(), rows.offsets)
