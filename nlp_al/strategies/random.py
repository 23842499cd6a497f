"""The baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Random(Strategy):
    """Uniform without replacement.

    Use when: a baseline is wanted (always), or an unbiased sample. Needs: nothing. Cost: none.
    Reference: none; the passive learner that every other strategy is measured against.
    """

    family: ClassVar[str] = "random"
    reference: ClassVar[str] = "passive learning"
    group: ClassVar[Group] = "seeded"
    sharded: ClassVar[bool] = True

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The head of a random permutation."""
        import torch

        return Selection(torch.randperm(signals.total, generator=generator)[:count])
