"""The processes of one launch: who this one is, what the main one says, what all have found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env
from accelerate.utils.memory import clear_device_cache

from nlp_al.errors import RunError
from nlp_al.selection.shards import Alone, Peers

T = TypeVar("T")


def processes() -> PartialState:
    """This process among those of `accelerate launch` or `torchrun`; on the CPU where there is no accelerator."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def shared(value: T) -> T:
    """The main process's value, on every process."""
    if processes().num_processes == 1:
        return value
    found: T = broadcast_object_list([value])[0]
    return found


@cache
def peers() -> Peers:
    """The processes of this launch, as those that hold a pool together. All ask for it together, the first time."""
    state = processes()
    return Alone() if state.num_processes == 1 else _Launched(state.process_index, state.num_processes)


class _Launched:
    """What is exchanged lies in main memory, which NCCL and its like can't read: gloo can."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        usual = torch.distributed.get_backend() == "gloo"
        self._group = None if usual else torch.distributed.new_group(backend="gloo")

    def join(self, rows: torch.Tensor) -> torch.Tensor:
        """As `Peers` says; of each process as many rows go round as the longest part has."""
        device, rows = rows.device, rows.cpu()
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        torch.distributed.all_gather(counts, torch.tensor([len(rows)]), group=self._group)
        room = rows.new_zeros((int(max(counts)), *rows.shape[1:]))
        room[: len(rows)] = rows
        parts = [torch.empty_like(room) for _ in counts]
        if len(room):
            torch.distributed.all_gather(parts, room, group=self._group)
        return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)]).to(device)

    def deal(self, part: Callable[[int], T]) -> list[T]:
        """As `Peers` says; one process after the other is given its parts, which are made when its turn comes."""
        given: list[Any] = []
        for rank in range(self.size):
            mine = rank == self.rank
            found: list[Any] | None = [None] * self.size if mine else None
            torch.distributed.gather_object(None if mine else part(rank), found, dst=rank, group=self._group)
            if found is not None:
                found[rank] = part(rank)
                given = found
        return given


class Bell:
    """Wakes the other processes when the main one has what it waited for.

    They look at a key-value store meanwhile: no collective is open, so none can time out while people label for days.
    """

    pause = 0.5
    """Seconds between two looks."""

    def __init__(self) -> None:
        self._store: Any = None
        self._rung = 0

    def after(self, wait: Callable[[], str]) -> str:
        """What `wait` returns, which the main process alone calls, on every process. All call this together.

        Raises:
            RunError: on the others, when the main process has gone.
        """
        state = processes()
        if state.num_processes == 1:
            return wait()
        if self._store is None:
            self._store = self._connected(state)
        self._rung += 1
        key = f"rung-{self._rung}"
        if state.is_main_process:
            said = wait()
            self._store.set(key, said)
            return said
        try:
            while not self._store.check([key]):
                time.sleep(self.pause)
            return str(self._store.get(key).decode())
        except RuntimeError as error:  # the store lives in the main process
            raise RunError("The main process has ended.") from error

    @staticmethod
    def _connected(state: PartialState) -> Any:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        host, made = os.environ["MASTER_ADDR"], None
        if state.is_main_process:
            made = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        port = shared(made.port if made is not None else 0)
        return made or TCPStore(host, port, is_master=False)


def free_memory() -> None:
    """Gives back what the accelerator holds for nobody."""
    if processes().device.type != "cpu":
        clear_device_cache(garbage_collection=True)


def leave() -> None:
    """Parts from the other processes, once all are done; a process that goes away first would take them down."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def gathered(values: list[T]) -> list[T]:
    """The lists of all processes as one, on every process."""
    if processes().num_processes == 1:
        return values
    found: list[Any] = gather_object(values)
    return found
