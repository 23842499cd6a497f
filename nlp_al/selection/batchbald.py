"""Batches that together tell most about the members of a committee: Kirsch et al. 2019, arXiv 1906.08158.

I(y_S; θ) = H(y_S) − Σ_x E_t H(p_x^t). Given what the labels of S turn out to be, some members are likelier than others;
what one more label adds is its entropy under their mean, weighted so, on average over the outcomes, less the mean
entropy of the members. Outcomes are all there are, with their probabilities, or some that are drawn.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import segment_sum

NOTHING = 1e-10
"""Nats below which a label tells nothing: about a thousand times the rounding."""

_FLOATS_AT_ONCE = 2**22
_AT_ONCE = 16
"""Candidates that are looked at together. Fixed, since what is drawn for one comes after what is drawn before."""


class _Outcomes(NamedTuple):
    """What the labels of S may be: weights float64[Q], sum 1; members float64[Q, T], how likely each member is then.

    drawn: int64[Q], the member that a drawn outcome was drawn from; None where they are all there are.
    """

    weights: Tensor
    members: Tensor
    drawn: Tensor | None

    def entropy(self, probs: Tensor) -> Tensor:
        """The mean entropy of further labels, each by itself: float64[T, g, K] to float64[g]."""
        at_once = max(1, _FLOATS_AT_ONCE // max(1, len(self.weights) * probs.shape[2]))
        found = []
        for part in probs.split(at_once, dim=1):
            predicted = (self.members @ part.flatten(1)).reshape(-1, *part.shape[1:])
            found.append(self.weights @ torch.special.entr(predicted).sum(2))
        return torch.cat(found)

    def extended(self, probs: Tensor, generator: torch.Generator) -> _Outcomes:
        """With one more label, whose float64[T, K] probabilities these are."""
        if self.drawn is not None:
            sums = probs.cumsum(1)
            sums = sums / sums[:, -1:]
            point = torch.rand(len(self.drawn), 1, generator=generator, dtype=torch.float64).to(probs.device)
            chosen = (sums[self.drawn] <= point).sum(1)
            likely = self.members * probs.T[chosen]
            total = likely.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
            return _Outcomes(self.weights, likely / total, self.drawn)
        likely = (self.members[:, None] * probs.T).flatten(0, 1)
        total = likely.sum(1)
        possible = total > 0
        weights = self.weights.repeat_interleave(probs.shape[1])[possible] * total[possible]
        return _Outcomes(weights, likely[possible] / total[possible, None], None)


def batch_bald(
    passes: Tensor,
    offsets: Tensor,
    options: Tensor,
    count: int,
    generator: torch.Generator,
    *,
    divisors: Tensor,
    samples: int = 10_000,
    exact_up_to: int = 100_000,
) -> tuple[Tensor, Tensor]:
    """Greedily picks `count` ≤ n examples, each that which adds most information over its divisor.

    passes: float[T, M, O], the members' probabilities, 0 where there is no option. offsets: int64[n + 1], the decisions
    of an example, of which each has one. options: int64[M]. divisors: float[n].
    samples: outcomes that are drawn, as many from each member, once there are more than `exact_up_to` with those of a
    candidate. Ties go to the lowest position. int64[count], and what each pick added, float64[count], in nats.
    """
    counts = options.tolist()
    spans = list(itertools.pairwise(offsets.tolist()))
    probs = passes.double() / passes.double().sum(2, keepdim=True)
    known = torch.special.entr(probs).sum(2).mean(0)
    own = segment_sum(known, offsets)
    widest = max((math.prod(map(float, counts[low:high])) for low, high in spans), default=1.0)
    equal = probs.new_full((1, len(probs)), 1 / len(probs))
    outcomes = _Outcomes(probs.new_ones(1), equal, None)

    def decisions(at: int) -> list[Tensor]:
        return [probs[:, row, : counts[row]] for row in range(*spans[at])]

    def added(group: Tensor) -> Tensor:
        """Information that each of some candidates adds to S."""
        rows = offsets[group]
        if bool((offsets[group + 1] - rows == 1).all()):
            return outcomes.entropy(probs[:, rows]) - own[group]
        found = []
        for at in group.tolist():
            total, then = probs.new_zeros(()), outcomes
            *before, last = decisions(at)
            for label in before:
                total = total + then.entropy(label[:, None])[0]
                then = then.extended(label, generator)
            found.append(total + then.entropy(last[:, None])[0] - own[at])
        return torch.stack(found)

    picks, gains = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    # What a candidate adds can only fall as S grows, so that what it added before is a bound.
    most = probs.new_full((len(own),), torch.inf, dtype=torch.float32)
    for step in range(count):
        if outcomes.drawn is None and len(outcomes.weights) * widest > exact_up_to:
            outcomes = _drawn(probs, samples)
            for before in picks[:step].tolist():
                for label in decisions(before):
                    outcomes = outcomes.extended(label, generator)
        order = torch.argsort(most, descending=True, stable=True)
        fresh = torch.full_like(most, -torch.inf)
        for group in order[: len(own) - step].split(_AT_ONCE):
            if most[group[0]] < fresh.max():
                break
            told = added(group)
            # The last digits of float64 differ between equal candidates, which must tie; so must what tells nothing.
            fresh[group] = (told.masked_fill(told < NOTHING, 0.0) / divisors[group]).float()
            most[group] = fresh[group]
        pick = int(fresh.argmax())
        picks[step], gains[step] = pick, float(fresh[pick]) * float(divisors[pick])
        most[pick] = -torch.inf
        for label in decisions(pick):
            outcomes = outcomes.extended(label, generator)
    return picks, gains


def _drawn(probs: Tensor, samples: int) -> _Outcomes:
    """Of no labels yet: as many draws from each member of float64[T, M, O] probs."""
    members = len(probs)
    each = max(1, samples // members)
    drawn = torch.arange(members, device=probs.device).repeat_interleave(each)
    weights = probs.new_full((len(drawn),), 1 / len(drawn))
    return _Outcomes(weights, probs.new_full((len(drawn), members), 1 / members), drawn)
