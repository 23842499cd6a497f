"""Telling labelled examples from others by a small network: Gissin & Shalev-Shwartz 2019, arXiv 1907.06347."""

from __future__ import annotations

from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from nlp_al.selection.lightweight import exponential
from nlp_al.selection.network import frame, fresh, output
from nlp_al.selection.rows import per_row

_HIDDEN = 256
_EPOCHS = 20
_ENOUGH = 0.98  # of the training examples told right
_LEARNING_RATE = 3e-4
_PER_LABELLED = 10


def shares(count: int, rounds: int) -> list[int]:
    """`count` in at most so many parts of the same size, the first ones by one larger."""
    rounds = min(rounds, count)
    return [count // rounds + (at < count % rounds) for at in range(rounds)]


def unlike_labelled(
    points: Tensor, known: Tensor, count: int, generator: torch.Generator, *, rounds: int, stochastic: bool
) -> Tensor:
    """Picks `count` ≤ n of float[n, d] points that a network takes for unlabelled, beside float[l, d] labelled ones.

    In `rounds` parts, each with a network of its own, to which the picks before it are labelled. stochastic: draw in
    proportion to exp(logit) in place of taking the highest. With nothing labelled the first part is drawn at random.
    int64[count]. Time O(rounds · n) forward passes, memory O(n).
    """
    framed = frame(points, points.shape[1])
    labelled = framed(known)
    left = points.new_ones(len(points), dtype=torch.bool)
    picks: list[Tensor] = []
    for share in shares(count, rounds):
        open_ = torch.nonzero(left).flatten()
        order = torch.randperm(len(open_), generator=generator)
        if len(labelled):
            net = _train(labelled, framed(points[open_[order[: _PER_LABELLED * len(labelled)]]]), generator)
            logits = _logits_of(net, points, framed)[open_]
            if stochastic:
                logits -= exponential(len(logits), generator).log().to(logits.device)
            order = torch.argsort(logits, descending=True, stable=True)
        taken = open_[order[:share]]
        picks.append(taken)
        left[taken] = False
        labelled = torch.cat([labelled, framed(points[taken])])
    return torch.cat(picks) if picks else torch.zeros(0, dtype=torch.int64)


def _logits_of(net: list[Tensor], points: Tensor, framed: Callable[[Tensor], Tensor]) -> Tensor:
    """The logits of all points, float64[n]."""
    return per_row(points, lambda rows: _logits(net, framed(rows)))


def _train(labelled: Tensor, unlabelled: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Weights and biases of a network with two hidden layers, whose logit is that of "unlabelled"."""
    rows = torch.cat([labelled, unlabelled])
    targets = torch.cat([rows.new_zeros(len(labelled)), rows.new_ones(len(unlabelled))])
    # Both sides weigh as much, or "unlabelled" would be right ten times out of eleven.
    weights = torch.where(targets == 0, len(rows) / (2 * len(labelled)), len(rows) / (2 * len(unlabelled)))
    net = fresh([rows.shape[1], _HIDDEN, _HIDDEN, 1], generator, rows.device)
    optimizer = torch.optim.Adam(net, lr=_LEARNING_RATE, fused=True)
    at_once = min(max(len(rows) // 8, 64), 256)
    # One thread: with more, the order of partial sums changes the last digits, and training makes first ones of them.
    with threadpool_limits(1), torch.enable_grad():
        for _ in range(_EPOCHS):
            for part in torch.randperm(len(rows), generator=generator).split(at_once):
                optimizer.zero_grad()
                loss = binary_cross_entropy_with_logits(output(net, rows[part]), targets[part], weights[part])
                loss.backward()
                optimizer.step()
            if float(((_logits(net, rows) > 0) == (targets > 0)).double().mean()) >= _ENOUGH:
                break
    return net


def _logits(net: list[Tensor], rows: Tensor) -> Tensor:
    with torch.no_grad():
        return output(net, rows)
