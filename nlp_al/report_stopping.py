"""What a report says of stopping rules: where each would have ended a run, and what that would have cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import numpy as np

from nlp_al import report_page as page
from nlp_al.evaluation import Run, scores
from nlp_al.report_page import span, spread
from nlp_al.stopping import SEVERAL, STOPPING, Observation, Rule, first_stop, observations, read_rule
from nlp_al.tasks import make_task

CAPTION = (
    "Rules with their defaults, and that of the config. Regret: the best {metric} of any round, less that where the "
    "rule stopped; saved: what the run asked after it. All of them are of the runs that it stopped"
)


class Stop(NamedTuple):
    """Where a rule stops a run. regret: the best score of any round less `score`. saved: what was asked after it."""

    round: int
    spent: float
    score: float
    regret: float
    saved: float


def where(groups: Mapping[str, Sequence[Run]], metric: str, split: str, noun: str) -> str:
    """The section; nothing where no run observed anything for a rule. groups: runs by strategy."""
    rows = [row for strategy, runs in groups.items() for row in _rows(strategy, runs, metric, split)]
    if not rows:
        return ""
    head = ["rule", "strategy", "runs stopped", "round", noun, f"{metric} there", "regret", "saved"]
    table = page.table(CAPTION.format(metric=metric), head, rows, left=2)
    return page.section("Where each rule would have stopped", table)


def stops(run: Run, metric: str, split: str) -> dict[str, Stop | None]:
    """By rule, where it would have stopped a run; None: nowhere. Rules that read what was not observed are left out."""
    seen = _seen(run)
    curve = {entry["round"]: (entry[run.budget], scores(entry, split).get(metric, np.nan)) for entry in run.rounds}
    best = np.nanmax([y for _, y in curve.values()])
    last = max(x for x, _ in curve.values())
    found: dict[str, Stop | None] = {}
    for name, rule in _rules(run).items():
        if not all(_observed(one, seen) for one in rule.inside()):
            continue
        first = first_stop(rule, seen)
        if first is None:
            found[name] = None
            continue
        x, y = curve[first[0].round]
        found[name] = Stop(first[0].round, x, y, best - y, last - x)
    return found


def _rows(strategy: str, runs: Sequence[Run], metric: str, split: str) -> list[list[str]]:
    watched = [run for run in runs if any("stop" in entry for entry in run.rounds)]
    found = [stops(run, metric, split) for run in watched]
    rows = []
    for name in dict.fromkeys(name for one in found for name in one):
        those = [one[name] for one in found if name in one]
        ended = [stop for stop in those if stop is not None]
        cells = [name, strategy, f"{len(ended)} of {len(those)}"]
        if ended:
            rounds, spent, there, regret, saved = (np.array(column, float) for column in zip(*ended, strict=True))
            cells += [span(rounds.tolist()), span(spent.tolist()), spread(there), spread(regret), span(saved.tolist())]
        else:
            cells += ["–"] * 5
        rows.append(cells)
    return rows


def _seen(run: Run) -> list[Observation]:
    task = make_task(run.config["task"], run.config.get("task_options") or {})
    loop = run.config.get("loop") or {}
    return observations(run.rounds, task.metrics[0], loop.get("batch", 0), run.unit)


def _rules(run: Run) -> dict[str, Rule]:
    """Those that need no parameter, and the config's own."""
    usual = {name: kind() for name, kind in STOPPING.items() if all(_has_default(f) for f in fields(kind))}  # type: ignore[arg-type]  # every rule is a dataclass
    own = (run.config.get("stop") or {}).get("rule")
    if own is None or read_rule(own) in usual.values():
        return usual
    return usual | {_label(own): read_rule(own)}


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _observed(rule: Rule, seen: Sequence[Observation]) -> bool:
    return any(getattr(one, name) not in (None, {}) for one in seen for name in rule.reads)


def _label(rule: Any) -> str:
    """A rule of a config, with its parameters."""
    if isinstance(rule, str):
        return rule
    for name in SEVERAL:
        if name in rule:
            return f"{name}({', '.join(map(_label, rule[name]))})"
    given = ", ".join(f"{name}={value}" for name, value in rule.items() if name != "name")
    return str(rule["name"]) + (f"({given})" if given else "")
