"""The Gaussian posterior of a last layer around its fitted weights (Laplace's approximation). Tensors in, tensors out.

Its precision is the curvature of the loss on labelled examples, the generalised Gauss-Newton matrix, and that of a
prior: Λ = H + λI. All is computed in float64, from triangular factors of Λ. References: MacKay 1992; Kristiadi, Hein &
Hennig 2020, arXiv 2002.10118.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nlp_al.decisions import Decisions, leading, owners, segment_mean, segment_sum
from nlp_al.heads import SLACK
from nlp_al.signals import Gradients, SignalError

LARGEST = 4096
"""Weights of a joint posterior at most; its factor takes 128 MB then."""

_FLOATS_AT_ONCE = 2**22

Kind = Literal["classes", "yes_no", "choice"]


class Posterior(NamedTuple):
    """How the weights [R, d] of a layer may differ from the fitted ones.

    factors: float64[B, D, D], lower triangular, F Fᵀ = Λ: one of D = d that all outputs have, each for itself; R of
    D = d, one an output; or one of D = R · d for all outputs together, those of the first one first.
    """

    factors: Tensor
    outputs: int
    width: int

    def variances(self, points: Tensor) -> Tensor:
        """hᵀ Σ h for each of float[J, d] points and each output: float64[J, R]."""
        points = points.double()
        if self.factors.shape[1] == self.width:
            found = [torch.linalg.solve_triangular(f, points.T, upper=False).square().sum(0) for f in self.factors]
            spread: Tensor = torch.stack(found, 1).expand(-1, self.outputs)
            return spread
        inverse: Tensor = torch.linalg.solve_triangular(self.factors[0], _eye_like(self.factors), upper=False)
        roots = inverse.split(self.width, 1)
        return torch.stack([((points @ (root.T @ root)) * points).sum(1) for root in roots], 1)

    def draws(self, count: int, generator: torch.Generator) -> Tensor:
        """Differences of weights from the fitted ones, float64[count, R, d]."""
        sets, width = self.factors.shape[:2]
        columns = count * self.outputs * self.width // (sets * width)
        noise = torch.randn(sets, width, columns, generator=generator, dtype=torch.float64).to(self.factors.device)
        found: Tensor = torch.linalg.solve_triangular(self.factors.mT, noise, upper=True)
        return found.mT.transpose(0, 1).reshape(count, self.outputs, self.width)


def alike(points: Tensor, weights: Tensor, prior: float, outputs: int = 1) -> Posterior:
    """Λ = Σ_j w_j h_j h_jᵀ + λI for each output by itself; the same for all, or with float[J, R] weights one for each.

    points: float[J, d]. weights: float[J] or float[J, R]. prior: λ > 0.
    """
    points, columns = points.double(), weights.double().reshape(len(points), weights.shape[1:].numel())
    curvature = torch.stack([points.T @ (points * column[:, None]) for column in columns.unbind(1)])
    if weights.dim() == 2:
        outputs = weights.shape[1]
    return Posterior(_factors(curvature, prior), outputs, points.shape[1])


def together(points: Tensor, probs: Tensor, prior: float) -> Posterior:
    """Λ = Σ_j (diag p_j − p_j p_jᵀ) ⊗ h_j h_jᵀ + λI, the whole curvature of a softmax over R outputs.

    points: float[J, d]. probs: float[J, R]. prior: λ > 0.

    Raises:
        SignalError: there are more than LARGEST weights.
    """
    outputs, width = probs.shape[1], points.shape[1]
    if outputs * width > LARGEST:
        raise SignalError(
            f"an exact posterior has {outputs} x {width} weights here, and may have {LARGEST}; take the shared form."
        )
    points, probs = points.double(), probs.double()
    curvature = points.new_empty(outputs, width, outputs, width)
    for one in range(outputs):
        for other in range(one + 1):
            weight = probs[:, one] * (float(one == other) - probs[:, other])
            block = points.T @ (points * weight[:, None])
            curvature[one, :, other], curvature[other, :, one] = block, block
    flat = curvature.reshape(1, outputs * width, outputs * width)
    return Posterior(_factors(flat, prior), outputs, width)


def _factors(curvature: Tensor, prior: float) -> Tensor:
    found: Tensor = torch.linalg.cholesky(curvature + prior * _eye_like(curvature))
    return found


def _eye_like(matrices: Tensor) -> Tensor:
    return torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)


def kind_of(decisions: Decisions, factors: Gradients) -> Kind:
    """What a row of the last layer is: `classes`, all options of a decision; `yes_no`, a decision a column; `choice`,
    one option, whose decision is a softmax over the rows of an example.

    Raises:
        SignalError: it is none of these.
    """
    rows, counts = factors.offsets.diff(), decisions.offsets.diff()
    outputs, columns = factors.r.shape[1], decisions.probs.shape[1]
    if decisions.options is not None:
        if outputs == 1 and bool((counts == 1).all()) and torch.equal(rows, decisions.options):
            return "choice"
    elif outputs == columns and torch.equal(rows, counts):
        return "classes"
    elif columns == 2 and bool((rows == 1).all()) and bool((counts == outputs).all()):
        return "yes_no"
    raise SignalError("gradients are not those of one last layer over the decisions, which a posterior of it needs.")


def posterior(
    decisions: Decisions, factors: Gradients, exact: bool = False, prior: float | None = None, slack: float = SLACK
) -> Posterior:
    """Of the last layer, given what it says of labelled examples.

    decisions, factors: of these. exact: the whole curvature; else all outputs of a softmax or of yes and no have the
    same, that of their mean p (1 − p). prior: λ; None: mean‖h‖² / slack, as the fits in `heads` have it.

    Raises:
        SignalError: the exact form would be too large, or the factors are not those of a last layer.
    """
    kind, points = kind_of(decisions, factors), factors.h.double()
    probs = decisions.masked.double()
    if kind == "choice":
        shares = _flat(probs, decisions)
        points = points - segment_sum(shares[:, None] * points, factors.offsets)[owners(factors.offsets)]
        return alike(points, shares, _prior(points, prior, slack))
    lam = _prior(points, prior, slack)
    if kind == "yes_no":
        spread = probs.prod(1).reshape(-1, factors.r.shape[1])
        return alike(points, spread, lam) if exact else alike(points, spread.mean(1), lam, spread.shape[1])
    if exact:
        return together(points, probs, lam)
    return alike(points, (probs * (1 - probs)).mean(1), lam, probs.shape[1])


def _prior(points: Tensor, prior: float | None, slack: float) -> float:
    if prior is not None:
        return prior
    # Features that are all 0 have no scale; with any prior their variance is 0.
    return float(points.square().sum(1).mean()) / slack if len(points) and bool(points.any()) else 1.0


def _flat(values: Tensor, decisions: Decisions) -> Tensor:
    """[M, O] with varying options to a row an option."""
    assert decisions.options is not None
    return values[leading(decisions.options, values.shape[1])]


def drawn(decisions: Decisions, factors: Gradients, draws: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The probabilities under each draw of the weights, part by part: which decisions, float64[T, m, O].

    decisions, factors: of the pool. draws: float64[T, R, d].
    """
    kind = kind_of(decisions, factors)
    for rows, own, part in _parts(decisions, factors, draws.shape[0] * max(draws.shape[1], decisions.probs.shape[1])):
        logits, moved = _logits(own, kind), torch.einsum("jd,trd->tjr", part.h.double(), draws)
        if kind == "choice":
            assert own.options is not None
            valid = leading(own.options, logits.shape[1])
            logits = logits.repeat(len(draws), 1, 1)
            logits[:, valid] += moved[:, :, 0]
        else:
            logits = logits + moved
        yield rows, _probs(logits, kind)


def variances(posterior: Posterior, decisions: Decisions, factors: Gradients) -> Tensor:
    """The variance of the logits of each decision, the mean over its options: float64[M].

    Of a choice, logits are those against the mean over the options: what all have in common decides nothing.
    """
    kind = kind_of(decisions, factors)
    found = [_variances(posterior, part, kind) for _, _, part in _parts(decisions, factors, factors.h.shape[1])]
    whole = torch.cat(found) if found else factors.h.new_zeros(0, posterior.outputs, dtype=torch.float64)
    if kind == "choice":
        return segment_mean(whole[:, 0], factors.offsets)
    return whole.flatten() if kind == "yes_no" else whole.mean(1)


def probit(posterior: Posterior, decisions: Decisions, factors: Gradients) -> Tensor:
    """The probabilities with logits divided by √(1 + π s² / 8), float64[M, O]: about their mean over the posterior.

    Logits are taken from the probabilities, and are those against the mean over the options of their decision.
    """
    kind, found = kind_of(decisions, factors), []
    for _, own, part in _parts(decisions, factors, factors.h.shape[1]):
        logits, scale = _logits(own, kind), (1 + math.pi / 8 * _variances(posterior, part, kind)).sqrt()
        if kind == "choice":
            assert own.options is not None
            valid = leading(own.options, logits.shape[1])
            scale = torch.ones_like(logits).masked_scatter(valid, scale[:, 0])
        found.append(_probs(logits / scale, kind))
    return torch.cat(found) if found else decisions.probs.double()


def _variances(posterior: Posterior, part: Gradients, kind: Kind) -> Tensor:
    points = part.h.double()
    if kind == "choice":
        points = points - segment_mean(points, part.offsets)[owners(part.offsets)]
    return posterior.variances(points)


def _logits(decisions: Decisions, kind: Kind) -> Tensor:
    """float64[m, C] of classes, [m, L] of yes, or, padded with minus infinity, [m, O] of options; of a softmax without
    what is common to a row.
    """
    logs = decisions.masked.double().log()
    if kind == "yes_no":
        return (logs[:, 0] - logs[:, 1]).reshape(len(decisions), -1 if len(logs) else 0)
    finite = logs.isfinite()
    return logs - (logs.masked_fill(~finite, 0.0).sum(1) / finite.sum(1).clamp(min=1))[:, None]


def _probs(logits: Tensor, kind: Kind) -> Tensor:
    if kind == "yes_no":
        flat = logits.flatten(-2)
        return torch.stack([flat.sigmoid(), (-flat).sigmoid()], -1)
    return logits.softmax(-1)


def _parts(decisions: Decisions, factors: Gradients, floats: int) -> Iterator[tuple[slice, Decisions, Gradients]]:
    """Runs of examples, so many that `floats` numbers a row are not too many at once."""
    places, widest = decisions.offsets, int(factors.offsets.diff().max()) if len(decisions) else 1
    step = max(1, _FLOATS_AT_ONCE // max(1, floats * max(1, widest)))
    for low in range(0, len(decisions), step):
        bounds, terms = places[low : low + step + 1], factors.offsets[low : low + step + 1]
        rows, own = slice(int(bounds[0]), int(bounds[-1])), slice(int(terms[0]), int(terms[-1]))
        options = None if decisions.options is None else decisions.options[rows]
        part = Gradients(factors.r[own], factors.h[own], terms - terms[0])
        yield rows, Decisions(decisions.probs[rows], bounds - bounds[0], options), part
