"""A device that is not there: tensors that say they are on a GPU, and refuse what tensors on a GPU refuse.

What they hold stays on the CPU, so that results are those of the CPU to the last digit. It tells where code would mix
devices. It does not tell how a GPU rounds, how fast it is, or what it has no kernels for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

CPU, DEVICE = torch.device("cpu"), torch.device("cuda", 0)

_BY_ELEMENT = {"cat", "stack", "searchsorted", "isin", "index_add_", "index_copy_", "scatter_reduce_"}
"""What refuses numbers of the CPU even where they have no dimension."""


@contextmanager
def emulated_device() -> Iterator[torch.device]:
    """Within it there is a device "cuda:0", where `.to(device)` and `device=` put tensors."""
    with _Emulation():
        yield DEVICE


class _There(Tensor):
    """A tensor on that device; `held` is the same on the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class _Emulation(TorchFunctionMode):
    """Sees each call of torch before it is made."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = list(_flat((args, kwargs)))
        there = any(isinstance(value, _There) for value in given)
        if there and name == "__get__" and func.__self__ is Tensor.device:  # type: ignore[attr-defined]
            return DEVICE
        if there and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        goes = _goes(name, args, kwargs, there)
        if goes and any(isinstance(value, Generator) for value in given):
            raise RuntimeError(f"{name}: expected a 'cuda' device type for generator but found 'cpu'.")
        if there:
            _check(name, args, given)
        found = func(*args, **kwargs) if func is torch.device else func(*_held(args), **_held(kwargs))
        return _put(found) if goes else found


def _flat(value: Any) -> Iterator[Any]:
    """What is inside of lists, tuples and mappings."""
    if isinstance(value, list | tuple | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _flat(part)
    else:
        yield value


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _each(part, change) for name, part in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)([_each(part, change) for part in value])
    return change(value)


def _held(value: Any) -> Any:
    """What the CPU is given instead."""

    def of(part: Any) -> Any:
        if isinstance(part, torch.device):
            return CPU
        return part.held if isinstance(part, _There) else part

    return _each(value, of)


def _put(value: Any) -> Any:
    def of(part: Any) -> Any:
        if not isinstance(part, Tensor) or isinstance(part, _There):
            return part
        made = part.detach().as_subclass(_There)
        made.held = part
        return made

    return _each(value, of)


def _goes(name: str, args: Any, kwargs: dict[str, Any], there: bool) -> bool:
    """Whether what a call returns is on the device."""
    if name == "cpu" or (name == "tensor" and not isinstance(args[0], Tensor) and "device" not in kwargs):
        return False
    if name == "copy_":
        return isinstance(args[0], _There)
    named = kwargs.get("device", args[1] if name == "to" and len(args) > 1 else None)
    if isinstance(named, Tensor):
        return isinstance(named, _There)
    return torch.device(named).type == DEVICE.type if isinstance(named, torch.device | str) else there


def _check(name: str, args: Any, given: list[Any]) -> None:
    """Refuses what a GPU refuses. An index may lie on the CPU, and so may a number."""
    if name in ("to", "copy_"):
        return
    strays = [value for value in given if isinstance(value, Tensor) and not isinstance(value, _There)]
    here = bool(strays) and strays[0] is args[0]
    if name in ("__getitem__", "__setitem__"):
        if here and any(isinstance(value, _There) and value.held.dim() for value in _flat(args[1])):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu).")
        value = args[2] if name == "__setitem__" else None
        wrong = isinstance(value, Tensor) and value.dim() > 0 and isinstance(value, _There) == here
    else:
        wrong = any(stray.dim() for stray in strays) or (bool(strays) and name in _BY_ELEMENT)
        wrong = wrong or (here and name.endswith("_"))
    if wrong:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found cuda:0 and cpu.")
