"""Is it worth asking again where people make mistakes? One experiment; its criterion was written before it was run.

    python benchmarks/acceptance_noise.py DATA RUNS           # goes on where it was left off; ends with a table

TREC-6, five annotators, each of whom gives a wrong label to a fifth of the texts, any of the others equally likely; 50
to 400 annotations in batches of 25, frozen features of all-MiniLM-L6-v2 under a linear head, ten seeds. The runs of a
seed begin with the same texts, and whoever is asked first about a text says the same in all of them. `activelab` may
spend an annotation on a text that has one; in `random` and `least_confidence` each goes to a new text. Several answers
are made one by majority.

Criterion: the mean over seeds of the AUBC of test accuracy over annotations, each of them counted, is for `activelab`
at least that of `random`, and at least that of `least_confidence`, which ranks new texts as `activelab` does. What else
the table tells decides nothing: accuracy at 400 annotations, how many texts have a label, how often was asked again,
and the share of labels that are wrong at the end.

DATA: a folder with `trec6/{train,test}.jsonl.gz`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path

from acceptance import MINILM, Runs, areas, files, text_config  # sets the environment, so it comes first

# isort: split
import numpy as np
import torch

from nlp_al.bench import Bench
from nlp_al.config import Config, read_config
from nlp_al.evaluation import Run, read_run, t_half_width
from nlp_al.learner import ActiveLearner
from nlp_al.run_files import run_pool

ARMS = ("activelab", "random", "least_confidence")
SEEDS = 10
NOISE, ANNOTATORS = 0.2, 5
INITIAL, BATCH, ROUNDS = 50, 25, 14


def config_of(options: argparse.Namespace, arm: str, seed: int) -> Config:
    values = text_config(files(options.data / "trec6"), INITIAL, BATCH, ROUNDS)
    annotator = {"name": "oracle", "annotators": ANNOTATORS, "noise": NOISE, "seed": seed}
    loop = {**values["loop"], "seed": seed}
    path = str(options.runs / f"{arm}-{seed}")
    return read_config(
        {**values, "model": MINILM, "strategy": arm, "annotator": annotator, "loop": loop, "run_dir": path}, Path.cwd()
    )


def wrong(run: Run, bench: Bench) -> float:
    """The share of the texts with a label at the end whose label is not the gold one."""
    labels = run_pool(run.path, bench.splits["train"], bench.task).labels()
    gold = {example.id: label for example, label in bench.gold("train")}
    return float(np.mean([label != gold[name] for name, label in labels.items()]))


def table(runs: Runs, bench: Bench) -> str:
    """The figures as Markdown."""
    area = areas(runs, "accuracy")
    head = "| | AUBC | accuracy at the end | texts | asked again | wrong labels | activelab ahead, AUBC | passed |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for arm, of in runs.items():
        last = [run.rounds[-1] for run in of]
        said = [100 * area[arm], 100 * np.array([line["test"]["accuracy"] for line in last])]
        cells = [f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" for values in said]
        cells += [f"{np.mean([line.get(name, 0) for line in last]):.0f}" for name in ("labelled", "again")]
        cells.append(f"{np.mean([wrong(run, bench) for run in of]):.1%}")
        apart = 100 * (area["activelab"] - area[arm])
        verdict = ["", ""]
        if arm != "activelab":
            verdict = [f"{apart.mean():+.2f} ± {t_half_width(apart):.2f}", "yes" if apart.mean() >= 0 else "**no**"]
        lines.append(f"| {' | '.join([arm, *cells, *verdict])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    options.data, options.runs = options.data.resolve(), options.runs.resolve()
    torch.set_num_threads(1)
    bench = Bench.of(config_of(options, "random", 0))
    runs: Runs = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            config, start = config_of(options, arm, seed), time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                ActiveLearner(config, bench).run()
            runs[arm].append(read_run(Path(config.run_dir)))
            accuracy = runs[arm][-1].rounds[-1]["test"]["accuracy"]
            print(f"{arm}-{seed}: {accuracy:.3f} in {time.perf_counter() - start:.1f} s", flush=True)
    print(table(runs, bench))


if __name__ == "__main__":
    main()
