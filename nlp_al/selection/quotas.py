"""Batches with a share for each class."""

import torch
from torch import Tensor

from nlp_al.selection.topk import top


def quotas(counts: Tensor, batch: int) -> Tensor:
    """How many of a batch each class is to have: int64[C], batch in all.

    counts: int64[C], how many labelled examples have it. Half of the batch is shared out evenly, and half in proportion
    to what each class lacks of an even share of all that will be labelled. Rounded by largest remainder.
    """
    classes = len(counts)
    counts = counts.double()
    lacking = ((counts.sum() + batch) / classes - counts).clamp(min=0.0)
    total = lacking.sum()
    even = torch.full_like(lacking, 1.0 / classes)
    wanted = batch * (even + (lacking / total if total > 0 else even)) / 2
    return largest_remainder(wanted, batch)


def largest_remainder(wanted: Tensor, total: int) -> Tensor:
    """float64[C] that sum to `total`, rounded to int64[C] that do; ties, but for their rounding, go to the lowest."""
    whole = wanted.floor().long()
    short = total - int(whole.sum())
    whole[top((wanted - whole).round(decimals=9), short)] += 1
    return whole


def by_quota(scores: Tensor, classes: Tensor, quota: Tensor) -> Tensor:
    """Positions of the highest scores of each class, and of any class in place of what one can't fill, highest first.

    scores: float[n]. classes: int64[n]. quota: int64[C], in all at most n. Ties go to the lowest position.
    """
    order = top(scores, len(scores))
    grouped = order[torch.argsort(classes[order], stable=True)]
    own = classes[grouped]
    first = torch.bincount(own, minlength=len(quota)).cumsum(0) - torch.bincount(own, minlength=len(quota))
    taken = scores.new_zeros(len(scores), dtype=torch.bool)
    taken[grouped[torch.arange(len(own), device=own.device) - first[own] < quota[own]]] = True
    left = order[~taken[order]]
    taken[left[: int(quota.sum()) - int(taken.sum())]] = True
    return order[taken[order]]
