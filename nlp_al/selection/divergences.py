"""Divergences between distributions, in nats and float64."""

from collections.abc import Callable

import torch
from torch import Tensor

_FLOATS_AT_ONCE = 2**20


def kullback_leibler(p: Tensor, q: Tensor) -> Tensor:
    """Σ p ln(p / q) over the last dimension, with 0 ln 0 = 0; where q underflowed it counts as the smallest float."""
    own: Tensor = torch.special.xlogy(p, p)
    return (own - p * q.clamp(min=torch.finfo(q.dtype).tiny).log()).sum(-1)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """The mean divergence of both from their mean, over the last dimension; at most ln 2."""
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def mean_divergence(
    here: Tensor, there: Tensor, found: Tensor, divergence: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """The mean of divergence(there[j], here[i]) over the positions j that int64[n, k] found holds for i: float64[n].

    here: float64[n, A, O], A distributions an example, over which it is averaged as well; there: float64[l, A, O].
    """
    parts = zip(here.split(at_once := _at_once(here, found)), found.split(at_once), strict=True)
    return torch.cat([divergence(there[near], own[:, None]).mean((1, 2)) for own, near in parts])


def mean_kullback_leibler(here: Tensor, there: Tensor, found: Tensor) -> Tensor:
    """`mean_divergence` by `kullback_leibler`, of which only −Σ mean(p) ln q is a matter of pairs."""
    entropies, logs = torch.special.xlogy(there, there).sum((1, 2)), here.clamp(min=torch.finfo(here.dtype).tiny).log()
    parts = zip(logs.split(at_once := _at_once(here, found)), found.split(at_once), strict=True)
    crossed = torch.cat([(there[near].mean(1) * own).sum((1, 2)) for own, near in parts])
    means: Tensor = (entropies[found].mean(1) - crossed) / here.shape[1]
    return means


def _at_once(here: Tensor, found: Tensor) -> int:
    return max(1, _FLOATS_AT_ONCE // max(1, found.shape[1] * here[:1].numel()))
