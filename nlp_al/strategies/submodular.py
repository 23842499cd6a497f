"""Strategies that build a batch greedily, each pick for what it adds to those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy, check_one_of
from nlp_al.strategies.representatives import by_representatives

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class ProbCover(Strategy):
    """The balls of one radius that hold most of what no labelled example's ball and no earlier one holds.

    Once all is covered the rest comes by the size of its balls, and the selection says so. Of more than 50,000
    examples, 20,000 at random stand for all.
    delta: the radius; null: the largest at which the share `purity` of the balls hold one cluster alone. purity: that
    share. classes: how many clusters there are; say how many classes. metric: `euclidean`, or `cosine` (euclidean
    between normalised embeddings).
    Use when: labels are very few, as a cold start. Needs: pretrained embeddings of the pool and the labelled set.
    Cost: three times all distances, none of them kept. Reference: Yehuda et al. 2022, arXiv 2205.11320.
    """

    delta: float | None = None
    purity: float = 0.95
    classes: int = 10
    metric: str = "euclidean"

    family: ClassVar[str] = "density"
    reference: ClassVar[str] = "Yehuda, Dekel, Hacohen & Weinshall 2022, arXiv 2205.11320"
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"pretrained"})
    group: ClassVar[Group] = "seeded"  # a radius is found by k-means; with one given, sizes of balls are often equal
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.delta is not None and self.delta <= 0:
            raise ValueError(f"delta is {self.delta:g}; it must be above 0.")
        if not 0 < self.purity <= 1:
            raise ValueError(f"purity is {self.purity:g}; it must be above 0 and at most 1.")
        if self.classes < 1:
            raise ValueError(f"classes is {self.classes}; it must be at least 1.")
        check_one_of("metric", self.metric, ("euclidean", "cosine"))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The radius is that of pool and labelled set together, and the same whatever the count."""
        return by_representatives(signals, count, generator, lambda pool, size: self._cover(pool, size, generator))

    def _cover(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        import torch

        from nlp_al.selection.coverage import cover_by_balls, pure_radius
        from nlp_al.selection.kmeans import kmeans_labels

        pool, known = signals.before_training()
        if self.metric == "cosine":
            pool, known = (torch.nn.functional.normalize(rows, dim=1) for rows in (pool, known))
        together = torch.cat([pool, known])
        if self.delta is None and len(together):
            radius = pure_radius(together, kmeans_labels(together, self.classes, generator), self.purity)
        else:
            radius = self.delta or 1.0
        picks, needed = cover_by_balls(pool, known, radius, count)
        saturated = f"{needed} picks cover the pool at a radius of {radius:.4g}; the rest come by the size of balls"
        return Selection(picks, note=saturated if needed < count else "")


@dataclass(frozen=True)
class FacilityLocation(Strategy):
    """Examples that together lie near every example of the pool: Σ_u max over picks of the similarity to u.

    From 20,000 examples on each pick is the best of a random share of the pool; of more than 50,000, 20,000 at random
    stand for all.
    kernel: `cosine` (negative ones count as 0), or `rbf`, exp(−distance² / its mean over the pool). include_labelled:
    what labelled examples are near to is served already.
    Use when: a batch should represent the pool, without the outliers that `coreset` finds.
    Needs: embeddings of the pool and the labelled set. Cost: all similarities, once and a little, none of them kept.
    Reference: Wei, Iyer & Bilmes 2015, Submodularity in Data Subset Selection and Active Learning, ICML.
    """

    kernel: str = "cosine"
    include_labelled: bool = True

    family: ClassVar[str] = "diversity"
    reference: ClassVar[str] = "Wei, Iyer & Bilmes 2015, Submodularity in Data Subset Selection and Active Learning"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_one_of("kernel", self.kernel, ("cosine", "rbf"))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Lazy greedy, which is greedy."""
        return by_representatives(signals, count, generator, lambda pool, size: self._serve(pool, size, generator))

    def _serve(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        import torch

        from nlp_al.selection.submodular import EXACT, greedy_cover

        points, known = signals.embeddings, signals.labelled.embeddings if signals.labelled is not None else None
        assert points is not None
        similarity = (_cosines if self.kernel == "cosine" else _rbf)(points)
        served = None
        if self.include_labelled and known is not None and len(known):
            groups = [similarity(rows).amax(1) for rows in known.split(64)]
            served = torch.stack(groups).amax(0).clamp_(min=0)
        picks = greedy_cover(
            lambda part: similarity(points[part]),
            points.new_ones(len(points)),
            count,
            served,
            generator=generator if len(points) > EXACT else None,
        )
        return Selection(picks)


@dataclass(frozen=True)
class GraphCut(Strategy):
    """Examples near to all of the pool, less what they are near to each other: a generalised graph cut.

    penalty: λ of Σ_{u, s} w(u, s) − λ Σ_{s, s'} w(s, s') over the pool u and picks s, where w is (1 + cosine) / 2. Up
    to ½ no pick does harm. The first sum grows with the pool and the second with the batch: for more spread, it should
    go towards the size of the pool over that of the batch.
    Use when: what is most representative is wanted, and copies of it are not. Needs: embeddings.
    Cost: one pass over the embeddings a pick.
    Reference: Lin & Bilmes 2010, Multi-document Summarization via Budgeted Maximization of Submodular Functions, NAACL.
    """

    penalty: float = 0.5

    family: ClassVar[str] = "density"
    reference: ClassVar[str] = "Lin & Bilmes 2010, Multi-document Summarization via Submodular Functions"
    needs: ClassVar[frozenset[str]] = frozenset({"embeddings"})
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.penalty < 0:
            raise ValueError(f"penalty is {self.penalty:g}; it must not be negative, or copies would be asked for.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Greedily; the sums of rows come out of one sum of directions."""
        import torch

        from nlp_al.selection.density import cosines_with, directions, sum_of_directions
        from nlp_al.selection.submodular import greedy_cut

        points = signals.embeddings
        assert points is not None
        totals = (len(points) + cosines_with(points, sum_of_directions(points))) / 2
        own = (1 + torch.linalg.vector_norm(points, dim=1).sign().double()) / 2

        def column(at: int) -> Tensor:
            return (1 + cosines_with(points, directions(points[[at]])[0])) / 2

        return Selection(greedy_cut(totals, own, column, count, self.penalty))


def _cosines(points: Tensor) -> Callable[[Tensor], Tensor]:
    """float[c, d] to float64[n, c], the cosines of float[n, d] points to these."""
    from nlp_al.selection.density import directions

    here = directions(points)
    return lambda others: here @ directions(others).T


def _rbf(points: Tensor) -> Callable[[Tensor], Tensor]:
    """float[c, d] to float64[n, c], exp(−squared distance / its mean between two of the points)."""
    from nlp_al.selection.distances import row_squares, squared_distances

    here = points.double()
    centre = here.mean(0)
    here = here - centre
    squares = row_squares(here)
    usual = 2 * float(squares.mean()) or 1.0
    return lambda others: squared_distances(here, squares, others.double() - centre).div_(-usual).exp_()
