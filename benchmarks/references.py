"""Whether strategies choose what public references choose, on data without ties.

    python benchmarks/references.py --peer-python PEER/bin/python --json references.json

`peer_strategies.py` says how PEER is made, and `peer_references.py` how the references are called. What is compared is
the order of the picks, or the scores of all examples. Some references differ from their papers, and the table says in
what: it shows that they are what they should not be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from strategies import arrays
from torch import Tensor

from nlp_al.selection.kcenter import k_center
from nlp_al.selection.kmeans import central_members, kmeans_labels
from nlp_al.selection.lightweight import lightweight_probabilities
from nlp_al.selection.typicality import typical_of_clusters
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy

PEER = Path(__file__).with_name("peer_references.py")
WIDTH = 16
COUNT = 30
CLUSTERED = 8  # picks where there are as many clusters


def data_of(seed: int) -> dict[str, np.ndarray]:
    """400 examples and 40 labelled ones, five members of a committee, and clusters of 50."""
    found = arrays(400, 40, 4, seed, WIDTH, np.float64)
    draw = np.random.default_rng(seed + 1)
    logits = np.log(found["probs"]) + draw.standard_normal((5, 400, 4))
    passes = np.exp(logits)
    found["passes"] = passes / passes.sum(2, keepdims=True)
    order = np.argsort(found["embeddings"] @ draw.standard_normal(WIDTH))
    found["clusters"] = np.empty(400, dtype=np.int64)
    found["clusters"][order] = np.repeat(np.arange(CLUSTERED), [*range(46, 53), 57])  # no two are as large
    unit = torch.nn.functional.normalize(torch.from_numpy(found["embeddings"]), dim=1)
    found["unit_clusters"] = kmeans_labels(unit, CLUSTERED, torch.Generator().manual_seed(seed), 10).numpy()
    distances = np.linalg.norm(found["embeddings"][:, None] - found["embeddings"], axis=2)
    found["delta"] = np.quantile(distances, 0.02)
    return found


def signals_of(data: dict[str, np.ndarray]) -> Signals:
    held = {name: torch.from_numpy(np.asarray(values)) for name, values in data.items()}
    points, known = held["embeddings"], held["known_embeddings"]
    labelled = Signals(probs=held["known_probs"], embeddings=known, pretrained=known)
    fields = {"probs": held["probs"], "passes": held["passes"], "embeddings": points, "pretrained": points}
    return Signals(**fields, labelled=labelled)


def here(name: str, data: dict[str, np.ndarray]) -> tuple[list[int], Tensor | None]:
    """Our picks, and the scores where there are any."""
    signals, clusters = signals_of(data), torch.from_numpy(data["clusters"])
    points, generator = signals.embeddings, torch.Generator().manual_seed(0)
    assert points is not None
    if name == "typiclust":
        rules = {"neighbours": 20, "min_cluster_size": 6, "squared": False}
        return typical_of_clusters(points, clusters, clusters[:0], CLUSTERED, generator, **rules).tolist(), None
    if name == "bert_km":
        unit = torch.nn.functional.normalize(points, dim=1)
        return central_members(unit, torch.from_numpy(data["unit_clusters"]), CLUSTERED).tolist(), None
    if name == "lightweight_coreset":
        return [], lightweight_probabilities(points)
    parameters = {"badge": {"deterministic": True}, "probcover": {"delta": float(data["delta"])}}
    if name == "batchbald":
        return make_strategy(name, prefilter=400).select(signals, 5, generator).indices.tolist(), None
    chosen = make_strategy(name, **parameters.get(name, {})).select(signals, COUNT, generator)
    return chosen.indices.tolist(), chosen.scores


def neighbours_of_the_pool(told: list[int], data: dict[str, np.ndarray]) -> str:
    """What small-text's contrastive learning is: `cal` with the pool itself in the labelled set."""
    signals = signals_of(data)
    whole = {name: torch.from_numpy(np.concatenate([data[name], data[f"known_{name}"]])) for name in ("probs",)}
    points = torch.from_numpy(np.concatenate([data["embeddings"], data["known_embeddings"]]))
    pool = replace(signals, labelled=Signals(**whole, embeddings=points))
    wrong = make_strategy("cal").select(pool, COUNT, torch.Generator()).indices.tolist()
    shared = len(set(wrong) & set(told))
    return f"takes neighbours from the pool: {shared} of {COUNT} are what `cal` picks with the pool as labelled set"


def mixed_positions(told: list[int], data: dict[str, np.ndarray]) -> str:
    """What small-text's core-set is where the labelled set comes first: its picks no longer spread."""
    radii = []
    for picks in (told, here("coreset", data)[0]):
        centres = np.concatenate([data["known_embeddings"], data["embeddings"][picks]])
        away = np.linalg.norm(data["embeddings"][:, None] - centres, axis=2).min(1)
        radii.append(away.max())
    return (
        f"mixes positions of pool and data set: all lie within {radii[0]:.2f} of a pick, of ours within {radii[1]:.2f}"
    )


def angles(told: list[float], data: dict[str, np.ndarray]) -> str:
    """What small-text's lightweight core-set weighs with."""
    points = data["embeddings"]
    mean = points.mean(0)
    angle = np.arccos(points @ mean / np.linalg.norm(points, axis=1) / np.linalg.norm(mean))
    by_angle = 0.5 / len(points) + 0.5 * angle**2 / (angle**2).sum()
    return f"weighs by squared angles (to {np.abs(by_angle - told).max():.0e}); the paper has squared distances"


def centre_at_the_origin(told: list[int], data: dict[str, np.ndarray]) -> str:
    """What scikit-activeml's BADGE is: its first distances are squared lengths, which later ones are held against."""
    r, h, _ = signals_of(data).factors()
    gradients = (r[:, :, None] * h[:, None]).flatten(1)
    shared = len(set(k_center(gradients, torch.zeros_like(gradients[:1]), COUNT).tolist()) & set(told))
    return f"counts the origin as a centre: {shared} of {COUNT} are k-centre's where it is one"


WRONG: dict[str, Callable[[Any, dict[str, np.ndarray]], str]] = {
    "small-text ContrastiveActiveLearning": neighbours_of_the_pool,
    "scikit-activeml Badge": centre_at_the_origin,
    "small-text greedy_coreset, labelled first": mixed_positions,
    "small-text lightweight_coreset": angles,
}


def verdict(name: str, reference: str, told: Any, data: dict[str, np.ndarray]) -> tuple[bool, str]:
    """Whether the table's claim holds, and the claim."""
    if isinstance(told, str):
        return False, told
    picks, scores = here(name, data)
    if reference in WRONG:
        return told != picks, WRONG[reference](told, data)
    if told and isinstance(told[0], float):
        assert scores is not None
        off = float(
            (scores.double() + (1.0 if "margin" in reference else 0.0) - torch.tensor(told).double()).abs().max()
        )
        return off < 1e-6, f"scores agree to {off:.0e}"
    together = sum(a == b for a, b in zip(picks, told, strict=True))
    inside = len(set(picks) & set(told))
    order = "in the same order" if together == inside else "as a set"
    return inside == len(picks), f"{inside} of {len(picks)} picks, {order}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="the interpreter of the environment with the peers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="a file for the table")
    options = parser.parse_args()
    data = data_of(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npz"
        np.savez(file, count=COUNT, **data)
        command = [options.peer_python, str(PEER), str(file)]
        told = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )
    table = []
    for name, references in told.items():
        for reference, found in references.items():
            holds, claim = verdict(name, reference, found, data)
            table.append({"strategy": name, "reference": reference, "holds": holds, "claim": claim})
            print(f"{name:<20}{reference:<44}{'' if holds else 'NOT SO: '}{claim}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    raise SystemExit(0 if all(row["holds"] for row in table) else 1)


if __name__ == "__main__":
    main()
