"""Models fitted from different seeds: Lakshminarayanan, Pritzel & Blundell 2017, arXiv 1612.01474."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.samplers.base import Alone, Fitted, Sampler
from nlp_al.values import about

if TYPE_CHECKING:
    from nlp_al.signals.collector import Committee


@dataclass(frozen=True)
class Ensemble(Sampler):
    """The model of the round, and others that are fine-tuned on the same labels from other seeds.

    A seed decides the new head, the order of the labels, and dropout. They start from the pretrained weights, whatever
    `training.init` says. One is fitted, reads the pool and goes before the next one comes; none is kept, and a restart
    fits them anew.
    Use when: fits are short, and the best committee is wanted. Needs: fine-tuning.
    Cost: `passes` − 1 more fits a round, and `passes` passes over the pool; memory for two models.
    Reference: Lakshminarayanan, Pritzel & Blundell 2017, arXiv 1612.01474.
    """

    passes: int = about("how many models there are", 5)

    reference: ClassVar[str] = "Lakshminarayanan, Pritzel & Blundell 2017, arXiv 1612.01474"
    modes: ClassVar[tuple[str, ...]] = ("full", "lora")
    otherwise: ClassVar[str] = "the same labels give the same head on frozen features, whatever the seed"

    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """A model each."""
        yield Alone(fitted.model, plain=True)
        for member in range(1, self.passes):
            fitted.model.rest()
            other = Alone(fitted.another(fitted.seed(f"member-{member}")), plain=False)
            yield other
            other.rest()
