"""Examples that a pretrained language model is surprised by, each in another way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Alps(Strategy):
    """Of as many clusters as are asked for of the directions of surprisal vectors, the members nearest to the means.

    A surprisal vector holds the pretrained masked language model's losses of the tokens that were drawn, with a
    probability of 15% each, and 0 for the others. What clusters do not fill comes at random, as do texts of which no
    token was drawn. masked: whether those tokens are masked before the model reads them; the authors' code leaves them.
    mlm_entropy: the entropy of what the model expects there in place of the loss; what stands there hardly matters
    then, so it goes well with `masked`.
    restarts: how many seedings are tried, with up to 50 clusters; above that mini-batches are used, with one.
    Use when: nothing is labelled yet, as a cold start. Needs: a checkpoint with a masked-LM head.
    Cost: one pass of that head over the pool, kept on disk, and a k-means.
    Reference: Yuan, Lin & Boyd-Graber 2020, arXiv 2010.09535.
    """

    masked: bool = False
    mlm_entropy: bool = False
    restarts: int = 10

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Yuan, Lin & Boyd-Graber 2020, arXiv 2010.09535"
    needs: ClassVar[frozenset[str]] = frozenset({"surprisal"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise ValueError(f"restarts is {self.restarts}; it must be at least 1.")
        name = f"{'masked_' if self.masked else ''}{'mlm_entropy' if self.mlm_entropy else 'surprisal'}"
        object.__setattr__(self, "needs", frozenset({name}))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """A member of each cluster, the largest cluster first."""
        import torch

        from nlp_al.selection.kmeans import central_members, kmeans_labels

        (name,) = self.needs
        surprisal: torch.Tensor = getattr(signals, name)
        told = torch.nonzero(surprisal.any(1)).flatten()
        points = torch.nn.functional.normalize(surprisal[told], dim=1)
        assigned = kmeans_labels(points, count, generator, self.restarts)
        _, assigned = assigned.unique(return_inverse=True)
        clusters = int(assigned.max()) + 1 if len(assigned) else 0
        picks = told[central_members(points, assigned, min(clusters, count))] if clusters else told
        left = told.new_ones(len(surprisal), dtype=torch.bool)
        left[picks] = False
        others = torch.nonzero(left).flatten()
        drawn = others[torch.randperm(len(others), generator=generator)]
        return Selection(torch.cat([picks, drawn])[:count])
