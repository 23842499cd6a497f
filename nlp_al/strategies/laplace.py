"""Doubt about the last layer's weights, given the labels that they were fitted to: Laplace's approximation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, check_one_of
from nlp_al.strategies.uncertainty import Uncertainty

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.laplace import Posterior
    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Laplace(Uncertainty):
    """How uncertain the last layer is of its own weights: a Gaussian around them, as wide as labels leave it.

    kind: `mi`, the BALD of `draws` sampled layers; `variance`, that of the logits, which grows with the distance from
    all labels and knows nothing of probabilities; `probit`, the entropy of probabilities that this variance flattens.
    form: `shared`, one d x d matrix for all classes; `exact`, the whole curvature, with at most 4,096 weights (or any
    number of labels in multi-label tasks). Of response selection both are the same.
    prior: λ, the precision of a weight before any label; null: mean‖h‖² / 32, the penalty of frozen heads. draws: how
    many layers `mi` samples.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: one model is all there is, and it should know what it has not seen; no other passes are needed.
    Needs: probs and gradients (or embeddings) of the pool and the labelled set. Cost: l · d² + d³ + n · d², and for
    `mi` n · d · classes · draws. Reference: MacKay 1992; Kristiadi, Hein & Hennig 2020, arXiv 2002.10118.
    """

    kind: str = "mi"
    form: str = "shared"
    prior: float | None = None
    draws: int = 50

    reference: ClassVar[str] = "MacKay 1992; Kristiadi, Hein & Hennig 2020, arXiv 2002.10118"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    group: ClassVar[Group] = "seeded"
    sharded: ClassVar[bool] = False  # the prior may be the pool's

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("kind", self.kind, ("mi", "variance", "probit"))
        check_one_of("form", self.form, ("shared", "exact"))
        if self.prior is not None and self.prior <= 0:
            raise ValueError(f"prior is {self.prior:g}; it must be more than 0, or null.")
        if self.draws < 2:
            raise ValueError(f"draws is {self.draws}; it must be at least 2.")
        if self.kind != "mi":
            object.__setattr__(self, "group", "deterministic")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        from nlp_al.decisions import reduce
        from nlp_al.selection.topk import top

        # The last digits of float64 products differ between equal examples, which must tie.
        scores = reduce(self._values(signals, generator).float(), signals.decisions.offsets, self.agg)
        return Selection(top(scores, count), scores)

    def score(self, signals: Signals) -> Tensor:
        """float64[M]: as in `choose`, with draws of a generator of its own."""
        import torch

        return self._values(signals, torch.Generator().manual_seed(0))

    def _values(self, signals: Signals, generator: torch.Generator) -> Tensor:
        import torch

        from nlp_al.decisions import Decisions, entropy
        from nlp_al.laplace import drawn, probit, variances
        from nlp_al.signals.sampled import statistics

        decisions, factors, posterior = signals.decisions, signals.factors(), self.posterior(signals)
        if self.kind == "variance":
            return variances(posterior, decisions, factors)
        if self.kind == "probit":
            return entropy(Decisions(probit(posterior, decisions, factors), decisions.offsets, decisions.options))
        found = decisions.probs.new_zeros(len(decisions.probs), dtype=torch.float64)
        for rows, passes in drawn(decisions, factors, posterior.draws(self.draws, generator)):
            options = None if decisions.options is None else decisions.options[rows]
            # Each row by itself: these are statistics of decisions, whoever has them.
            single = torch.arange(passes.shape[1] + 1, device=passes.device)
            found[rows] = statistics(Decisions(one, single, options) for one in passes).information(options)
        return found

    def posterior(self, signals: Signals) -> Posterior:
        """Of the layer, given the labelled set; with nothing labelled it is the prior."""
        import torch

        from nlp_al.heads import SLACK
        from nlp_al.laplace import posterior

        known, prior = signals.labelled, self.prior
        if known is None or len(known) == 0:
            known = signals.take(torch.zeros(0, dtype=torch.int64))
            if prior is None:
                squares = signals.factors().h.double().square().sum(1)
                prior = float(squares.mean()) / SLACK if bool(squares.any()) else 1.0
        return posterior(known.decisions, known.factors(), self.form == "exact", prior)
