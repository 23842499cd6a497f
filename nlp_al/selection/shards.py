"""A pool whose rows several processes hold, and how they choose from it together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from nlp_al import selection

T = TypeVar("T")


class Peers(Protocol):
    """The processes that hold a pool. All call each method together."""

    @property
    def rank(self) -> int:
        """The number of this one, from 0."""

    @property
    def size(self) -> int:
        """How many there are."""

    def join(self, rows: Tensor) -> Tensor:
        """[k, ...] rows of each process, k its own, as one tensor in the order of the processes, on each of them."""

    def deal(self, part: Callable[[int], T]) -> list[T]:
        """Gives part(i) to process i; what each process gave this one, in their order."""


class Alone:
    """A single process, which holds everything."""

    rank = 0
    size = 1

    def join(self, rows: Tensor) -> Tensor:
        """Its own."""
        return rows

    def deal(self, part: Callable[[int], T]) -> list[T]:
        """Its own."""
        return [part(0)]


def edges(total: int, size: int) -> list[int]:
    """Where the rows of each of `size` processes begin, and the end of the last: whole blocks, shared out evenly."""
    blocks = -(-total // selection.BLOCK)
    return [min(total, selection.BLOCK * -(-blocks * rank // size)) for rank in range(size + 1)]


@dataclass(frozen=True)
class Shard:
    """The rows that this process holds, start to stop of total: whole blocks, behind those of the processes before it.

    Blocks are the same for any number of processes. So is what is found a block at a time and put together in their
    order.
    """

    start: int
    stop: int
    total: int
    peers: Peers

    @classmethod
    def of(cls, total: int, peers: Peers | None = None) -> Shard:
        """This process's share of so many rows; all of them where it has no peers."""
        peers = peers or Alone()
        bounds = edges(total, peers.size)
        return cls(bounds[peers.rank], bounds[peers.rank + 1], total, peers)

    def join(self, rows: Tensor) -> Tensor:
        """What all processes give, in the order of the pool."""
        return self.peers.join(rows)

    def own(self, position: int) -> slice:
        """Where a position is among this process's rows; nowhere if another one holds it."""
        at = position - self.start
        return slice(at, at + 1) if self.start <= position < self.stop else slice(0, 0)

    def first(self, holds: Tensor) -> int:
        """The lowest position where something holds, here bool[stop - start]; it must hold somewhere."""
        return int(self.join(torch.nonzero(holds).flatten()[:1] + self.start)[0])

    def told(self, sentence: str) -> str:
        """What the first process says that has anything to say, up to 500 bytes of it."""
        letters = torch.tensor([*sentence.encode()[:500].ljust(500)], dtype=torch.uint8)
        said = self.join(letters[None] if sentence else letters.new_zeros(0, 500))
        return bytes(said[0].tolist()).decode(errors="ignore").strip() if len(said) else ""


def first_highest(values: Tensor) -> Tensor:
    """The first place of the largest of float[n] values, int64[1], or int64[0] where there are none."""
    return values.argmax(0, keepdim=True) if len(values) else values.new_zeros(0, dtype=torch.int64)
