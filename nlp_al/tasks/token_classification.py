"""Named entity recognition: one decision a word, read at its first sub-word."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.errors import UserError
from nlp_al.tasks.base import RowError, Task, label_name
from nlp_al.values import shown

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.pool import Example


@dataclass(frozen=True)
class TokenOptions:
    """`task_options` of token classification."""

    max_length: int = field(default=128, metadata={"help": "tokens of a sentence that the model reads"})

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError(f"max_length is {self.max_length}; it must be at least 3.")


class TokenClassification(Task):
    """One BIO tag for each word. Words past the window of max_length tokens have no decision and are predicted O."""

    name: ClassVar[str] = "token-classification"
    shape: ClassVar[str] = "sequence"
    columns: ClassVar[dict[str, str]] = {
        "tokens": "list of words",
        "tags": "list of BIO tags: text, numbers, ClassLabel",
    }
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall")
    auto_class: ClassVar[str] = "AutoModelForTokenClassification"
    Options: ClassVar[type] = TokenOptions

    def read(self, row: Mapping[str, Any], label_names: Sequence[str] | None) -> tuple[Any, int, Any]:
        """The words, how many there are, their tags."""
        words, tags = row["tokens"], row.get("tags")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise RowError("tokens", f"{shown(words)} is no list of words")
        if not words:
            raise RowError("tokens", "the sentence is empty")
        if tags is not None and not isinstance(tags, list):
            raise UserError(f"{shown(tags)} is no list of tags")
        if not tags:
            return words, len(words), None
        if len(tags) != len(words):
            raise UserError(f"there are {len(words)} tokens but {len(tags)} tags")
        named = [label_name(tag, label_names) for tag in tags]
        if None in named:
            raise UserError("a tag is missing")
        return words, len(words), named

    def names_in(self, label: Any) -> Sequence[str]:
        """The tags."""
        return list(label)

    def readable(self, label: Any, example: Example) -> bool:
        """A tag for every word."""
        whole = isinstance(label, (list, tuple)) and len(label) == len(example.inputs)
        return whole and all(isinstance(tag, str) and tag in self.index for tag in label)

    def encode(self, tokenizer: Any, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Truncated to max_length tokens; `first` marks the first sub-word of each word."""
        sentences = [list(words) for words in inputs]
        made = self._tokenized(tokenizer, sentences)
        lost = False
        for at, words in enumerate(sentences):
            seen = {own for own in made.word_ids(at) if own is not None}
            for own in set(range(max(seen, default=0))) - seen:  # of a lone joiner, say, no sub-word is left
                words[own], lost = tokenizer.unk_token or "?", True
        made = self._tokenized(tokenizer, sentences) if lost else made
        encodings = []
        for at in range(len(inputs)):
            owners = made.word_ids(at)
            first = [int(own is not None and own not in owners[:i]) for i, own in enumerate(owners)]
            encodings.append({**{name: made[name][at] for name in made}, "first": first})
        return encodings

    def _tokenized(self, tokenizer: Any, sentences: list[list[str]]) -> Any:
        return tokenizer(sentences, is_split_into_words=True, truncation=True, max_length=self.options.max_length)

    def targets(self, encoding: Mapping[str, Any], label: Any) -> list[int]:
        """The tag of each first sub-word; −100 everywhere else."""
        tags = iter(label)
        return [self.index[next(tags)] if first else -100 for first in encoding["first"]]

    def row_targets(self, label: Any, rows: int) -> list[int]:
        """The tags of the words inside the window."""
        return [self.index[tag] for tag in label[:rows]]

    def pick_rows(self, values: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The first sub-words, sentence by sentence."""
        import torch

        first = batch["first"].bool()
        return values[first], torch.cat([torch.zeros(1, dtype=torch.int64), first.sum(1).cpu().cumsum(0)])

    def pool_rows(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The first sub-words, as with a head."""
        return self.pick_rows(hidden, batch)

    def constant(self, name: str, example: Example) -> list[str]:
        """The tag on every word."""
        return [name] * len(example.inputs)

    def predict(self, decisions: Decisions) -> list[list[str]]:
        """The most probable tag of each word inside the window."""
        tags = [self.labels[at] for at in decisions.probs.argmax(1).tolist()]
        bounds = decisions.offsets.tolist()
        return [tags[start:end] for start, end in itertools.pairwise(bounds)]

    def score(self, predicted: Sequence[list[str]], gold: Sequence[list[str]]) -> dict[str, float]:
        """Precision, recall and F1 of whole entities."""
        from nlp_al.metrics import EntityScores

        whole = [[*p, *["O"] * (len(g) - len(p))] for p, g in zip(predicted, gold, strict=True)]
        scores: dict[str, float] = EntityScores().compute(predictions=whole, references=list(gold))
        return scores
