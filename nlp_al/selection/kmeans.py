"""k-means by scikit-learn, made to give the same clusters for the same seed, and the members in the middle of them."""

import math
import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from nlp_al.selection.distances import row_squares, squared_distances

MINI_BATCH_FROM = 50
"""Above this many clusters mini-batches are used, as TypiClust's authors do."""
MINI_BATCH_POINTS = 100_000
"""Above this many points likewise: where points lie evenly, plain k-means goes over them a hundred times and more."""

_SEEDED_FROM = 30  # points a cluster, at random, from which mini-batches take their seeds
_ROWS_AT_ONCE = 4096


def kmeans_labels(points: Tensor, clusters: int, generator: torch.Generator, restarts: int = 1) -> Tensor:
    """The cluster of each of float[n, d] points, int64[n]. Fewer clusters come back where points coincide.

    restarts: how many seedings are tried; mini-batches, used for many clusters or points, go with one.
    """
    clusters = min(clusters, len(points))
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    if clusters < 2:
        return points.new_zeros(len(points), dtype=torch.int64)
    model: KMeans | MiniBatchKMeans
    if clusters <= MINI_BATCH_FROM and len(points) <= MINI_BATCH_POINTS:
        model = KMeans(clusters, init=_seeds, n_init=restarts, random_state=seed)
    else:
        some = min(_SEEDED_FROM * clusters, 15_000)
        model = MiniBatchKMeans(clusters, init=_seeds, init_size=some, n_init=1, batch_size=5000, random_state=seed)
    # One thread: with several, the order in which their partial sums meet changes the last digits from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters is fine here
        labels = model.fit_predict(points.cpu().numpy())
    return torch.from_numpy(labels).long().to(points.device)


def _seeds(points: np.ndarray, clusters: int, random_state: np.random.RandomState) -> np.ndarray:
    """k-means++ that takes the best of a few draws each time, as scikit-learn's own, which works in float64: [k, d].

    points: float[n, d], clusters ≤ n.
    """
    rows = torch.from_numpy(points - points.mean(0))
    squares, picks = row_squares(rows), [int(random_state.randint(len(rows)))]
    away = squared_distances(rows, squares, rows[picks])[:, 0]
    for _ in range(clusters - 1):
        shares = away.double().cumsum(0)
        drawn = torch.from_numpy(random_state.random_sample(2 + int(math.log(clusters)))) * shares[-1]
        # On the right: a point that coincides with a seed has an empty share, which no draw falls into.
        tried = torch.searchsorted(shares, drawn, right=True).clamp_(max=len(rows) - 1)
        left = torch.minimum(squared_distances(rows, squares, rows[tried]), away[:, None])
        best = int(left.sum(0, dtype=torch.float64).argmin())
        picks.append(int(tried[best]))
        away = left[:, best]
    return points[picks]


def central_members(points: Tensor, assigned: Tensor, count: int) -> Tensor:
    """The member nearest to the mean of each cluster, the largest cluster first; then the second nearest, and so on.

    points: float[n, d]; assigned: int64[n]. Ties go to the lowest position. int64[min(count, n)].
    """
    sizes = torch.bincount(assigned)
    parts = list(zip(points.split(_ROWS_AT_ONCE), assigned.split(_ROWS_AT_ONCE), strict=True))
    means = points.new_zeros(len(sizes), points.shape[1], dtype=torch.float64)
    for part, own in parts:
        means.index_add_(0, own, part.double())
    means /= sizes.clamp(min=1)[:, None]
    distances = torch.cat([(part.double() - means[own]).square().sum(1) for part, own in parts])
    by_distance = torch.argsort(distances, stable=True)
    order = by_distance[torch.argsort(assigned[by_distance], stable=True)]
    rank = torch.empty_like(assigned)
    rank[order] = torch.arange(len(assigned), device=assigned.device) - (sizes.cumsum(0) - sizes)[assigned[order]]
    place = torch.argsort(torch.argsort(sizes, descending=True, stable=True))
    return torch.argsort(rank * len(sizes) + place[assigned])[:count]
