"""Whether training here is as good as a plain transformers script: the same weights, labels, epochs and seeds.

    python benchmarks/plain.py --data DATA --json plain.json

Text classification, named entity recognition and response selection, all rows of the train split labelled. The plain
side is what transformers' examples do: Trainer with its own collators, `AutoModelForSequenceClassification`,
`AutoModelForTokenClassification` with labels on first sub-words, and `AutoModelForMultipleChoice`, which is what the
cross-encoder comes to where all contexts have K candidates. Its scores are those of the same metric classes.

DATA: folders `trec6`, `conll2003` and `sgd` with `train.jsonl.gz` and `test.jsonl.gz`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.update(ACCELERATE_USE_CPU="true", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")

import numpy as np
import torch
import transformers

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.metrics import EntityScores, RankingScores, TextClassificationScores
from nlp_al.pool import Example
from nlp_al.signals.collector import collect
from nlp_al.source import package_path
from nlp_al.tasks import make_task
from nlp_al.training.full import fine_tune

Row = dict[str, Any]
LENGTH = 128


def trained(model: Any, items: Sequence[Row], collator: Any, settings: dict[str, Any], seed: int) -> Any:
    """A plain Trainer, fitted."""
    with tempfile.TemporaryDirectory() as folder:
        fixed = {"output_dir": folder, "use_cpu": True, "save_strategy": "no", "report_to": "none", "seed": seed}
        arguments = transformers.TrainingArguments(**settings, **fixed, remove_unused_columns=False)
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=items, data_collator=collator)
        trainer.train()
        return trainer


def plain_text(source: str, train: Sequence[Row], test: Sequence[Row], settings: dict[str, Any], seed: int) -> float:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    labels = sorted({row["label"] for row in train})

    def items(rows: Sequence[Row]) -> list[Row]:
        made = tokenizer([row["text"] for row in rows], truncation=True, max_length=LENGTH)
        return [{**{k: made[k][i] for k in made}, "labels": labels.index(row["label"])} for i, row in enumerate(rows)]

    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(labels))
    trainer = trained(model, items(train), transformers.DataCollatorWithPadding(tokenizer), settings, seed)
    found = trainer.predict(items(test))
    return float(
        TextClassificationScores().compute(predictions=found.predictions.argmax(1), references=found.label_ids)[
            "accuracy"
        ]
    )


def plain_words(source: str, train: Sequence[Row], test: Sequence[Row], settings: dict[str, Any], seed: int) -> float:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    tags = sorted({tag for row in train for tag in row["ner_tags"]})

    def items(rows: Sequence[Row]) -> list[Row]:
        words = [row["tokens"] for row in rows]
        made = tokenizer(words, is_split_into_words=True, truncation=True, max_length=LENGTH)
        found = []
        for at, row in enumerate(rows):
            before, targets = None, []
            for own in made.word_ids(at):
                targets.append(-100 if own is None or own == before else tags.index(row["ner_tags"][own]))
                before = own
            found.append({**{name: made[name][at] for name in made}, "labels": targets})
        return found

    model = transformers.AutoModelForTokenClassification.from_pretrained(source, num_labels=len(tags))
    collator = transformers.DataCollatorForTokenClassification(tokenizer)
    found = trained(model, items(train), collator, settings, seed).predict(items(test))
    said = [
        [tags[p] for p, y in zip(row, gold, strict=True) if y != -100]
        for row, gold in zip(found.predictions.argmax(-1), found.label_ids, strict=True)
    ]
    # What lies behind the window is O, as there.
    whole = [[*s, *["O"] * (len(row["ner_tags"]) - len(s))] for s, row in zip(said, test, strict=True)]
    return float(EntityScores().compute(predictions=whole, references=[row["ner_tags"] for row in test])["f1"])


def plain_choice(source: str, train: Sequence[Row], test: Sequence[Row], settings: dict[str, Any], seed: int) -> float:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, truncation_side="left")

    def items(rows: Sequence[Row]) -> list[Row]:
        found = []
        for row in rows:
            context = f" {tokenizer.sep_token} ".join(row["context"])
            made = tokenizer(
                [context] * len(row["candidates"]), row["candidates"], truncation="only_first", max_length=LENGTH
            )
            found.append({**made, "labels": row["label"]})
        return found

    model = transformers.AutoModelForMultipleChoice.from_pretrained(source)
    collator = transformers.DataCollatorForMultipleChoice(tokenizer)
    found = trained(model, items(train), collator, settings, seed).predict(items(test))
    gold = found.predictions[np.arange(len(test)), found.label_ids][:, None]
    ranks = 1 + (found.predictions > gold).sum(1)
    return float(RankingScores().compute(predictions=ranks, references=[1] * len(ranks))["recall_at_1"])


PLAIN: dict[str, Callable[..., float]] = {"trec6": plain_text, "conll2003": plain_words, "sgd": plain_choice}
HERE: dict[str, tuple[str, dict[str, Any], dict[str, str], str]] = {
    "trec6": ("text-classification", {}, {}, "accuracy"),
    "conll2003": ("token-classification", {}, {"tags": "ner_tags"}, "f1"),
    "sgd": ("response-selection", {"form": "cross-encoder", "max_response_length": 64}, {}, "recall_at_1"),
}


def here(
    name: str, source: str, train: Sequence[Row], test: Sequence[Row], settings: dict[str, Any], seed: int
) -> float:
    """The same with this library: its task, its loss, its batches, its pass over the test split."""
    kind, options, columns, metric = HERE[name]
    task = make_task(kind, {"max_length": LENGTH, **options})

    def read(rows: Sequence[Row]) -> list[tuple[Example, Any]]:
        found = []
        for row in rows:
            inputs, words, label = task.read({role: row.get(columns.get(role, role)) for role in task.columns}, None)
            found.append((Example(row["id"], inputs, words), label))
        return found

    labelled, scored = read(train), read(test)
    names = sorted({n for _, label in labelled for n in task.names_in(label)})
    task = task.with_labels(names)
    training = Training(min_steps=0, arguments={**TRAINING_DEFAULTS, **settings})
    model = fine_tune(source, task, labelled, training, seed)
    signals = collect(model, [example for example, _ in scored], {"probs"}, torch.Generator())
    assert signals is not None
    return task.score(task.predict(signals.decisions), [label for _, label in scored])[metric]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--datasets", nargs="+", choices=list(PLAIN), default=list(PLAIN))
    parser.add_argument("--model", default="pkg:cognition/model", help="as in a config; a folder or pkg:")
    parser.add_argument("--rows", type=int, help="only the first so many of the train split")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    source = package_path(options.model)
    settings = {
        "learning_rate": options.learning_rate,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": 16,
        "per_device_eval_batch_size": 32,
        "logging_strategy": "no",
        "disable_tqdm": True,
    }
    made: dict[str, Any] = {}
    for name in options.datasets:
        rows = {}
        for split in ("train", "test"):
            with gzip.open(options.data / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
                rows[split] = [json.loads(line) for line in lines]
        train, test = rows["train"][: options.rows], rows["test"]
        found: dict[str, list[float]] = {"plain": [], "here": []}
        for seed in range(options.seeds):
            transformers.set_seed(seed)
            found["plain"].append(PLAIN[name](source, train, test, settings, seed))
            found["here"].append(here(name, source, train, test, settings, seed))
        means = {side: mean(values) for side, values in found.items()}
        told = ", ".join(f"{side} {' '.join(f'{v:.4f}' for v in values)}" for side, values in found.items())
        print(
            f"{name:<12}{HERE[name][3]:<14}here {means['here']:.4f}  plain {means['plain']:.4f}   ({told})", flush=True
        )
        made[name] = found
    if options.json:
        options.json.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
