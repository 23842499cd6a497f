"""What strategies share that weigh a model's uncertainty with something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.strategies.base import Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Weighted(Strategy):
    """A strategy over the scores of another one.

    base: the name of a strategy of the family `uncertainty`, or a mapping of its name and parameters, as in
    `{name: margin, agg: max}`. Whatever it needs, and the shapes it serves, go for this one as well.
    """

    base: str | dict[str, Any] = "entropy"

    needs: ClassVar[frozenset[str]] = frozenset({"probs", "embeddings"})

    def __post_init__(self) -> None:
        inner = self.inner()
        object.__setattr__(self, "needs", self.needs - {"probs"} | inner.needs)
        object.__setattr__(self, "needs_labelled", self.needs_labelled | inner.needs_labelled)
        object.__setattr__(self, "shapes", tuple(shape for shape in self.shapes if shape in inner.shapes))
        if inner.group == "seeded":
            object.__setattr__(self, "group", "seeded")

    def inner(self) -> Strategy:
        """The base.

        Raises:
            ValueError: there is no such strategy, its parameters are wrong, or it is of another family.
        """
        from nlp_al.strategies import STRATEGIES, make_strategy

        parameters = dict(self.base) if isinstance(self.base, dict) else {"name": self.base}
        name = parameters.pop("name", None)
        known = [key for key, kind in STRATEGIES.items() if kind.family == "uncertainty"]
        if not isinstance(name, str):
            raise ValueError(f"base is {self.base!r}; it must be a name, or a mapping with one: {', '.join(known)}.")
        try:
            made = make_strategy(name, **parameters)
        except ValueError as error:
            raise ValueError(f"base is {self.base!r}: {error}") from error
        if made.family != "uncertainty":
            raise ValueError(f"base is {name!r}, which is no score of uncertainty; there are: {', '.join(known)}.")
        return made

    def uncertainty(self, signals: Signals, generator: torch.Generator) -> Tensor:
        """float64[n]: the scores of the base, higher = less certain; minus infinity for what it puts last."""
        scores = self.inner().choose(signals, 0, generator).scores
        if scores is None:
            raise ValueError(f"base is {self.base!r}, which chose without giving scores.")
        return scores.double()
