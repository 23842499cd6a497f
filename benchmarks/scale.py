"""How long each strategy takes, and what memory it needs, on a pool of a million examples.

    python benchmarks/scale.py --json scale.jsonl                 # all of them, one after the other
    python benchmarks/scale.py --json scale.jsonl --only badge coreset
    python benchmarks/scale.py --json scale.jsonl --table         # what is there already, as Markdown

Signals are drawn: embeddings in clusters of uneven size, probabilities of a head over them, float32, and what else the
strategy names. Each strategy has a process of its own, which chooses once, after a choice of 10 out of 1,000 that loads
what it needs. A strategy whose line is in the file already is not run again, so a long run can be cut off and gone on
with. Growth is what the process held at its largest while it chose, less what it held with the signals made; the whole
is that with the signals, Python and torch in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nlp_al.decisions import Decisions
from nlp_al.signals import SCORES, Signals
from nlp_al.signals.sampled import Running
from nlp_al.strategies import STRATEGIES, Strategy, make_strategy

WIDTH = 384
TOKENS = 64  # of a surprisal vector
ROWS_AT_ONCE = 65_536


class Drawn:
    """Signals of a labelled set and a pool out of the same clusters."""

    def __init__(self, classes: int, members: int, seed: int) -> None:
        self.classes, self.members = classes, members
        self.generator = torch.Generator().manual_seed(seed)
        self.means = self.normal(classes, WIDTH)
        self.sizes = 1.0 / torch.arange(1, classes + 1)

    def normal(self, rows: int, columns: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(rows, columns, generator=self.generator)

    def signals(self, n: int, needs: frozenset[str]) -> Signals:
        """n examples with the fields in `needs`, in place of which others may stand (`gradients` out of two)."""
        points, probs = torch.empty(n, WIDTH), torch.empty(n, self.classes)
        for rows, shares in zip(points.split(ROWS_AT_ONCE), probs.split(ROWS_AT_ONCE), strict=True):
            own = torch.multinomial(self.sizes, len(rows), replacement=True, generator=self.generator)
            torch.add(self.means[own], self.normal(*rows.shape), out=rows)
            torch.softmax(0.02 * rows @ self.means.T + self.normal(*shares.shape), 1, out=shares)
        fields: dict[str, Any] = {"count": n}
        if needs & {"probs", "gradients"}:
            fields["probs"] = probs
        if needs & {"embeddings", "gradients"}:
            fields["embeddings"] = points
        if "pretrained" in needs:
            fields["pretrained"] = points
        if "surprisal" in needs:
            fields["surprisal"] = self.surprisal(n)
        if "sampled" in needs:
            running = Running()
            for _ in range(self.members):
                running.add(Decisions(self.member(probs), torch.arange(n + 1)))
            fields["sampled"] = running.result()
        if "passes" in needs:
            fields["passes"] = torch.empty(self.members, n, self.classes)
            for one in fields["passes"]:
                one.copy_(self.member(probs))
        if "targets" in needs:
            fields["targets"] = torch.multinomial(self.sizes, n, replacement=True, generator=self.generator)
            fields["offsets"] = torch.arange(n + 1)
        if "out_of_fold" in needs:
            fields["out_of_fold"] = probs
        if "votes" in needs:
            fields["votes"] = torch.randint(-1, self.classes, (n, 3), generator=self.generator)
        if "asked" in needs:
            fields["asked"] = torch.randint(0, 5, (n,), generator=self.generator)
        if scores := [need.removeprefix(SCORES) for need in needs if need.startswith(SCORES)]:
            fields["scores"] = {name: self.normal(n, 1)[:, 0] for name in scores}
        return Signals(**fields)

    def member(self, probs: Tensor) -> Tensor:
        """What one member of a committee says, around the given probabilities."""
        return self.normal(*probs.shape).mul_(0.5).add_(probs.log()).softmax(1)

    def surprisal(self, n: int) -> Tensor:
        """Losses of 15% of the tokens."""
        drawn = torch.rand(n, TOKENS, generator=self.generator) < 0.15
        return self.normal(n, TOKENS).exp_().mul_(drawn)


def forget_peak() -> None:
    """What the process held at its largest counts from here on, where the system can do that."""
    if (switch := Path("/proc/self/clear_refs")).exists():
        switch.write_text("5")


def peak_mb() -> float:
    """What the process held at its largest; Linux tells it without what its parent held."""
    if (status := Path("/proc/self/status")).exists():
        return next(float(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if "VmHWM" in line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def strategies() -> dict[str, Strategy]:
    """Those that serve a decision an example and can be made without parameters."""
    found = {}
    for name in STRATEGIES:
        try:
            strategy = make_strategy(name)
        except ValueError:
            continue
        if "single" in strategy.shapes:
            found[name] = strategy
    return found


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    strategy, drawn = make_strategy(name), Drawn(options.classes, options.members, options.seed)
    known = drawn.signals(options.labelled, strategy.needs_labelled)
    unseen = drawn.signals(options.labelled, strategy.needs_validation) if strategy.needs_validation else None
    generator = torch.Generator().manual_seed(options.seed)
    for n, count in ((1000, 10), (options.n, options.count)):
        made = drawn.signals(n, strategy.needs)
        signals = Signals(**{**vars(made), "labelled": known, "validation": unseen})
        del made
        forget_peak()
        before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
        chosen = strategy.select(signals, count, generator)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    whole = peak_mb()
    return {
        "strategy": name,
        "n": options.n,
        "count": options.count,
        "picked": len(chosen.indices.unique()),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "growth_mb": whole - before,
        "whole_mb": whole,
        "note": chosen.note,
    }


def table(lines: list[dict[str, Any]]) -> str:
    rows = ["| strategy | seconds of the processor | growth, GB | whole, GB | note |", "|---|---|---|---|---|"]
    for line in sorted(lines, key=lambda line: line.get("cpu_seconds", float("inf"))):
        name = f"`{line['strategy']}`"
        if "failed" in line:
            rows.append(f"| {name} | | | | {line['failed']} |")
        else:
            numbers = f"{line['cpu_seconds']:.1f} | {line['growth_mb'] / 1e3:.2f} | {line['whole_mb'] / 1e3:.1f}"
            rows.append(f"| {name} | {numbers} | {line['note']} |")
    return "\n".join(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="a file with a line a strategy, which is added to")
    parser.add_argument("--only", nargs="+", help="these strategies alone")
    parser.add_argument("--n", type=int, default=1_000_000, help="examples in the pool")
    parser.add_argument("--count", type=int, default=1_000, help="how many are asked for")
    parser.add_argument("--labelled", type=int, default=1_000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--members", type=int, default=5, help="of a committee")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which a strategy is given up")
    parser.add_argument("--table", action="store_true", help="print the file as Markdown and run nothing")
    parser.add_argument("--child", help="this strategy alone, in this process, as one JSON object")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    lines = [json.loads(line) for line in options.json.read_text().splitlines()] if options.json.exists() else []
    if options.table:
        print(table(lines))
        return
    done = {line["strategy"] for line in lines}
    for name in strategies():
        if name in done or (options.only and name not in options.only):
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
            told = child.stdout.splitlines()[-1] if child.returncode == 0 else ""
            failure = (child.stderr.splitlines() or [f"ended with {child.returncode}"])[-1]
            line = json.loads(told) if told else {"strategy": name, "failed": failure}
        except subprocess.TimeoutExpired:
            line = {"strategy": name, "failed": f"given up after {options.limit:.0f} seconds"}
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
