"""The curves of `curves.py` by small-text's own strategies; needs an environment of its own, with small-text 1.4 in it.

    python -m venv PEER && PEER/bin/pip install torch "small-text[transformers]==1.4.1" "transformers<5"
    PEER/bin/python benchmarks/peer_curves.py RUNS

RUNS: the folder of `curves.py`, whose run of `random` gives a seed's initial set and rounds. A run is kept in
RUNS/<dataset>/small-text/<strategy>-<seed>.json, and is not run again: {x: labels, y: test accuracy, seconds}.

small-text asks through its public interface, `PoolBasedActiveLearner` over a `SklearnDataset` of the same features. It
fits the same head, scikit-learn's logistic regression under the same penalty in float64, as an estimator of its
`SklearnClassifierFactory`; a class without a label has the probability 0. All that differs is what is asked for.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from small_text import (
    BreakingTies,
    GreedyCoreset,
    PoolBasedActiveLearner,
    PredictionEntropy,
    SklearnClassifierFactory,
    SklearnDataset,
)
from threadpoolctl import threadpool_limits

SLACK = 32.0  # as in nlp_al/heads.py

STRATEGIES = {
    "margin": BreakingTies,
    "entropy": PredictionEntropy,
    "coreset": lambda: GreedyCoreset(distance_metric="euclidean", normalize=False),
}


class Head(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Multinomial logistic regression whose penalty is relative to the size of the features."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def fit(self, x: np.ndarray, y: np.ndarray, sample_weight: None = None) -> Head:
        """Fits from zero."""
        points = x.astype(np.float64)
        slack = SLACK / np.square(points).sum(1).mean()
        self.classes_ = np.arange(self.classes)
        self.fitted_ = LogisticRegression(C=slack, max_iter=1000).fit(points, y)
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """float64[n, classes]."""
        found = np.zeros((len(x), self.classes))
        found[:, self.fitted_.classes_] = self.fitted_.predict_proba(x.astype(np.float64))
        return found


def rounds_of(path: Path) -> list[list[str]]:
    """The ids of each batch of a run."""
    lines = [json.loads(line) for line in (path / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    return [[line["id"] for line in lines if line["round"] == at] for at in range(lines[-1]["round"] + 1)]


def run(strategy: str, path: Path, features: Any) -> dict[str, Any]:
    """One run beside ours of random."""
    batches = rounds_of(path)
    places = {name: at for at, name in enumerate(features["train_id"])}
    pool, gold, test, truth = (features[name] for name in ("train_x", "train_y", "test_x", "test_y"))
    classes = len(features["labels"])
    targets = np.arange(classes)
    dataset = SklearnDataset(pool, gold, target_labels=targets)
    asked = SklearnDataset(test, truth, target_labels=targets)
    start, scores = time.perf_counter(), []
    learner = PoolBasedActiveLearner(SklearnClassifierFactory(Head(classes), classes), STRATEGIES[strategy](), dataset)
    initial = np.array([places[name] for name in batches[0]])
    learner.initialize_data(initial, gold[initial])
    for batch in [*batches[1:], []]:
        scores.append(float((learner.classifier.predict(asked) == truth).mean()))
        if batch:
            unlabelled = np.setdiff1d(np.arange(len(pool)), learner.indices_labeled)
            order = np.concatenate([unlabelled, learner.indices_labeled])  # in which it wants embeddings
            named = {"embeddings": pool[order]} if strategy == "coreset" else {}
            learner.update(gold[learner.query(num_samples=len(batch), query_strategy_kwargs=named)])
    labels = np.cumsum([len(batch) for batch in batches]).tolist()
    return {"x": labels, "y": scores, "seconds": round(time.perf_counter() - start, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--strategy", nargs="+", choices=list(STRATEGIES), default=["margin", "entropy"])
    parser.add_argument("--dataset", nargs="+", help="these alone")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for seed in range(options.seeds):
        for found in sorted(options.runs.glob("*/features.npz")):
            dataset, path = found.parent.name, found.parent / f"random-{seed}"
            if not path.is_dir() or dataset not in (options.dataset or [dataset]):
                continue
            for strategy in options.strategy:
                target = found.parent / "small-text" / f"{strategy}-{seed}.json"
                if target.is_file():
                    continue
                with threadpool_limits(1):
                    made = run(strategy, path, np.load(found))
                target.parent.mkdir(exist_ok=True)
                target.write_text(json.dumps(made) + "\n", encoding="utf-8")
                print(f"{dataset} {strategy}-{seed}: {made['y'][-1]:.4f}, {made['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
