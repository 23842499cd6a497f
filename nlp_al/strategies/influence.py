"""What would lower the loss on other examples most."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy, check_one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Isal(Strategy):
    """The examples that, if trained on, would lower the loss on the validation split most, by influence functions.

    The score is ⟨H⁻¹ ∇ℓ(validation), ∇ℓ(x)⟩ over the weights of the last layer, H the Hessian of the loss on the
    labelled set and a ridge. The words of a sentence are summed, so that long ones are favoured.
    labels: what ∇ℓ(x) is taken under, `pseudo`, the predicted label, or `expectation`, Σ p_c ∇ℓ(x, c) over the more
    probable half of the options (over all of them it is 0). ridge: what is added to H, that of the mean loss; null:
    mean‖h‖² / (32 · labels), the penalty of the heads on frozen features.
    Use when: there is a validation split like what the model is to serve.
    Needs: probs and gradients (factors) of the pool, the labelled set and the validation split, whose labels are not
    counted in the cost; a score on the same split is no honest one then. Where there is none the labelled set stands
    in, each fifth of it judged by a model of the rest, which are five fits more a round.
    Cost: a pass over the factors; some hundred passes over those of the labelled set.
    Reference: Liu et al. 2021, arXiv 2108.09331.
    """

    labels: str = "pseudo"
    ridge: float | None = None

    family: ClassVar[str] = "expected model change"
    reference: ClassVar[str] = "Liu et al. 2021, arXiv 2108.09331"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    needs_validation: ClassVar[frozenset[str]] = frozenset({"probs", "gradients", "targets"})
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_one_of("labels", self.labels, ("pseudo", "expectation"))
        if self.ridge is not None and not (self.ridge > 0 and math.isfinite(self.ridge)):
            raise ValueError(f"ridge is {self.ridge:g}; it must be above 0, or null for that of the heads.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        import torch

        from nlp_al.selection.influence import gradients_along
        from nlp_al.selection.topk import top

        direction, note = self._direction(signals)
        decisions, factors = signals.decisions, signals.factors()
        scores = gradients_along(decisions, factors, self._guessed(signals), direction)
        # The last digits of float64 differ between equal examples, which must tie.
        scores = scores.float().masked_fill(decisions.offsets.diff() == 0, -torch.inf)
        return Selection(top(scores, count), scores, note)

    def _direction(self, signals: Signals) -> tuple[Tensor, str]:
        """H⁻¹ ∇ℓ(validation), float64[R, d], zero without any; and what to say about it."""
        import torch

        from nlp_al.heads import SLACK
        from nlp_al.selection.influence import curvature, losses, mean_gradient, solved
        from nlp_al.strategies.validation import given

        r, h, _ = signals.factors()
        reference, known = signals.validation, signals.labelled
        nothing = h.new_zeros(r.shape[1], h.shape[1], dtype=torch.float64)
        if reference is None or len(reference) == 0:
            return nothing, "nothing labelled to lower the loss on, so that all examples tie"
        wanted = mean_gradient(reference.decisions, reference.factors(), given(reference)[0])
        if known is None or len(known) == 0:
            return wanted, ""
        decisions, factors = known.decisions, known.factors()
        usual = float(factors.h.double().square().sum(1).mean()) / (SLACK * losses(decisions, factors))
        found, close = solved(curvature(decisions, factors, self.ridge or usual or 1.0), wanted)
        return found, "" if close else "the inverse of the Hessian is rough, for its condition is bad: raise ridge"

    def _guessed(self, signals: Signals) -> Tensor:
        """float64[M, O]: how much each option of the pool counts as its label."""
        import torch

        from nlp_al.selection.influence import most_probable

        if self.labels == "expectation":
            return most_probable(signals.decisions, 0.5)
        probs = signals.decisions.masked
        return torch.nn.functional.one_hot(probs.argmax(1), probs.shape[1]).double()
