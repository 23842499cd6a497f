"""What part of all labels brings a run to 99% of what all labels bring: results_share.py METRIC FULL_RUN RUN...

FULL_RUN has one round, with all labels. A run is there at its first round with 99% of that score, so the step between
rounds is the precision. Mean and spread over seeds; a seed that is never there counts with all labels, and is told.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from nlp_al.evaluation import Curve, learning_curve, read_run

SHARE = 0.99


def main(metric: str, full: str, paths: list[str]) -> None:
    whole = learning_curve(read_run(Path(full)), metric, "test")
    labels, score = float(whole.x[-1]), float(whole.y[-1])
    curves: dict[str, list[Curve]] = defaultdict(list)
    for path in paths:
        curve = learning_curve(read_run(Path(path)), metric, "test")
        curves[curve.strategy].append(curve)
    print(f"all labels: {labels:g}, {metric} {score:.3f}\n")
    print("| strategy | seeds | labels to 99% | share | never there |\n|---|---|---|---|---|")
    for name, runs in curves.items():
        there = [next((float(x) for x, y in zip(c.x, c.y, strict=True) if y >= SHARE * score), None) for c in runs]
        needed = [labels if x is None else x for x in there]
        spread = f" ± {stdev(needed):,.0f}" if len(needed) > 1 else ""
        share = f"{100 * mean(needed) / labels:.0f}%"
        print(f"| {name} | {len(runs)} | {mean(needed):,.0f}{spread} | {share} | {there.count(None)} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
