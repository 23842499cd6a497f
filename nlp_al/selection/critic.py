"""How much more like the pool than like the labelled set an example is, by a Wasserstein critic.

Shui et al. 2020, arXiv 1911.09162, with the gradient penalty of Gulrajani et al. 2017, arXiv 1704.00028; the features
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from nlp_al.selection.network import frame, fresh, output
from nlp_al.selection.rows import per_row

_HIDDEN = 64
_STEPS = 100
_AT_ONCE = 64  # of each side
_LEARNING_RATE = 5e-3


def unlike(points: Tensor, known: Tensor, generator: torch.Generator, penalty: float) -> Tensor:
    """The critic of float[n, d] points beside float[l, d] labelled ones, float64[n]: high for what no label speaks for.

    Features are scaled to a mean squared length of 1, of which a critic's differences are no more than distances, or
    little more. With nothing labelled it is 0. penalty: κ. Time O(n · d), memory O(n).
    """
    if len(points) == 0 or len(known) == 0:
        return points.new_zeros(len(points), dtype=torch.float64)
    framed = frame(points, 1)
    net = fresh([points.shape[1], _HIDDEN, 1], generator, points.device)
    optimizer = torch.optim.Adam(net, lr=_LEARNING_RATE, betas=(0.5, 0.9), fused=True)
    # One thread: with more, the order of partial sums changes the last digits, and training makes first ones of them.
    with threadpool_limits(1), torch.enable_grad():
        for _ in range(_STEPS):
            theirs, ours = (framed(_drawn(rows, generator)) for rows in (points, known))
            between = torch.lerp(ours, theirs, torch.rand(_AT_ONCE, 1, generator=generator).to(ours.device))
            optimizer.zero_grad()
            loss = penalty * steepness(net, between) - output(net, theirs).mean() + output(net, ours).mean()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return per_row(points, lambda rows: output(net, framed(rows)))


def steepness(net: Sequence[Tensor], rows: Tensor) -> Tensor:
    """The gradient penalty, mean (‖∂ output / ∂ row‖ − 1)²; differentiable by the weights."""
    rows = rows.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(output(net, rows).sum(), rows, create_graph=True)
    away: Tensor = slopes.norm(dim=1) - 1
    return away.square().mean()


def _drawn(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the rows, with replacement."""
    return rows[torch.randint(len(rows), (_AT_ONCE,), generator=generator)]
