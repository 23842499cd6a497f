"""Threads that stand for processes, to try what several of them do together."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

import torch
from torch import Tensor

from nlp_al.selection.shards import Peers

T = TypeVar("T")


def with_peers(size: int, work: Callable[[Peers], T]) -> list[T]:
    """What `work` returns to each of so many threads, which are each other's peers, in their order.

    Raises:
        Exception: the first that any of them raised.
    """
    table = _Table(size)

    def one(rank: int) -> T:
        try:
            return work(_Thread(rank, table))
        except BaseException:
            table.barrier.abort()  # or the others would wait for it
            raise

    with ThreadPoolExecutor(size) as threads:
        running = [threads.submit(one, rank) for rank in range(size)]
    wrong = [error for one_ in running if (error := one_.exception()) is not None]
    for error in sorted(wrong, key=lambda error: isinstance(error, BrokenBarrierError)):
        raise error
    return [one_.result() for one_ in running]


class _Table:
    """What each has laid down for the others to see."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.laid: list[Any] = [None] * size
        self.barrier = Barrier(size, timeout=60)


class _Thread:
    def __init__(self, rank: int, table: _Table) -> None:
        self.rank, self.size, self._table = rank, table.size, table

    def _all(self, own: Any) -> list[Any]:
        self._table.laid[self.rank] = own
        self._table.barrier.wait()
        found = list(self._table.laid)
        self._table.barrier.wait()
        return found

    def join(self, rows: Tensor) -> Tensor:
        """As `Peers` says."""
        return torch.cat(self._all(rows))

    def deal(self, part: Callable[[int], T]) -> list[T]:
        """As `Peers` says."""
        return [given[self.rank] for given in self._all([part(rank) for rank in range(self.size)])]
