"""Strategies that ask what is uncertain and, so that outliers stay away, like much of the pool."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, check_one_of
from nlp_al.strategies.weighted import Weighted, from_zero

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class UncertainAndDense(Weighted):
    """Uncertainty · density^beta. What may be negative is counted from the pool's lowest, or it would turn round.

    base: what gives the scores, a name or `{name: ..., parameters}`. beta: the weight of density, 0 for none.
    """

    beta: float = 1.0

    family: ClassVar[str] = "density"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta < 0:
            raise ValueError(f"beta is {self.beta:g}; it must not be negative, or outliers would be asked for.")

    @abstractmethod
    def dense(self, signals: Signals, generator: torch.Generator) -> tuple[Tensor, str]:
        """float32[n], 0 or more where the pool is dense, less than 0 counts as 0; and what to say about it."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        from nlp_al.selection.topk import top

        doubt = self.uncertainty(signals, generator)
        density, note = self.dense(signals, generator)
        density = density.double()
        weighed = from_zero(doubt) * density.clamp(min=0.0) ** self.beta
        if self.beta > 0:  # a hair below 0, and not a tie that goes by position
            weighed += 1e-9 * density.clamp(max=0.0)
        scores = weighed.where(doubt.isfinite(), doubt)
        return Selection(top(scores, count), scores, note)


@dataclass(frozen=True)
class InfoDensity(UncertainAndDense):
    """Uncertainty · (mean cosine to the pool)^beta: information density.

    base: what gives the scores, a name or `{name: ..., parameters}`; one that may be negative (`margin`) is counted
    from the pool's lowest. beta: the weight of density, 0 for none. exclude_self: the mean is over the other examples.
    Use when: plain uncertainty asks for outliers. Needs: embeddings, and probs or what else the base needs.
    Cost: two passes over the embeddings, no pair of examples is looked at.
    Reference: Settles & Craven 2008, EMNLP.
    """

    exclude_self: bool = False

    reference: ClassVar[str] = "Settles & Craven 2008, An Analysis of Active Learning Strategies for Sequence Labeling"

    def dense(self, signals: Signals, generator: torch.Generator) -> tuple[Tensor, str]:
        """The mean cosine."""
        from nlp_al.selection.density import mean_cosine

        assert signals.embeddings is not None
        return mean_cosine(signals.embeddings, self.exclude_self), ""


@dataclass(frozen=True)
class DensityWeighted(UncertainAndDense):
    """Uncertainty · (density near the example)^beta.

    In a pool of more than 50,000 neighbours are looked for in, and Gaussians fitted to, 20,000 at random.
    base: what gives the scores, a name or `{name: ..., parameters}`; one that may be negative (`margin`) is counted
    from the pool's lowest. beta: the weight of density, 0 for none. density: `knn`, the mean cosine to the nearest
    other examples, or `gmm`, the log-density under a mixture of Gaussians, scaled to 0 … 1 over the pool. neighbours:
    how many other examples. components: how many Gaussians.
    Use when: the pool has several dense regions, and a mean over all of it would favour the largest.
    Needs: embeddings, and probs or what else the base needs. Cost: n · min(n, 20,000) cosines; `gmm`: linear.
    Reference: Zhu, Wang, Yao & Tsou 2008, COLING.
    """

    density: str = "knn"
    neighbours: int = 20
    components: int = 10

    reference: ClassVar[str] = "Zhu, Wang, Yao & Tsou 2008, Active Learning with Sampling by Uncertainty and Density"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("density", self.density, ("knn", "gmm"))
        for name in ("neighbours", "components"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.density == "gmm":  # its fit begins with k-means
            object.__setattr__(self, "group", "seeded")

    def dense(self, signals: Signals, generator: torch.Generator) -> tuple[Tensor, str]:
        """By neighbours or by Gaussians."""
        import torch

        from nlp_al.selection.density import mixture_density, neighbour_cosine
        from nlp_al.strategies.representatives import representatives

        points, note = signals.embeddings, ""
        assert points is not None
        references = torch.arange(len(points))
        if (drawn := representatives(len(points), generator)) is not None:
            references = drawn[0]
            note = f"density was measured among {len(references):,} of the {len(points):,} examples, drawn at random"
        if len(points) == 0:
            return points.new_zeros(0), note
        if self.density == "gmm":
            return mixture_density(points, references, self.components, generator), note
        return neighbour_cosine(points, references, self.neighbours), note
