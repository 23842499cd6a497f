"""How dense the pool is around each example, by directions of embeddings, rounded so that equal examples tie."""

import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor

from nlp_al.selection.rows import per_row, total_of_rows

_TINY = 1e-300  # shorter than any embedding
_COSINES_AT_ONCE = 2**21  # 16 MB of float64


def directions(points: Tensor) -> Tensor:
    """Rows of length 1, float64[n, d]; zero stays zero."""
    unit: Tensor = torch.nn.functional.normalize(points.double(), dim=1, eps=_TINY)
    return unit


def sum_of_directions(points: Tensor) -> Tensor:
    """The sum of float[n, d] rows, each made as long as 1: float64[d]."""
    return total_of_rows(points, directions)


def cosines_with(points: Tensor, vector: Tensor) -> Tensor:
    """⟨x / |x|, vector⟩ of float[n, d] rows with a float64[d] vector, float64[n]; 0 of a row of zeros."""
    return per_row(points, lambda rows: (rows @ vector) / torch.linalg.vector_norm(rows, dim=1).clamp(min=_TINY))


def mean_cosine(points: Tensor, exclude_self: bool = False) -> Tensor:
    """The mean cosine of each of float[n, d] points to all of them, float32[n]. O(n · d): no cosine is written down.

    exclude_self: to the n − 1 others.
    """
    sums, n = cosines_with(points, sum_of_directions(points)), len(points)
    if exclude_self:
        sums, n = sums - torch.linalg.vector_norm(points, dim=1).sign(), n - 1
    return sums.div(max(n, 1)).float()


def neighbour_cosine(points: Tensor, references: Tensor, count: int) -> Tensor:
    """The mean cosine of each of float[n, d] points to the `count` nearest other ones at int64[m] references.

    All there are where these are fewer, 0 where there are none. float32[n]. Time O(n · m · d).
    """
    others = directions(points[references])
    place = points.new_full((len(points),), -1, dtype=torch.int64)
    place[references] = torch.arange(len(references), device=place.device)
    found = points.new_zeros(len(points), dtype=torch.float32)
    at_once = max(1, _COSINES_AT_ONCE // max(len(references), 1))
    for rows in torch.arange(len(points)).split(at_once):
        cosines = directions(points[rows]) @ others.T
        inside = torch.nonzero(place[rows] >= 0).flatten()
        cosines[inside, place[rows][inside]] = -torch.inf
        fewest = len(references) - (1 if len(inside) else 0)
        nearest = cosines.topk(min(count, fewest), dim=1).values
        found[rows] = (nearest.sum(1) / max(nearest.shape[1], 1)).float()
    return found


def mixture_density(points: Tensor, references: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """The log-density of directions under Gaussians with diagonal covariances, scaled to 0 … 1 over the points.

    points: float[n, d]. The mixture is fitted to those at int64[m] references, m ≥ 1. All are 1 where all are as dense.
    float32[n].
    """
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    sample = directions(points[references]).cpu()
    if len(sample) < 2:  # a mixture of one point is nothing to fit
        return points.new_ones(len(points), dtype=torch.float32)
    model = GaussianMixture(min(components, len(sample)), covariance_type="diag", random_state=seed)
    # One thread: with several, the order in which their partial sums meet changes the last digits from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(sample.numpy())
        density = per_row(points, lambda rows: torch.from_numpy(model.score_samples(directions(rows).cpu().numpy())))
    low, high = density.aminmax()
    if high - low <= 1e-9 * high.abs().clamp(min=1.0):
        return points.new_ones(len(points), dtype=torch.float32)
    return ((density - low) / (high - low)).float()
