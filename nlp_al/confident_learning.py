"""Which labels are likely to be wrong, out of what models say that did not see them. Tensors in, tensors out.

Reference: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (2021),
arXiv:1911.00068

Everywhere `probs` is float[M, O], out-of-fold probabilities, and `given` is int64[M], the label that each row has.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SLACK = 1e-6
"""By how much a probability may miss a threshold that is a mean of such numbers."""


def thresholds(probs: Tensor, given: Tensor) -> Tensor:
    """float64[O]: the mean probability of a label where it is given; infinity where it never is."""
    own = probs.double().gather(1, given[:, None])[:, 0]
    counts = given.bincount(minlength=probs.shape[1])
    sums = own.new_zeros(probs.shape[1]).index_add_(0, given, own)
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.inf)


def counted_as(probs: Tensor, given: Tensor) -> Tensor:
    """int64[M]: the most probable label among those that reach their threshold, −1 where none does."""
    sure = probs.double()
    reaching = sure.masked_fill(sure < thresholds(probs, given) - SLACK, -1.0)
    most = reaching.max(dim=1)
    return torch.where(most.values >= 0, most.indices, -1)


def confident_joint(probs: Tensor, given: Tensor) -> Tensor:
    """int64[O, O]: how many rows with label i count as j."""
    options = probs.shape[1]
    counted = counted_as(probs, given)
    pairs = (given * options + counted)[counted >= 0]
    return pairs.bincount(minlength=options**2).reshape(options, options)


def joint(probs: Tensor, given: Tensor) -> Tensor:
    """float64[O, O]: the share of all rows that have label i and should have j; what has label i sums to its share.

    A label of which no row counts as anything is taken to be right.
    """
    counts = confident_joint(probs, given).double()
    counts += torch.diag((counts.sum(1) == 0).double())
    shares = given.bincount(minlength=len(counts)).double() / max(len(given), 1)
    return counts / counts.sum(1, keepdim=True) * shares[:, None]


def off_diagonal(probs: Tensor, given: Tensor) -> Tensor:
    """bool[M]: what counts as another label than it has."""
    counted = counted_as(probs, given)
    return (counted >= 0) & (counted != given)


def prune_by_class(probs: Tensor, given: Tensor) -> Tensor:
    """bool[M]: of each label as many rows as `joint` says are wrong, those that are least sure of it."""
    wrong = joint(probs, given)
    wrong.fill_diagonal_(0.0)
    own = probs.double().gather(1, given[:, None])[:, 0]
    return _lowest(own, given, (wrong.sum(1) * len(given)).round().long())


def prune_by_noise_rate(probs: Tensor, given: Tensor) -> Tensor:
    """bool[M]: of each label i as many rows as `joint` says should be j, those where j leads i the most; for all j."""
    wrong = (joint(probs, given) * len(given)).round().long()
    wrong.fill_diagonal_(0)
    sure, found = probs.double(), torch.zeros(len(given), dtype=torch.bool)
    own = sure.gather(1, given[:, None])[:, 0]
    for other in range(probs.shape[1]):
        found |= _lowest(own - sure[:, other], given, wrong[:, other])
    return found


def _lowest(values: Tensor, given: Tensor, quotas: Tensor) -> Tensor:
    """bool[M]: of each label its quota of rows with the lowest values; ties go to the first."""
    by_value = values.argsort(stable=True)
    order = by_value[given[by_value].argsort(stable=True)]
    counts = given.bincount(minlength=len(quotas))
    rank = torch.arange(len(given)) - (counts.cumsum(0) - counts)[given[order]]
    found = torch.zeros(len(given), dtype=torch.bool)
    found[order] = rank < quotas[given[order]]
    return found


ISSUES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "confident_joint": off_diagonal,
    "prune_by_class": prune_by_class,
    "prune_by_noise_rate": prune_by_noise_rate,
}
"""How labels that are likely to be wrong are found."""
