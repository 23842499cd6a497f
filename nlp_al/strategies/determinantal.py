"""Determinantal point processes: sets in proportion to the volume that they span."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, check_one_of
from nlp_al.strategies.weighted import Weighted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class KDpp(Weighted):
    """Examples whose embeddings span the largest volume, each made longer by its uncertainty: a k-DPP.

    No more examples than the embeddings have dimensions are independent; the rest of a batch comes by length alone.
    base: what gives the scores u, a name or `{name: ..., parameters}`. omega: an embedding counts exp(omega · u)
    times; 0 is diversity alone, which needs no model. metric: `linear`, or `cosine` (of unit length before that).
    sample: draw the batch from the distribution, out of 2,000 examples at random, in place of the likeliest batch.
    Use when: what is unsure should not be asked twice in one batch. Needs: embeddings, and probs or what else the base
    needs. Cost: one pass over the embeddings a pick. Reference: Kulesza & Taskar 2012, arXiv 1207.6083.
    """

    omega: float = 1.0
    metric: str = "linear"
    sample: bool = False

    family: ClassVar[str] = "diversity"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    reference: ClassVar[str] = "Kulesza & Taskar 2012, arXiv 1207.6083; Chen, Zhang & Zhou 2018, arXiv 1709.05135"
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.omega < 0:
            raise ValueError(f"omega is {self.omega:g}; below 0 what is certain would be asked for.")
        check_one_of("metric", self.metric, ("linear", "cosine"))
        if self.omega > 0:
            super().__post_init__()
        if self.sample:
            object.__setattr__(self, "group", "seeded")
            object.__setattr__(self, "nested", False)

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Greedily the likeliest batch, or a draw; then what is longest on its own."""
        import torch

        from nlp_al.selection.dpp import greedy_dpp, log_sizes
        from nlp_al.selection.topk import top

        points = signals.embeddings
        assert points is not None
        sizes = log_sizes(points)
        doubt = self.uncertainty(signals, generator) if self.omega > 0 else torch.zeros_like(sizes)
        usual = doubt.isfinite()
        highest = float(doubt[usual].max()) if bool(usual.any()) else 0.0
        quality = (self.omega or 1.0) * (doubt - highest)  # a factor of all changes nothing, and exp can't overflow
        if self.metric == "cosine":
            quality = (quality - sizes / 2).where(sizes.isfinite(), -torch.inf)
        note = ""
        if self.sample:
            picks, note = _draw(points, quality, count, generator)
        else:
            picks, _ = greedy_dpp(points, quality, count)
        if len(picks) < count:
            lengths = (quality + sizes / 2).nan_to_num(nan=-1e300, neginf=-1e300).where(doubt > -torch.inf, -torch.inf)
            order = top(lengths, len(points)).cpu()
            told = f"only {len(picks)} examples are independent, the rest of the batch comes by length alone"
            note = f"{note}; {told}" if note else told
            picks = torch.cat([picks, order[~torch.isin(order, picks)]])[:count]
        return Selection(picks, note=note)


def _draw(points: Tensor, quality: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, str]:
    """Positions drawn from the k-DPP of a random part of the pool, and what to say about it."""
    import torch

    from nlp_al.selection.dpp import MOST_SAMPLED, sample_dpp

    some = torch.randperm(len(points), generator=generator)[:MOST_SAMPLED].sort().values
    vectors = (points[some].double() * quality[some].exp()[:, None]).cpu()
    note = f"drawn out of {len(some):,} of the {len(points):,} examples" if len(some) < len(points) else ""
    return some[sample_dpp(vectors, min(count, len(some)), generator)], note
