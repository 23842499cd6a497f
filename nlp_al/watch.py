"""What a run observes for its stopping rule, and keeps of it on the disk."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nlp_al.bench import Bench
from nlp_al.config import Config
from nlp_al.errors import UserError
from nlp_al.pool import HOLDOUT, Example, Pool, Query
from nlp_al.processes import processes, shared
from nlp_al.signals import Signals
from nlp_al.signals.collector import Scorer, collect
from nlp_al.stability import Predictions, changed, kappas, summary
from nlp_al.stopping import STOPPING, Decision, Rule, first_stop, no_scores, observations, read_rule
from nlp_al.store import RunDirectory

FOLDER, STOP_SET = "stopping", "stop_set.json"

SHARE = 10
"""The stop set is at most one part in so many of what may be asked."""

UNCERTAINTY = frozenset({"mean_entropy", "max_entropy", "max_doubt"})


class Watch:
    """Observes what the rule of a config reads, and says when it stops; with `stop.log`, what every rule reads.

    All processes take part in the passes; the main one has the files and decides. In the folder `stopping` of the run
    directory lies what the last round's model predicts: `stop_set-R` and `pool-R` are compared with the next round's,
    `batch-R` is what the model that chose batch R made of it. They go when they were compared. `filter-R.json` is what
    was left out when batch R was chosen.
    """

    def __init__(self, config: Config, bench: Bench, pool: Pool) -> None:
        self.config = config
        self.task = bench.task
        self.pool = pool
        stop = config.stop
        self.rule = None if stop.rule is None else read_rule(stop.rule)
        rules: list[Rule] = self.rule.inside() if self.rule is not None else []
        if any("scores" in rule.reads for rule in rules) and not (bench.gold("validation") or config.loop.holdout):
            raise UserError(no_scores(next(rule.name for rule in rules if "scores" in rule.reads)))
        reading = [*(type(rule) for rule in rules), *(STOPPING.values() if stop.log else ())]
        self.reads: frozenset[str] = frozenset().union(*(kind.reads for kind in reading))
        self.lines: list[Mapping[str, Any]] = []
        self.ended: tuple[int, str] | None = None

    @property
    def on(self) -> bool:
        """Whether there is anything to observe or to decide."""
        return bool(self.reads) or self.rule is not None

    # Beginning

    def begin(self, lines: Sequence[Mapping[str, Any]], generator: torch.Generator, store: RunDirectory | None) -> None:
        """Puts the stop set apart, and judges the rounds that are done. lines: those of metrics.jsonl.

        Raises:
            UserError: the pool is too small for a stop set.
        """
        if "kappa" in self.reads:
            self.pool.apart = frozenset(shared(self._stop_set(store, generator) if store is not None else []))
        self.lines = list(lines)
        if store is not None:
            self._tidy(store, len(lines) - 1)
        self._judge()

    def _stop_set(self, store: RunDirectory, generator: torch.Generator) -> list[str]:
        """Its ids, drawn once: rows that come later do not join it."""
        known = store.read_json(STOP_SET)
        if known is None:
            free = self._remaining()
            size = min(self.config.stop.size, len(free) // SHARE)
            if size == 0:
                raise UserError(
                    f"stop.rule needs a stop set, at most a tenth of what may be asked, and only {len(free)} examples "
                    "are left; take a rule that needs none, or null."
                )
            drawn = torch.randperm(len(free), generator=generator)[:size].sort().values
            known = {"ids": [free[at].id for at in drawn.tolist()]}
            store.write_json(STOP_SET, known)
        found: list[str] = known["ids"]
        return found

    def _remaining(self) -> list[Example]:
        """What may still be asked, and has something to decide."""
        return [example for example in self.pool.unlabelled() if self.task.askable(example)]

    def _apart(self) -> list[Example]:
        """The stop set, without what has gone from the data, and what somebody labelled nevertheless."""
        taken = {query.id for query in self.pool.queries} | {answer.id for answer in self.pool.answers}
        return [example for example in self.pool.examples if example.id in self.pool.apart - taken]

    # The round

    def asked(
        self, batch: Sequence[Query], model: Scorer | None, generator: torch.Generator, store: RunDirectory | None
    ) -> None:
        """Keeps what the model that chose a batch makes of it, before it can learn of the answers."""
        chosen = [query for query in batch if query.strategy != HOLDOUT]
        if "accuracy" not in self.reads or model is None or not chosen:
            return
        signals = _signals(model, [self.pool[query.id] for query in chosen], generator)
        if store is not None and signals is not None:
            self._keep("batch", chosen[0].round, [query.id for query in chosen], signals, store)

    def filtered(self, round_: int, abstained: float | None, store: RunDirectory | None) -> None:
        """Keeps the share of what was undecided that a filter left out when it chose the batch of a round."""
        if "abstained" in self.reads and store is not None:
            (store.path / FOLDER).mkdir(exist_ok=True)
            store.write_json(f"{FOLDER}/filter-{round_}.json", {"abstained": abstained})

    def observe(
        self, round_: int, answers: int, model: Scorer | None, generator: torch.Generator, store: RunDirectory | None
    ) -> dict[str, Any]:
        """What was measured after the fit of a round, on the main process. answers: how many the fit used."""
        found: dict[str, Any] = {}
        if "accuracy" in self.reads and store is not None:
            found |= self._accuracy(round_, answers, store)
        if "abstained" in self.reads and store is not None:
            known = store.read_json(f"{FOLDER}/filter-{round_}.json") or {}
            found |= {name: value for name, value in known.items() if value is not None}
        if model is None:
            return found
        if "kappa" in self.reads:
            apart = self._apart()
            pair = self._compared("stop_set", round_, apart, _signals(model, apart, generator), store)
            if pair is not None:
                found["kappa"] = kappas(*pair, len(self.task.labels) if self.task.shape == "multi" else 1)
        if self.reads & {"changed", *UNCERTAINTY}:
            left = self._remaining()
            signals = _signals(model, left, generator)
            if signals is not None and self.reads & UNCERTAINTY:
                found |= summary(signals.decisions)
            if "changed" in self.reads:
                pair = self._compared("pool", round_, left, signals, store)
                if pair is not None:
                    found["changed"] = changed(*pair)
        return found

    def _compared(
        self, kind: str, round_: int, examples: Sequence[Example], signals: Signals | None, store: RunDirectory | None
    ) -> tuple[Any, Any] | None:
        """Predictions of the round before and of this one on what is in both; None where there is nothing."""
        if store is None or signals is None:
            return None
        here = self._keep(kind, round_, [example.id for example in examples], signals, store)
        before = _path(store, kind, round_ - 1)
        pair = Predictions.from_file(str(before)).beside(here) if before.exists() else None
        return pair if pair is not None and len(pair[0]) else None

    def _keep(self, kind: str, round_: int, names: Sequence[str], signals: Signals, store: RunDirectory) -> Predictions:
        decisions = signals.decisions
        columns = self.task.choices(decisions)
        found = Predictions.of(names, columns.numpy(), decisions.offsets.numpy(), self.task.labels)
        path = _path(store, kind, round_)
        path.parent.mkdir(exist_ok=True)
        store.write_bytes(f"{FOLDER}/{path.name}", found.to_bytes())
        return found

    def _accuracy(self, round_: int, answers: int, store: RunDirectory) -> dict[str, float]:
        """Over all decisions of what was kept when it was asked, and has a label now."""
        path = _path(store, "batch", round_)
        labels = self.pool.labels(answers)
        names = [query.id for query in self.pool.round_queries(round_) if query.id in labels]
        if not path.exists() or not names:
            return {}
        right = [self.task.columns_of(labels[name], self.pool[name]) for name in names]
        offsets = torch.tensor([0, *map(len, right)]).cumsum(0)
        gold = Predictions.of(names, [at for one in right for at in one], offsets, self.task.labels)
        said, wanted = Predictions.from_file(str(path)).beside(gold)
        return {"accuracy": 1.0 - changed(said, wanted)} if len(said) else {}

    def told(self, line: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
        """What is added to the line of a round, `stop`; all processes come to know whether the run ends."""
        if not self.on:
            return {}
        self.lines.append({**line, "stop": found})
        said = self._judge()
        if said is None:
            return {"stop": dict(found)}
        finite = said.value if said.value is not None and math.isfinite(said.value) else None
        return {"stop": {**found, "decision": {**said._asdict(), "value": finite}}}

    def done(self, round_: int, store: RunDirectory) -> None:
        """Called when the line of a round is on the disk."""
        self._tidy(store, round_)

    def _judge(self) -> Decision | None:
        """What the rule says after the last round. Once it has stopped, the run has ended, whatever it says later."""
        if self.rule is None:
            return None
        said: Decision | None = None
        if processes().is_main_process:
            loop = self.config.loop
            seen = observations(self.lines, self.task.metrics[0], loop.batch, loop.unit)
            first = first_stop(self.rule, seen)
            self.ended = (first[0].round, first[1].reason) if first is not None else None
            said = self.rule.update(seen)
        self.ended = shared(self.ended)
        return said

    def _tidy(self, store: RunDirectory, done: int) -> None:
        """Takes away what no later round compares with."""
        for path in sorted((store.path / FOLDER).glob("*-*.*")):
            kind, round_ = _parted(path)
            if round_ < done or (kind in ("batch", "filter") and round_ == done):
                path.unlink()


def _signals(model: Scorer, examples: Sequence[Example], generator: torch.Generator) -> Signals | None:
    """The probabilities, on the main process; None on the others, and of nothing."""
    signals = collect(model, examples, {"probs"}, generator) if examples else None
    if signals is not None:
        signals.require({"probs"})
    return signals


def _path(store: RunDirectory, kind: str, round_: int) -> Path:
    return store.path / FOLDER / f"{kind}-{round_}.safetensors"


def _parted(path: Path) -> tuple[str, int]:
    found = re.match(r"(\w+)-(\d+)\.", path.name)
    return (found[1], int(found[2])) if found else ("", -1)
