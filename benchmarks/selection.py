"""How long a pick of `coreset` and of `badge` takes, against one pass over the data, and what memory it needs.

    python benchmarks/selection.py                          # 100 picks of 100,000 x 384 float32, 20 classes
    python benchmarks/selection.py --n 20000 --threads 4 --json

One pass is one matrix-vector product over the embeddings, timed in the same process. Peak memory is what the process
held at its largest, less what it held with the input made; every case runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy

CASES = {
    "coreset": ("coreset", 0),
    "coreset, 1000 labelled": ("coreset", 1000),
    "badge": ("badge", 0),
}


def pool(n: int, width: int, classes: int, labelled: int, seed: int) -> Signals:
    """n examples with random embeddings and predictions, and as many labelled ones as asked for."""
    generator = torch.Generator().manual_seed(seed)
    known = Signals(embeddings=torch.randn(labelled, width, generator=generator)) if labelled else None
    probs = torch.randn(n, classes, generator=generator).softmax(1)
    return Signals(probs=probs, embeddings=torch.randn(n, width, generator=generator), labelled=known)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_mb() -> float:
    scale = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    name, labelled = CASES[case]
    strategy = make_strategy(name)
    generator = torch.Generator().manual_seed(options.seed)
    # Libraries load, and their buffers are made, outside of what is measured.
    strategy.select(pool(1000, options.width, options.classes, labelled, 1), 10, generator)
    signals = pool(options.n, options.width, options.classes, labelled, options.seed)
    assert signals.embeddings is not None
    data, vector = signals.embeddings, signals.embeddings[0].clone()
    data @ vector
    before = peak_mb()
    passes, setups, selects = [], [], []
    for _ in range(options.repeats):
        passes += [seconds(lambda: data @ vector) for _ in range(5)]
        setups.append(seconds(lambda: strategy.select(signals, 1, generator)))
        selects.append(seconds(lambda: strategy.select(signals, options.picks, generator)))
    one_pass, first = median(passes), median(setups)
    later = (median(selects) - first) / (options.picks - 1)
    return {
        "case": case,
        "threads": torch.get_num_threads(),
        "pass_ms": 1e3 * one_pass,
        "first_pick_ms": 1e3 * first,
        "pick_ms": 1e3 * later,
        "pick_in_passes": later / one_pass,
        "total_in_passes_a_pick": median(selects) / options.picks / one_pass,
        "extra_mb": peak_mb() - before,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="examples in the pool")
    parser.add_argument("--width", type=int, default=384, help="floats of an embedding")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--picks", type=int, default=100, help="at least 2")
    parser.add_argument("--repeats", type=int, default=5, help="medians are over these")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a list of objects in place of the table")
    parser.add_argument("--case", choices=list(CASES), help="this one alone, in this process, as one JSON object")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.case:
        print(json.dumps(measure(options.case, options)))
        return
    found = []
    for case in CASES:
        command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
        found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{options.picks} picks of {options.n:,} x {options.width} float32, {options.classes} classes", end=", ")
    print(f"{found[0]['threads']} thread(s), medians of {options.repeats}\n")
    print(f"{'case':<24}{'one pass':>10}{'first pick':>12}{'a later pick':>14}{'in passes':>11}{'extra memory':>14}")
    for row in found:
        print(
            f"{row['case']:<24}{row['pass_ms']:>7.1f} ms{row['first_pick_ms']:>9.1f} ms{row['pick_ms']:>11.1f} ms"
            f"{row['pick_in_passes']:>11.2f}{row['extra_mb']:>11.0f} MB"
        )


if __name__ == "__main__":
    main()
