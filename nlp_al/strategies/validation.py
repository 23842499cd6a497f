"""What strategies share that look at labelled examples which the model has not been fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from nlp_al.signals import Signals


def given(known: Signals) -> tuple[Tensor, Tensor]:
    """The labels as float64[M, O], 1 in their column, and bool[M], whether another option is predicted.

    Raises:
        SignalError: a label is none of the options.
    """
    import torch

    from nlp_al.signals import SignalError

    probs, targets = known.decisions.masked.double(), known.targets
    assert targets is not None
    options = torch.full_like(targets, probs.shape[1]) if known.options is None else known.options
    if len(targets) != len(probs) or bool((targets >= options).any()):
        raise SignalError("validation.targets do not fit the decisions of validation.probs.")
    return torch.nn.functional.one_hot(targets, probs.shape[1]).double(), probs.argmax(1) != targets
