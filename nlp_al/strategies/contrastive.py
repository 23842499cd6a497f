"""Examples that the model sees otherwise than labelled ones beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Cal(Strategy):
    """The mean KL(p of a labelled neighbour ‖ p) over the nearest labelled examples, by directions of embeddings.

    With nothing labelled the mean entropy stands in. Decisions over fixed options are compared one by one where all
    examples have the same number of yes-or-no ones (labels); else by their mean (words). Candidates, whose number may
    vary, have no names: their sorted probabilities are compared where all decisions have as many, else the best against
    the rest, by the Jensen-Shannon divergence.
    neighbours: how many; all there are where these are fewer.
    Use when: the boundary matters more than plain doubt. Needs: probs and embeddings of the pool and the labelled set.
    Cost: n · l distances. Reference: Margatina et al. 2021, arXiv 2109.03764.
    """

    neighbours: int = 10

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Margatina et al. 2021, arXiv 2109.03764"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "embeddings"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"probs", "embeddings"})
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours is {self.neighbours}; it must be at least 1.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        import torch

        from nlp_al.selection.topk import top

        scores = self.score(signals).masked_fill(signals.decisions.offsets.diff() == 0, -torch.inf)
        return Selection(top(scores, count), scores)

    def score(self, signals: Signals) -> Tensor:
        """float[n]: the mean divergence of each example from its labelled neighbours."""
        import torch

        from nlp_al.decisions import entropy, segment_mean
        from nlp_al.selection.divergences import jensen_shannon, mean_divergence, mean_kullback_leibler
        from nlp_al.selection.neighbours import nearest

        decisions, known = signals.decisions, signals.labelled
        if known is not None and len(known):
            known = known.take(torch.nonzero(known.decisions.offsets.diff()).flatten())
        if known is None or len(known) == 0:
            return segment_mean(entropy(decisions), decisions.offsets)
        assert signals.embeddings is not None
        assert known.embeddings is not None
        found = nearest(signals.embeddings, known.embeddings, self.neighbours, directions=True)
        alike, own, others = _comparable(decisions, known.decisions)
        if alike:
            scores = mean_kullback_leibler(own, others, found)
        else:
            scores = mean_divergence(own, others, found, jensen_shannon)
        return scores.float()  # the last digits of float64 differ between equal examples, which must tie


def _comparable(pool: Decisions, known: Decisions) -> tuple[bool, Tensor, Tensor]:
    """Whether all are over the same options, and what to compare: float64[n, A, O] and [l, A, O], A one by one."""
    import torch

    from nlp_al.decisions import segment_mean

    roles = (pool, known)
    each, alike = [role.masked.double() for role in roles], True
    if pool.options is not None or known.options is not None:
        each = [probs.sort(dim=1, descending=True).values for probs in each]
        sizes = torch.cat([_option_counts(role) for role in roles])
        alike = bool((sizes == sizes[-1]).all())
        best = [probs[:, :1] for probs in each]
        each = [probs[:, : int(sizes[-1])] for probs in each] if alike else [torch.cat([p, 1 - p], 1) for p in best]
    lengths = torch.cat([role.offsets.diff() for role in roles])
    if pool.options is None and each[0].shape[1] == 2 and bool((lengths == lengths[-1]).all()):
        own, others = (probs.reshape(-1, int(lengths[-1]), 2) for probs in each)
    else:
        own, others = (segment_mean(p, role.offsets)[:, None] for p, role in zip(each, roles, strict=True))
    return alike, own, others


def _option_counts(decisions: Decisions) -> Tensor:
    """int64[M]: how many options each decision has."""
    if decisions.options is not None:
        return decisions.options
    return decisions.offsets.new_full((len(decisions.probs),), decisions.probs.shape[1])
