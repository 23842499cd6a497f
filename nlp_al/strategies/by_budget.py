"""What is typical while labels are few, what is uncertain once there are more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.strategies.balanced import label_count
from nlp_al.strategies.base import Selection, Strategy
from nlp_al.strategies.wrapper import made_of

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class ByBudget(Strategy):
    """One strategy while fewer than `per_class` examples a class are labelled, and another one from then on.

    Classes are the options of a decision (tags of a word, candidates of a dialogue at most), or the labels of a text
    with several.
    low: the strategy for few labels, a name or `{name: ..., parameters}`. high: the one after it. per_class: labelled
    examples a class that are enough for the latter.
    Use when: a run goes from a handful of labels to many, and nobody should have to change `strategy` in between. Take
    `initial: typiclust` too, which is asked before there is a model.
    Needs: probs, and what both strategies need. Cost: that of the one that asks, and a pass over the pool for probs.
    Reference: Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794.
    """

    low: str | dict[str, Any] = "typiclust"
    high: str | dict[str, Any] = "margin"
    per_class: int = 10

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794"
    needs: ClassVar[frozenset[str]] = frozenset({"probs"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise ValueError(f"per_class is {self.per_class}; it must be at least 1.")
        both = made_of("low", self.low), made_of("high", self.high)
        about: dict[str, Any] = {
            name: getattr(self, name).union(*(getattr(inner, name) for inner in both))
            for name in ("needs", "needs_labelled", "needs_validation")
        }
        about |= {
            "shapes": tuple(shape for shape in self.shapes if all(shape in inner.shapes for inner in both)),
            "group": "seeded" if any(inner.group == "seeded" for inner in both) else self.group,
            "nested": all(inner.nested for inner in both),
            "batch_aware": any(inner.batch_aware for inner in both),
            "filters": any(inner.filters for inner in both),
        }
        for name, value in about.items():
            object.__setattr__(self, name, value)

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """What the strategy of the regime chooses."""
        labelled = 0 if signals.labelled is None else len(signals.labelled)
        classes = label_count(signals) or signals.decisions.probs.shape[1]
        regime = "low" if labelled < self.per_class * classes else "high"
        found = made_of(regime, getattr(self, regime)).choose(signals, count, generator)
        named = getattr(self, regime)
        name = named if isinstance(named, str) else named["name"]
        told = (
            f"{name} asks while labels are few" if regime == "low" else f"{name} asks now that there are enough labels"
        )
        return replace(found, note="; ".join(filter(None, (told, found.note))))
