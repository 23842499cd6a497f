"""Strategies that ask for the highest of scores which are made by passes of their own through a model."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.strategies.base import Selection, Strategy

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals

_SCORES = "scores."  # as nlp_al.signals has it, which loads torch


def need(name: str, **parameters: Any) -> str:
    """What a strategy names in `needs` for a score that is made with these parameters, as
    `scores.adv_bim {"steps": 5}`; without any it is `scores.adv_bim`.
    """
    told = json.dumps(parameters, sort_keys=True)
    return f"{_SCORES}{name} {told}" if parameters else f"{_SCORES}{name}"


def parted(need: str) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of a score that a strategy needs."""
    name, _, told = need.removeprefix(_SCORES).partition(" ")
    return name, json.loads(told or "{}")


@dataclass(frozen=True)
class Scored(Strategy):
    """Takes the highest. score: its name in `nlp_al.signals.collector.SCORED`, or that of the first stage's margin; all
    parameters that are not as usual go to what makes it.
    """

    score: ClassVar[str]
    scored: ClassVar[bool] = True
    sharded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        changed = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        object.__setattr__(self, "needs", frozenset({need(self.score, **changed)}))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        (wanted,) = self.needs
        return highest(signals, wanted, count)


def highest(signals: Signals, need: str, count: int) -> Selection:
    """The examples with the highest of the scores that a need names."""
    from nlp_al.selection.topk import top

    assert signals.scores is not None
    scores = signals.scores[need.removeprefix(_SCORES)]
    return Selection(top(scores, count, signals.shard), scores)
