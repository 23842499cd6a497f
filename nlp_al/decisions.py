"""The one idea: every task is a set of decisions, each a categorical distribution over some options.

A pool of n examples is a ragged batch of M such distributions. This file holds the type and every masked reduction over
it; it knows nothing but tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Decisions:
    """A ragged batch of distributions.

    probs: float[M, O], a row a decision. offsets: int64[n + 1], example i owns rows offsets[i]:offsets[i + 1].
    options: int64[M], the valid leading columns of each row, or None where all O are valid.
    """

    probs: Tensor
    offsets: Tensor
    options: Tensor | None = None

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def masked(self) -> Tensor:
        """float[M, O]: the probabilities, zero in the columns that are no option of their row."""
        if self.options is None:
            return self.probs
        return self.probs.masked_fill(~leading(self.options, self.probs.shape[1]), 0.0)

    def askable(self) -> Tensor:
        """bool[n]: whether an example has a decision with at least two options, so that there is something to ask."""
        if self.options is None:
            return (self.offsets.diff() > 0) & (self.probs.shape[1] >= 2)
        return segment_sum((self.options >= 2).long(), self.offsets) > 0


def leading(counts: Tensor, columns: int) -> Tensor:
    """bool[M, columns]: true in as many columns of each row, from the first one, as int64[M] counts say."""
    return torch.arange(columns, device=counts.device) < counts[:, None]


def owners(offsets: Tensor) -> Tensor:
    """int64[M]: the segment of each row."""
    return torch.repeat_interleave(offsets.diff())


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums the rows of each segment: [M, ...] to [n, ...]; an empty segment gives zero."""
    out = values.new_zeros((offsets.numel() - 1, *values.shape[1:]))
    return out.index_add_(0, owners(offsets), values)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Means of the rows of each segment: [M, ...] to [n, ...]; an empty segment gives zero."""
    lengths = offsets.diff().clamp(min=1).to(values.dtype)
    return segment_sum(values, offsets) / lengths.reshape(-1, *[1] * (values.dim() - 1))


def segment_max(values: Tensor, offsets: Tensor) -> Tensor:
    """The largest value of each segment: float[M] to float[n]; an empty segment gives minus infinity."""
    out = values.new_full((offsets.numel() - 1,), -torch.inf)
    return out.scatter_reduce_(0, owners(offsets), values, "amax")


def segment_top_mean(values: Tensor, offsets: Tensor, share: float) -> Tensor:
    """The mean of the ceil(share · length) largest values of each segment: float[M] to float[n]; of none it is 0."""
    owner = owners(offsets)
    by_value = torch.argsort(values, descending=True, stable=True)
    order = by_value[torch.argsort(owner[by_value], stable=True)]
    rank = torch.arange(values.numel(), device=values.device) - offsets[owner]
    # The product may lie a rounding above a whole number (0.07 · 100 does), which must not count as one more.
    kept = torch.ceil(share * offsets.diff().double() - 1e-9).long()
    largest = values[order].masked_fill(rank >= kept[owner], 0.0)
    return segment_sum(largest, offsets) / kept.clamp(min=1).to(values.dtype)


def reduce(values: Tensor, offsets: Tensor, how: str = "mean", share: float = 0.2) -> Tensor:
    """A number an example out of a number a decision: float[M] to float[n].

    how: `mean` (does not favour long examples), `sum` (does), `max`, or `topm`, the mean of the ceil(share · m)
    largest. An example without decisions gets minus infinity: it comes last whatever is asked.

    Raises:
        ValueError: `how` is none of these.
    """
    match how:
        case "mean":
            out = segment_mean(values, offsets)
        case "sum":
            out = segment_sum(values, offsets)
        case "max":
            out = segment_max(values, offsets)
        case "topm":
            out = segment_top_mean(values, offsets, share)
        case _:
            raise ValueError(f"agg is {how!r}; it must be one of mean, sum, max, topm.")
    return out.masked_fill(offsets.diff() == 0, -torch.inf)


def least_confidence(decisions: Decisions) -> Tensor:
    """1 − p₍₁₎ of each decision, float[M]."""
    return 1.0 - decisions.masked.amax(dim=1)


def margin(decisions: Decisions) -> Tensor:
    """p₍₁₎ − p₍₂₎ of each decision, float[M]; with a single option the second counts as 0."""
    probs = decisions.masked
    if probs.shape[1] == 1:
        return probs[:, 0]
    first, second = probs.topk(2, dim=1).values.unbind(1)
    return first - second


def entropy(decisions: Decisions) -> Tensor:
    """−Σ p ln p of each decision, float[M], in nats, with 0 ln 0 = 0.

    Where the number of options varies (`options` is given) it is divided by ln K, so that rows with few options compare
    with rows with many; one option gives 0.
    """
    values: Tensor = torch.special.entr(decisions.masked).sum(dim=1)
    if decisions.options is None:
        return values
    return values / decisions.options.clamp(min=2).to(values.dtype).log()
