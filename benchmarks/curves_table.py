"""Tables and figures of the runs of `curves.py`, put into the pages that show them.

    python benchmarks/curves_table.py RUNS

Rewrites what stands between `<!-- curves: NAME -->` and `<!-- end -->` in docs/results.md and docs/choosing.md, and
draws docs/images/curves-<dataset>.svg. Runs that are not finished are left out, so it can be used while they come in.

AUBC and everything said against random are `nlp_al.evaluation`'s: areas over all rounds, differences by seed, 95% t
intervals, a sign-flip test corrected after Holm over the strategies of a data set, and ratios of labels whose intervals
are a paired bootstrap's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from curves import FEW, FULL, NAMED, SETS, TWIN, WIDE, finished, others

from nlp_al import evaluation as ev
from nlp_al import report_page as page
from nlp_al.evaluation import BASELINE, Curve
from nlp_al.report import ALPHA, Row, read_study

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("results.md", "choosing.md")
SHARES = (0.9, 0.95)  # of the score with all labels
TITLES = {
    "trec6": "TREC-6",
    "banking77": "Banking77",
    "sst2": "SST-2",
    "ag_news_mini": "AG News, 5,000 texts",
    "clinc150": "CLINC150, half of it",
}


@dataclass(frozen=True)
class Results:
    """The finished runs of a data set."""

    dataset: str
    path: Path

    def runs(self, names: Iterable[str], seeds: int | None = None) -> list[Path]:
        """Their directories."""
        rounds = SETS[self.dataset].rounds
        found = [(path, name) for name in names for path in sorted(self.path.glob(f"{name}-*"))]
        return [path for path, _ in found if finished(path, rounds) and (seeds is None or _seed(path) < seeds)]

    @cached_property
    def rows(self) -> list[Row]:
        """The ten strategies and the twin of random, random first."""
        return read_study(self.runs((*NAMED, TWIN)), "accuracy").rows

    @cached_property
    def wide(self) -> list[Row]:
        """The other strategies, over the first seeds, with the random that they are compared with."""
        return read_study([*self.runs((BASELINE,), FEW), *self.runs(others(), FEW)], "accuracy").rows

    @cached_property
    def full(self) -> float:
        """Accuracy with all labels."""
        return float(ev.read_run(self.path / f"{FULL}-0").rounds[-1]["test"]["accuracy"])


def _seed(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])


def name_of(row: Row) -> str:
    """As the run directories are called."""
    return row.runs[0].path.name.rsplit("-", 1)[0]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def points(value: float) -> str:
    """A difference of accuracies in points of a hundred, with its sign."""
    return f"{100 * value:+.1f}"


def gain(row: Row) -> str:
    """AUBC less random's, bold where it is shown to be better or worse."""
    told = points(float(row.gaps.mean()))
    return f"**{told}**" if row.p < ALPHA else told


def gains(found: Sequence[Results]) -> str:
    """What each strategy is ahead of random by, a data set a column."""
    names = [name for name in (*NAMED, TWIN) if name != BASELINE]
    rows = {r.dataset: {name_of(row): row for row in r.rows} for r in found}
    lines = []
    for name in names:
        held = [rows[r.dataset].get(name) for r in found]
        there = [float(row.gaps.mean()) for row in held if row]
        seconds = [page.seconds(line) for row in held if row for run in row.runs for line in run.rounds]
        if there:
            cells = [gain(row) if row else "–" for row in held]
            lines.append((np.mean(there), [name, *cells, points(float(np.mean(there))), f"{np.median(seconds):.1f}"]))
    lines.sort(key=lambda line: -line[0])
    head = ["strategy", *(TITLES[r.dataset].split(",")[0] for r in found), "mean", "seconds a round"]
    return markdown(head, [cells for _, cells in lines])


def wins(found: Sequence[Results]) -> str:
    """On how many data sets the strategy of a row is better than that of a column (AUBC by seed, p < 0.05)."""
    held = [{name_of(row): row.runs and _areas(row) for row in r.rows} for r in found]
    names = [name for name in NAMED if any(name in areas for areas in held)]
    better = np.zeros((len(names), len(names)), dtype=int)
    for areas in held:
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                shared = sorted(set(areas.get(one, {})) & set(areas.get(other, {})))
                gaps = np.array([areas[one][seed] - areas[other][seed] for seed in shared])
                if len(gaps) and gaps.mean() > 0:
                    better[i, j] += ev.sign_flip_test(gaps, np.random.default_rng(0)) < ALPHA
    order = sorted(range(len(names)), key=lambda i: int(better[:, i].sum() - better[i].sum()))
    head = ["better than", *(names[j] for j in order), "sum"]
    lines = [[names[i], *("" if i == j else str(better[i, j]) for j in order), str(better[i].sum())] for i in order]
    return markdown(head, lines)


def _areas(row: Row) -> dict[int, float]:
    return {curve.seed: float(area) for curve, area in zip(row.curves, row.areas, strict=True)}


def table(results: Results) -> str:
    """A data set's figure and table."""
    rows = results.rows
    levels, base = [share * results.full for share in SHARES], rows[0]
    first, last = base.curves[0].x[[1, -1]]
    goal = float(ev.mean_curve(base.curves).y[-1])
    head = ["strategy", "seeds", "AUBC", f"at {first:,.0f}", f"at {last:,.0f}"]
    head += [f"labels to {level:.3f}" for level in levels]
    head += ["points of AUBC ahead of random", "p", "data efficiency", "95% interval"]
    lines = []
    for row in sorted(rows, key=lambda row: -float(row.areas.mean())):
        cells = [name_of(row), str(len(row.runs)), page.spread(row.areas)]
        cells += [page.spread(_at(row.curves, x)) for x in (first, last)]
        reached = [page.reach(ev.labels_to_reach(row.curves, level)) for level in levels]
        cells += [told.removesuffix(" (not reached)") for told in reached]
        if row is not base:
            saving = row.savings[-1]  # at random's own last accuracy
            cells += [_gap(row.gaps), page.chance(row.p), page.ratio(saving), page.interval(saving.ratio_interval, 2)]
        lines.append(cells + ["–"] * (len(head) - len(cells)))
    picture = f"![Learning curves on {TITLES[results.dataset]}](images/curves-{results.dataset}.svg)"
    shares = " and ".join(f"{share:.0%}" for share in SHARES)
    told = (
        f"All {_pool(results):,} labels: {results.full:.3f}, of which {shares} are {levels[0]:.3f} and {levels[1]:.3f}."
    )
    return f"{picture}\n\n{told} Data efficiency is at {goal:.3f}.\n\n{markdown(head, lines)}"


def _gap(gaps: ev.Floats) -> str:
    """The mean of paired differences, in points, with its 95% t interval."""
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return points(mean)
    half = float(ev.t_half_width(gaps))
    return f"{points(mean)} ({points(mean - half)} to {points(mean + half)})"


def _at(curves: Sequence[Curve], x: float) -> ev.Floats:
    return np.array([np.interp(x, curve.x, curve.y) for curve in curves])


def _pool(results: Results) -> int:
    return int(ev.read_run(results.path / f"{FULL}-0").rounds[-1]["labelled"])


def wide(found: Sequence[Results]) -> str:
    """The other strategies on two data sets."""
    lines: dict[str, list[str]] = {}
    for at, results in enumerate(found):
        for row in results.wide[1:]:
            seconds = np.median([page.seconds(line) for run in row.runs for line in run.rounds])
            cells = lines.setdefault(name_of(row), ["–"] * (3 * len(found)))
            final = np.mean([ev.final_metric(curve) for curve in row.curves])
            cells[3 * at : 3 * at + 3] = [points(float(row.gaps.mean())), f"{final:.3f}", f"{seconds:.1f}"]
    names = [TITLES[r.dataset] for r in found]
    head = ["strategy", *(f"{name}: {what}" for name in names for what in ("points", "at the end", "seconds a round"))]
    return markdown(head, ([name, *cells] for name, cells in lines.items()))


def peer(found: Sequence[Results]) -> str:
    """Ours beside small-text's, over the seeds of both."""
    lines = []
    for results in found:
        ours = {name_of(row): row for row in results.rows}
        for name in ("margin", "entropy", "coreset"):
            theirs = {}
            for path in (results.path / "small-text").glob(f"{name}-*.json"):
                made = json.loads(path.read_text(encoding="utf-8"))
                theirs[_seed(path.with_suffix(""))] = Curve(name, 0, np.array(made["x"], float), np.array(made["y"]))
            mine = {curve.seed: curve for curve in (ours[name].curves if name in ours else [])}
            if seeds := sorted(set(mine) & set(theirs)):
                areas = [np.array([ev.aubc(side[seed]) for seed in seeds]) for side in (mine, theirs)]
                apart = max(float(np.abs(mine[seed].y - theirs[seed].y).max()) for seed in seeds)
                cells = [TITLES[results.dataset], name, str(len(seeds)), *map(page.spread, areas)]
                lines.append([*cells, points(float((areas[0] - areas[1]).mean())), f"{100 * apart:.1f}"])
    head = ["data", "strategy", "seeds", "AUBC here", "AUBC small-text", "points apart", "most, in any round"]
    return markdown(head, lines)


def draw(results: Results, target: Path) -> None:
    """Mean curves of the ten, and the score with all labels."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": results.dataset, "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(7.2, 4.0), layout="constrained")
        for at, row in enumerate(row for row in results.rows if name_of(row) != TWIN):
            mean = ev.mean_curve(row.curves)
            look = page._line(at)
            axes.plot(mean.x, mean.y, label=name_of(row), **{**look, "markersize": 3.5, "linewidth": 1.4})
        axes.axhline(results.full, color=page.TEXT, linewidth=0.8)
        axes.text(0, results.full, "all labels", va="bottom", ha="left", color=page.TEXT)
        axes.set_xlabel("labels")
        axes.set_ylabel("test accuracy")
        axes.set_title(TITLES[results.dataset], loc="left")
        axes.grid(color=page.GRID, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right center", frameon=False)
        figure.savefig(target, metadata={"Date": None})
        pyplot.close(figure)


def rewrite(path: Path, blocks: dict[str, str]) -> None:
    """Puts each block between its marks, where the page has them."""
    text = path.read_text(encoding="utf-8")
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- curves: {name} -->")
        if mark:
            _, end, after = rest.partition("<!-- end -->")
            text = f"{before}{mark}\n\n{block}\n\n{end}{after}"
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    options = parser.parse_args()
    found = [Results(name, options.runs / name) for name in SETS if (options.runs / name).is_dir()]
    blocks = {results.dataset: table(results) for results in found}
    both = [results for results in found if results.dataset in WIDE and results.runs(others(), FEW)]
    blocks |= {"gains": gains(found), "wins": wins(found), "others": wide(both), "peer": peer(found)}
    for results in found:
        draw(results, DOCS / "images" / f"curves-{results.dataset}.svg")
    for name in PAGES:
        if (DOCS / name).is_file():
            rewrite(DOCS / name, blocks)
    print("\n\n".join(f"{name}\n\n{block}" for name, block in blocks.items()))


if __name__ == "__main__":
    main()
