"""A fitted model that gradients go through: to its weights, and to what its word embeddings make of each token."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nlp_al.decisions import Decisions, segment_sum
from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals import take_rows
from nlp_al.signals.features import batches_by_length, counts_to_offsets
from nlp_al.signals.precision import Precision
from nlp_al.tasks import Piece, Rows, Task

Read = Callable[[Mapping[str, Tensor], Tensor, Sequence[Example]], Rows]
"""(a padded batch of pieces, int64[n + 1] the pieces of each example, the examples) to their rows, on the CPU."""


class Item(NamedTuple):
    """An example as it is read.

    pieces: each with `real`, 1 for the tokens of words, 0 for special ones, and `word`, which of the distinct words
    that the example is about a token belongs to, and `spot`, which of the tokens that it is about, both counted from
    1, 0 for none; several pieces may hold the same one. words: how many words there are. spots: of each of these tokens
    its text, its word there, where it begins, and how it is written.
    """

    example: Example
    pieces: list[Piece]
    words: int
    spots: Sequence[tuple[int, int, int, str]] = ()


class Live:
    """A fitted model that is asked with gradients. Every process holds it.

    read: the forward of a batch. weights: what may be differentiated by beside the model's parameters, by name.
    """

    sharded = True

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        task: Task,
        read: Read,
        batch_size: int = 32,
        precision: Precision | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.task = task
        self.read = read
        self.batch_size = batch_size
        self.precision = precision or Precision()
        self.weights = {**dict(model.named_parameters()), **(weights or {})}
        self.device = processes().device

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Item], list[list[int]]]:
        """The pieces of each example, in batches of similar length."""
        self.model.to(self.device).eval()
        units = [list(self.task.units(example.inputs)) for example in examples]
        encoded = iter(self.task.encode(_Telling(self.tokenizer), [unit for own in units for unit in own]))
        pieces = [[next(encoded) for _ in own] for own in units]
        items = [self._item(example, own) for example, own in zip(examples, pieces, strict=True)]
        longest = [max((len(piece["input_ids"]) for piece in item.pieces), default=0) for item in items]
        return items, batches_by_length(longest, self.batch_size)

    def _item(self, example: Example, units: Sequence[Sequence[Piece]]) -> Item:
        special = {*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}
        known: dict[tuple[int, ...], int] = {}
        seen: dict[tuple[int, int, int, int], tuple[int, tuple[int, int, int, str]]] = {}
        pieces = []
        for unit, piece in ((unit, piece) for unit, own in enumerate(units) for piece in own):
            ids, kept = piece["input_ids"], {name: v for name, v in piece.items() if name not in _TOLD}
            spots = [
                (text, word) if text and token not in special else (0, 0)
                for token, text, word in zip(ids, piece["text"], piece["word"], strict=True)
            ]
            words: list[int] = []
            for (text, _), run in itertools.groupby(zip(spots, ids, strict=True), key=lambda pair: pair[0]):
                tokens = tuple(token for _, token in run)
                # Of a dialogue the candidates are no part of what it is about.
                about = text and (self.task.shape != "ranking" or (unit == 0 and text == 1))
                words += [known.setdefault(tokens, len(known) + 1) if about else 0] * len(tokens)
            places: list[int] = []
            before, again = (0, 0, 0), 0
            for (text, at), (start, end), written, word in zip(
                spots, piece["span"], piece["written"], words, strict=True
            ):
                again = again + 1 if (text, start, end) == before else 0  # a character may be several tokens
                before = (text, start, end)
                said = (text, at, start, "" if again else written)
                places.append(seen.setdefault((*before, again), (len(seen) + 1, said))[0] if word else 0)
            pieces.append({**kept, "real": [int(text > 0) for text, _ in spots], "word": words, "spot": places})
        return Item(example, pieces, len(known), [spot for _, spot in seen.values()])

    def readings(self, items: Sequence[Item]) -> Iterator[tuple[slice, Reading]]:
        """Runs of a batch that have at most `batch_size` pieces, or one example, and where they stand in it."""
        start, held = 0, 0
        for at, item in enumerate(items):
            if held and held + len(item.pieces) > self.batch_size:
                yield slice(start, at), Reading(self, items[start:at])
                start, held = at, 0
            held += len(item.pieces)
        if held:
            yield slice(start, len(items)), Reading(self, items[start:])

    @contextmanager
    def differentiating(self, weights: Collection[str] = ()) -> Iterator[None]:
        """While it lasts, of the weights those that are named take part in gradients, and no others."""
        before = {name: weight.requires_grad for name, weight in self.weights.items()}
        try:
            for name, weight in self.weights.items():
                weight.requires_grad_(name in weights)
            yield
        finally:
            for name, weight in self.weights.items():
                weight.requires_grad_(before[name])

    def rest(self) -> None:
        """Leaves the accelerator; `prepare` goes back to it."""
        self.model.to("cpu")


class Reading:
    """A few examples before a live model, as one padded batch of P pieces of T tokens.

    pieces: int64[n + 1], the pieces of each example. real: bool[P, T], the tokens of words. word: int64[P, T], as in
    `Item`; `batch` has its spots likewise. words: int64[n + 1], the distinct words of each example.
    """

    def __init__(self, live: Live, items: Sequence[Item]) -> None:
        self.live = live
        self.examples = [item.example for item in items]
        self.pieces = counts_to_offsets([len(item.pieces) for item in items])
        self.words = counts_to_offsets([item.words for item in items])
        padded = live.task.pad(live.tokenizer, [piece for item in items for piece in item.pieces])
        self.batch = {name: values.to(live.device) for name, values in padded.items()}
        self.real, self.word = self.batch["real"].bool(), self.batch["word"]

    def __len__(self) -> int:
        return len(self.examples)

    def only(self, kept: Tensor) -> Reading:
        """The same batch of some of its examples, padded as before. kept: int64[m], their places."""
        part = object.__new__(Reading)
        rows, part.pieces = take_rows(self.pieces, kept)
        part.live, part.examples = self.live, [self.examples[at] for at in kept.tolist()]
        part.words = counts_to_offsets(self.words.diff()[kept].tolist())
        part.batch = {name: values[rows.to(values.device)] for name, values in self.batch.items()}
        part.real, part.word = part.batch["real"].bool(), part.batch["word"]
        return part

    @property
    def table(self) -> nn.Module:
        """The layer that makes vectors of tokens."""
        found: nn.Module = self.live.model.get_input_embeddings()  # type: ignore[operator]
        return found

    def unmoved(self) -> Tensor:
        """float[P, T, d] zeros: what may be added to what the word embeddings make of each token."""
        table: Any = self.table
        return torch.zeros(*self.real.shape, table.weight.shape[-1], device=self.live.device)

    def decisions(self, moved: Tensor | None = None) -> Decisions:
        """The distributions, with float[P, T, d] added to what the word embeddings make of each token."""
        waiting = [] if moved is None else [moved]

        def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            # Once: a decoder that reads the same tokens again would get it in other places.
            return output + waiting.pop().to(output.dtype) if waiting else output

        hook = self.table.register_forward_hook(add)
        try:
            rows = self.live.read(self.batch, self.pieces, self.examples)
        finally:
            hook.remove()
        return self.live.task.decisions(rows)

    def sums(self, values: Tensor) -> Tensor:
        """Sums a number a piece over the pieces of each example: float[P] to float64[n], on the CPU."""
        return segment_sum(values.cpu().double(), self.pieces)

    def spread(self, values: Tensor) -> Tensor:
        """A number an example as one a piece, [P, 1, 1], on the model's device."""
        return values.float().repeat_interleave(self.pieces.diff())[:, None, None].to(self.live.device)


_TOLD = ("text", "word", "span", "written")


class _Telling:
    """A tokenizer that also says of each token which text it is of, counted from 1, 0 for one that it put in itself,
    which word of that, where it begins and ends there, and how it is written.

    Tasks hand on what a tokenizer returns token by token, so that pieces have all of it. Where a tokenizer knows no
    words, each token is one.
    """

    def __init__(self, tokenizer: Any) -> None:
        object.__setattr__(self, "_inner", tokenizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def __call__(self, *texts: Any, **how: Any) -> Any:
        made = self._inner(*texts, **how)
        knows = self._inner.backend_tokenizer.pre_tokenizer is not None
        count = range(len(made["input_ids"]))
        spots = [(made.sequence_ids(at), made.word_ids(at)) for at in count]
        made["text"] = [[0 if text is None else text + 1 for text in texts] for texts, _ in spots]
        made["word"] = [words if knows else list(range(len(words))) for _, words in spots]
        made["span"] = [list(encoding.offsets) for encoding in made.encodings]
        made["written"] = [
            ["" if text is None else texts[text][at][start:end] for text, (start, end) in zip(own, spans, strict=True)]
            for at, ((own, _), spans) in enumerate(zip(spots, made["span"], strict=True))
        ]
        return made
