"""What runs amount to: one HTML page (`write_report`) and the same facts for a terminal (`compare`).

A study is read and computed once; page and terminal print the same rows and sentences. Numbers that are only bounds are
printed as bounds, and a strategy that is not shown to be better than random is said not to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nlp_al import evaluation as ev
from nlp_al import report_page as page
from nlp_al import report_people, report_stopping
from nlp_al.errors import UserError
from nlp_al.evaluation import BASELINE, Curve, Floats, Run, Saving
from nlp_al.report_page import interval, number, saved, span, spread

PANELS = {  # a task's metrics worth a figure, the main one first
    "text-classification": ("accuracy", "f1_macro"),
    "multi-label": ("f1_macro", "f1_micro"),  # known by f1_micro, which other texts have not
    "token-classification": ("f1", "precision", "recall"),
    "response-selection": ("recall_at_1", "mrr"),
}
SHARES = (0.8, 0.9, 0.95, 0.98, 1.0)  # of random's final level; the last is the one that is talked about
ALPHA, FEW = 0.05, 5  # with fewer seeds than that a bootstrap over them is too narrow


@dataclass(frozen=True)
class Row:
    """A strategy: its runs, their curves of the main metric, areas `float[S]`, and how it compares with random."""

    strategy: str
    runs: list[Run]
    curves: list[Curve]
    areas: Floats
    savings: list[Saving]  # a level each; empty for random itself, or without it
    gaps: Floats  # AUBC minus random's, a shared seed each
    p: float  # adjusted; NaN without two shared seeds


@dataclass(frozen=True)
class Study:
    """Everything that page and terminal say."""

    split: str
    panels: list[str]
    rows: list[Row]  # random first
    level: float | None  # random's mean at its end, None without random

    @property
    def runs(self) -> list[Run]:
        """Every run, strategy by strategy."""
        return [run for row in self.rows for run in row.runs]

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.panels[0]

    @property
    def noun(self) -> str:
        """What is counted on the x axis."""
        if self.runs[0].unit == "words":
            return "labelled words"
        again = any(entry.get("again") for run in self.runs for entry in run.rounds)
        return "labels" if again else "labelled examples"


def write_report(runs: Sequence[Path], out: Path | None = None, metric: str | None = None) -> Path:
    """Write one self-contained page about one or several runs of a task, and return its path.

    Without `out`: `report.html` in the run, or beside the first of several runs. Without `metric`: the task's main one.

    Raises:
        UserError: a path is no run or has no finished round, or the runs cannot be compared.
        RunError: matplotlib is not installed.
    """
    study = read_study(runs, metric)
    target = out or (runs[0] if len(runs) == 1 else runs[0].parent) / "report.html"
    with page.drawing():
        document = page.document(_title(study), _lead(study), _body(study))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(document, encoding="utf-8")
    return target


def compare(runs: Sequence[Path], metric: str | None = None) -> str:
    """The facts of the page as aligned text for a terminal. Raises UserError as `write_report` does."""
    head, rows = strategy_table(study := read_study(runs, metric))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in (head, ["-" * width for width in widths], *rows)
    ]
    said = [f"- {sentence}" for sentence in [*verdicts(study), *audits(study), *notes(study)]]
    about = [f"{name.lower()}: {value}" for name, value in _facts(study)[:3]]
    return "\n".join([*about, _lead(study), "", *lines, *([""] if said else []), *said]) + "\n"


def read_study(paths: Sequence[Path], metric: str | None) -> Study:
    """Read runs, check that they can be compared, and compute everything that is said about them."""
    if not paths:
        raise UserError("no run is named: give at least one run directory")
    runs = [ev.read_run(path) for path in paths]
    _check_alike(runs)
    split = _shared_split(runs)
    panels = _panels(runs, split, metric)
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.strategy != BASELINE, run.strategy, run.seed)):
        groups.setdefault(run.strategy, []).append(run)
    return Study(split, panels, *_rows(groups, panels[0], split))


def _check_alike(runs: Sequence[Run]) -> None:
    seen: dict[tuple[str, int], Path] = {}
    for run in runs:
        for key, value in _identity(run).items():
            if value != (other := _identity(runs[0])[key]):
                raise UserError(f"{run.path}: its {key} is {value}, but that of {runs[0].path} is {other}")
        if twin := seen.get((run.strategy, run.seed)):
            raise UserError(f"{run.path}: strategy {run.strategy} with seed {run.seed} is there already ({twin})")
        seen[run.strategy, run.seed] = run.path


def _identity(run: Run) -> dict[str, str]:
    data = f"of fingerprint {run.fingerprint}" if run.fingerprint else _short(run.config.get("dataset"))
    return {"loop.unit": run.unit, "task": _short(run.config.get("task")), "dataset": data}


def _shared_split(runs: Sequence[Run]) -> str:
    for split in ev.SPLITS:
        if all(ev.metric_names(run, split) for run in runs):
            return split
    bare = next(run for run in runs if not ev.metric_names(run, ev.SPLITS[0]))
    raise UserError(f"{bare.path}: it has no metrics on a split (test, validation, holdout) that every run has")


def _panels(runs: Sequence[Run], split: str, metric: str | None) -> list[str]:
    """The metrics to draw, the main one first."""
    shared = ev.metric_names(runs[0], split)
    for run in runs:
        names = ev.metric_names(run, split)
        shared = [name for name in shared if name in names]
        if not shared or (metric and metric not in shared):
            asked = f"no metric {metric}" if metric else f"no metric in common with {runs[0].path}"
            raise UserError(f"{run.path}: {asked} on the {split} split; it has {', '.join(names)}")
    kind = "multi-label" if "f1_micro" in shared else str(runs[0].config.get("task"))
    usual = [name for name in PANELS.get(kind, ()) if name in shared] or shared[:2]
    return list(dict.fromkeys([metric or usual[0], *usual]))


def _rows(groups: dict[str, list[Run]], metric: str, split: str) -> tuple[list[Row], float | None]:
    curves = {name: [ev.learning_curve(run, metric, split) for run in runs] for name, runs in groups.items()}
    areas, none = _areas(groups, curves), np.array([])
    rows = [Row(name, groups[name], curves[name], areas[name], [], none, np.nan) for name in groups]
    if BASELINE not in groups:
        return rows, None
    base, mean, generator = rows[0], ev.mean_curve(curves[BASELINE]).y, np.random.default_rng(0)
    levels = [share * float(mean[-1]) for share in SHARES if share == 1 or share * mean[-1] > mean[0]]
    others = [
        replace(row, savings=ev.label_savings(row.curves, base.curves, levels, generator), gaps=_gaps(row, base))
        for row in rows[1:]
    ]
    tested = [row for row in others if len(row.gaps) > 1 and np.isfinite(row.gaps).all()]
    adjusted = ev.holm([ev.sign_flip_test(row.gaps, generator) for row in tested])
    chances = dict(zip([row.strategy for row in tested], adjusted, strict=True))
    return [base, *(replace(row, p=chances.get(row.strategy, np.nan)) for row in others)], float(mean[-1])


def _areas(groups: dict[str, list[Run]], curves: dict[str, list[Curve]]) -> dict[str, Floats]:
    """Areas over the range that every run covers."""
    try:
        bounds = ev.common_range([curve for group in curves.values() for curve in group])
    except ValueError as error:
        runs = [run for group in groups.values() for run in group]
        last = max(runs, key=lambda run: float(run.rounds[0][run.budget]))
        raise UserError(f"{last.path}: it starts where another run has already ended: no curve to compare") from error
    return {name: np.array([ev.aubc(curve, *bounds) for curve in group]) for name, group in curves.items()}


def _gaps(row: Row, base: Row) -> Floats:
    mine, other = ({c.seed: area for c, area in zip(r.curves, r.areas, strict=True)} for r in (row, base))
    return np.array([mine[seed] - other[seed] for seed in ev.common_seeds(row.curves, base.curves)])


def strategy_table(study: Study) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of strategies; the columns about random only where it is there."""
    head = ["strategy", "seeds", study.noun, f"final {study.metric}", "AUBC", "seconds a round"]
    if study.level is not None:
        head += [f"labels to reach {number(study.level)}", "labels saved", "95% interval", "p"]
    return head, [_strategy_cells(row, study.level) for row in study.rows]


def _strategy_cells(row: Row, level: float | None) -> list[str]:
    finals = spread(np.array([ev.final_metric(curve) for curve in row.curves]))
    seconds = number(float(np.mean([page.seconds(entry) for run in row.runs for entry in run.rounds])), 1)
    ends = span([curve.x[-1] for curve in row.curves])
    cells = [row.strategy, str(len(row.runs)), ends, finals, spread(row.areas), seconds]
    if level is None:
        return cells
    if not row.savings:
        return [*cells, page.reach(ev.labels_to_reach(row.curves, level)), "–", "–", "–"]
    last = row.savings[-1]
    return [*cells, page.reach(last.strategy), saved(last), interval(last.saved_interval), page.chance(row.p)]


def verdicts(study: Study) -> list[str]:
    """A plain sentence or two a strategy: is it better than random, and what does it save?"""
    return [f"{row.strategy}: {_verdict(row, study)}" for row in study.rows if row.savings]


def _verdict(row: Row, study: Study) -> str:
    saving, seeds = _saving_sentence(row.savings[-1], study), len(row.gaps)
    gap = float(row.gaps.mean() if seeds else row.areas.mean() - study.rows[0].areas.mean())
    if np.isnan(gap):
        return f"not compared by AUBC, for the runs share a single point. {saving}"
    side = "ahead of random on average, but not shown to be better" if gap > 0 else "not better than random"
    if np.isnan(row.p):
        return f"{side} (AUBC {gap:+.3f}): with fewer than two seeds in common, nothing tells it from chance. {saving}"
    if row.p < ALPHA:
        side = "better than random" if gap > 0 else "worse than random"
    half, tests = float(ev.t_half_width(row.gaps)), sum(bool(np.isfinite(other.p)) for other in study.rows)
    floor, enough = tests * 2 / 2**seeds, int(np.log2(2 * tests / ALPHA)) + 1
    limit = f" {seeds} seeds cannot settle it (p is {floor:.3g} at best): {enough} could." if floor >= ALPHA else ""
    found = f"95% interval {interval((gap - half, gap + half), 3)}, {seeds} paired seeds, p {page.chance(row.p)}"
    return f"{side} (AUBC {gap:+.3f}, {found}).{limit} {saving}"


def _saving_sentence(saving: Saving, study: Study) -> str:
    goal, needed = f"random's final {study.metric} of {number(saving.level)}", number(saving.strategy.x, 0)
    if saving.strategy.flag == "lower_bound":
        return f"It did not reach {goal} within {needed} {study.noun}."
    if saving.flag != "exact":
        return f"It reached {goal}; labels saved: {saved(saving)}."
    more = round(saving.strategy.x) - round(saving.baseline.x)
    verb = f"needed {more:,} more" if more > 0 else f"saved {saved(saving)}"
    bounds = f" (95% interval of labels saved: {interval(saving.saved_interval)})" if saving.saved_interval else ""
    return f"It reached {goal} at {needed} {study.noun}, random at {number(saving.baseline.x, 0)}: it {verb}{bounds}."


def audits(study: Study) -> list[str]:
    """Of each strategy that ran on parts of the pool, whether one of the ratios falls behind random, in a sentence.

    That a ratio is behind must hold for as many tests as there are ratios: random itself is seldom called fragile.
    """
    by_base: dict[str, list[tuple[float, Floats]]] = {}
    for row in study.rows:
        entry = row.runs[0].config.get("strategy")
        if isinstance(entry, dict) and entry.get("name") == "subpool" and len(row.gaps) > 1:
            base = ev.strategy_name(entry.get("base", "entropy"))
            by_base.setdefault(base, []).append((float(entry.get("ratio", 8)), row.gaps))
    said = []
    for base, found in by_base.items():
        if len(found) < 2:
            continue
        behind = [ratio for ratio, gaps in found if ev.below_zero(gaps, tests=len(found))]
        means = [float(gaps.mean()) for _, gaps in found]
        told = f"AUBC against random's from {min(means):+.3f} to {max(means):+.3f} over {len(found)} pool ratios"
        verdict = "at none of them shown to be behind it"
        if behind:
            verdict = f"fragile, for it falls behind random at {', '.join(f'{ratio:g}' for ratio in sorted(behind))}"
        said.append(f"{base}: {told}; {verdict}.")
    return said


def notes(study: Study) -> list[str]:
    """What a reader must know before believing the numbers."""
    said = []
    if study.split != "test":
        said.append(f"Not every run has test metrics: these are scores on the {study.split} split.")
    if len(study.rows) > 1 and study.level is None:
        said.append("No run with strategy random is among these, so nothing is said about labels saved.")
    if single := [row.strategy for row in study.rows if len(row.runs) == 1]:
        said.append(f"One seed only, so no interval: {', '.join(single)}.")
    if few := [row.strategy for row in study.rows if 1 < len(row.runs) < FEW]:
        said.append(f"Fewer than {FEW} seeds: intervals are rough, bootstrapped ones too narrow: {', '.join(few)}.")
    ends = {run.path: curve.x[-1] for row in study.rows for run, curve in zip(row.runs, row.curves, strict=True)}
    if early := [f"{path.name} at {number(x, 0)}" for path, x in ends.items() if x < 0.95 * max(ends.values())]:
        said.append(f"Areas stop where the first run ends; some ended well before the others: {', '.join(early)}.")
    return [*said, *(f"The runs also differ in {what}: no number here allows for it." for what in _differ(study))]


def _differ(study: Study) -> list[str]:
    """Config keys, other than those that a comparison is about, in which the runs differ; and their values."""
    flat = [_flat({k: v for k, v in run.config.items() if k not in ("strategy", "run_dir")}) for run in study.runs]
    keys = dict.fromkeys(key for config in flat for key in config if key != "loop.seed")
    values = {key: dict.fromkeys(config.get(key, "unset") for config in flat) for key in keys}
    return [f"{key} ({', '.join(found)})" for key, found in values.items() if len(found) > 1]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: ", ".join(map(str, value)) if isinstance(value, list) else str(value)}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()}


def _short(value: Any) -> str:
    return ", ".join(f"{key.split('.')[-1]} {text}".strip() for key, text in _flat(value).items())


def _title(study: Study) -> str:
    if len(study.runs) == 1:
        return study.runs[0].path.resolve().name
    return ", ".join(row.strategy for row in study.rows[:4]) + " and others" * (len(study.rows) > 4)


def _lead(study: Study) -> str:
    ends = span([curve.x[-1] for row in study.rows for curve in row.curves])
    rounds, runs = span([len(run.rounds) for run in study.runs]), len(study.runs)
    size = f"{runs} run{'s' * (runs > 1)} of {rounds} rounds, up to {ends} {study.noun}"
    return f"{size}; {study.metric} on the {study.split} split."


def _facts(study: Study) -> list[tuple[str, str]]:
    config, models = study.runs[0].config, dict.fromkeys(str(run.config.get("model")) for run in study.runs)
    data = {key: text for key, text in _flat(config.get("dataset")).items() if not key.startswith("columns.")}
    return [
        ("Task", str(config.get("task"))),
        ("Model", ", ".join(models)),
        ("Dataset", _short(data)),
        ("Seeds", ", ".join(map(str, sorted({run.seed for run in study.runs})))),
    ]


def _body(study: Study) -> str:
    rounds = [page.rounds_table(run, study.split) for run in study.runs]
    if len(rounds) > 1:
        names = [f"{run.path.name}, all rounds" for run in study.runs]
        rounds = [_overview_table(study), *map(page.folded, names, rounds)]
    said = page.bullets("verdict", [*verdicts(study), *audits(study)]), page.bullets("notes", notes(study))
    sections = [
        page.section("What the runs show", *said),
        page.section("Learning curves", *_figures(study)),
        page.section("Strategies", page.table("Mean ± standard deviation over seeds", *strategy_table(study))),
        page.section("Labels saved, level by level", _levels_table(study), _constants_table(study)),
        report_stopping.where({row.strategy: row.runs for row in study.rows}, study.metric, study.split, study.noun),
        report_people.annotators(study.runs),
        report_people.guesses(study.runs),
        page.section("Round by round", *rounds),
        page.section("Final models", page.final_table(study.runs)),
    ]
    leading = report_people.done(study.runs[0], study.metric) if len(study.runs) == 1 else ""
    return leading + page.facts(_facts(study)) + "\n".join(sections)


def _figures(study: Study) -> list[str]:
    start = int(study.level is None)  # the first look is kept for random
    parts: list[str] = []
    for metric in study.panels:
        curves = [[ev.learning_curve(run, metric, study.split) for run in row.runs] for row in study.rows]
        means = [ev.mean_curve(found) for found in curves]
        series = [page.Series(row.strategy, start + i, means[i], curves[i]) for i, row in enumerate(study.rows)]
        parts += [] if parts else [page.legend(series), '<div class="plots">']
        ends = "; ".join(f"{s.label} {number(s.mean.y[0])} to {number(s.mean.y[-1])}" for s in series)
        parts.append(page.curve_figure(series, metric, study.noun, f"{metric}, first to last point: {ends}."))
    if savings := [(row.strategy, i, row.savings[-1]) for i, row in enumerate(study.rows) if row.savings]:
        parts.append(page.savings_figure(savings, study.noun, f"At random's final {study.metric}, {study.noun} saved"))
    return [*parts, "</div>"]


def _levels_table(study: Study) -> str:
    head = ["level", "strategy", "random needs", "strategy needs", "saved", "95% interval", "ratio", "95% interval"]
    found = sorted(((row, s) for row in study.rows for s in row.savings), key=lambda pair: pair[1].level)
    rows = [
        [*needs, saved(s), interval(s.saved_interval), page.ratio(s), interval(s.ratio_interval, 2)]
        for row, s in found
        for needs in [(number(s.level), row.strategy, page.reach(s.baseline), page.reach(s.strategy))]
    ]
    caption = f"Levels of {study.metric}: 80, 90, 95, 98 and 100% of random's final mean, where above its start"
    return page.table(caption, head, rows, left=2) if rows else ""


def _constants_table(study: Study) -> str:
    """How many times fewer labels each strategy needs, if all curves fall at the same rate to the same floor."""
    rows, generator = [], np.random.default_rng(0)
    for row in study.rows:
        if row.savings and all(len(curve.x) > 2 for curve in (*row.curves, *study.rows[0].curves)):
            found = ev.constants(row.curves, study.rows[0].curves, generator)
            ratio = f"{number(found.ratio, 2)}×" if np.isfinite(found.ratio) else "not known"
            cells = [number(found.floor), number(found.baseline, 1), number(found.strategy, 1)]
            rows.append([row.strategy, *cells, ratio, interval(found.interval, 2)])
    head = ["strategy", "floor", "c of random", "c of the strategy", "ratio", "95% interval"]
    caption = f"All levels at once: 1 − {study.metric} = floor + c / {study.noun}, the floor that of both"
    return page.table(caption, head, rows) if rows else ""


def _overview_table(study: Study) -> str:
    """Mean ± std of the main metric, a round a line and a strategy a column."""
    rows = []
    for index in sorted({entry["round"] for run in study.runs for entry in run.rounds}):
        entries = [[e for run in row.runs for e in run.rounds if e["round"] == index] for row in study.rows]
        labels = span([float(e[study.runs[0].budget]) for group in entries for e in group])
        found = [[ev.scores(e, study.split).get(study.metric, np.nan) for e in group] for group in entries]
        rows.append([str(index), labels, *(spread(np.array(values)) for values in found)])
    caption = f"Mean {study.metric} on the {study.split} split ± standard deviation over seeds"
    return page.table(caption, ["round", study.noun, *(row.strategy for row in study.rows)], rows)
