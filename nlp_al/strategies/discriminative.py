"""Labelled or not: what a network that tells the two apart is sure of, is what no label speaks for yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Dal(Strategy):
    """Discriminative active learning: the examples that a small network most surely tells from labelled ones.

    With nothing labelled the first part is drawn at random.
    rounds: in so many parts, each with a network for which the parts before it are labelled. stochastic: draw in
    proportion to exp(logit) in place of taking the highest.
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
    batch_aware: ClassVar[bool] = True

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


@dataclass(frozen=True)
class Waal(Strategy):
    """What a critic finds more like the pool than like the labelled set, and the model is unsure of.

    The score is weight · critic(x) − ½ ‖ln p‖₂ − ½ Σ_c −ln p_c, highest where all options are equally probable; over
    words and over labels that are yes or no the latter part is a mean, and where the number of options varies it is
    relative to that of equal ones. The critic is a small network on the features of the fitted model, trained so that
    its mean over the pool exceeds that over the labelled set most, at a steepness of 1; features are scaled to a mean
    squared length of 1. The paper trains the encoder against it too, which is not done here. With nothing labelled
    there is no critic.
    weight: how much the critic counts. penalty: κ, how much its steepness counts in its training.
    Use when: labelled examples should end up distributed like the pool, and doubt counts too.
    Needs: probs, and embeddings of the pool and the labelled set.
    Cost: 100 steps of training a network of one hidden layer, and a pass over the embeddings.
    Reference: Shui et al. 2020, arXiv 1911.09162.
    """

    weight: float = 10.0
    penalty: float = 2.0

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Shui et al. 2020, arXiv 1911.09162"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "embeddings"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    group: ClassVar[Group] = "seeded"
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight:g}; it must be at least 0.")
        if self.penalty <= 0:
            raise ValueError(f"penalty is {self.penalty:g}; it must be more than 0.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        from nlp_al.decisions import reduce
        from nlp_al.selection.critic import unlike
        from nlp_al.selection.topk import top

        pool, known = signals.embeddings, signals.labelled
        assert pool is not None
        labelled = pool[:0] if known is None or known.embeddings is None else known.embeddings
        scores = self.weight * unlike(pool, labelled, generator, self.penalty)
        scores = (scores + reduce(_doubt(signals.decisions), signals.decisions.offsets)).float()
        return Selection(top(scores, count), scores)


def _doubt(decisions: Decisions) -> Tensor:
    """−½ ‖ln p‖₂ − ½ Σ_c −ln p_c of each decision, float64[M]: it is never above that of equal options.

    Where the number of options varies, it is divided by what so many equal ones have.
    """
    import torch

    from nlp_al.decisions import leading

    probs = decisions.probs
    valid = torch.ones_like(probs, dtype=torch.bool)
    if decisions.options is not None:
        valid = leading(decisions.options, probs.shape[1])
    # A head gives options that it has never seen a probability of 0.
    logs = probs.masked_fill(~valid, 1.0).double().clamp(min=torch.finfo(torch.float32).tiny).log()
    found: Tensor = (logs.sum(1) - torch.linalg.vector_norm(logs, dim=1)) / 2
    if decisions.options is None:
        return found
    many = decisions.options.double().clamp(min=2)
    equal: Tensor = (many + many.sqrt()) * many.log() / 2
    return found / equal
