"""Another strategy, on the part of the pool that lies around the labelled examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection
from nlp_al.strategies.sieve import Sieve

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Seals(Sieve):
    """Another strategy among the k examples of the pool that are nearest to each labelled one, and nowhere else.

    base: the strategy, a name or `{name: ..., parameters}`. k: how many neighbours a labelled example has in what is
    left of the pool. Where all together are fewer than a batch, others at random fill it.
    Use when: the pool is so large that a pass of the model over it takes hours, or a class is rare and found already:
    its examples lie together. Needs: pretrained embeddings of the pool and the labelled set; what the base needs, of
    the neighbours alone. Cost: n · l distances, and that of the base on at most k · l examples.
    Reference: Coleman et al. 2020, arXiv 2007.00077.
    """

    k: int = 100

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Coleman et al. 2020, arXiv 2007.00077"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise ValueError(f"k is {self.k}; it must be at least 1.")

    def sieve(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The neighbours; where they are too few, some of the rest at random."""
        import torch

        from nlp_al.selection.neighbours import nearest

        pool, known = signals.before_training()
        near = pool.new_zeros(len(pool), dtype=torch.bool)
        if len(pool):
            near[nearest(known, pool, self.k).flatten()] = True
        found = int(near.sum())
        if found < count:
            others = torch.nonzero(~near).flatten()
            near[others[torch.randperm(len(others), generator=generator)[: count - found]]] = True
        kept = torch.nonzero(near).flatten()
        told = f"{len(kept):,} of the {len(pool):,} examples were looked at"
        if found < count:
            told += f": {found:,} neighbours of labelled ones, and others at random"
        return Selection(kept, note=told if len(kept) < len(pool) else "")
