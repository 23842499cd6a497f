"""What a label would do to the last layer: expected gradient lengths, and Fisher information as factors.

A gradient under label c is Σ_j a_j(c) ⊗ h_j over the rows j of an example. Three forms of it are told apart:

rows: a softmax a row (a text, a word), a(c) = p − e_c.
yes or no: several decisions read one h, a(c) is p − c in the column of the decision.
options: one decision scores its rows by one weight vector, Σ_j (p_j − 1[j = c]) h_j.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, leading, owners, segment_mean, segment_sum
from nlp_al.selection.rows import ROWS_AT_ONCE

Factors = tuple[Tensor, Tensor, Tensor]
"""(r: float[J, R], h: float[J, d], offsets: int64[n + 1]), as `nlp_al.signals.Gradients`."""


class Information(NamedTuple):
    """Fisher information of each example as V Vᵀ, V the columns of A_j ⊗ h_j over its rows j.

    coefficients: float64[J, R, Q], A. h: float[J, d]. offsets: int64[n + 1].
    """

    coefficients: Tensor
    h: Tensor
    offsets: Tensor

    @property
    def width(self) -> int:
        """R · d, the rows and columns of the information as a matrix."""
        return self.coefficients.shape[1] * self.h.shape[1]


def expected_length(decisions: Decisions, factors: Factors, squared: bool = False) -> Tensor:
    """Σ_c p_c ‖∇ℓ(x, c)‖ of the last layer, float64[n]; squared: Σ_c p_c ‖∇ℓ(x, c)‖².

    Over several rows it is their mean, over several yes-or-no decisions their sum, as if each were alone.
    """
    _, h, offsets = factors
    probs = decisions.masked
    if decisions.options is not None:
        flat, mean = _options(decisions, factors)
        owner, away = owners(offsets), torch.empty_like(flat)
        for rows in torch.arange(len(h)).split(ROWS_AT_ONCE):
            away[rows] = torch.linalg.vector_norm(h[rows].double() - mean[owner[rows]], dim=1)
        return segment_sum(flat * (away.square() if squared else away), offsets)
    found = probs.new_empty(len(probs), dtype=torch.float64)
    softmax = _softmax(decisions, factors)
    for part, room in zip(probs.split(ROWS_AT_ONCE), found.split(ROWS_AT_ONCE), strict=True):
        room.copy_(_of_logits(part.double(), softmax, squared))
    lengths: Tensor = torch.linalg.vector_norm(h, dim=1).double()
    lengths = lengths.square() if squared else lengths
    if softmax:
        return segment_mean(found * lengths, offsets)
    return segment_sum(found, decisions.offsets) * lengths


def residuals(decisions: Decisions, factors: Factors, weights: Tensor) -> Tensor:
    """r of Σ_c w_c ∇ℓ(x, c) = Σ_j r_j ⊗ h_j, float64[J, R], for float[M, O] weights of the options of each decision.

    All weight on one option gives the gradient under that label. Several rows are summed.
    """
    _, h, offsets = factors
    probs, weights = decisions.masked.double(), weights.double()
    found = weights.sum(1, keepdim=True) * probs - weights
    if decisions.options is not None:
        return found[leading(offsets.diff(), found.shape[1])][:, None]
    return found if _softmax(decisions, factors) else found[:, 0].reshape(len(h), factors[0].shape[1])


def information(decisions: Decisions, factors: Factors, traced: bool = False) -> Information:
    """Σ_c p_c ∇ℓ(x, c) ∇ℓ(x, c)ᵀ of the last layer; over several rows the mean of theirs.

    traced: tr(A_j A_jᵀ) h_j h_jᵀ in place of (A_j A_jᵀ) ⊗ (h_j h_jᵀ), which has d rows and columns.
    """
    _, h, offsets = factors
    probs = decisions.masked.double()
    if decisions.options is not None:
        flat, mean = _options(decisions, factors)
        return Information(flat.sqrt()[:, None, None], h - mean.to(h.dtype)[owners(offsets)], offsets)
    if not _softmax(decisions, factors):
        variance = (probs[:, 0] * probs[:, 1]).reshape(len(h), -1)
        made = variance.sum(1)[:, None, None].sqrt() if traced else torch.diag_embed(variance.sqrt())
        return Information(made, h, offsets)
    if traced:
        made = (1 - probs.square().sum(1)).clamp(min=0).sqrt()[:, None, None]
    else:
        own = torch.eye(probs.shape[1], dtype=torch.float64, device=probs.device)
        made = (probs[:, :, None] - own) * probs[:, None].sqrt()
    share = offsets.diff().clamp(min=1).double().rsqrt()[owners(offsets)]
    return Information(made * share[:, None, None], h, offsets)


def sizes_of(decisions: Decisions, factors: Factors) -> tuple[int, int]:
    """(D, Σ columns² over the examples) of `information` that is not traced."""
    _, h, offsets = factors
    softmax = _softmax(decisions, factors)
    if decisions.options is not None:
        many = 1
    else:
        many = decisions.probs.shape[1] if softmax else len(decisions.probs) // max(len(h), 1)
    return many * h.shape[1], int((offsets.diff() * many).square().sum())


def _softmax(decisions: Decisions, factors: Factors) -> bool:
    """Whether each decision has a row of its own with a logit for each option."""
    r, _, offsets = factors
    return r.shape[1] == decisions.probs.shape[1] and torch.equal(offsets, decisions.offsets)


def _of_logits(probs: Tensor, softmax: bool, squared: bool) -> Tensor:
    """Σ_c p_c ‖a(c)‖ of float64[m, O] rows, or with squares."""
    if not softmax:
        yes, no = probs.unbind(1)
        return yes * no if squared else 2 * yes * no
    total = probs.square().sum(1, keepdim=True)
    away = (1 - 2 * probs + total).clamp(min=0)  # ‖p − e_c‖²
    return (probs * (away if squared else away.sqrt())).sum(1)


def _options(decisions: Decisions, factors: Factors) -> tuple[Tensor, Tensor]:
    """How probable each option is, float64[J], and Σ_j p_j h_j, float64[n, d]."""
    _, h, offsets = factors
    masked = decisions.masked
    flat = masked[leading(offsets.diff(), masked.shape[1])].double()
    owner = owners(offsets)
    mean = h.new_zeros(len(masked), h.shape[1], dtype=torch.float64)
    for rows in torch.arange(len(h)).split(ROWS_AT_ONCE):
        mean.index_add_(0, owner[rows], flat[rows, None] * h[rows].double())
    return flat, mean
