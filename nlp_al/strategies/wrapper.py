"""Strategies around another one, their base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nlp_al.strategies.base import Strategy


@dataclass(frozen=True)
class Wrapper(Strategy):
    """A strategy that has another one choose, or reads its scores.

    base: the name of the other strategy, or a mapping of its name and parameters, as in `{name: margin, agg: max}`.
    The `needs` of a class are what it reads itself; an instance needs what its base needs as well, and serves the
    shapes that both serve.
    """

    base: str | dict[str, Any] = "entropy"

    def __post_init__(self) -> None:
        inner = self.inner()
        about: dict[str, Any] = {
            "needs": self.needs | inner.needs,
            "needs_labelled": self.needs_labelled | inner.needs_labelled,
            "needs_validation": self.needs_validation | inner.needs_validation,
            "shapes": tuple(shape for shape in self.shapes if shape in inner.shapes),
            "group": "seeded" if inner.group == "seeded" else self.group,
            "nested": self.nested and inner.nested,
            "batch_aware": self.batch_aware or inner.batch_aware,
            "filters": self.filters or inner.filters,
            "sampler": self.sampler or inner.sampler,
        }
        for name, value in about.items():
            object.__setattr__(self, name, value)

    def inner(self) -> Strategy:
        """The base.

        Raises:
            ValueError: there is no such strategy, or its parameters are wrong.
        """
        return made_of("base", self.base)


def made_of(field: str, told: str | dict[str, Any]) -> Strategy:
    """The strategy that a parameter names.

    Raises:
        ValueError: there is no such strategy, its parameters are wrong, or it asks again about labelled examples.
    """
    from nlp_al.strategies import make_strategy

    parameters = dict(told) if isinstance(told, dict) else {"name": told}
    name = parameters.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"{field} is {told!r}; it must be the name of a strategy, or a mapping with one.")
    try:
        made = make_strategy(name, **parameters)
    except ValueError as error:
        raise ValueError(f"{field} is {told!r}: {error}") from error
    if made.relabels:
        raise ValueError(f"{field} is {told!r}, which chooses among labelled examples too; it has to stand alone.")
    return made
