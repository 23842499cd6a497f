"""Probabilities that mean what they say: one temperature for all of a model (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nlp_al.decisions import Decisions
from nlp_al.samplers.base import Alone
from nlp_al.signals.collector import Scorer
from nlp_al.tasks import Rows

MOST = 20.0
"""The highest temperature, and the inverse of the lowest: those of a model that is never wrong have no end."""

_STEPS = 60
_TINY = 1e-30


def temperature(decisions: Decisions, targets: Tensor) -> float:
    """The T at which the mean of −ln softmax(ln p / T) at int64[M] targets is least; 1 where nothing is decided.

    The mean is convex in 1 / T, so that its slope is bisected.
    """
    if len(targets) == 0:
        return 1.0
    probs = decisions.masked.double()
    logs = probs.clamp(min=_TINY).log()
    valid = torch.ones_like(probs, dtype=torch.bool)
    if decisions.options is not None:
        valid = torch.arange(probs.shape[1]) < decisions.options[:, None]
    given = logs.gather(1, targets[:, None]).mean()

    def rises(inverse: float) -> bool:
        shares = (logs * inverse).masked_fill(~valid, -torch.inf).softmax(1)
        return bool((shares * logs).sum(1).mean() > given)

    low, high = 1 / MOST, MOST
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if rises(middle) else (middle, high)
    return float(1 / (low * high) ** 0.5)


class Calibrated(Alone):
    """A model whose logits are divided by a temperature; what it decides stays the same."""

    def __init__(self, model: Scorer, degree: float) -> None:
        super().__init__(model, plain=False)
        self._degree = degree

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """Those of the model, softened or sharpened."""
        made = super().rows(prepared)
        return made if made.logits is None else made._replace(logits=made.logits / self._degree)
