"""Response selection with one encoder that reads contexts and candidates apart, and compares them by cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.tasks.base import READ, Piece, Rows
from nlp_al.tasks.response_selection import ResponseSelection, cutting, joined, pieces_of
from nlp_al.tasks.text_classification import masked_mean

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nlp_al.decisions import Decisions
    from nlp_al.heads import Head
    from nlp_al.pool import Example
    from nlp_al.signals import Gradients

SCALE = 20.0
"""What a cosine is multiplied with before the softmax, as is usual for in-batch negatives (Henderson et al. 2017)."""


NEAR = 0.5
"""The slack of a frozen head around the cosine. 32, as from zero, lost 0.07 of recall@1 on SGD with 150 labels."""


class BiEncoder(ResponseSelection):
    """Option k scores SCALE · cos(e(context), e(option k)), e being the mean over tokens.

    Trained with in-batch negatives (arXiv 1705.00652): each context against every distinct option of its batch. Each
    distinct context and option is embedded once, however many examples share it. What is saved is an encoder that
    `AutoModel` loads.
    """

    auto_class: ClassVar[str] = "AutoModel"
    pipeline_tag: ClassVar[str] = "feature-extraction"
    apart: ClassVar[bool] = True
    slack: ClassVar[float] = NEAR

    def units(self, inputs: Any) -> Sequence[Any]:
        """The context, a list, and its options, texts."""
        return [inputs["context"], *self.options_of(inputs)]

    def encode(self, tokenizer: Any, units: Sequence[Any]) -> list[list[Piece]]:
        """One piece each; contexts lose their oldest tokens, options their last."""
        found: list[list[Piece]] = [[] for _ in units]
        for kind, side, length in self._kinds():
            places = [at for at, unit in enumerate(units) if isinstance(unit, kind)]
            with cutting(tokenizer, side):
                texts = self._texts(tokenizer, [units[at] for at in places])
                made = tokenizer(texts, truncation=True, max_length=length) if texts else {}
            for at, piece in zip(places, pieces_of(made), strict=True):
                found[at] = [piece]
        return found

    def too_long(self, tokenizer: Any, units: Sequence[Any]) -> list[bool]:
        """Whether a context or an option loses tokens."""
        limit = {kind: length for kind, _, length in self._kinds()}
        made = tokenizer(self._texts(tokenizer, units), truncation=False, verbose=False)
        return [len(ids) > limit[type(unit)] for unit, ids in zip(units, made["input_ids"], strict=True)]

    def _kinds(self) -> tuple[tuple[type, str, int], ...]:
        return (list, "left", self.options.max_length), (str, "right", self.options.max_response_length)

    def _texts(self, tokenizer: Any, units: Sequence[Any]) -> list[str]:
        return [joined(unit, tokenizer) if isinstance(unit, list) else unit for unit in units]

    # Training

    def targets(self, pieces: Sequence[Piece], label: Any) -> list[Any]:
        """The position of the right option behind the context."""
        return [self.position(label, len(pieces) - 1)]

    def items(self, tokenizer: Any, labelled: Sequence[tuple[Any, Any]]) -> list[Any]:
        """A context, its options, and which of them is right."""
        known: dict[Any, Piece] = {}
        units = {self._key(unit): unit for inputs, _ in labelled for unit in self.units(inputs)}
        for key, (piece,) in zip(units, self.encode(tokenizer, list(units.values())), strict=True):
            known[key] = piece
        found = []
        for inputs, label in labelled:
            context, *options = [known[self._key(unit)] for unit in self.units(inputs)]
            found.append((context, options, self.position(label, len(options))))
        return found

    def _key(self, unit: Any) -> Any:
        return tuple(unit) if isinstance(unit, list) else unit

    def length(self, item: Any) -> int:
        """Tokens of the context."""
        return len(item[0]["input_ids"])

    def token_ids(self, tokenizer: Any, items: Sequence[Any]) -> set[int]:
        """Those of contexts and options."""
        pieces = [piece for context, options, _ in items for piece in (context, *options)]
        return super().token_ids(tokenizer, pieces)

    def collate(self, tokenizer: Any, items: Sequence[Any]) -> dict[str, Any]:
        """The contexts, every distinct option of the batch once, and the right one of each context."""
        import torch

        distinct: dict[tuple[int, ...], Piece] = {}
        for _, options, _ in items:
            distinct.update({tuple(piece["input_ids"]): piece for piece in options})
        place = {key: at for at, key in enumerate(distinct)}
        right = [place[tuple(options[at]["input_ids"])] for _, options, at in items]
        return {
            "contexts": self.pad(tokenizer, [context for context, _, _ in items]),
            "options": self.pad(tokenizer, list(distinct.values())),
            "labels": torch.tensor(right),
        }

    def loss(self, model: nn.Module, batch: dict[str, Any]) -> Tensor:
        """Cross-entropy of each context over all options of the batch."""
        import torch

        contexts, options = (self._embedded(model, batch[name]) for name in ("contexts", "options"))
        return torch.nn.functional.cross_entropy(SCALE * contexts @ options.T, batch["labels"])

    def _embedded(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        hidden = model(**{name: values for name, values in batch.items() if name in READ}).last_hidden_state
        return self.pool_rows(hidden.float(), batch)[0]

    def head_config(self) -> dict[str, Any]:
        """There is no head."""
        return {}

    def usage(self, example: Example) -> str:
        """The cosines."""
        limits = self.options.max_length, self.options.max_response_length
        return f"""\
import torch
{super().usage(example)}

def embed(texts, side, max_length):
    tokenizer.truncation_side = side
    batch = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


{self.example_of_use()}
context = embed([context], "left", {limits[0]})
scores = (context @ embed(candidates, "right", {limits[1]}).T)[0]
print(candidates[int(scores.argmax())])
"""

    # Rows

    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A row a unit already."""
        import torch

        return values, torch.arange(len(values) + 1)

    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The mean over the tokens that are no padding, of length 1."""
        import torch

        rows = torch.nn.functional.normalize(masked_mean(hidden, batch["attention_mask"]), dim=1)
        return rows, torch.arange(len(rows) + 1)

    def assemble(self, hidden: Tensor, offsets: Tensor, examples: Sequence[Example]) -> Rows:
        """Options as rows, and what they are compared with; `none` has a column of its own, 1 in its rows alone."""
        import torch

        context = torch.zeros(len(hidden), dtype=torch.bool)
        context[offsets[:-1]] = True
        contexts, options = hidden[context], hidden[~context]
        ends = offsets - torch.arange(len(offsets))
        if self.options.none_of_these is not None:
            none = torch.zeros(len(options), 1)
            none[ends[1:] - 1] = 1.0
            contexts, options = torch.cat([contexts, torch.ones(len(contexts), 1)], 1), torch.cat([options, none], 1)
        return Rows(options, None, ends, contexts)

    def products(self, rows: Rows) -> Tensor:
        """float[J, d]: e(context) ⊙ e(option), of which the cosine is the sum."""
        from nlp_al.decisions import owners

        assert rows.context is not None
        return rows.context[owners(rows.offsets)] * rows.hidden

    def score_rows(self, rows: Rows, head: Head) -> Rows:
        """The head on the products, which are not kept."""
        from nlp_al.decisions import owners

        assert rows.context is not None
        weighted = rows.context * head.weight[0].to(rows.hidden.dtype)
        return rows._replace(logits=(weighted[owners(rows.offsets)] * rows.hidden).sum(1, keepdim=True))

    def fit_head(self, rows: Rows, labels: Sequence[Any]) -> Head:
        """Weights of the products of coordinates, held near those of the cosine: a fit from zero is worse than none."""
        import torch

        from nlp_al.heads import choice_head

        counts = rows.offsets.diff().tolist()
        chosen = [self.position(label, count) for label, count in zip(labels, counts, strict=True)]
        start = self._cosine(rows.hidden.shape[1])
        free = 0 if self.options.none_of_these is None else 1
        return choice_head(self.products(rows), rows.offsets, torch.tensor(chosen), start, NEAR, free)

    def trained_head(self, model: nn.Module) -> Head:
        """The cosine itself."""
        import torch

        from nlp_al.heads import Head

        width = int(model.config.hidden_size) + (self.options.none_of_these is not None)  # type: ignore[union-attr,arg-type]
        return Head(self._cosine(width)[None], torch.zeros(1, dtype=torch.float64))

    def _cosine(self, width: int) -> Tensor:
        import torch

        start = torch.full((width,), SCALE, dtype=torch.float64)
        if self.options.none_of_these is not None:
            start[-1] = 0.0
        return start

    def gradients(self, rows: Rows, decisions: Decisions) -> Gradients:
        """(p_k − 1[k = ŷ]) ⊗ (e(context) ⊙ e(option k)), a row an option."""
        return super().gradients(rows._replace(hidden=self.products(rows)), decisions)

    def embeddings(self, rows: Rows) -> Tensor:
        """float[n, 2d]: e(context), and the mean of e(option) by probability."""
        import torch

        from nlp_al.decisions import segment_sum

        assert rows.context is not None
        return torch.cat([rows.context, segment_sum(self.option_weights(rows) * rows.hidden, rows.offsets)], 1)
