"""Weights at several points of one fit, kept in memory: the one hook of training for what looks at its way."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from torch import nn

from nlp_al.errors import UserError

State = dict[str, torch.Tensor]

RAISED, PEAK = 10.0, 5e-5
"""A cycle begins with so many times the learning rate, but no more than this, unless the learning rate is more itself.
"""


class Snapshots(transformers.TrainerCallback):  # type: ignore[misc]
    """Sets the learning rate of a fit, and keeps what it trains whenever that has come down to 0 after `start`.

    count: how many snapshots; the last one is that of the end. start: the share of the steps before the first cycle.
    """

    def __init__(self, count: int, start: float) -> None:
        self.count = count
        self.start = start
        self.states: list[State] = []
        self._model: Any = None
        self._put: Callable[[State], State] = dict
        self._unmerged: nn.Module | None = None

    def bounds(self, total: int) -> list[int]:
        """The step at which the first cycle begins, and those at which each ends; `total` is the last one.

        Raises:
            UserError: there are fewer steps than snapshots.
        """
        if total < self.count:
            raise UserError(
                f"sampler.passes is {self.count}, but training has only {total} steps; raise training.min_steps."
            )
        first = min(int(self.start * total), total - self.count)
        return [first + (total - first) * at // self.count for at in range(self.count + 1)]

    def rate(self, step: int, total: int, warmup: int, learning_rate: float) -> float:
        """The factor on the learning rate of a step, counted from 0."""
        bounds = self.bounds(total)
        rising = min(1.0, (step + 1) / (warmup + 1))
        peak = max(1.0, min(RAISED, PEAK / learning_rate)) if learning_rate > 0 else 1.0
        for low, high in itertools.pairwise([0, *bounds]):
            if low <= step < high:
                height = peak if low >= bounds[0] else 1.0
                return rising * height * (1 + math.cos(math.pi * (step - low) / (high - low))) / 2
        return 0.0

    def watch(self, model: nn.Module) -> None:
        """The model that is going to be trained."""
        self._model, self.states = model, []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keeps the weights at the end of a cycle."""
        if state.global_step in self.bounds(state.max_steps)[1:]:
            trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
            self.states.append({name: p.detach().to("cpu", copy=True) for name, p in trained.items()})

    def trained(self, put: Callable[[State], State], adapters: bool) -> None:
        """After training. put: as `used_rows` gives it. adapters: they are about to be merged."""
        self._put = put
        self._unmerged = copy.deepcopy(self._model).cpu() if adapters else None
        self._model = None

    def models(
        self, model: nn.Module, merge: Callable[[nn.Module], nn.Module], averaged: bool = False
    ) -> Iterator[nn.Module]:
        """The model at each snapshot: itself, with other weights each time and its own at the end, or merged copies.

        averaged: one alone, with the mean of their weights.
        """
        for state in [self._average()] if averaged else self.states:
            if self._unmerged is not None:
                copied = copy.deepcopy(self._unmerged)
                copied.load_state_dict(state, strict=False)
                yield merge(copied)
            else:
                model.load_state_dict(self._put(state), strict=False)
                yield model
        if averaged and self._unmerged is None:
            model.load_state_dict(self._put(self.states[-1]), strict=False)

    def _average(self) -> State:
        return {name: torch.stack([state[name] for state in self.states]).mean(0) for name in self.states[0]}
