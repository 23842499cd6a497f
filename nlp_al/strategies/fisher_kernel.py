"""What is like the validation examples that the model gets wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, Strategy, check_one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class FisherKernel(Strategy):
    """What is most like the validation examples that the model gets wrong, by features and last-layer gradients.

    Of more mistakes than the batch is large, so many stand for all that are spread out. Then come the examples most
    like each of them, after these the second ones, and so on. Without a mistake all validation examples count, and
    without any the batch is drawn at random. Of sentences the words count: a word that is wrong, and the most alike
    word of each sentence.
    combine: `sum` of two correlations, between features and between gradients, or the `product` of the two last-layer
    gradients, under which what is predicted with the same mistake is the least alike. labels: what gradients in the
    pool are taken under, `hard`, the predicted label, `soft`, the sharpened probabilities p² / Σ p², or `mc`, the mean
    of what a committee (`sampler`) says.
    Use when: classes are rarer in the pool than where the model is to serve, and the validation split is like there.
    Needs: probs and gradients (factors) of the pool and the validation split, a few hundred labels that are not counted
    in the cost; a score on the same split is no honest one then. Where there is none the labelled set stands in, each
    fifth of it judged by a model of the rest, which are five fits more a round.
    Cost: one product of the factors of the pool and those of at most a batch of mistakes.
    Reference: Gudovskiy et al. 2020, arXiv 2003.00393.
    """

    combine: str = "sum"
    labels: str = "hard"

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Gudovskiy et al. 2020, arXiv 2003.00393"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    needs_validation: ClassVar[frozenset[str]] = frozenset({"probs", "gradients", "targets"})
    group: ClassVar[Group] = "seeded"
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_one_of("combine", self.combine, ("sum", "product"))
        check_one_of("labels", self.labels, ("hard", "soft", "mc"))
        if self.labels == "mc":  # an instance may need more than its class
            object.__setattr__(self, "needs", self.needs | {"sampled"})

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Rank by rank of the anchors' lists."""
        import torch

        from nlp_al.selection.fisher_kernel import comparable, descriptors, like_anchors, spread_out
        from nlp_al.strategies.validation import given

        known, product = signals.validation, self.combine == "product"
        if known is None or len(known) == 0:
            return Selection(torch.randperm(len(signals), generator=generator)[:count])
        if count == 0:
            return Selection(torch.zeros(0, dtype=torch.int64))
        weights, wrong = given(known)
        references = descriptors(known.decisions, known.factors(), weights, product)
        if bool(wrong.any()):
            references = references.rows(torch.nonzero(_of_rows(known, wrong, len(references.z))).flatten())
        references = comparable(references, product)
        anchors = references.rows(spread_out(references, count, generator, product))
        pool = descriptors(signals.decisions, signals.factors(), self._guessed(signals), product)
        return Selection(like_anchors(pool, anchors, count, product))

    def _guessed(self, signals: Signals) -> Tensor:
        """float64[M, O]: the labels that stand for those of the pool."""
        import torch

        from nlp_al.decisions import Decisions

        probs = signals.decisions.masked.double()
        if self.labels == "mc":
            return Decisions(signals.statistics().mean, signals.decisions.offsets, signals.options).masked.double()
        if self.labels == "soft":
            return probs.square() / probs.square().sum(1, keepdim=True)
        return torch.nn.functional.one_hot(probs.argmax(1), probs.shape[1]).double()


def _of_rows(signals: Signals, wrong: Tensor, rows: int) -> Tensor:
    """bool[rows]: whether a row of the last layer is wrong; one that several decisions read where any of these is."""
    return wrong if len(wrong) == rows else wrong.reshape(rows, -1).any(1)
