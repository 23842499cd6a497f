"""What each process of a launch does in test_shards_processes.py: collects a pool in shards and chooses from it.

    torchrun --nproc_per_node 4 shard_worker.py MODEL OUT

Leaves OUT/RANK.json. The test itself calls `work`, a single process with the whole pool.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers import some_dialogues, some_rows

from nlp_al.config import TRAINING_DEFAULTS, Training
from nlp_al.pool import Example
from nlp_al.processes import leave, processes, shared
from nlp_al.signals import Signals
from nlp_al.signals.collector import collect
from nlp_al.signals.loading import load_tokenizer
from nlp_al.strategies import make_strategy
from nlp_al.tasks import Rows, make_task
from nlp_al.testing import blocks_of
from nlp_al.training.full import FineTuned, load_model

STRATEGIES: list[tuple[str, dict[str, Any]]] = [
    ("coreset", {}),
    ("coreset", {"metric": "cosine", "start": "random"}),
    ("badge", {}),
    ("badge", {"deterministic": True}),
    ("entropy", {}),
    ("mnlp", {}),
]
TASKS = ("text-classification", "token-classification", "response-selection")
FIELDS = ("probs", "embeddings", "gradients")


WIDE, WIDTH = 2048, 16_384


class Wide:
    """Makes rows of many floats out of an example's number, so that little but rows is held."""

    def __init__(self, sharded: bool) -> None:
        self.task, self.sharded = self, sharded

    def prepare(self, examples: Sequence[Any]) -> tuple[Sequence[Any], list[list[int]]]:
        order = sorted(range(len(examples)), key=lambda at: at * 7919 % len(examples))
        return examples, [order[at : at + 16] for at in range(0, len(order), 16)]

    def rows(self, prepared: Sequence[int]) -> Rows:
        hidden = torch.tensor(prepared, dtype=torch.float32)[:, None].repeat(1, WIDTH)
        hidden[:, 0].square_()
        return Rows(hidden, None, torch.arange(len(prepared) + 1))

    def embeddings(self, rows: Rows) -> torch.Tensor:
        return rows.hidden


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scorer(folder: str, name: str) -> FineTuned:
    torch.manual_seed(3)
    labels = {"token-classification": ["O", "B-X", "I-X"], "text-classification": ["a", "b", "c"]}
    task = make_task(name, {"form": "cross-encoder"} if name == "response-selection" else {})
    task = task.with_labels(labels[name]) if name in labels else task
    training = Training(arguments={**TRAINING_DEFAULTS, "per_device_eval_batch_size": 8})
    return FineTuned(load_model(folder, task), load_tokenizer(folder), task, training)


def pool_of(name: str) -> list[Example]:
    if name == "response-selection":
        kept = ("context", "candidates")
        rows = [{key: row[key] for key in kept} for row in some_dialogues(90)]
        return [Example(f"d{at}", row, 5 + at % 7) for at, row in enumerate(rows)]
    texts = [row["text"] for row in some_rows(90)]
    texts += texts[:37]  # in other blocks
    split = name == "token-classification"
    return [Example(f"t{at}", text.split() if split else text, len(text.split())) for at, text in enumerate(texts)]


def choices(signals: Signals) -> dict[str, list[Any]]:
    """What each strategy takes, by number for two seeds and by words for a third, and the scores to the last digit."""
    found: dict[str, list[Any]] = {}
    for name, parameters in STRATEGIES:
        strategy = make_strategy(name, **parameters)
        for seed, size in ((0, 7), (1, 7), (2, 30)):
            seen = signals if seed == 2 else replace(signals, cost=None)
            chosen = strategy.select(seen, size, seeded(seed))
            found[f"{name} {parameters} {seed}"] = chosen.indices.tolist()
            if chosen.scores is not None:
                found[f"{name} {parameters} {seed}: scores"] = [score.hex() for score in chosen.scores.tolist()]
    return found


def asked(folder: str, name: str) -> tuple[dict[str, list[Any]], int]:
    """The choices, and how many examples this process held."""
    pool, model = pool_of(name), scorer(folder, name)
    generator = seeded(0)
    signals = collect(model, pool, FIELDS, generator, in_shards=processes().num_processes > 1)
    assert signals is not None
    share = range(len(pool))
    if signals.shard is not None:
        share = range(signals.shard.start, signals.shard.stop)
    known = shared(collect(model, pool[:9], {"embeddings"}, generator))
    cost = torch.tensor([float(pool[at].words) for at in share])
    askable = torch.tensor([at % 11 != 3 for at in share], dtype=torch.bool)  # those left out move blocks
    return choices(replace(signals, cost=cost, askable=askable, labelled=known)), len(signals)


def grown(sharded: bool) -> dict[str, Any]:
    """By how many bytes the memory of this process peaks while it collects wide rows and chooses among them."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status("VmRSS")
    signals = collect(Wide(sharded), range(WIDE), {"embeddings"}, seeded(0), processes().num_processes > 1)
    assert signals is not None
    picks = make_strategy("coreset").select(signals, 5, seeded(0)).indices.tolist()
    return {"rows": len(signals), "bytes": status("VmHWM") - before, "picks": picks}


def status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def work(folder: str) -> dict[str, Any]:
    """All of it; the number of processes shall change nothing but who holds how much."""
    torch.set_num_threads(1)
    told: dict[str, Any] = {}
    with blocks_of(16):
        for name in TASKS:
            told[name] = asked(folder, name)
    with blocks_of(512):
        for sharded in (True, False):
            told[f"wide, sharded: {sharded}"] = grown(sharded)
    return told


def main(folder: str, out: str) -> None:
    (Path(out) / f"{processes().process_index}.json").write_text(json.dumps(work(folder)))
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
