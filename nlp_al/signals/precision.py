"""The precision that a model multiplies matrices in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """half: under autocast, None for float32. float32_matmul: as torch.set_float32_matmul_precision has it."""

    half: torch.dtype | None = None
    float32_matmul: str = "highest"

    @contextmanager
    def of_products(self) -> Iterator[None]:
        """float32 matrices are multiplied in this way while it lasts; torch knows one way for the whole process."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.float32_matmul)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """A forward runs in this precision."""
        half = torch.autocast(device.type, dtype=self.half or torch.bfloat16, enabled=self.half is not None)
        with half, self.of_products():
            yield
