"""What training on an example would do to a loss elsewhere, by the last layer: Koh & Liang 2017, arXiv 1703.04730.

The gradient of a mean loss, G, moves by −H⁻¹ ∇ℓ(x) for each bit of weight that x gets; so the loss moves by
−⟨H⁻¹ G, ∇ℓ(x)⟩. H is never written out: products with it come from the factors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, leading, owners, segment_sum
from nlp_al.selection.last_layer import Factors, residuals
from nlp_al.selection.rows import ROWS_AT_ONCE

MOST = 2000
"""Steps of conjugate gradients at most."""
CLOSE = 1e-7
"""What is left of a right-hand side, relative to it, when they stop."""


def losses(decisions: Decisions, factors: Factors) -> int:
    """How many losses a mean is over: a row each, where it has a softmax of its own; else an example each."""
    return max(1, len(factors[1]) if decisions.options is None else len(decisions))


def mean_gradient(decisions: Decisions, factors: Factors, weights: Tensor) -> Tensor:
    """The mean of Σ_c w_c ∇ℓ(x, c), float64[R, d], for float[M, O] weights of the options of each decision."""
    r, h = residuals(decisions, factors, weights), factors[1]
    found = h.new_zeros(r.shape[1], h.shape[1], dtype=torch.float64)
    for rows, points in zip(r.split(ROWS_AT_ONCE), h.split(ROWS_AT_ONCE), strict=True):
        found += rows.T @ points.double()
    return found / losses(decisions, factors)


def curvature(decisions: Decisions, factors: Factors, ridge: float) -> Callable[[Tensor], Tensor]:
    """V ↦ (H + ridge · I) V for float64[R, d], H the Hessian of the mean loss.

    A softmax a row: (diag p − p pᵀ) for each; yes or no: p (1 − p); a choice: the covariance of its options' h.
    """
    r, points, offsets = factors[0], factors[1].double(), factors[2]
    probs, many = decisions.masked.double(), losses(decisions, factors)
    if decisions.options is not None:
        flat = probs[leading(offsets.diff(), probs.shape[1])][:, None]
        owner = owners(offsets)

        def spread(logits: Tensor) -> Tensor:
            return flat * (logits - segment_sum(flat * logits, offsets)[owner])
    elif r.shape[1] == probs.shape[1] and len(probs) == len(points):

        def spread(logits: Tensor) -> Tensor:
            return probs * (logits - (probs * logits).sum(1, keepdim=True))
    else:
        doubt = probs.prod(1).reshape(r.shape)

        def spread(logits: Tensor) -> Tensor:
            return doubt * logits

    return lambda values: spread(points @ values.T).T @ points / many + ridge * values


def solved(product: Callable[[Tensor], Tensor], right: Tensor, most: int = MOST) -> tuple[Tensor, bool]:
    """x with A x = right by conjugate gradients, A symmetric and positive, and whether it came close enough."""
    found, residual = torch.zeros_like(right), right.clone()
    along, left = residual.clone(), float(residual.square().sum())
    goal = CLOSE**2 * left
    for _ in range(most):
        if left <= goal:
            break
        image = product(along)
        step = left / float((along * image).sum())
        found += step * along
        residual -= step * image
        before, left = left, float(residual.square().sum())
        along = residual + left / before * along
    return found, left <= goal


def gradients_along(decisions: Decisions, factors: Factors, weights: Tensor, direction: Tensor) -> Tensor:
    """⟨float64[R, d] direction, Σ_c w_c ∇ℓ(x, c)⟩ of each example, its rows summed: float64[n]."""
    r, h, offsets = residuals(decisions, factors, weights), factors[1], factors[2]
    found = h.new_empty(len(h), dtype=torch.float64)
    parts = zip(r.split(ROWS_AT_ONCE), h.split(ROWS_AT_ONCE), found.split(ROWS_AT_ONCE), strict=True)
    for rows, points, room in parts:
        room.copy_(((points.double() @ direction.T) * rows).sum(1))
    return segment_sum(found, offsets)


def most_probable(decisions: Decisions, share: float) -> Tensor:
    """float64[M, O]: the probabilities of the ceil(share · options) most probable options of each decision, else 0.

    Of all options the gradients under them cancel out: Σ_c p_c ∇ℓ(x, c) = 0.
    """
    probs = decisions.masked.double()
    options = probs.new_full((len(probs),), probs.shape[1]) if decisions.options is None else decisions.options.double()
    kept = torch.ceil(share * options - 1e-9).clamp(min=1)
    order = probs.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return probs.masked_fill(rank >= kept[:, None], 0.0)
