"""When to stop asking. A rule is a pure function of what was observed in the rounds so far; it never sees a test label.

`STOPPING` has the rules by name, `make_rule` makes one, `rule.update(seen)` says what it makes of a list of
`Observation`s. Nothing is kept between two calls, so a run that is started again comes to the same decision.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from nlp_al.errors import UserError
from nlp_al.stopping.base import Decision, Observation, Rule, first_stop, observations
from nlp_al.stopping.labels import ExpectedGain, PerformancePlateau, SelectedAccuracy, Target, inverse_fit
from nlp_al.stopping.models import ClassificationChange, KappaAverage, StabilisingPredictionsF, f_bound
from nlp_al.stopping.pool import MaxUncertainty, NoiseExit, OverallUncertainty
from nlp_al.stopping.several import AllOf, AnyOf
from nlp_al.values import build, shown, suggest

__all__ = [
    "SEVERAL",
    "STOPPING",
    "Decision",
    "Observation",
    "Rule",
    "f_bound",
    "first_stop",
    "inverse_fit",
    "make_rule",
    "named",
    "no_scores",
    "observations",
    "read_rule",
]

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


def no_scores(rule: str) -> str:
    """Why a rule can't be used, in a sentence."""
    return (
        f"stop.rule is {rule}, which reads scores of validation or holdout, and there is neither: name a validation "
        "split, or set loop.holdout. Test labels are never looked at."
    )
