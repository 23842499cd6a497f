"""Mean learning curves of some runs as a Markdown table: python benchmarks/results_table.py METRIC RUN..."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from nlp_al.evaluation import Curve, learning_curve, read_run

ORDER = ["random", "margin", "mnlp", "token_entropy", "badge", "typiclust"]


def main(metric: str, paths: list[str]) -> None:
    curves: dict[str, list[Curve]] = defaultdict(list)
    for path in paths:
        curve = learning_curve(read_run(Path(path)), metric, "test")
        curves[curve.strategy].append(curve)
    names = [*(n for n in ORDER if n in curves), *sorted(set(curves) - set(ORDER))]
    print(f"| labels | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    for at, x in enumerate(next(iter(curves.values()))[0].x):
        cells = []
        for name in names:
            values = [float(curve.y[at]) for curve in curves[name]]
            cells.append(f"{mean(values):.3f} ± {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}")
        print(f"| {x:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
