"""Examples near to a decision boundary: a small change of their token embeddings, and they are predicted otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nlp_al.strategies.scored import Scored

_REFERENCE = "Ducoffe & Precioso 2018, arXiv 1802.09841"


@dataclass(frozen=True)
class AdvBim(Scored):
    """The least change of the token embeddings that another prediction takes, by equal steps up the loss.

    Only words are changed, and of several decisions the prediction that is closest to another one. What no step changes
    comes last. steps: how many there are at most. size: how far a step moves a token, relative to the mean length of
    the embedded tokens; all coordinates move as far.
    Use when: distances should be measured in what the model reads. `adv_deepfool` measures them more exactly.
    Needs: a model with gradients. Cost: up to `steps` times a training step's for each example; put a cheap stage
    before it, as `[{name: margin, keep: 250}, {name: adv_bim}]`.
    Reference: Ducoffe & Precioso 2018, arXiv 1802.09841; Kurakin, Goodfellow & Bengio 2016, arXiv 1607.02533.
    """

    steps: int = 50
    size: float = 0.05

    family: ClassVar[str] = "uncertainty"
    reference: ClassVar[str] = _REFERENCE
    score: ClassVar[str] = "adv_bim"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self.steps)
        if self.size <= 0:
            raise ValueError(f"size is {self.size:g}; it must be more than 0.")


@dataclass(frozen=True)
class AdvDeepfool(Scored):
    """The least change of the token embeddings that another prediction takes, by steps to the nearest boundary.

    Each step goes to where that boundary would be, were all linear. Only words are changed. What no step changes comes
    last. steps: how many there are at most. options: how many boundaries are looked at, those of the narrowest gaps
    between logits; in a sentence those of all words, in a dialogue those of all candidates.
    Use when: distances should be measured in what the model reads, not in its probabilities.
    Needs: a model with gradients. Cost: up to `steps` · `options` times a training step's for each example, though two
    or three steps are usual; put a cheap stage before it, as `[{name: margin, keep: 250}, {name: adv_deepfool}]`.
    Reference: Ducoffe & Precioso 2018, arXiv 1802.09841; Moosavi-Dezfooli et al. 2016, arXiv 1511.04599.
    """

    steps: int = 50
    options: int = 10

    family: ClassVar[str] = "uncertainty"
    reference: ClassVar[str] = _REFERENCE
    score: ClassVar[str] = "adv_deepfool"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self.steps)
        if self.options < 1:
            raise ValueError(f"options is {self.options}; it must be at least 1.")


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1.")
