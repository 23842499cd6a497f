"""Models along one fit: Huang et al. 2017, arXiv 1704.00109; for active learning Jung et al. 2023."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from nlp_al.samplers.base import Alone, Fitted, Sampler
from nlp_al.training.arguments import TRAINING_DEFAULTS
from nlp_al.values import about

if TYPE_CHECKING:
    from nlp_al.config import Training
    from nlp_al.signals.collector import Committee, Scorer
    from nlp_al.training.snapshots import Snapshots


@dataclass(frozen=True)
class SnapshotSampler(Sampler):
    """What the fit of the round was at several points: from `start` on, its learning rate falls from the full one to 0
    again and again, and each time it has come down the weights are kept.

    They are kept in memory; after a restart the round is fitted anew for them. The model of the round is the last one.
    With `training.init: last` a run is one continuing fit: each round goes on from there, with `start: 0` in cycles all
    along, and what it began with is kept in `model_start/`.
    Use when: a committee of whole models is wanted at the cost of one fit. Needs: fine-tuning.
    Cost: `passes` passes over the pool, and memory for as many models (of adapters, for as many adapters).
    Reference: Huang et al. 2017, arXiv 1704.00109; Jung, Kim & Lee 2023, A Simple Yet Powerful Deep Active Learning.
    """

    passes: int = about("how many snapshots there are", 5)
    start: float = about("share of training before the first cycle", 0.5)
    evaluate: Literal["single", "ens", "swa"] = about(
        "what the metrics of a round are of: single, the last snapshot; ens, the mean of what all say; swa, the mean "
        "of their weights; the final model is the last one",
        "single",
    )

    reference: ClassVar[str] = "Huang et al. 2017, arXiv 1704.00109; Jung et al. 2023, OpenReview IVESH65r0Ar"
    modes: ClassVar[tuple[str, ...]] = ("full", "lora")
    otherwise: ClassVar[str] = "a head is fitted to its optimum, and there is nothing to see on the way"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"start is {self.start:g}; it must be at least 0 and below 1.")

    def refusal(self, training: Training) -> str | None:
        """It sets the learning rate."""
        name = "lr_scheduler_type"
        if training.arguments.get(name, "linear") != TRAINING_DEFAULTS.get(name, "linear"):
            return f"it sets the learning rate itself, and training.{name} is {training.arguments[name]}"
        return super().refusal(training)

    def keeps(self) -> Snapshots:
        """Snapshots of the fit of the round."""
        from nlp_al.training.snapshots import Snapshots

        return Snapshots(self.passes, self.start)

    @property
    def judged(self) -> bool:
        """Unless the last snapshot is."""
        return self.evaluate != "single"

    def judges(self, fitted: Fitted) -> Iterator[Committee]:
        """All snapshots, or the mean of their weights."""
        return self._alone(fitted.snapshots(self.evaluate == "swa"))

    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """A snapshot each."""
        return self._alone(fitted.snapshots())

    def _alone(self, models: Iterator[Scorer]) -> Iterator[Committee]:
        for model in models:
            member = Alone(model, plain=False)
            yield member
            member.rest()
