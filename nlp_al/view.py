"""A shrinking part of the pool, and what is known of it: each field is made when a strategy first names it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nlp_al.pool import Example
from nlp_al.processes import peers, processes, shared
from nlp_al.signals import Signals
from nlp_al.signals.merging import merge
from nlp_al.signals.shards import kept, own_rows
from nlp_al.strategies import Strategy

Collect = Callable[[Sequence[Example], set[str], bool], Signals | None]
"""The named fields of some examples: in shards where that is true, else on the main process, None on the others.

All call it together.
"""
Validate = Callable[[set[str]], Signals | None]
"""The named fields of the validation split, on the main process; None on the others. All call it together."""


class View:
    """What the stages of a strategy look at, one after the other: a later stage's fields are made of what is left.

    positions: int64[n], where the examples that are left stand in the pool. bare: cost and askable of the whole pool,
    and in its `labelled` of the labelled set.
    seconds: what making the fields took so far.
    in_shards: whether each process holds signals of its share of the pool, and all of the labelled set; else the main
    one alone holds any. All keep a view and take the same steps.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        labelled: Sequence[Example],
        bare: Signals,
        collect: Collect,
        in_shards: bool,
        validate: Validate = lambda needs: None,
    ) -> None:
        self.positions = torch.arange(len(examples))
        self.bare = bare
        self.seconds = 0.0
        self._examples = examples
        self._labelled = labelled
        self._collect = collect
        self._validate = validate
        self._made: set[str] = set()
        self._made_labelled: set[str] = set()
        self._made_validation: set[str] = set()
        self._in_shards = in_shards
        holds = in_shards or processes().is_main_process
        self._signals = (own_rows(bare, peers()) if in_shards else bare) if holds else None
        self._known = (bare.labelled or Signals(count=len(labelled))) if holds else None
        self._unseen: Signals | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def look(self, strategy: Strategy | type[Strategy]) -> Signals | None:
        """What is known of the examples that are left, with all that the strategy needs; of a class, what it reads."""
        start = time.perf_counter()
        left = [self._examples[at] for at in self.positions.tolist()]
        fresh = self._fresh(left, set(strategy.needs), self._made, self._in_shards)
        known = self._fresh(self._labelled, set(strategy.needs_labelled), self._made_labelled, False)
        self._signals = _with(self._signals, fresh)
        self._known = _with(self._known, shared(known) if self._in_shards else known)
        if missing := set(strategy.needs_validation) - self._made_validation:
            self._made_validation |= missing
            said = self._validate(missing)
            said = shared(said) if self._in_shards else said
            self._unseen = said if self._unseen is None else _with(self._unseen, said)
        self.seconds += time.perf_counter() - start
        if self._signals is None:
            return None
        return replace(self._signals, labelled=self._known, validation=self._unseen)

    def keep(self, chosen: Tensor) -> None:
        """Leaves only these of those that are left, given by their places among them, in the order of the pool."""
        chosen = chosen.sort().values
        self.positions = self.positions[chosen]
        if self._signals is not None:
            self._signals = kept(self._signals, chosen)

    def _fresh(self, examples: Sequence[Example], needs: set[str], made: set[str], in_shards: bool) -> Signals | None:
        missing = needs - made
        if "passes" in made:
            missing -= {"sampled"}  # which is taken from them
        made |= missing
        return self._collect(examples, missing, in_shards) if missing and examples else None


def _with(known: Signals | None, fresh: Signals | None) -> Signals | None:
    return known if known is None or fresh is None else merge([known, fresh])
