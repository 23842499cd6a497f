"""What several members say of the same decisions, as running statistics: they are never all kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, leading

_ROUNDING = 16 * torch.finfo(torch.float64).eps
"""Relative to the terms of a difference; one that is no larger counts as 0, or equal members would seem to differ."""


class Sampled(NamedTuple):
    """Statistics over T members: passes with dropout, models, heads or draws of weights.

    mean: float64[M, O], p̄, the mean of the members' probabilities. entropy: float64[M], the mean of their entropies, in
    nats. votes: int32[M, O], how many have their most probable option there; ties go to the first one.
    squares: float64[M, O], the mean of their squared probabilities. members: T.
    """

    mean: Tensor
    entropy: Tensor
    votes: Tensor
    squares: Tensor
    members: int

    def information(self, options: Tensor | None = None) -> Tensor:
        """H(p̄) less the mean entropy: what a label tells about the members, float64[M], at least 0.

        options: int64[M] where their number varies; then it is divided by ln K, as entropies are.
        """
        total: Tensor = torch.special.entr(self._masked(self.mean, options)).sum(1)
        found = total - self.entropy
        found = found.masked_fill(found <= _ROUNDING * total, 0.0)
        return found if options is None else found / options.clamp(min=2).double().log()

    def std(self, options: Tensor | None = None) -> Tensor:
        """The standard deviation of each option's probability over the members, float64[M, O]; divided by T."""
        squares = self._masked(self.squares, options)
        variance = squares - self._masked(self.mean, options).square()
        spread: Tensor = variance.masked_fill(variance <= _ROUNDING * squares, 0.0).sqrt()
        return spread

    def each(self, change: Callable[[str, Tensor], Tensor]) -> Sampled:
        """The same members, each tensor as `change` makes it; it is given the name as well."""
        return Sampled(
            change("mean", self.mean),
            change("entropy", self.entropy),
            change("votes", self.votes),
            change("squares", self.squares),
            self.members,
        )

    @staticmethod
    def _masked(values: Tensor, options: Tensor | None) -> Tensor:
        if options is None:
            return values
        return values.masked_fill(~leading(options, values.shape[1]), 0.0)


class Running:
    """Sums over members as they come."""

    def __init__(self) -> None:
        self._members = 0
        self._mean = self._entropy = self._votes = self._squares = torch.zeros(0)

    def add(self, decisions: Decisions) -> None:
        """One member's distributions; every member has the same decisions and options."""
        probs = decisions.masked.double()
        best = probs.argmax(1, keepdim=True)
        if self._members == 0:
            self._mean, self._squares = torch.zeros_like(probs), torch.zeros_like(probs)
            self._entropy = probs.new_zeros(len(probs))
            self._votes = torch.zeros_like(probs, dtype=torch.int32)
        self._mean += probs
        self._squares += probs.square()
        self._entropy += torch.special.entr(probs).sum(1)
        self._votes.scatter_add_(1, best, torch.ones_like(best, dtype=torch.int32))
        self._members += 1

    def result(self) -> Sampled:
        """The statistics of all that came, at least one."""
        found = (self._mean / self._members, self._entropy / self._members)
        return Sampled(*found, self._votes, self._squares / self._members, self._members)


def statistics(members: Iterable[Decisions]) -> Sampled:
    """Of members that are all there."""
    running = Running()
    for decisions in members:
        running.add(decisions)
    return running.result()


def pooled(one: Sampled, other: Sampled) -> Sampled:
    """The statistics of both groups of members, over the same decisions."""
    count = one.members + other.members

    def mean(name: str) -> Tensor:
        first, second = getattr(one, name), getattr(other, name)
        sums: Tensor = first * one.members + second * other.members
        return sums / count

    return Sampled(mean("mean"), mean("entropy"), one.votes + other.votes, mean("squares"), count)
