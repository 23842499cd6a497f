"""Of what a committee disagrees on, the examples that together stand for the pool."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection
from nlp_al.strategies.disagreement import MeanStd

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class SuggestiveAnnotation(MeanStd):
    """Of the examples whose members differ most (`mean_std`), those that together lie near every example of the pool.

    Greedily, by Σ_u max over picks of the cosine to u, where negative ones count as 0. Of more than 50,000 examples,
    20,000 at random stand for the pool; all may be picked.
    candidates: how many are chosen among, in batches; 1 takes the highest. agg: how disagreement over several decisions
    is reduced: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: a committee is there anyway, and what it disagrees on repeats itself. Needs: a committee (`sampler`; that
    of the paper are 4 models fitted to resamples, as `heads` are) and embeddings.
    Cost: one pass over the pool a member, and the cosines of candidates with the pool, which are held.
    Reference: Yang et al. 2017, arXiv 1706.04737.
    """

    candidates: float = 2.0

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Yang, Zhang, Chen, Zhang & Chen 2017, arXiv 1706.04737"
    needs: ClassVar[frozenset[str]] = frozenset({"sampled", "embeddings"})
    nested: ClassVar[bool] = False
    sharded: ClassVar[bool] = False
    scored: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.candidates >= 1:
            raise ValueError(f"candidates is {self.candidates:g}; it must be at least 1, or a batch can't be filled.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The candidates that cover most; of equal ones the lowest position."""
        import torch

        from nlp_al.selection.density import directions
        from nlp_al.selection.submodular import greedy_cover
        from nlp_al.selection.topk import top
        from nlp_al.strategies.representatives import representatives

        points = signals.embeddings
        assert points is not None
        doubtful = top(self.scores(signals), math.ceil(self.candidates * count)).sort().values
        drawn = representatives(len(points), generator)
        pool = directions(points if drawn is None else points[drawn[0]])
        cosines = torch.cat([(directions(points[part]) @ pool.T).float() for part in doubtful.split(64)])
        picks = greedy_cover(lambda part: cosines[part].T, pool.new_ones(len(pool)), count, candidates=len(doubtful))
        note = f"{len(pool):,} of the {len(points):,} examples, drawn at random, stood for the pool"
        return Selection(doubtful[picks], note=note if drawn is not None else "")
