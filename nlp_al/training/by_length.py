"""Training batches of items of similar length, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class ByLength(Sampler[int]):
    """Batches of neighbours by length, in an order that is drawn anew each epoch, as is the order among equal lengths.

    transformers' own sampler sorts within a quarter of the set at most; a few hundred labels are sorted whole.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order: list[int] = torch.randperm(len(self.lengths), generator=self.generator).tolist()
        order.sort(key=self.lengths.__getitem__)  # stable
        # The batch that is not full comes last, and is not always that of the longest.
        whole = len(order) // self.batch_size
        at = int(torch.randint(whole + 1, (), generator=self.generator)) * self.batch_size
        rest = order[at : at + len(order) % self.batch_size]
        order = [*order[:at], *order[at + len(rest) :]]
        for batch in torch.randperm(whole, generator=self.generator).tolist():
            yield from order[batch * self.batch_size : (batch + 1) * self.batch_size]
        yield from rest
