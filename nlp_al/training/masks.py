"""Dropout with masks that are drawn once: the same for every example, in any batch, on any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def dropouts(model: nn.Module, rate: float | None = None) -> dict[str, tuple[nn.Module, float]]:
    """The modules that drop parts of hidden states, by name, and the share of it. rate: in place of their own."""
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd)}
    rates = {name: (m, m.p if rate is None else rate) for name, m in found.items()}
    return {name: (m, share) for name, (m, share) in rates.items() if share > 0}


class Masks:
    """Masks over the last dimension of hidden states, [..., d], for each dropout module and each member.

    The model stays as it is for inference: what else training switches on, such as the leaving out of whole layers,
    stays off. Attention weights [B, heads, T, T] are no hidden states: what of them is dropped would hang on where a
    token stands in its batch.
    """

    def __init__(self, model: nn.Module, seed: int, rate: float | None = None) -> None:
        self._modules = dropouts(model, rate)
        self._seed = seed
        self._known: dict[tuple[int, str, int, torch.device], Tensor] = {}
        self.used = False
        """Whether any module was reached while masks were on."""

    @contextmanager
    def of(self, member: int) -> Iterator[None]:
        """While it lasts, the model drops what this member drops."""
        hooks = []
        for name, (module, rate) in self._modules.items():
            hooks.append(module.register_forward_hook(partial(self._drop, member, name, rate)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _drop(self, member: int, name: str, rate: float, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if output.dim() > 3:
            return output
        self.used = True
        key = (member, name, output.shape[-1], output.device)
        if key not in self._known:
            self._known[key] = self._drawn(member, name, rate, output.shape[-1]).to(output.device)
        return output * self._known[key].to(output.dtype)

    def _drawn(self, member: int, name: str, rate: float, width: int) -> Tensor:
        about = f"{self._seed}/{member}/{name}".encode()
        seed = int.from_bytes(hashlib.blake2b(about, digest_size=7).digest(), "big")
        kept = torch.rand(width, generator=torch.Generator().manual_seed(seed)) >= rate
        return kept / (1.0 - rate)
