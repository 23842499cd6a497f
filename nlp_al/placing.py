"""Where a batch is chosen: on the GPU, where there is one with room for the signals, else on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nlp_al.processes import free_memory, processes
from nlp_al.signals import Signals
from nlp_al.signals.precision import Precision
from nlp_al.strategies import Selection

ROOM = 4
"""Times the bytes of the signals that must be free: strategies hold copies of them in float64."""


def placed(choose: Callable[[Signals], Selection], signals: Signals, draws: torch.Generator) -> Selection:
    """What `choose` makes of the signals, on this process's GPU if they fit, else on the CPU.

    draws: the generator that it takes. It is put back where the GPU has too little memory after all.

    Raises:
        torch.OutOfMemoryError: of a pool that several processes hold, in the middle of what they do together.
    """
    device = processes().device
    if device.type == "cuda" and _fits(signals, device):
        state = draws.get_state()
        try:
            with repeatable():
                return choose(signals.to(device))
        except torch.OutOfMemoryError:
            if signals.shard is not None:
                raise
        draws.set_state(state)
        free_memory()
    return choose(signals)


def _fits(signals: Signals, device: torch.device) -> bool:
    free_memory()
    return ROOM * signals.nbytes <= torch.cuda.mem_get_info(device)[0]


@contextmanager
def repeatable() -> Iterator[None]:
    """On a GPU the same gives the same: sums in one order, where there is a way, and products in full float32."""
    before = torch.get_deterministic_debug_mode()
    with Precision().of_products(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic", category=UserWarning)
        torch.set_deterministic_debug_mode("warn")
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)
