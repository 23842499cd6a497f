"""A first stage at random, and what is nearest to the boundary that it gave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nlp_al.strategies.scored import Scored


@dataclass(frozen=True)
class TwoStageUs(Scored):
    """The smallest margins under the model of the initial set, which stays the one that asks in every round.

    In the first round it asks what `margin` asks. Later answers move no boundary: all rounds together ask what one
    batch of the same size would. Where the initial set has a single class, the first rounds that have two stand for it.
    agg: `mean` (default; does not favour long examples), `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: half of the budget goes to the initial set (`loop.initial`), drawn at random, and the other half should be
    a fixed list, as where it is labelled all at once; or to measure what re-ranking is worth.
    Needs: a model fitted to the initial set. Cost: one pass over the pool; once a run, and after a restart, a fit to
    the initial set.
    Reference: Mussmann & Dasgupta 2022, Constants Matter: The Performance Gains of Active Learning, ICML.
    """

    agg: str = "mean"

    family: ClassVar[str] = "uncertainty"
    reference: ClassVar[str] = "Mussmann & Dasgupta 2022, Constants Matter, ICML"
    score: ClassVar[str] = "first_stage_margin"

    def __post_init__(self) -> None:
        if self.agg not in ("mean", "sum", "max", "topm"):
            raise ValueError(f"agg is {self.agg!r}; it must be one of mean, sum, max, topm.")
        super().__post_init__()
