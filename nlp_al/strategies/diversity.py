"""Strategies that spread over the pool, or sit where it is dense; they look at embeddings alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy, check_one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Coreset(Strategy):
    """Greedy k-centre: again and again the example farthest from all that are labelled or picked.

    metric: `euclidean`, or `cosine` (euclidean between normalised embeddings). pca: first project on so many principal
    components of pool and labelled set. start: with nothing labelled, the first pick is the example nearest to the
    `mean`, or a `random` one.
    Use when: coverage matters and outliers are real data; it finds rare regions, and noise too.
    Needs: embeddings of the pool and the labelled set. Cost: their distances; far less for the picks, most of which are
    told from few points.
    Reference: Sener & Savarese 2018, arXiv 1708.00489.
    """

    metric: str = "euclidean"
    pca: int | None = None
    start: str = "mean"

    family: ClassVar[str] = "diversity"
    reference: ClassVar[str] = "Sener & Savarese 2018, arXiv 1708.00489"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    sharded: ClassVar[bool] = True
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_one_of("metric", self.metric, ("euclidean", "cosine"))
        check_one_of("start", self.start, ("mean", "random"))
        if self.pca is not None and self.pca < 1:
            raise ValueError(f"pca is {self.pca}; it must be at least 1, or null.")
        if self.start == "random":
            object.__setattr__(self, "group", "seeded")
        if self.pca is not None:
            object.__setattr__(self, "sharded", False)

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Each pick is held against few points, those that could be the farthest."""
        import torch

        from nlp_al.selection.kcenter import k_center
        from nlp_al.selection.pca import principal_axes

        pool = signals.embeddings
        assert pool is not None
        known = signals.labelled.embeddings if signals.labelled is not None else None
        centres = pool[:0] if known is None else known
        if self.metric == "cosine":
            pool, centres = (torch.nn.functional.normalize(rows, dim=1) for rows in (pool, centres))
        if self.pca is not None and self.pca < pool.shape[1]:
            axes = principal_axes((pool, centres), self.pca)
            pool, centres = (rows @ axes.to(rows.dtype) for rows in (pool, centres))
        first = None
        if self.start == "random" and signals.total:
            first = int(torch.randint(signals.total, (), generator=generator))
        return Selection(k_center(pool, centres, count, first, signals.shard))


@dataclass(frozen=True)
class LightweightCoreset(Strategy):
    """A draw without replacement, half uniform, half in proportion to the squared distance from the pool's mean.

    Use when: a `coreset` would take too long, or would ask for nothing but outliers. Needs: embeddings.
    Cost: two passes over the embeddings. Reference: Bachem, Lucic & Krause 2018, arXiv 1702.08248.
    """

    family: ClassVar[str] = "diversity"
    reference: ClassVar[str] = "Bachem, Lucic & Krause 2018, arXiv 1702.08248"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    group: ClassVar[Group] = "seeded"

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Draws from the whole pool at once."""
        from nlp_al.selection.lightweight import draw_in_proportion, lightweight_probabilities

        assert signals.embeddings is not None
        return Selection(draw_in_proportion(lightweight_probabilities(signals.embeddings), count, generator))


@dataclass(frozen=True)
class TypiClust(Strategy):
    """The most typical example of the largest clusters that hold no label yet.

    Of a cluster with more than 20,000 members, so many at random stand for all.
    neighbours: how many nearest members of a cluster typicality averages over. max_clusters: the most clusters.
    min_cluster_size: smaller clusters are left out. squared: squared distances, as in the authors' code.
    Use when: labels are very few (fewer than about ten a class), as a cold start above all.
    Needs: pretrained embeddings of the pool and the labelled set. Cost: a k-means, then neighbours inside clusters.
    Reference: Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794.
    """

    neighbours: int = 20
    max_clusters: int = 500
    min_cluster_size: int = 6
    squared: bool = False

    family: ClassVar[str] = "diversity"
    reference: ClassVar[str] = "Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("neighbours", "max_clusters", "min_cluster_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Clusters pool and labelled set together, min(labelled + count, max_clusters) clusters."""
        import torch

        from nlp_al.selection import typicality
        from nlp_al.selection.kmeans import kmeans_labels

        pool, known = signals.before_training()
        together = torch.cat([pool, known])
        assigned = kmeans_labels(together, min(len(known) + count, self.max_clusters), generator)
        picks = typicality.typical_of_clusters(
            pool,
            assigned[: len(pool)],
            assigned[len(pool) :],
            count,
            generator,
            neighbours=self.neighbours,
            min_cluster_size=self.min_cluster_size,
            squared=self.squared,
        )
        most = typicality.LARGEST
        large = bool((torch.bincount(assigned[: len(pool)]) > most).any())
        told = f"of clusters with more than {most:,} members, so many drawn at random stood for all"
        return Selection(picks, note=told if large else "")


@dataclass(frozen=True)
class EmbeddingKMeans(Strategy):
    """As many clusters as are asked for, and of each the member nearest to its mean; the largest cluster first.

    Where points coincide there are fewer clusters: then the second nearest members follow, and so on.
    restarts: how many seedings are tried, with up to 50 clusters; above that mini-batches are used, with one.
    Use when: a batch should be spread like the pool itself, outliers left aside. Needs: embeddings. Cost: a k-means.
    Reference: Xu et al. 2003, Representative Sampling for Text Classification Using Support Vector Machines.
    """

    restarts: int = 10

    family: ClassVar[str] = "diversity"
    reference: ClassVar[str] = "Xu et al. 2003, Representative Sampling for Text Classification"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise ValueError(f"restarts is {self.restarts}; it must be at least 1.")

    def points(self, signals: Signals) -> Tensor:
        """float[n, d]: what is clustered."""
        assert signals.embeddings is not None
        return signals.embeddings

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Clusters the pool alone: what is labelled does not repel."""
        from nlp_al.selection.kmeans import central_members, kmeans_labels

        points = self.points(signals)
        return Selection(central_members(points, kmeans_labels(points, count, generator, self.restarts), count))


@dataclass(frozen=True)
class BertKM(EmbeddingKMeans):
    """`embedding_kmeans` on directions of embeddings that were never fine-tuned.

    restarts: how many seedings are tried, with up to 50 clusters; above that mini-batches are used, with one.
    Use when: nothing is labelled yet, as a cold start. Needs: pretrained embeddings. Cost: a k-means.
    Reference: Yuan, Lin & Boyd-Graber 2020, arXiv 2010.09535.
    """

    reference: ClassVar[str] = "Yuan, Lin & Boyd-Graber 2020, arXiv 2010.09535"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    def points(self, signals: Signals) -> Tensor:
        """float[n, d]: embeddings of length 1."""
        import torch

        return torch.nn.functional.normalize(signals.before_training()[0], dim=1)
