"""When to stop asking. A rule is a pure function of what was observed in the rounds so far; it never sees a test label.

`STOPPING` has the rules by name, `make_rule` makes one, `rule.update(seen)` says what it makes of a list of
`Observation`s. Nothing is kept between two calls, so a run that is started again comes to the same decision.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, NamedTuple

from nlp_al.errors import UserError
from nlp_al.values import about, build, shown, suggest

SPLITS = ("validation", "holdout")
"""Where the scores come from that a rule may read, in order of preference."""

TOLERANCE = 1e-9
"""A mean that reaches a threshold reaches it, whatever its rounding."""


@dataclass(frozen=True)
class Observation:
    """What was seen after a round; a field is None where it could not be, or where no rule asked for it.

    spent: labels (or words) paid for by then. batch: what the next batch may cost, in the same unit.
    kappa: Cohen's kappa between the predictions on the stop set and those of the round before; one number, or one a
    label where a text has several.
    mean_entropy, max_entropy: over the remaining pool, of an example's entropy divided by that of a uniform guess.
    max_doubt: the largest 1 − p₍₁₎ there. changed: the share of predictions on the remaining pool that are others than
    in the round before. accuracy: the share of the batch's decisions that the model which chose it had right.
    abstained: of what was undecided when the batch was chosen, the share that no label settles.
    scores: by split, validation or holdout, the metrics. main: the one that the task is known by.
    """

    round: int = 0
    spent: float = 0.0
    batch: float = 0.0
    kappa: tuple[float, ...] | None = None
    mean_entropy: float | None = None
    max_entropy: float | None = None
    max_doubt: float | None = None
    changed: float | None = None
    accuracy: float | None = None
    abstained: float | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    main: str = ""


MEASURED = ("kappa", "mean_entropy", "max_entropy", "max_doubt", "changed", "accuracy", "abstained")
"""The fields that stand under `stop` in a line of metrics.jsonl."""


class Decision(NamedTuple):
    """Whether to stop, the number that decided (None: there is none yet, or several rules have one), and why."""

    stop: bool
    value: float | None
    reason: str


class Rule(ABC):
    """A stopping rule. Subclasses are frozen dataclasses: their fields are the parameters that a config may set.

    name: as in `STOPPING`. reference: the paper. reads: fields of `Observation`. stops: on which side of its bar.
    """

    name: ClassVar[str]
    reference: ClassVar[str] = ""
    reads: ClassVar[frozenset[str]] = frozenset()
    stops: ClassVar[Literal["at least", "at most", "above", "below"]]

    def update(self, seen: Sequence[Observation]) -> Decision:
        """What the rule says after the last of these rounds."""
        value = self.value(seen) if seen else None
        if value is None:
            return Decision(False, None, f"{self.name}: not enough was observed yet")
        bar = self.bar(seen)
        stop = {
            "at least": value >= bar - TOLERANCE,
            "at most": value <= bar + TOLERANCE,
            "above": value > bar + TOLERANCE,
            "below": value < bar - TOLERANCE,
        }[self.stops]
        told = f"{self.name}: {self.measure} is {value:.4g}, {'' if stop else 'not '}{self.stops} {bar:.4g}"
        return Decision(stop, value, told)

    @property
    @abstractmethod
    def measure(self) -> str:
        """What its number is, in words."""

    @abstractmethod
    def value(self, seen: Sequence[Observation]) -> float | None:
        """The number that decides after the last of these rounds, at least one; None where they are too few."""

    def bar(self, seen: Sequence[Observation]) -> float:
        """What the number is held against."""
        return float(self.threshold)  # type: ignore[attr-defined]  # a field of every rule that has no bar of its own

    def inside(self) -> list[Rule]:
        """The single rules that it is made of."""
        return [self]


# Rules that compare successive models


def f_bound(kappa: float) -> float:
    """4(1 − κ)/κ, the most by which F can differ between two models with this kappa; infinite where κ ≤ 0.

    Proven for the F of one class of two, on the examples that kappa is of.

    Reference: Bloodgood and Grothendieck, Analysis of Stopping Active Learning based on Stabilizing Predictions (CoNLL
    2013, arXiv 1504.06329)
    """
    return 4.0 * (1.0 - kappa) / kappa if kappa > 0 else math.inf


@dataclass(frozen=True)
class KappaAverage(Rule):
    """Stabilising predictions: successive models agree on what nobody labels.

    Use when labels are to be saved without a validation set; the most widely tested rule, and the one to begin with.
    Needs the stop set, and predictions of window + 1 models. Cost: one pass over the stop set a round.
    Reference: Bloodgood and Vijay-Shanker, A Method for Stopping Active Learning Based on Stabilizing Predictions and
    the Need for User-Adjustable Stopping (CoNLL 2009, arXiv 1409.5165)
    """

    threshold: float = about("stops where the mean kappa is at least this", 0.99)
    window: int = about("over how many comparisons of successive models", 3)

    name = "kappa_average"
    reference = "Bloodgood and Vijay-Shanker 2009, arXiv 1409.5165"
    reads = frozenset({"kappa"})
    stops = "at least"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold, window=self.window)

    @property
    def measure(self) -> str:
        """Over how many rounds."""
        return f"the mean kappa of {_rounds(self.window)}"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Where a text has several labels, the mean over these first."""
        return _mean([_mean(one.kappa) for one in _last(seen, self.window)])


@dataclass(frozen=True)
class StabilisingPredictionsF(Rule):
    """As `kappa_average`, with the bar in terms of F: how much it can have changed between successive models.

    Use when "no more than five points of F" says more than a kappa. The bound is on the F of one class of two; where a
    text has several labels, it is the mean of their bounds, each at most 1, and bounds the change of macro F1. For more
    classes it is a yardstick, no bound.
    Needs, cost: as kappa_average.
    Reference: Bloodgood and Grothendieck, Analysis of Stopping Active Learning based on Stabilizing Predictions (CoNLL
    2013, arXiv 1504.06329)
    """

    threshold: float = about("stops where the mean bound on the change of F is below this", 0.05)
    window: int = about("over how many comparisons of successive models", 3)

    name = "stabilising_predictions_f"
    reference = "Bloodgood and Grothendieck 2013, arXiv 1504.06329"
    reads = frozenset({"kappa"})
    stops = "below"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold, window=self.window)

    @property
    def measure(self) -> str:
        """Over how many rounds."""
        return f"the mean bound on the change of F over {_rounds(self.window)}"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Infinite where one kappa is not above zero."""
        return _mean([self._bound(one.kappa) for one in _last(seen, self.window)])

    @staticmethod
    def _bound(kappa: tuple[float, ...] | None) -> float | None:
        if kappa is None or len(kappa) == 1:
            return f_bound(kappa[0]) if kappa else None
        return _mean([min(1.0, f_bound(one)) for one in kappa])


@dataclass(frozen=True)
class ClassificationChange(Rule):
    """Nothing, or next to nothing, of the remaining pool is predicted otherwise than in the round before.

    Use when the pool itself is what is to be labelled. Strict for sequences, where one word in thousands blocks it.
    Needs two models. Cost: one pass over the remaining pool a round.
    Reference: Zhu, Wang and Hovy, Multi-Criteria-Based Strategy to Stop Active Learning for Data Annotation (COLING
    2008, https://aclanthology.org/C08-1142)
    """

    threshold: float = about("stops where the share of predictions that changed is at most this", 0.0)

    name = "classification_change"
    reference = "Zhu, Wang and Hovy 2008, aclanthology.org/C08-1142"
    reads = frozenset({"changed"})
    stops = "at most"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples."""
        return "the share of changed predictions on the remaining pool"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Of the examples that remained in both rounds."""
        return seen[-1].changed


# Rules that ask how sure the model is


@dataclass(frozen=True)
class OverallUncertainty(Rule):
    """The model is sure of what remains, on average.

    Use when a model's probabilities can be trusted: fine-tuned models are often surer than right, and stop early.
    Needs a model. Cost: one pass over the remaining pool a round.
    Reference: Zhu, Wang and Hovy, Multi-Criteria-Based Strategy to Stop Active Learning for Data Annotation (COLING
    2008, https://aclanthology.org/C08-1142)
    """

    threshold: float = about("stops where the mean entropy, as a share of the largest, is below this", 0.05)

    name = "overall_uncertainty"
    reference = "Zhu, Wang and Hovy 2008, aclanthology.org/C08-1142"
    reads = frozenset({"mean_entropy"})
    stops = "below"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples."""
        return "the mean normalised entropy of the remaining pool"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Every decision's entropy over the logarithm of its options, averaged within an example, then over all."""
        return seen[-1].mean_entropy


@dataclass(frozen=True)
class MaxUncertainty(Rule):
    """The model is sure of all that remains: one uncertain example blocks it.

    Use when a few hard examples matter. Mind that what nobody can tell keeps it from ever stopping.
    Needs a model. Cost: one pass over the remaining pool a round.
    Reference: Zhu and Hovy, Active Learning for Word Sense Disambiguation with Methods for Addressing the Class
    Imbalance Problem (EMNLP 2007, https://aclanthology.org/D07-1082)
    """

    threshold: float = about("stops where the largest uncertainty is below this", 0.1)
    by: Literal["entropy", "confidence"] = about(
        "entropy (as a share of the largest) or confidence (one less the highest probability)", "entropy"
    )

    name = "max_uncertainty"
    reference = "Zhu and Hovy 2007, aclanthology.org/D07-1082"
    reads = frozenset({"max_entropy", "max_doubt"})
    stops = "below"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples, and in what."""
        told = "normalised entropy" if self.by == "entropy" else "doubt (1 − p)"
        return f"the largest {told} in the remaining pool"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Averaged within an example."""
        return seen[-1].max_entropy if self.by == "entropy" else seen[-1].max_doubt


@dataclass(frozen=True)
class NoiseExit(Rule):
    """Most of what the model leaves open is a toss-up that no label settles.

    Use with the strategy neural_cal, where classes overlap or annotators disagree: what is still uncertain is then not
    what is not known yet, and other rules wait in vain for it to become certain.
    Needs a strategy that filters. Cost: none.
    Reference: Zhu and Nowak, Active Learning with Neural Networks: Insights from Nonparametric Statistics (NeurIPS
    2022, arXiv 2210.08367), for abstaining
    """

    threshold: float = about("stops where the share of toss-ups is above this", 0.5)

    name = "noise_exit"
    reference = "Zhu and Nowak 2022, arXiv 2210.08367"
    reads = frozenset({"abstained"})
    stops = "above"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which examples."""
        return "the share of toss-ups in what was undecided"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """When the last batch was chosen."""
        return seen[-1].abstained


# Rules that read labels


@dataclass(frozen=True)
class SelectedAccuracy(Rule):
    """The model had the batch right before it was trained on it, though these were the examples that it asked about.

    Use with strategies that ask what is hard; under `random` it is an estimate of accuracy, on a small sample.
    Needs answers to a batch that a model chose; the holdout's share does not count. Cost: a pass over the batch.
    Reference: Zhu, Wang and Hovy, Multi-Criteria-Based Strategy to Stop Active Learning for Data Annotation (COLING
    2008, https://aclanthology.org/C08-1142)
    """

    threshold: float = about("stops where the accuracy on the batch is at least this", 0.9)

    name = "selected_accuracy"
    reference = "Zhu, Wang and Hovy 2008, aclanthology.org/C08-1142"
    reads = frozenset({"accuracy"})
    stops = "at least"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Of which model."""
        return "the accuracy on the batch, before training on it,"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Of the last batch alone."""
        return seen[-1].accuracy


@dataclass(frozen=True)
class PerformancePlateau(Rule):
    """The score on validation or holdout does not rise any more.

    Use when there is a validation set. Its labels were paid for too, and it is noisy: with 500 texts a score near 0.9
    has a standard error of 0.013, which is more than the default threshold.
    Needs a validation split, or loop.holdout, and window + 1 rounds. Cost: none.
    Reference: Laws and Schütze, Stopping Criteria for Active Learning of Named Entity Recognition (COLING 2008,
    https://aclanthology.org/C08-1059)
    """

    threshold: float = about("stops where the gain is below this", 0.002)
    window: int = about("over how many rounds the gain is taken", 3)
    metric: str | None = about("of validation or holdout; null: the task's main one")

    name = "performance_plateau"
    reference = "Laws and Schütze 2008, aclanthology.org/C08-1059"
    reads = frozenset({"scores"})
    stops = "below"

    def __post_init__(self) -> None:
        _check(window=self.window)

    @property
    def measure(self) -> str:
        """Over how many rounds."""
        return f"the gain in {self.metric or 'the score'} over {_rounds(self.window)}"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """The score now less that of `window` rounds ago."""
        scores = _scores(_last(seen, self.window + 1), self.metric)
        if not scores or scores[0] is None or scores[-1] is None:
            return None
        return scores[-1] - scores[0]


@dataclass(frozen=True)
class Target(Rule):
    """A score on validation or holdout is reached.

    Use when it is known how good is good enough. A score that passes by luck counts: choose the target with a margin.
    Needs a validation split, or loop.holdout. Cost: none. Reference: common practice.
    """

    threshold: float = field(metadata={"help": "stops where the score is at least this; must be given"})
    metric: str | None = about("of validation or holdout; null: the task's main one")

    name = "target"
    reference = "common practice"
    reads = frozenset({"scores"})
    stops = "at least"

    def __post_init__(self) -> None:
        _check(threshold=self.threshold)

    @property
    def measure(self) -> str:
        """Which metric."""
        return self.metric or "the score"

    def value(self, seen: Sequence[Observation]) -> float | None:
        """The newest score."""
        return _scores(seen[-1:], self.metric)[-1]


@dataclass(frozen=True)
class ExpectedGain(Rule):
    """The next batch will not be worth its price, by the line err(n) = err∞ + c/n through the scores so far.

    Use when a label has a price in terms of the score. n counts labels (or words); rounds weigh by n, for the line
    holds late; err∞ is not below zero.
    Needs a validation split, or loop.holdout, and `rounds` rounds. Cost: none.
    Reference: Mussmann and Dasgupta, Constants Matter: The Performance Gains of Active Learning (ICML 2022,
    https://proceedings.mlr.press/v162/mussmann22a.html), for the rate
    """

    price: float = about("the gain in the score that a label (a word, with loop.unit words) must bring", 1e-4)
    rounds: int = about("the fewest rounds that a line is laid through", 3)
    since: float = about("rounds with fewer labels (or words) than this do not count", 0.0)
    metric: str | None = about("of validation or holdout; null: the task's main one")

    name = "expected_gain"
    reference = "Mussmann and Dasgupta 2022, proceedings.mlr.press/v162/mussmann22a.html"
    reads = frozenset({"scores"})
    stops = "below"

    def __post_init__(self) -> None:
        if self.price <= 0:
            raise ValueError(f"price is {self.price}; it must be more than 0.")
        if self.rounds < 2:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 2.")

    @property
    def measure(self) -> str:
        """Of what."""
        return f"the gain in {self.metric or 'the score'} that the next batch promises"

    def bar(self, seen: Sequence[Observation]) -> float:
        """The price of the next batch."""
        return seen[-1].batch * self.price

    def value(self, seen: Sequence[Observation]) -> float | None:
        """c/n − c/(n + b) for a next batch of b."""
        pairs = zip(seen, _scores(seen, self.metric), strict=True)
        points = [(one.spent, 1.0 - y) for one, y in pairs if y is not None and one.spent > 0]
        points = [(n, error) for n, error in points if n >= self.since]
        if len(points) < self.rounds or len({n for n, _ in points}) < 2:
            return None
        _, c = inverse_fit(points)
        now = seen[-1]
        return c / now.spent - c / (now.spent + now.batch)


def inverse_fit(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(err∞, c) of the line err(n) = err∞ + c/n through points (n, err), by least squares with weights n; err∞ ≥ 0.

    Raises:
        ValueError: all points lie at one n.
    """
    if len({n for n, _ in points}) < 2:
        raise ValueError("A line needs points at two numbers of labels.")
    weight = math.fsum(n for n, _ in points)
    x = len(points) / weight  # the weighted mean of 1/n
    y = math.fsum(n * error for n, error in points) / weight
    above = math.fsum(n * (1 / n - x) * (error - y) for n, error in points)
    c = above / math.fsum(n * (1 / n - x) ** 2 for n, _ in points)
    if y - c * x >= 0:
        return y - c * x, c
    return 0.0, math.fsum(error for _, error in points) / math.fsum(1 / n for n, _ in points)


# Several at once


@dataclass(frozen=True)
class AnyOf(Rule):
    """Stops where one of several rules does."""

    rules: tuple[Rule, ...]

    name = "any"

    def update(self, seen: Sequence[Observation]) -> Decision:
        """Its reason is that of those that stop, or of all."""
        said = [rule.update(seen) for rule in self.rules]
        reasons = [one.reason for one in said if one.stop] or [one.reason for one in said]
        return Decision(any(one.stop for one in said), None, "; ".join(reasons))

    @property
    def measure(self) -> str:
        """Each rule has its own."""
        return ""

    def value(self, seen: Sequence[Observation]) -> float | None:
        """Each rule has its own."""
        return None

    def inside(self) -> list[Rule]:
        """Those of all its rules."""
        return [one for rule in self.rules for one in rule.inside()]


@dataclass(frozen=True)
class AllOf(AnyOf):
    """Stops where all of several rules do, in the same round."""

    name = "all"

    def update(self, seen: Sequence[Observation]) -> Decision:
        """Its reason is that of all, or of those that do not stop."""
        said = [rule.update(seen) for rule in self.rules]
        reasons = [one.reason for one in said if not one.stop] or [one.reason for one in said]
        return Decision(all(one.stop for one in said), None, "; ".join(reasons))


# By name

STOPPING: dict[str, type[Rule]] = {
    kind.name: kind
    for kind in (
        KappaAverage,
        StabilisingPredictionsF,
        OverallUncertainty,
        MaxUncertainty,
        ClassificationChange,
        NoiseExit,
        SelectedAccuracy,
        PerformancePlateau,
        Target,
        ExpectedGain,
    )
}

SEVERAL: dict[str, type[AnyOf]] = {"any": AnyOf, "all": AllOf}


def rule_class(name: str) -> type[Rule]:
    """The class behind a name, ours or one that an installed package registers under `nlp_al.stopping`.

    Raises:
        UserError: there is none.
    """
    if name in STOPPING:
        return STOPPING[name]
    registered = {point.name: point for point in entry_points(group="nlp_al.stopping")}
    if name not in registered:
        raise UserError(f"There is no stopping rule {name!r}: {suggest(name, {*STOPPING, *registered})}.")
    found: type[Rule] = registered[name].load()
    return found


def make_rule(name: str, **parameters: Any) -> Rule:
    """A rule by name; `any` and `all` take `rules`, each a name or a mapping.

    Raises:
        UserError: unknown name, unknown parameter or a value of the wrong type; the sentence says what would be right.
    """
    return read_rule({name: parameters.get("rules")} if name in SEVERAL else {"name": name, **parameters}, name)


def read_rule(value: Any, key: str = "stop.rule") -> Rule:
    """A rule out of a config's value: a name, {name: ..., parameters}, or {any: [...]}, {all: [...]}.

    Raises:
        UserError: one sentence that names the key.
    """
    value = named(value, key)
    for name, kind in SEVERAL.items():
        if name in value:
            return kind(tuple(read_rule(one, f"{key}.{name}[{at}]") for at, one in enumerate(value[name])))
    parameters = {name: item for name, item in value.items() if name != "name"}
    try:
        kind_ = rule_class(value["name"])
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    return build(kind_, parameters, key)


def named(value: Any, key: str = "stop.rule") -> dict[str, Any]:
    """The same value with every bare name as {name: ...}; UserError where it has another form."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict):
        several = [name for name in SEVERAL if name in value]
        if len(several) == 1 and len(value) == 1:
            (name,) = several
            if not isinstance(value[name], (list, tuple)) or not value[name]:
                raise UserError(f"{key}.{name} is {shown(value[name])}; it must be a list of rules.")
            return {name: [named(one, f"{key}.{name}[{at}]") for at, one in enumerate(value[name])]}
        if not several and isinstance(value.get("name"), str):
            return {str(name): item for name, item in value.items()}
    raise UserError(
        f"{key} is {shown(value)}; it must be a name, a mapping with 'name', or {{any: [...]}} or {{all: [...]}} alone."
    )


# What a run has observed


def no_scores(rule: str) -> str:
    """Why a rule can't be used, in a sentence."""
    return (
        f"stop.rule is {rule}, which reads scores of validation or holdout, and there is neither: name a validation "
        "split, or set loop.holdout. Test labels are never looked at."
    )


def observations(
    lines: Iterable[Mapping[str, Any]], main: str, batch: float, unit: str = "records"
) -> list[Observation]:
    """The observations in the lines of metrics.jsonl. main: the task's main metric. batch: loop.batch. unit: loop.unit.

    A round that brought no answer fitted no new model: it is left out, or it would look as if models agreed. Where a
    filter left something out, which may be why nothing was asked, it counts as one with the round before.
    """
    found: list[Observation] = []
    answers = None
    for line in lines:
        if line.get("answers") == answers and answers is not None:
            if found and (abstained := line.get("stop", {}).get("abstained")) is not None:
                found[-1] = replace(found[-1], round=line["round"], abstained=abstained)
            continue
        answers = line.get("answers")
        measured = {name: value for name, value in line.get("stop", {}).items() if name in MEASURED}
        if "kappa" in measured:
            measured["kappa"] = tuple(measured["kappa"])
        scores = {split: line[split] for split in SPLITS if line.get(split)}
        spent = float(line["cost" if unit == "words" else "labelled"])
        found.append(Observation(line["round"], spent, float(batch), scores=scores, main=main, **measured))
    return found


def first_stop(rule: Rule, seen: Sequence[Observation]) -> tuple[Observation, Decision] | None:
    """The first round after which the rule stops, and what it says there; None where it does not."""
    for end in range(1, len(seen) + 1):
        said = rule.update(seen[:end])
        if said.stop:
            return seen[end - 1], said
    return None


# Small tools


def _check(threshold: float = 0.0, window: int = 1) -> None:
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold is {threshold}; it must lie between 0 and 1.")
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1.")


def _rounds(window: int) -> str:
    return "the last round" if window == 1 else f"the last {window} rounds"


def _last(seen: Sequence[Observation], count: int) -> Sequence[Observation]:
    """The last so many; none where there are fewer."""
    return seen[-count:] if len(seen) >= count else []


def _mean(values: Sequence[float | None] | None) -> float | None:
    """None where a value is missing, or all are."""
    if not values or None in values:
        return None
    return math.fsum(value for value in values if value is not None) / len(values)


def _scores(seen: Sequence[Observation], metric: str | None) -> list[float | None]:
    """A metric of each round, on the one split that the newest of them has."""
    split = next((split for split in SPLITS if seen and split in seen[-1].scores), "")
    return [one.scores.get(split, {}).get(metric or one.main) for one in seen]
