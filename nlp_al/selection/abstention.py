"""What the values that a probability may have leave open: a label that would tell, or a toss-up that none settles."""

from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import leading

_AT_ONCE = 2**21  # 16 MB of float64


class Unsettled(NamedTuple):
    """bool[M] each, never both true. query: a label would tell. abstain: a toss-up, whatever is labelled."""

    query: Tensor
    abstain: Tensor


def unsettled(lower: Tensor, upper: Tensor, gamma: float) -> Unsettled:
    """What is not settled of probabilities that lie between `lower` and `upper`, float[M] each.

    The interval gets gamma / 4 more at both ends. Within gamma of ½ it is a toss-up; else it is open where ½ is inside.
    """
    low, high = lower - gamma / 4, upper + gamma / 4
    abstain = (low >= 0.5 - gamma) & (high <= 0.5 + gamma)
    return Unsettled((low < 0.5) & (high > 0.5) & ~abstain, abstain)


def duel_intervals(passes: Tensor, options: Tensor | None, quantile: float) -> tuple[Tensor, Tensor]:
    """Quantiles over the members of p_a / (p_a + p_b), a and b being the two best options of the members' mean.

    passes: float[T, M, O]. options: int64[M], the valid leading columns, or None for all. Returns two float64[M], at
    `quantile` and 1 − `quantile`, between members by interpolation. A member to which both options are impossible
    counts as ½; a single option has 1.
    """
    members, rows, columns = passes.shape
    levels = torch.tensor([quantile, 1.0 - quantile], dtype=torch.float64, device=passes.device)
    found = passes.new_empty(2, rows, dtype=torch.float64)
    at_once = max(1, _AT_ONCE // (members * columns))
    for start in range(0, rows, at_once):
        own = slice(start, start + at_once)
        probs = passes[:, own].double()
        if options is not None:
            probs = probs.masked_fill(~leading(options[own], columns), 0.0)
        best = probs.mean(0).argsort(dim=1, descending=True, stable=True)[:, :2]
        pair = probs.gather(2, best.expand(members, -1, -1))
        total = pair.sum(2)
        share = torch.where(total > 0, pair[:, :, 0] / total, 0.5)
        found[:, own] = share.quantile(levels, dim=0)
    return found[0], found[1]
