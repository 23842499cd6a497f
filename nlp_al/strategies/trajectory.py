"""What models along one fit differ on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, check_one_of
from nlp_al.strategies.disagreement import Bald, Disagreement, MarginEnsemble, VariationRatio

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class Snapshot(Disagreement):
    """A committee of snapshots of one fit, whose learning rate goes up and down again late in it.

    kind: `vote`, the share of snapshots that do not vote for the most voted option, as `variation_ratio`; or what else
    compares them: `mean_entropy`, that of the mean of their probabilities, over ln K where options vary; `bald`; or
    `margin`, that of the mean.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: fine-tuning is all there is time for, and passes with dropout say too little. Needs: the sampler
    `snapshots`, which is taken where the config names none, so fine-tuning: from pretrained weights in each round, or,
    with `training.init: last`, in one continuing fit.
    Cost: one fit, and one pass over the pool a snapshot. Reference: Jung, Kim & Lee 2023, A Simple Yet Powerful Deep
    Active Learning With Snapshots Ensembles, ICLR (OpenReview IVESH65r0Ar).
    """

    kind: str = "vote"

    reference: ClassVar[str] = "Jung, Kim & Lee 2023, OpenReview IVESH65r0Ar"
    sampler: ClassVar[str] = "snapshots"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("kind", self.kind, ("vote", "mean_entropy", "bald", "margin"))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        found = super().choose(signals, count, generator)
        alone = signals.statistics().members == 1
        return replace(found, note="one snapshot has nothing to be compared with" if alone else "")

    def score(self, signals: Signals) -> Tensor:
        """How far the snapshots are apart in each decision, or how unsure together, float64[M]."""
        from nlp_al.decisions import Decisions, entropy

        if self.kind == "mean_entropy":
            assert signals.offsets is not None
            return entropy(Decisions(signals.statistics().mean, signals.offsets, signals.options))
        return _SCORES[self.kind].score(signals)


_SCORES: dict[str, Disagreement] = {"vote": VariationRatio(), "bald": Bald(), "margin": MarginEnsemble()}
