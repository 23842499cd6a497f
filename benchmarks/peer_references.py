"""What small-text, scikit-activeml and baal choose of given arrays, for `references.py`; runs where the peers are.

    PEER/bin/python benchmarks/peer_references.py DATA.npz

`peer_strategies.py` says how PEER is made. Where a strategy clusters, the clusters are given; where it draws, the most
probable is drawn, and of equal ones the first: then nothing is left to chance. The last line printed is JSON: for each
strategy and reference the positions in the order chosen, or a score an example, or the error that it raised.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import peer_strategies as peers

Arrays = peers.Arrays
Found = Any


class First(np.random.RandomState):
    """Draws what is most probable, and of equals the first."""

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        """Falling numbers."""
        return np.linspace(1.0, 0.5, int(np.prod(shape))).reshape(shape)

    def choice(self, n: int, *_: object, p: np.ndarray, **__: object) -> np.ndarray:
        """The most probable."""
        return np.array([int(p.argmax())])


class Given:
    """A clustering that is there already."""

    labels: np.ndarray

    def __init__(self, n_clusters: int) -> None:
        self.n_clusters = n_clusters

    def fit_predict(self, _: np.ndarray) -> np.ndarray:
        """The clusters."""
        return self.labels

    def fit(self, rows: np.ndarray) -> Given:
        """Sets the means of the clusters, as k-means does."""
        self.cluster_centers_ = np.stack([rows[self.labels == c].mean(0) for c in range(self.n_clusters)])
        return self


def uncertainty(method: str) -> Callable[[Arrays, int], Found]:
    def scores(data: Arrays, count: int) -> Found:
        from skactiveml.pool import uncertainty_scores

        return uncertainty_scores(data["probs"], method=method)

    return scores


def queried(row: Callable[[Arrays, int], peers.Query]) -> Callable[[Arrays, int], Found]:
    return lambda data, count: row(data, count)()


def baal_bald(data: Arrays, count: int) -> Found:
    from baal.active.heuristics import BALD

    return BALD().get_uncertainties(data["passes"].transpose(1, 2, 0))


def average_kl(data: Arrays, count: int) -> Found:
    from skactiveml.pool import average_kl_divergence

    return average_kl_divergence(data["passes"].copy())


def votes(data: Arrays, count: int) -> Found:
    from skactiveml.pool import vote_entropy

    return vote_entropy(data["passes"].argmax(2).T, np.arange(data["probs"].shape[1]))


def ratios(data: Arrays, count: int) -> Found:
    from skactiveml.pool import variation_ratios

    return variation_ratios(data["passes"].argmax(2).T)


def batch_bald(data: Arrays, count: int) -> Found:
    from skactiveml.pool import batch_bald as choose

    return np.nanargmax(choose(data["passes"].copy(), 5, n_MC_samples=10**6, random_state=0), axis=1)


def labelled_first(data: Arrays, count: int) -> Found:
    """As positions in the pool, which comes behind the labelled set here."""
    from small_text.query_strategies.coresets import greedy_coreset

    points = np.concatenate([data["known_embeddings"], data["embeddings"]])
    l = len(data["known_embeddings"])  # noqa: E741
    return greedy_coreset(points, np.arange(l, len(points)), np.arange(l), count, distance_metric="euclidean")


def seeded(name: str, **parameters: Any) -> Callable[[Arrays, int], Found]:
    """A scikit-activeml strategy over pool and labelled set."""

    def choose(data: Arrays, count: int) -> Found:
        import skactiveml.pool

        points = np.concatenate([data["embeddings"], data["known_embeddings"]])
        labels = np.concatenate([np.full(len(data["embeddings"]), np.nan), data["known_labels"].astype(float)])
        strategy = getattr(skactiveml.pool, name)(random_state=0, **parameters)
        with mock.patch("numpy.random.RandomState", First):
            return strategy.query(points, labels, batch_size=count)

    return choose


def prob_cover(data: Arrays, count: int) -> Found:
    return seeded("ProbCover", deltas=[float(data["delta"])], n_classes=data["probs"].shape[1])(data, count)


def typi_clust(data: Arrays, count: int) -> Found:
    from skactiveml.pool import TypiClust

    Given.labels = data["clusters"]
    strategy = TypiClust(random_state=0, cluster_algo=Given, k=20)
    return strategy.query(data["embeddings"], np.full(len(data["clusters"]), np.nan), batch_size=8)


def badge(data: Arrays, count: int) -> Found:
    with mock.patch("numpy.random.RandomState", First):
        return peers.badge(data, count)()


def small_text_kmeans(data: Arrays, count: int) -> Found:
    from small_text import EmbeddingKMeans

    Given.labels = data["unit_clusters"]
    with mock.patch("sklearn.cluster.KMeans", Given):
        return EmbeddingKMeans(normalize=True).sample(
            None, None, np.arange(len(data["embeddings"])), None, None, 8, data["embeddings"]
        )


def contrastive(data: Arrays, count: int) -> Found:
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import ContrastiveAL

    class Fitted(SkactivemlClassifier):
        """Gives out probabilities that are there already, known by how many rows are asked for."""

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Fitted:  # noqa: N803
            """Nothing to fit."""
            return self

        def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
            """Those of the labelled set or of the pool."""
            return (data["known_probs"] if len(X) == len(data["known_probs"]) else data["probs"]).copy()

    points = np.concatenate([data["embeddings"], data["known_embeddings"]])
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    labels = np.concatenate([np.full(len(data["embeddings"]), np.nan), data["known_labels"].astype(float)])
    strategy = ContrastiveAL(random_state=0, nearest_neighbors_dict={"n_neighbors": 10})
    model = Fitted(classes=list(range(data["probs"].shape[1])))
    return strategy.query(points, labels, clf=model, fit_clf=False, batch_size=count)


def lightweight(data: Arrays, count: int) -> Found:
    """The probabilities that it draws with."""
    from small_text.query_strategies.coresets import lightweight_coreset

    points = data["embeddings"]
    with mock.patch("numpy.random.choice", lambda *_, p, **__: p):
        return lightweight_coreset(points, points.mean(0), count)


CHECKS: dict[str, dict[str, Callable[[Arrays, int], Found]]] = {
    "least_confidence": {
        "small-text LeastConfidence": queried(peers.least_confidence),
        "scikit-activeml least_confident": uncertainty("least_confident"),
    },
    "margin": {
        "small-text BreakingTies": queried(peers.breaking_ties),
        "scikit-activeml margin_sampling": uncertainty("margin_sampling"),
    },
    "entropy": {
        "small-text PredictionEntropy": queried(peers.prediction_entropy),
        "scikit-activeml entropy": uncertainty("entropy"),
    },
    "bald": {"small-text BALD": queried(peers.small_text_bald), "baal BALD": baal_bald},
    "qbc_kl": {"scikit-activeml average_kl_divergence": average_kl},
    "qbc_ve": {"scikit-activeml vote_entropy": votes},
    "variation_ratio": {"scikit-activeml variation_ratios": ratios},
    "batchbald": {"scikit-activeml batch_bald": batch_bald},
    "coreset": {
        "small-text greedy_coreset": queried(peers.greedy_coreset),
        "small-text greedy_coreset, labelled first": labelled_first,
        "scikit-activeml CoreSet": seeded("CoreSet"),
    },
    "badge": {"scikit-activeml Badge": badge},
    "typiclust": {"scikit-activeml TypiClust": typi_clust},
    "probcover": {"scikit-activeml ProbCover": prob_cover},
    "bert_km": {"small-text EmbeddingKMeans": small_text_kmeans},
    "cal": {
        "scikit-activeml ContrastiveAL": contrastive,
        "small-text ContrastiveActiveLearning": queried(peers.contrastive),
    },
    "lightweight_coreset": {"small-text lightweight_coreset": lightweight},
}


def main() -> None:
    warnings.simplefilter("ignore")
    with np.load(sys.argv[1]) as file:
        data = {name: file[name] for name in file.files}
    count = int(data.pop("count"))
    found: dict[str, dict[str, Any]] = {}
    for name, references in CHECKS.items():
        found[name] = {}
        for reference, choose in references.items():
            try:
                told = np.asarray(choose(data, count))
                found[name][reference] = told.tolist()
            except Exception as error:  # what a reference cannot do is part of the answer
                found[name][reference] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
