"""Learning curves as numbers: reading a run, areas under curves, label savings, and tests over seeds.

Numpy and small dataclasses only: it imports fast, and its results can be checked by hand. Metrics are better when
higher, and lie between 0 and 1 where an error (1 - metric) is spoken of.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

from nlp_al.errors import UserError

Floats = npt.NDArray[np.float64]
Bounds = tuple[Floats, Floats]
Flag = Literal["exact", "lower_bound", "upper_bound", "unknown"]

BASELINE = "random"
SPLITS = ("test", "validation", "holdout")  # in order of preference
CONFIDENCE = 0.95
TOLERANCE = 1e-9  # a mean over seeds compared with itself must count as reached, whatever the rounding
EXACT_SEEDS = 16  # up to here all 2^seeds sign flips are enumerated


@dataclass(frozen=True)
class Run:
    """What a run directory says: config, a dict a finished round in order, `final.json` ({} where there is none)."""

    path: Path
    config: dict[str, Any]
    rounds: list[dict[str, Any]]
    final: dict[str, Any]
    strategy: str  # parameters included, as strategy_name writes it
    seed: int
    unit: str  # of the budget: records or words
    budget: str  # the key of a round that holds x, the labels paid for
    fingerprint: str  # of the data, "" where the directory tells none


@dataclass(frozen=True)
class Curve:
    """One run's learning curve: `x: float[P]`, strictly ascending labels (or words), and `y: float[P]`, a metric."""

    strategy: str
    seed: int
    x: Floats
    y: Floats


@dataclass(frozen=True)
class MeanCurve:
    """The mean over seeds, and its 95% t interval; `low` and `high` are NaN with one seed. All `float[P]`."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats
    seeds: int


@dataclass(frozen=True)
class Reach:
    """Labels needed for a level. `lower_bound`: not reached by `x`; `upper_bound`: beyond it at `x`, the start."""

    x: float
    flag: Flag


@dataclass(frozen=True)
class Saving:
    """Labels a strategy saves at a level: `ratio` is n_baseline/n_strategy (data efficiency), `saved` the difference.

    Unless `flag` is `exact` both are bounds, NaN where it is `unknown`. An end of an interval is infinite (low end of a
    ratio: zero) where resampled curves do not reach the level; no interval (None) without two seeds in common.
    """

    level: float
    baseline: Reach
    strategy: Reach
    flag: Flag
    ratio: float
    saved: float
    ratio_interval: tuple[float, float] | None
    saved_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Constants:
    """Both arms as error = floor + c / labels: `ratio` is the baseline's c over the strategy's, NaN without one.

    `interval` is None without two seeds in common.
    """

    floor: float
    baseline: float
    strategy: float
    ratio: float
    interval: tuple[float, float] | None


def strategy_name(entry: Any) -> str:
    """Name a config's `strategy` entry, parameters included: two settings of one strategy are two strategies."""
    if isinstance(entry, list):
        return " → ".join(strategy_name(stage) for stage in entry)
    if not isinstance(entry, dict):
        return str(entry)
    options = [f"{k}={strategy_name(v)}" for k, v in sorted(entry.items()) if k != "name"]
    return str(entry.get("name")) + (f"({', '.join(options)})" if options else "")


def read_run(path: Path) -> Run:
    """Read a run directory.

    Raises:
        UserError: it is no run directory, no round is finished, or a file in it cannot be understood.
    """
    if not (path / "config.yaml").is_file():
        raise UserError(f"{path}: this is not a run directory (it holds no config.yaml).")
    try:
        config = YAML(typ="safe", pure=True).load(path / "config.yaml")
        final, environment = (_read_json(path / name) for name in ("final.json", "environment.json"))
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path}: config.yaml or final.json cannot be read: {' '.join(str(error).split())}") from error
    if not all(isinstance(content, dict) for content in (config, final, environment)):
        raise UserError(f"{path}: config.yaml and final.json must each hold a mapping of keys to values")
    loop = config.get("loop") or {}
    unit = str(loop.get("unit", "records"))
    budget = "cost" if unit == "words" else "labels"
    rounds = _read_rounds(path / "metrics.jsonl", "cost" if unit == "words" else "labelled")
    if not rounds:
        raise UserError(f"{path}: no round of this run is finished yet (metrics.jsonl holds none)")
    if budget == "labels":  # what was asked about again is paid for again
        rounds = [{**entry, "labels": entry["labelled"] + entry.get("again", 0)} for entry in rounds]
    name = strategy_name(config.get("strategy"))
    data = str(environment.get("dataset_fingerprint", ""))
    return Run(path, config, rounds, final, name, int(loop.get("seed", 0)), unit, budget, data)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.is_file() else {}


def _read_rounds(path: Path, budget: str) -> list[dict[str, Any]]:
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()] if path.is_file() else []
    rounds = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break  # torn by a crash while it was being written
            raise UserError(f"{path}: line {number} is not JSON") from error
        if not isinstance(entry, dict) or not all(type(entry.get(k)) in (int, float) for k in ("round", budget)):
            raise UserError(f"{path}: line {number} lacks a number under 'round' or '{budget}'")
        rounds[entry["round"]] = entry  # a round that was run again counts as it came out last
    return [rounds[key] for key in sorted(rounds)]


def scores(entry: dict[str, Any], split: str) -> dict[str, float]:
    """The finite numbers among a round's metrics on a split (a holdout also carries an interval, which is not one)."""
    found = entry.get(split)
    metrics = found.items() if isinstance(found, dict) else ()
    return {str(k): float(v) for k, v in metrics if type(v) in (int, float) and np.isfinite(v)}


def metric_names(run: Run, split: str) -> list[str]:
    """The metrics that a run has on a split in some round, in the order of the file."""
    return list(dict.fromkeys(name for entry in run.rounds for name in scores(entry, split)))


def learning_curve(run: Run, metric: str, split: str) -> Curve:
    """A run's curve over its rounds with the metric; of rounds with equal x the last counts."""
    scored = [(float(entry[run.budget]), scores(entry, split)) for entry in run.rounds]
    points = {x: found[metric] for x, found in scored if metric in found}
    return Curve(run.strategy, run.seed, np.array(sorted(points)), np.array([points[x] for x in sorted(points)]))


def align(curves: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Put curves on the union of their x in `common_range`, interpolated linearly: `float[P]`, `float[S, P]`."""
    low, high = common_range(curves)
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    x = x[(x >= low) & (x <= high)]
    return x, np.stack([np.interp(x, curve.x, curve.y) for curve in curves])


def common_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """The first and last x that every curve covers; ValueError where there is none."""
    low, high = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if low > high:
        raise ValueError("the curves have no range of labels in common")
    return float(low), float(high)


def mean_curve(curves: Sequence[Curve]) -> MeanCurve:
    """Mean of one strategy's seeds with a two-sided 95% t interval at every point."""
    x, y = align(curves)
    half = np.full(len(x), np.nan) if len(curves) < 2 else t_half_width(y)
    mean = y.mean(axis=0)
    return MeanCurve(x, mean, mean - half, mean + half, len(curves))


def t_half_width(values: Floats) -> Floats:
    """Half the width of the 95% t interval of the mean over the first axis, `float[S, ...]` with S ≥ 2."""
    quantile = stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)
    return np.asarray(quantile * values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def aubc(curve: Curve, low: float | None = None, high: float | None = None) -> float:
    """Area under the budget curve: the trapezoid area between `low` and `high`, divided by their distance.

    Without bounds, the curve's own range (compare strategies over one range only). NaN where that is a single point.
    """
    low, high = curve.x[0] if low is None else low, curve.x[-1] if high is None else high
    if high <= low:
        return float("nan")
    x = np.concatenate([[low], curve.x[(curve.x > low) & (curve.x < high)], [high]])
    return float(np.trapezoid(np.interp(x, curve.x, curve.y), x) / (high - low))


def final_metric(curve: Curve) -> float:
    """F-acc: the metric at the end of the budget, the last point of the curve."""
    return float(curve.y[-1])


def below_zero(values: Floats, tests: int = 1) -> bool:
    """Whether the mean of `float[S]`, S ≥ 2, is below 0 with 97.5% confidence in all of so many t tests together."""
    quantile = stdtrit(len(values) - 1, 1 - (1 - CONFIDENCE) / 2 / tests)
    return bool(values.mean() + quantile * values.std(ddof=1) / np.sqrt(len(values)) < 0)


def isotonic(y: Floats) -> Floats:
    """Non-decreasing least-squares fit along the last axis, `float[..., P]`, by the max-min formula over block means.

    Fitted value i is the max over a ≤ i of the min over b ≥ i of mean(y[a..b]): what pooling adjacent violators finds,
    but for all bootstrap resamples at once. Memory is P² a curve.
    """
    size = y.shape[-1]
    sums = np.concatenate([np.zeros((*y.shape[:-1], 1)), np.cumsum(y, axis=-1)], axis=-1)
    first, last = np.arange(size)[:, None], np.arange(size)[None, :]
    means = (sums[..., None, 1:] - sums[..., :-1, None]) / np.maximum(last - first + 1, 1)
    smallest = np.minimum.accumulate(np.where(last >= first, means, np.inf)[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray(np.where(last >= first, smallest, -np.inf).max(axis=-2))


def crossing(x: Floats, y: Floats, level: float) -> Bounds:
    """Labels at which monotone curves `y: float[B, P]` first reach a level, as bounds `low, high: float[B]`.

    Equal bounds are a value, interpolated in log labels and log error (err = c/n is a line there). `high` is infinite
    where the level is not reached; `low` is 0 where the first point is already beyond it.
    """
    there = y >= level - TOLERANCE
    after, row = there.argmax(axis=1), np.arange(len(y))
    before = np.maximum(after - 1, 0)
    share = _share(y[row, before], y[row, after], level)
    value = np.where(there[:, 0], x[0], _blend(x[before], x[after], share))
    low = np.where(y[:, 0] > level + TOLERANCE, 0.0, np.where(there[:, -1], value, x[-1]))
    return low, np.where(there[:, -1], value, np.inf)


def _share(y0: Floats, y1: Floats, level: float) -> Floats:
    """How far between y0 and y1 the level lies, in log error; linear where an error is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = (np.log(1 - y0) - np.log(1 - level)) / (np.log(1 - y0) - np.log(1 - y1))
        linear = (level - y0) / (y1 - y0)
    share = np.where(np.isfinite(logs) & (y1 < 1), logs, linear)
    return np.asarray(np.clip(np.nan_to_num(share, nan=1.0), 0.0, 1.0))


def _blend(x0: Floats, x1: Floats, share: Floats) -> Floats:
    """Between x0 and x1 in log x; linear from zero labels."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.exp((1 - share) * np.log(x0) + share * np.log(x1))
    return np.where(x0 > 0, logs, x0 + share * (x1 - x0))


def labels_to_reach(curves: Sequence[Curve], level: float) -> Reach:
    """The labels after which the monotone fit of the mean curve first reaches a level."""
    x, y = align(curves)
    low, high = (float(bound[0]) for bound in crossing(x, isotonic(y.mean(axis=0, keepdims=True)), level))
    if np.isinf(high):
        return Reach(low, "lower_bound")
    return Reach(high, "exact" if low == high else "upper_bound")


def label_savings(
    strategy: Sequence[Curve],
    baseline: Sequence[Curve],
    levels: Sequence[float],
    generator: np.random.Generator,
    resamples: int = 10_000,
) -> list[Saving]:
    """Labels saved at each level of the metric, from curves monotone-regressed and inverted without extrapolation.

    With two seeds or more in common, only those are used, and the intervals are 95% percentiles of a paired bootstrap:
    one draw of seeds serves both arms. Otherwise all seeds are used and there is no interval.

    Reference: Mussmann & Dasgupta, Constants Matter (ICML 2022), https://proceedings.mlr.press/v162/mussmann22a.html
    """
    seeds, arms = common_seeds(strategy, baseline), [list(baseline), list(strategy)]
    needed: list[list[Bounds]] = []
    if len(seeds) > 1:
        arms = [[{curve.seed: curve for curve in arm}[seed] for seed in seeds] for arm in arms]
        draws = generator.integers(len(seeds), size=(resamples, len(seeds)))
        needed = [_resampled_needs(arm, levels, draws) for arm in arms]
    return [_saving(level, arms, [arm[i] for arm in needed]) for i, level in enumerate(levels)]


def constants(
    strategy: Sequence[Curve],
    baseline: Sequence[Curve],
    generator: np.random.Generator,
    start: float = 0.0,
    resamples: int = 10_000,
) -> Constants:
    """The constants of two strategies whose errors fall at the same rate to the same floor, by least squares.

    Points weigh as much as they have labels; those below `start` are left out. The floor is not negative. The interval
    is a 95% percentile one of the same paired bootstrap as that of `label_savings`.

    Reference: Mussmann & Dasgupta, Constants Matter (ICML 2022), https://proceedings.mlr.press/v162/mussmann22a.html
    """
    seeds, arms = common_seeds(strategy, baseline), [list(baseline), list(strategy)]
    if len(seeds) > 1:
        arms = [[{curve.seed: curve for curve in arm}[seed] for seed in seeds] for arm in arms]
    aligned = [align(arm) for arm in arms]
    kept = [(x > 0) & (x >= start) for x, _ in aligned]
    x = np.concatenate([x[own] for (x, _), own in zip(aligned, kept, strict=True)])
    second = np.repeat([0.0, 1.0], [own.sum() for own in kept])
    design = np.stack([np.ones_like(x), (1 - second) / x, second / x], axis=1)

    def fitted(draws: npt.NDArray[np.int64]) -> Floats:
        """floor and both constants, `float[B, 3]`, over draws of seeds `int64[B, S]`."""
        errors = [1 - y[:, own] for (_, y), own in zip(aligned, kept, strict=True)]
        means = np.concatenate(
            [e[draws].mean(axis=1) if len(seeds) > 1 else e.mean(0, keepdims=True) for e in errors], 1
        )
        root = np.sqrt(x)
        found = (root * means) @ np.linalg.pinv(root[:, None] * design).T
        bare = (root * means) @ np.linalg.pinv(root[:, None] * design[:, 1:]).T
        without = np.concatenate([np.zeros((len(bare), 1)), bare], axis=1)
        return np.where(found[:, :1] < 0, without, found)

    floor, base, own = (float(value) for value in fitted(np.arange(max(1, len(seeds)))[None])[0])
    ratio = base / own if base > 0 and own > 0 else float("nan")
    if len(seeds) < 2:
        return Constants(floor, base, own, ratio, None)
    drawn = fitted(generator.integers(len(seeds), size=(resamples, len(seeds))))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(drawn[:, 2] > 0, np.maximum(drawn[:, 1], 0.0) / drawn[:, 2], np.inf)
    return Constants(floor, base, own, ratio, _percentiles(ratios, ratios))


def common_seeds(first: Sequence[Curve], second: Sequence[Curve]) -> list[int]:
    """The seeds that two strategies share, ascending."""
    return sorted({c.seed for c in first} & {c.seed for c in second})


def _resampled_needs(curves: Sequence[Curve], levels: Sequence[float], draws: npt.NDArray[np.int64]) -> list[Bounds]:
    """Bounds of the labels needed, a pair of `float[B]` a level, over draws of seeds `int64[B, S]`."""
    x, y = align(curves)
    step = max(1, 4_000_000 // len(x) ** 2)
    blocks = range(0, len(draws), step)
    fitted = np.concatenate([isotonic(y[draws[start : start + step]].mean(axis=1)) for start in blocks])
    return [crossing(x, fitted, level) for level in levels]


def _saving(level: float, arms: list[list[Curve]], needed: list[Bounds]) -> Saving:
    baseline, strategy = (labels_to_reach(arm, level) for arm in arms)
    flag = _saving_flag(baseline.flag, strategy.flag)
    ratio = saved = float("nan")
    if flag != "unknown":
        saved = baseline.x - strategy.x
        ratio = baseline.x / strategy.x if strategy.x > 0 else ratio
    if not needed:
        return Saving(level, baseline, strategy, flag, ratio, saved, None, None)
    (base_low, base_high), (low, high) = needed
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(high > 0, base_low / high, 0.0), np.where(low > 0, base_high / low, np.inf)
    intervals = _percentiles(*ratios), _percentiles(base_low - high, base_high - low)
    return Saving(level, baseline, strategy, flag, ratio, saved, *intervals)


def _saving_flag(baseline: Flag, strategy: Flag) -> Flag:
    """What is known of n_baseline - n_strategy (and of their ratio) when either is only bounded."""
    opposite: dict[Flag, Flag] = {"lower_bound": "upper_bound", "upper_bound": "lower_bound", "exact": "exact"}
    sides = {baseline, opposite[strategy]} - {"exact"}
    return "exact" if not sides else sides.pop() if len(sides) == 1 else "unknown"


def _percentiles(low: Floats, high: Floats) -> tuple[float, float]:
    """The widest reading of bounded resamples; order statistics, since infinities cannot be interpolated."""
    tail = (1 - CONFIDENCE) / 2
    return float(np.quantile(low, tail, method="lower")), float(np.quantile(high, 1 - tail, method="higher"))


def sign_flip_test(differences: Floats, generator: np.random.Generator, flips: int = 100_000) -> float:
    """Two-sided p of a mean of paired differences `float[S]`: exact to 16 seeds, beyond that from random sign flips.

    Its smallest possible value is 2 / 2^S: five seeds cannot go below .0625.
    """
    seeds, exact = len(differences), len(differences) <= EXACT_SEEDS
    signs = np.array(list(product((1, -1), repeat=seeds))) if exact else generator.choice([1, -1], size=(flips, seeds))
    extreme = np.sum(np.abs(signs @ differences) >= abs(differences.sum()) - TOLERANCE)
    return float(extreme / len(signs) if exact else (extreme + 1) / (flips + 1))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p values, in the order given."""
    order, adjusted, largest = np.argsort(values, kind="stable"), [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted
