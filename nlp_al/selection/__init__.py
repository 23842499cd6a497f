"""Batch algorithms on plain tensors; they know neither models nor tasks."""

from torch import Tensor

BLOCK = 65_536
"""Rows of one block of pool arithmetic. Fixed, so that no number of processes or chunk size changes a sum."""


def in_blocks(values: Tensor) -> tuple[Tensor, ...]:
    """Views of the rows of a tensor, `BLOCK` at a time."""
    return tuple(values.split(BLOCK))
