"""Probabilities that are uncertain themselves: each is taken to be Beta-distributed over the members of a committee."""

import math

import torch
from torch import Tensor

_FLOOR = 1e-9
_WIDEST = 0.999
"""Of m (1 − m), the variance of a probability that is 0 or 1: there the parameters would be 0."""
_LEAST = 1e-12
"""A balance of exactly 0 has a score of 1 / this."""


def beta_entropy(a: Tensor, b: Tensor) -> Tensor:
    """The differential entropy of Beta(a, b), in nats: never above 0, which is that of the flat Beta(1, 1)."""
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    weighed = (a - 1) * torch.digamma(a) + (b - 1) * torch.digamma(b)
    return log_beta - weighed + (a + b - 2) * torch.digamma(a + b)


def beta_of(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The parameters of the Beta distribution with this mean and variance, both above 0 whatever is given."""
    mean = mean.clamp(_FLOOR, 1 - _FLOOR)
    variance = torch.minimum(variance.clamp(min=_FLOOR), _WIDEST * mean * (1 - mean))
    a = mean.square() * (1 - mean) / variance - mean
    return a, (1 / mean - 1) * a


def balanced_entropy(mean: Tensor, variance: Tensor) -> Tensor:
    """How much of the doubt is about the probabilities, how much about the label: BalEnt, of each row.

    (Σ_c m_c h(P_c⁺) + H(m)) / (H(m) + ln 2), P_c⁺ being the probability of c once c has been seen; h is at most 0.
    mean, variance: float64[M, O], over members, with zeros in columns that are no option. float64[M].
    """
    a, b = beta_of(mean, variance)
    doubt = torch.special.entr(mean).sum(1)
    spread = (mean * beta_entropy(a + 1, b)).sum(1)
    balance: Tensor = (spread + doubt) / (doubt + math.log(2))
    return balance


def balance_score(balance: Tensor) -> Tensor:
    """1 / BalEnt where that is not negative, else BalEnt itself: finite, higher = ask first."""
    return torch.where(balance >= 0, 1 / balance.clamp(min=_LEAST), balance)
