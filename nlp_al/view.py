"""A shrinking part of the pool, and what is known of it: each field is made when a strategy first names it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nlp_al.pool import Example
from nlp_al.processes import processes
from nlp_al.signals import Signals
from nlp_al.signals.merging import merge
from nlp_al.strategies import Strategy

Collect = Callable[[Sequence[Example], set[str]], Signals | None]
"""The named fields of some examples, on the main process; None on the others. All call it together."""


class View:
    """What the stages of a strategy look at, one after the other: a later stage's fields are made of what is left.

    positions: int64[n], where the examples that are left stand in the pool. bare: cost and askable of the whole pool.
    seconds: what making the fields took so far.
    All processes keep a view and take the same steps; the main one alone holds signals.
    """

    def __init__(
        self, examples: Sequence[Example], labelled: Sequence[Example], bare: Signals, collect: Collect
    ) -> None:
        self.positions = torch.arange(len(examples))
        self.bare = bare
        self.seconds = 0.0
        self._examples = examples
        self._labelled = labelled
        self._collect = collect
        self._made: set[str] = set()
        self._made_labelled: set[str] = set()
        main = processes().is_main_process
        self._signals = bare if main else None
        self._known = Signals(count=len(labelled)) if main else None

    def __len__(self) -> int:
        return len(self.positions)

    def look(self, strategy: Strategy) -> Signals | None:
        """What is known of the examples that are left, with all that the strategy needs."""
        start = time.perf_counter()
        left = [self._examples[at] for at in self.positions.tolist()]
        self._signals = self._with(self._signals, left, set(strategy.needs), self._made)
        self._known = self._with(self._known, self._labelled, set(strategy.needs_labelled), self._made_labelled)
        self.seconds += time.perf_counter() - start
        return None if self._signals is None else replace(self._signals, labelled=self._known)

    def keep(self, chosen: Tensor) -> None:
        """Leaves only these of those that are left, given by their places among them, in the order of the pool."""
        chosen = chosen.sort().values
        self.positions = self.positions[chosen]
        if self._signals is not None:
            self._signals = self._signals.take(chosen)

    def _with(
        self, known: Signals | None, examples: Sequence[Example], needs: set[str], made: set[str]
    ) -> Signals | None:
        missing = needs - made
        made |= missing
        fresh = self._collect(examples, missing) if missing and examples else None
        return known if known is None or fresh is None else merge([known, fresh])
