"""Linear heads on fixed features: convex fits in float64, the same from the same labels. Tensors in, tensors out."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

SLACK = 32.0
"""How far a head may go from where it starts, relative to the features' size, so that their scale does not matter."""


class Head(NamedTuple):
    """logits = weight · h + bias. weight: float64[R, d]. bias: float64[R], −inf where an option never wins."""

    weight: Tensor
    bias: Tensor


def softmax_head(points: Tensor, targets: Tensor, classes: int) -> Head:
    """Multinomial logistic regression from zero: Σ loss + mean‖h‖² / (2 · SLACK) · ‖W‖², the bias free.

    points: float[J, d]. targets: int64[J], two different ones at least. A class without a point gets the bias −inf, so
    its probability is 0.
    """
    import torch

    weight = torch.zeros(classes, points.shape[1], dtype=torch.float64)
    bias = torch.full((classes,), -torch.inf, dtype=torch.float64)
    seen, coefficients, intercepts = _logistic(points, targets)
    if len(seen) == 2:  # scikit-learn keeps one row for two classes: the logit of the second
        weight[seen[1]] = coefficients[0]
        bias[seen] = torch.stack([torch.zeros_like(intercepts[0]), intercepts[0]])
    else:
        weight[seen] = coefficients
        bias[seen] = intercepts
    return Head(weight, bias)


def yes_no_heads(points: Tensor, targets: Tensor) -> Head:
    """A logistic regression a column, each as in `softmax_head`; the logit is that of yes.

    points: float[n, d]. targets: bool[n, R]. A column that is always no gets the bias −inf, one that is always yes
    +inf: until there is another case, there is nothing to learn.
    """
    import torch

    weight = torch.zeros(targets.shape[1], points.shape[1], dtype=torch.float64)
    bias = torch.where(targets.any(0), torch.inf, -torch.inf).double()
    for column in torch.nonzero(targets.any(0) & ~targets.all(0)).flatten().tolist():
        _, coefficients, intercepts = _logistic(points, targets[:, column].long())
        weight[column], bias[column] = coefficients[0], intercepts[0]
    return Head(weight, bias)


def _logistic(points: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    import torch
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # One thread: a fit this small gains nothing from more, and their number would show in the last digits.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes")  # many classes, few labels: our case
        points = points.double()
        slack = SLACK / float(points.square().sum(1).mean())
        fitted = LogisticRegression(C=slack, max_iter=1000).fit(points.numpy(), targets.numpy())
    return torch.from_numpy(fitted.classes_), torch.from_numpy(fitted.coef_), torch.from_numpy(fitted.intercept_)


def choice_head(
    points: Tensor, offsets: Tensor, chosen: Tensor, start: Tensor, slack: float = SLACK, free: int = 0
) -> Head:
    """One weight vector that scores options: a softmax over those of each example (McFadden 1974, conditional logit).

    Minimises Σ −ln softmax(X_i w)[chosen_i] + mean‖h‖² / (2 · slack) · ‖w − start‖², h being an option less the mean of
    its example's: with few labels w stays near `start`, the nearer the less slack it has. The last `free` columns are
    left out of the penalty.

    points: float[J, d], the options. offsets: int64[n + 1]. chosen: int64[n], positions inside the examples.
    start: float[d].
    """
    import torch
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    from nlp_al.decisions import owners, segment_mean

    owner, towards = owners(offsets), start.double()
    points = points.double()
    points = points - segment_mean(points, offsets)[owner]
    picked = points[offsets[:-1] + chosen].sum(0)
    held = torch.arange(points.shape[1]) < points.shape[1] - free
    penalty = held * float(points[:, held].square().sum(1).mean()) / slack

    def loss(flat: object) -> tuple[float, object]:
        w = torch.as_tensor(flat)
        scores = points @ w
        top = scores.new_full((len(chosen),), -torch.inf).scatter_reduce_(0, owner, scores, "amax")
        weights = (scores - top[owner]).exp()
        total = scores.new_zeros(len(chosen)).index_add_(0, owner, weights)
        away = w - towards
        value = (total.log() + top).sum() - picked @ w + (penalty / 2 * away.square()).sum()
        slope = (weights / total[owner]) @ points - picked + penalty * away
        return float(value), slope.numpy()

    until = {"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-8}
    with threadpool_limits(1):
        found = minimize(loss, towards.numpy(), jac=True, method="L-BFGS-B", options=until)
    return Head(torch.from_numpy(found.x)[None], torch.zeros(1, dtype=torch.float64))
