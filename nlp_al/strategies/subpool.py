"""A strategy that sees a random part of the pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection
from nlp_al.strategies.sieve import Sieve

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Subpool(Sieve):
    """Another strategy, on as many examples drawn at random in each round as `ratio` batches hold.

    base: the strategy, or a mapping of its name and parameters. ratio: candidates for each that is chosen.
    Use when: it should be known whether a strategy needs a pool of the right size: run several ratios beside `random`,
    and `nlp-al compare` says whether one of them falls behind it. Or the pool is so large that a part of it will do.
    Needs: what the base needs, of the part alone. Cost: that of the base on the part.
    Reference: Ren, Deng, Padilla & Malof 2022, arXiv 2201.12632.
    """

    ratio: float = 8.0

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Ren, Deng, Padilla & Malof 2022, arXiv 2201.12632"
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.ratio >= 1 and math.isfinite(self.ratio)):
            raise ValueError(f"ratio is {self.ratio:g}; it must be at least 1.")
        super().__post_init__()

    def sieve(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Drawn without replacement."""
        import torch

        size = min(math.ceil(self.ratio * count), len(signals))
        return Selection(torch.randperm(len(signals), generator=generator)[:size].sort().values)
