"""One simulated run of small-text, for `trec6_full.py`; needs an environment of its own, with small-text 1.4 in it.

    python -m venv PEER && PEER/bin/pip install torch "small-text[transformers]==1.4.1" "transformers<5"
    PEER/bin/python benchmarks/peer_small_text.py --data DATA --model FOLDER --max-length 41 --seed 0

DATA: a folder with `trec6/train.jsonl.gz` and `trec6/test.jsonl.gz`, rows of id, text and label. FOLDER: the weights.
The last line printed is JSON: seconds_total, seconds (its parts), accuracies, labelled, versions.

Every setting is the fastest that small-text has without training on less: no validation split (one example stands in,
since it can't do without), no early stopping, no model selection, a larger batch for scoring than for training, texts
padded to the longest there is, tokenised in one call. Seconds are from the tokenising of the texts to the last test
score, and leave out imports and the reading of the data. `saving`, a part of `fit`, goes into the checkpoints that it
writes after each epoch whether or not they are asked for; SMALL_TEXT_TEMP on a RAM disk makes them cheap.
`--patched` goes beyond its settings: no checkpoints at all, and the fused kernel of the same optimizer. So does
`--medium`: torch's float32 products at `medium`, which a user can set beside it, and eager attention, which none can.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_text import (
    LABEL_UNLABELED,
    BreakingTies,
    PoolBasedActiveLearner,
    TransformerBasedClassification,
    TransformerBasedClassificationFactory,
    TransformerModelArguments,
    TransformersDataset,
)
from small_text.utils.logging import VERBOSITY_QUIET
from transformers import AutoModelForSequenceClassification, AutoTokenizer

Rows = list[dict[str, Any]]


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds what runs inside."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def watch(self, owner: type, method: str, name: str) -> None:
        """Counts the calls of a method."""
        original: Callable[..., Any] = getattr(owner, method)

        @wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return original(*arguments, **named)

        setattr(owner, method, timed)


def read(path: Path) -> Rows:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tokenised(rows: Rows, y: np.ndarray, tokenizer: Any, classes: int, max_length: int) -> TransformersDataset:
    """The texts, padded to the longest of them."""
    made = tokenizer(
        [row["text"] for row in rows], truncation=True, max_length=max_length, padding="longest", return_tensors="pt"
    )
    parts = zip(made["input_ids"].split(1), made["attention_mask"].split(1), y.tolist(), strict=True)
    return TransformersDataset(list(parts), target_labels=np.arange(classes))


def patch() -> None:
    """Takes out of small-text what costs it time and no setting turns off."""

    def default_optimizer(self: Any, base_lr: float) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return parameters, torch.optim.AdamW(parameters, lr=base_lr, eps=1e-8, fused=True)

    TransformerBasedClassification._default_optimizer = default_optimizer
    TransformerBasedClassification._save_model = lambda *arguments, **named: None


def run(options: argparse.Namespace, train: Rows, test: Rows, initial: np.ndarray) -> dict[str, Any]:
    """A whole run; seconds, and the test accuracy after each fit."""
    AutoTokenizer.from_pretrained(options.model)  # what transformers imports late is not on the clock
    AutoModelForSequenceClassification.from_pretrained(options.model)
    names = sorted({row["label"] for row in train})
    gold = np.array([names.index(row["label"]) for row in train])
    test_gold = np.array([names.index(row["label"]) for row in test])
    settings = {
        "device": "cpu",
        "num_epochs": options.epochs,
        "lr": options.learning_rate,
        "mini_batch_size": options.train_batch,
        "class_weight": None,
        "memory_fix": 0,
        "verbosity": VERBOSITY_QUIET,
    }
    clock = Clock()
    clock.watch(TransformerBasedClassification, "_save_model", "saving")
    accuracies, labelled = [], []
    start = time.perf_counter()
    with clock.part("tokenise"):
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        bare = np.full(len(train), LABEL_UNLABELED)
        pool = tokenised(train, bare, tokenizer, len(names), options.max_length)
        held = tokenised(test, test_gold, tokenizer, len(names), options.max_length)
        one = tokenised(test[:1], test_gold[:1], tokenizer, len(names), options.max_length)
    learner = PoolBasedActiveLearner(
        TransformerBasedClassificationFactory(TransformerModelArguments(options.model), len(names), kwargs=settings),
        BreakingTies(),
        pool,
        fit_kwargs={"validation_set": one, "early_stopping": "none", "model_selection": "none"},
    )
    for round_ in range(options.rounds + 1):
        if round_ == 0:
            with clock.part("fit"):
                learner.initialize_data(initial, gold[initial])
        else:
            with clock.part("score"):
                chosen = learner.query(num_samples=options.batch)
            with clock.part("fit"):
                learner.update(gold[chosen])
        with clock.part("evaluate"):
            learner.classifier.mini_batch_size = options.scoring_batch
            predicted = learner.classifier.predict(held)
        accuracies.append(float((predicted == test_gold).mean()))
        labelled.append(len(learner.indices_labeled))
    return {
        "seconds_total": time.perf_counter() - start,
        "seconds": clock.seconds,
        "accuracies": accuracies,
        "labelled": labelled,
        "versions": {name: version(name) for name in ("small-text", "torch", "transformers", "numpy")},
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--dataset", default="trec6", help="which of them")
    parser.add_argument("--model", required=True, help="a folder with weights and tokenizer")
    parser.add_argument("--initial-ids", type=Path, help="JSON list of the ids to begin with; left out: drawn by seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--initial", type=int, default=50)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--train-batch", type=int, default=16)
    parser.add_argument("--scoring-batch", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--medium", action="store_true", help="with torch's float32 products at medium, eager attention"
    )
    parser.add_argument("--patched", action="store_true", help="without its checkpoints, with a fused optimizer")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    warnings.filterwarnings("ignore", module="small_text")
    if options.patched:
        patch()
    if options.medium:
        torch.set_float32_matmul_precision("medium")
        load = AutoModelForSequenceClassification.from_pretrained
        AutoModelForSequenceClassification.from_pretrained = partial(load, attn_implementation="eager")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)  # what small-text draws from
    train, test = (read(options.data / options.dataset / f"{split}.jsonl.gz") for split in ("train", "test"))
    if options.initial_ids:
        position = {row["id"]: at for at, row in enumerate(train)}
        initial = np.array([position[name] for name in json.loads(options.initial_ids.read_text(encoding="utf-8"))])
    else:
        initial = np.random.default_rng(options.seed).choice(len(train), options.initial, replace=False)
    print(json.dumps(run(options, train, test, initial)))


if __name__ == "__main__":
    main()
