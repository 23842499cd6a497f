"""How long strategies take to choose, and what memory they need, against small-text and scikit-activeml.

    python benchmarks/strategies.py --peer-python PEER/bin/python
    python benchmarks/strategies.py --peer-python PEER/bin/python --rows core_set badge --json strategies.json

`peer_strategies.py` says how PEER is made. Both sides get the same arrays, float32, out of the same file, and the same
number of threads; each row and side has a process of its own. Seconds are the median of `--repeats` calls after one on
1,000 examples; "in CPU" compares what the processors spent, which other programs on the machine change less. Extra
memory is what the process held at its largest, less what it held with the arrays loaded. `same` says how many of the
picks both sides share, where a choice leaves nothing to chance.
The last row has no peer: the picks of `coreset` on a million examples, in plain passes over the embeddings.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy

PEER = Path(__file__).with_name("peer_strategies.py")


class Row(NamedTuple):
    """A comparison. exact: the choice leaves nothing to chance. target: so many times as fast, or as small."""

    strategy: str
    peer: str
    count: int
    n: int
    labelled: int
    classes: int
    target: float
    exact: bool = False
    of_memory: bool = False
    peer_n: int = 0


ROWS = {
    "greedy_coreset": Row("coreset", "small-text greedy_coreset", 100, 20_000, 100, 6, 50, exact=True),
    "core_set": Row("coreset", "scikit-activeml CoreSet", 50, 20_000, 100, 6, 2, exact=True),
    "badge": Row("badge", "scikit-activeml Badge", 50, 20_000, 100, 6, 10),
    "typi_clust": Row("typiclust", "scikit-activeml TypiClust", 50, 20_000, 100, 6, 3),
    "prediction_entropy": Row("entropy", "small-text PredictionEntropy", 100, 100_000, 100, 10, 500, exact=True),
    "contrastive": Row("cal", "small-text ContrastiveActiveLearning", 100, 5_000, 100, 6, 50),
    # What the gradients of all take, written out, is more than most machines have: the peer gets a tenth of them.
    "badge_memory": Row("badge", "scikit-activeml Badge", 50, 100_000, 0, 77, 50, of_memory=True, peer_n=5_000),
}
WIDTH = 384


def arrays(
    n: int, labelled: int, classes: int, seed: int, width: int = WIDTH, dtype: type = np.float32
) -> dict[str, np.ndarray]:
    """Clusters of embeddings, a head over them that is right more often than not, and the labels of some."""
    draw = np.random.default_rng(seed)
    means = draw.standard_normal((classes, width), dtype=dtype)

    def some(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = draw.integers(classes, size=rows)
        points = means[own] + draw.standard_normal((rows, width), dtype=dtype)
        logits = 0.02 * points @ means.T + draw.standard_normal((rows, classes), dtype=dtype)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return points, shares / shares.sum(1, keepdims=True), own

    points, probs, _ = some(n)
    known_points, known_probs, known_labels = some(labelled)
    found = {"embeddings": points, "probs": probs, "known_embeddings": known_points, "known_probs": known_probs}
    return {**found, "known_labels": known_labels}


def signals_of(data: dict[str, np.ndarray], rows: int | None = None) -> Signals:
    held = {name: torch.from_numpy(values) for name, values in data.items()}
    known = Signals(probs=held["known_probs"], embeddings=held["known_embeddings"])
    return Signals(probs=held["probs"][:rows], embeddings=held["embeddings"][:rows], labelled=known)


def forget_peak() -> None:
    """What the process held at its largest counts from here on, where the system can do that."""
    if (switch := Path("/proc/self/clear_refs")).exists():
        switch.write_text("5")


def peak_mb() -> float:
    """What the process held at its largest; Linux tells it without what its parent held."""
    if (status := Path("/proc/self/status")).exists():
        return next(float(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def here(row: str, file: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Our side, in this process."""
    torch.set_num_threads(options.threads)
    with np.load(file) as stored:
        data = {name: stored[name] for name in stored.files}
    strategy, count = make_strategy(ROWS[row].strategy), int(data.pop("count"))
    strategy.select(signals_of(data, 1000), min(count, 100), torch.Generator().manual_seed(0))
    signals = signals_of(data)
    forget_peak()
    before, seconds, cpu = peak_mb(), [], []
    for _ in range(options.repeats):
        generator = torch.Generator().manual_seed(0)
        start, used = time.perf_counter(), time.process_time()
        picks = strategy.select(signals, count, generator).indices
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {"seconds": seconds, "cpu": cpu, "picks": picks.tolist(), "extra_mb": peak_mb() - before}


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    row, sides = ROWS[name], {}
    flags = ["--repeats", str(options.repeats), "--threads", str(options.threads)]
    with tempfile.TemporaryDirectory() as folder:
        for side, n in (("here", row.n), ("peer", row.peer_n or row.n)):
            file = Path(folder) / f"{n}.npz"
            if not file.exists():
                np.savez(file, count=row.count, **arrays(n, row.labelled, row.classes, options.seed))
            command = [sys.executable, __file__, "--child", name, str(file)]
            if side == "peer":
                command = [options.peer_python, str(PEER), name, str(file)]
            told = subprocess.run([*command, *flags], check=True, stdout=subprocess.PIPE, text=True).stdout
            sides[side] = json.loads(told.splitlines()[-1])
    mine, theirs = (median(sides[side]["seconds"]) for side in ("here", "peer"))
    times = theirs / mine
    peer_mb = sides["peer"]["extra_mb"] * row.n / (row.peer_n or row.n)
    if row.of_memory:
        times = peer_mb / max(sides["here"]["extra_mb"], 1.0)
    shared = len(set(sides["here"]["picks"]) & set(sides["peer"]["picks"])) if row.exact else None
    return {
        "row": name,
        "strategy": row.strategy,
        "peer": row.peer,
        "work": f"{row.count} of {row.n:,} x {WIDTH}, {row.labelled} labelled, {row.classes} classes",
        "seconds": mine,
        "peer_seconds": None if row.peer_n else theirs,
        "extra_mb": sides["here"]["extra_mb"],
        "peer_extra_mb": peer_mb,
        "times": times,
        "target": row.target,
        "same": shared,
        "count": row.count,
        "runs": {side: {"seconds": found["seconds"], "cpu": found["cpu"]} for side, found in sides.items()},
        "cpu_times": None if row.peer_n else median(sides["peer"]["cpu"]) / median(sides["here"]["cpu"]),
    }


def passes(options: argparse.Namespace) -> dict[str, Any]:
    """Our side against the memory: how many plain passes over a million embeddings a pick of `coreset` costs."""
    torch.set_num_threads(options.threads)
    points = torch.randn(options.passes_n, WIDTH, generator=torch.Generator().manual_seed(options.seed))
    strategy, signals, vector = make_strategy("coreset"), Signals(embeddings=points), points[0].clone()
    reads, takes = [], []
    for _ in range(options.repeats):
        for _ in range(3):
            start = time.perf_counter()
            points @ vector
            reads.append(time.perf_counter() - start)
        start = time.perf_counter()
        strategy.select(signals, options.passes_count, torch.Generator())
        takes.append(time.perf_counter() - start)
    return {
        "row": "passes",
        "work": f"{options.passes_count} of {options.passes_n:,} x {WIDTH}",
        "pass_seconds": median(reads),
        "gb_per_second": points.numel() * 4 / median(reads) / 1e9,
        "seconds": median(takes),
        "passes_a_pick": median(takes) / median(reads) / options.passes_count,
        "target": 1.5,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="the interpreter of the environment with the peers")
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, "passes"], default=[*ROWS, "passes"])
    parser.add_argument("--repeats", type=int, default=5, help="medians are over these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes-n", type=int, default=1_000_000, help="examples of the row without a peer")
    parser.add_argument("--passes-count", type=int, default=100, help="its picks")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--child", nargs=2, metavar=("ROW", "DATA"), help="one row of ours, in this process")
    found = parser.parse_args()
    if not found.child and not found.peer_python and found.rows != ["passes"]:
        parser.error("--peer-python is needed: peer_strategies.py says how its environment is made.")
    return found


def main() -> None:
    options = arguments()
    if options.child:
        row, file = options.child
        print(json.dumps(here(row, Path(file), options)))
        return
    found = []
    print(f"{options.threads} thread(s), medians of {options.repeats}\n")
    heads = f"{'here':>10}{'peer':>10}{'MB':>8}{'peer MB':>9}{'times':>8}{'in CPU':>8}{'at least':>10}  same"
    print(f"{'against':<38}{'work':<52}{heads}")
    for name in options.rows:
        if name == "passes":
            found.append(passes(options))
            row = found[-1]
            print(
                f"{'plain passes':<38}{row['work']:<52}{row['seconds']:>8.2f} s{row['pass_seconds']:>8.3f} s"
                f"   {row['passes_a_pick']:.2f} passes a pick, at most {row['target']}"
            )
            continue
        found.append(compare(name, options))
        row = found[-1]
        peer = "" if row["peer_seconds"] is None else f"{row['peer_seconds']:.3f} s"
        cpu = "" if row["cpu_times"] is None else f"{row['cpu_times']:.1f}"
        same = "" if row["same"] is None else f"{row['same']} of {row['count']}"
        print(
            f"{row['peer']:<38}{row['work']:<52}{row['seconds']:>8.4f} s{peer:>10}{row['extra_mb']:>8.0f}"
            f"{row['peer_extra_mb']:>9.0f}{row['times']:>8.1f}{cpu:>8}{row['target']:>10}  {same}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
