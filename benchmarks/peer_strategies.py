"""The strategies of small-text and scikit-activeml, for `strategies.py`; needs an environment of its own with both.

    python -m venv PEER
    PEER/bin/pip install torch "small-text[transformers]==1.4.1" "transformers<5" scikit-activeml==1.0.1 baal
    PEER/bin/python benchmarks/peer_strategies.py ROW DATA.npz --repeats 5 --threads 2

DATA: the arrays that `strategies.py` writes. Each strategy is called as its documentation says, with a model that
gives out the probabilities and embeddings that are there already: nothing but the choice is timed. The first call,
which loads what it needs, is on 1,000 examples and is not counted. The last line is JSON: seconds, picks, extra_mb.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Query = Callable[[], Any]


class Rows:
    """A data set of positions, as small-text slices it."""

    def __init__(self, positions: np.ndarray) -> None:
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, wanted: np.ndarray) -> Rows:
        return Rows(self.positions[wanted])


class Known:
    """A small-text classifier that has predicted everything before."""

    def __init__(self, probs: np.ndarray, embeddings: np.ndarray, passes: np.ndarray | None = None) -> None:
        self.probs, self.embeddings, self.passes = probs, embeddings, passes

    def predict_proba(self, rows: Rows, dropout_sampling: int = 1) -> np.ndarray:
        """Float[n, C], or with dropout float[n, T, C]."""
        if dropout_sampling > 1 and self.passes is not None:
            return self.passes[rows.positions]
        return self.probs[rows.positions]

    def embed(self, rows: Rows, return_proba: bool = False, pbar: str | None = None) -> Any:
        """Float[n, d], and float[n, C] where they are asked for."""
        found = self.embeddings[rows.positions]
        return (found, self.probs[rows.positions]) if return_proba else found


def _whole(data: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pool and labelled set as one array, the pool first, and the positions of each."""
    points = np.concatenate([data["embeddings"], data["known_embeddings"]])
    n = len(data["embeddings"])
    return points, np.arange(n), np.arange(n, len(points))


def _small_text(strategy: Any, data: Arrays, count: int) -> Query:
    points, pool, known = _whole(data)
    probs = np.concatenate([data["probs"], data["known_probs"]])
    passes = data["passes"].transpose(1, 0, 2) if "passes" in data else None  # members second
    model, rows = Known(probs, points, passes), Rows(np.arange(len(points)))
    if passes is not None:
        model.passes = np.concatenate([passes, np.zeros((len(known), *passes.shape[1:]), passes.dtype)])
    return lambda: strategy.query(model, rows, pool, known, data["known_labels"], n=count)


def greedy_coreset(data: Arrays, count: int) -> Query:
    from small_text.query_strategies.coresets import greedy_coreset as choose

    points, pool, known = _whole(data)
    return lambda: choose(points, pool, known, count, distance_metric="euclidean", batch_size=100)


def prediction_entropy(data: Arrays, count: int) -> Query:
    from small_text import PredictionEntropy

    return _small_text(PredictionEntropy(), data, count)


def breaking_ties(data: Arrays, count: int) -> Query:
    from small_text import BreakingTies

    return _small_text(BreakingTies(), data, count)


def least_confidence(data: Arrays, count: int) -> Query:
    from small_text import LeastConfidence

    return _small_text(LeastConfidence(), data, count)


def contrastive(data: Arrays, count: int) -> Query:
    from small_text import ContrastiveActiveLearning

    return _small_text(ContrastiveActiveLearning(k=10, pbar=None), data, count)


def small_text_bald(data: Arrays, count: int) -> Query:
    from small_text.query_strategies.bayesian import BALD

    return _small_text(BALD(dropout_samples=len(data["passes"])), data, count)


def _labels(data: Arrays) -> np.ndarray:
    return np.concatenate([np.full(len(data["embeddings"]), np.nan), data["known_labels"].astype(float)])


def core_set(data: Arrays, count: int) -> Query:
    from skactiveml.pool import CoreSet

    points, _, _ = _whole(data)
    strategy, labels = CoreSet(random_state=0), _labels(data)
    return lambda: strategy.query(points, labels, batch_size=count)


def badge(data: Arrays, count: int) -> Query:
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Fitted(SkactivemlClassifier):
        """Gives out the probabilities of the rows that are asked for, which are those of the pool."""

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Fitted:  # noqa: N803
            return self

        def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
            return data["probs"]

    points, _, _ = _whole(data)
    strategy, labels = Badge(random_state=0), _labels(data)
    model = Fitted(classes=list(range(data["probs"].shape[1])))
    return lambda: strategy.query(points, labels, clf=model, fit_clf=False, batch_size=count)


def typi_clust(data: Arrays, count: int) -> Query:
    from skactiveml.pool import TypiClust

    points, _, _ = _whole(data)
    strategy, labels = TypiClust(random_state=0, k=20), _labels(data)
    return lambda: strategy.query(points, labels, batch_size=count)


ROWS: dict[str, Callable[[Arrays, int], Query]] = {
    "greedy_coreset": greedy_coreset,
    "core_set": core_set,
    "badge": badge,
    "badge_memory": badge,
    "typi_clust": typi_clust,
    "prediction_entropy": prediction_entropy,
    "contrastive": contrastive,
}


def head(data: Arrays, rows: int) -> Arrays:
    """The arrays of the first examples of the pool; the labelled set stays."""
    cut = {name: values[:rows] for name, values in data.items() if name in ("embeddings", "probs")}
    return {**data, **cut, **({"passes": data["passes"][:, :rows]} if "passes" in data else {})}


def forget_peak() -> None:
    """What the process held at its largest counts from here on, where the system can do that."""
    if (switch := Path("/proc/self/clear_refs")).exists():
        switch.write_text("5")


def peak_mb() -> float:
    """What the process held at its largest; Linux tells it without what its parent held."""
    if (status := Path("/proc/self/status")).exists():
        return next(float(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=list(ROWS))
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    with np.load(options.data) as file:
        data = {name: file[name] for name in file.files}
    count = int(data.pop("count"))
    with threadpool_limits(options.threads):
        ROWS[options.row](head(data, 1000), min(count, 100))()
        query = ROWS[options.row](data, count)
        forget_peak()
        before, seconds, cpu = peak_mb(), [], []
        for _ in range(options.repeats):
            start, used = time.perf_counter(), time.process_time()
            picks = query()
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
    picks = [int(at) for at in picks]
    print(json.dumps({"seconds": seconds, "cpu": cpu, "picks": picks, "extra_mb": peak_mb() - before}))


if __name__ == "__main__":
    main()
