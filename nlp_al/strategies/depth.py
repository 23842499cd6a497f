"""What the layers of one model differ on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Group, Selection, check_one_of
from nlp_al.strategies.disagreement import Disagreement

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class LayerQbc(Disagreement):
    """A committee of the model's own layers: where heads at several depths differ most, and some examples at random.

    A place in the batch goes to one at random with a probability of `explore`, which is less in each round.
    kind: `margin`, max_c (max_j q_c − min_j q_c) over the heads j; or `js`, their Jensen–Shannon divergence. What the
    authors call black-box variants are `least_confidence` with `agg: max` and `entropy` with `agg: sum`. explore: the
    probability of the first batch; 0 for none. decay: the factor on it in each round that follows.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: one fit and one pass over the pool is all there is time for. Needs: the sampler `layers`, which is taken
    where the config names none. Cost: a convex fit of a head a layer, and one pass over the pool; in frozen mode too.
    Reference: Roy, Unmesh & Namboodiri 2018, Deep active learning for object detection, BMVC.
    """

    kind: str = "margin"
    explore: float = 0.3
    decay: float = 0.7

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "Roy, Unmesh & Namboodiri 2018, Deep active learning for object detection"
    needs: ClassVar[frozenset[str]] = frozenset({"passes"})
    group: ClassVar[Group] = "seeded"
    scored: ClassVar[bool] = False
    sampler: ClassVar[str] = "layers"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("kind", self.kind, ("margin", "js"))
        for name in ("explore", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be at least 0 and at most 1.")
        if self.explore == 0:
            object.__setattr__(self, "group", "deterministic")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """The highest scores, with others at random in some of the places."""
        import torch

        from nlp_al.selection.topk import top

        scores = self.scores(signals)
        best = top(scores, count, signals.shard)
        chance = self.explore * self.decay ** max((signals.round or 1) - 1, 0)
        if chance == 0:
            return Selection(best, scores)
        # As many draws whatever the count, so that a choice begins with each smaller one.
        anyhow = torch.rand(signals.total, generator=generator) < chance
        order = torch.randperm(signals.total, generator=generator)
        return Selection(_mixed(best.tolist(), order.tolist(), anyhow.tolist()))

    def score(self, signals: Signals) -> Tensor:
        """How far the heads are apart in each decision, float[M]."""
        import torch

        if self.kind == "js":
            return signals.statistics().information(signals.options)
        members = torch.stack([member.masked for member in signals.members()])
        return (members.amax(0) - members.amin(0)).amax(1)


def _mixed(best: list[int], drawn: list[int], anyhow: list[bool]) -> Tensor:
    """int64[len(best)]: in each place the next of `drawn` where `anyhow` says so, else of `best`, and none twice."""
    import torch

    taken: dict[int, None] = {}
    sources = {True: iter(drawn), False: iter(best)}
    for at_random in anyhow[: len(best)]:
        taken[next(at for at in sources[at_random] if at not in taken)] = None
    return torch.tensor(list(taken), dtype=torch.int64)
