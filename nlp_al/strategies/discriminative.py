"""Labelled or not: what a classifier between the two is sure of, is what no label speaks for yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Dal(Strategy):
    """Discriminative active learning: the examples that a small network most surely tells from labelled ones.

    rounds: in so many parts, each with a network for which the parts before it are labelled. stochastic: draw in
    proportion to exp(logit) in place of taking the highest. With nothing labelled the first part is drawn at random.
    Use when: labelled examples should end up distributed like the pool. Needs: embeddings of the pool and the labelled
    set. Cost: `rounds` times a training on at most 11 times what is labelled, and a pass over the embeddings.
    Reference: Gissin & Shalev-Shwartz 2019, arXiv 1907.06347.
    """

    rounds: int = 10
    stochastic: bool = False

    family: ClassVar[str] = "diversity"
    reference: ClassVar[str] = "Gissin & Shalev-Shwartz 2019, arXiv 1907.06347"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; it must be at least 1.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Picks come in the order of the parts."""
        from nlp_al.selection.discriminate import unlike_labelled

        pool = signals.embeddings
        assert pool is not None
        known = signals.labelled.embeddings if signals.labelled is not None else None
        picks = unlike_labelled(
            pool,
            pool[:0] if known is None else known,
            count,
            generator,
            rounds=self.rounds,
            stochastic=self.stochastic,
        )
        return Selection(picks)
