"""k-means by scikit-learn, made to give the same clusters for the same seed."""

import warnings

import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

MINI_BATCH_FROM = 50
"""Above this many clusters mini-batches are used, as TypiClust's authors do."""


def kmeans_labels(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """The cluster of each of float[n, d] points, int64[n]. Fewer clusters come back where points coincide."""
    clusters = min(clusters, len(points))
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    if clusters < 2:
        return torch.zeros(len(points), dtype=torch.int64)
    model: KMeans | MiniBatchKMeans
    if clusters <= MINI_BATCH_FROM:
        model = KMeans(clusters, n_init=1, random_state=seed)
    else:
        model = MiniBatchKMeans(clusters, n_init=1, batch_size=5000, random_state=seed)
    # One thread: with several, the order in which their partial sums meet changes the last digits from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters is fine here
        labels = model.fit_predict(points.numpy())
    return torch.from_numpy(labels).long()
