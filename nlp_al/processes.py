"""The processes of one launch: who this one is, what the main one says, what all have found."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, parse_flag_from_env

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
