"""What every query strategy is: a small class with one method, `choose`.

Torch is imported inside the functions, here and in every strategy's file: a config is checked against these classes
before torch loads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals

Group = Literal["deterministic", "seeded"]
SHAPES = ("single", "multi", "sequence", "ranking")


@dataclass(frozen=True, eq=False)
class Selection:
    """What a strategy asks for.

    indices: int64[size], positions in the pool, the most wanted first.
    scores: float[n], higher = ask first, or None where the strategy does not score examples one by one. An example with
    nothing to decide has minus infinity.
    relabel: whether it chose among the labelled examples as well, to ask somebody else about them. They stand behind
    the pool: position n + j is example j of `signals.labelled`, and scores is float[n + l].
    note: what the user should know of how the choice was made, such as that a sample stood for the pool; else empty.
    abstained: of what is undecided, the share that a filter left out because no label would settle it; None where
    nothing is, or nothing is filtered.
    """

    indices: Tensor
    scores: Tensor | None = None
    note: str = ""
    abstained: float | None = None
    relabel: bool = False


class Strategy(ABC):
    """A query strategy. Subclasses are frozen dataclasses: their fields are the parameters that a config may set.

    family: the tag of the surveys. scenario: where examples come from; those of a `pool` are all known, and asked about
    in batches. reference: the paper. needs: fields of `Signals` for the pool; needs_labelled: the same for the labelled
    set; needs_validation: for the validation split, in whose place the labelled set stands where there is none, with
    what models say of it that were fitted without. shapes: the task shapes it serves. group: `deterministic` or
    `seeded` (draws, k-means).
    nested: the first k of a larger choice are the choice of k, so that a budget can cut a prefix.
    batch_aware: what is asked depends on what else is in the batch, so that copies of a pick come late.
    sharded: `choose` works on the rows of one process where several hold the pool (`signals.shard`): all call it
    together, and get the same positions, with the scores of their own rows. Else one process holds the whole pool.
    scored: it gives each example a score, so that others may build on it. filters: it may give fewer than asked for.
    relabels: it chooses among the labelled examples that are `askable` as well (`Selection.relabel`).
    sampler: the name of the one that its committee must come from; empty where any will do.

    `nlp_al.testing.check_strategy` says whether a new one keeps the promises that all of them make.
    """

    family: ClassVar[str]
    scenario: ClassVar[str] = "pool"
    reference: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    needs_labelled: ClassVar[frozenset[str]] = frozenset()
    needs_validation: ClassVar[frozenset[str]] = frozenset()
    shapes: ClassVar[tuple[str, ...]] = SHAPES
    group: ClassVar[Group] = "deterministic"
    nested: ClassVar[bool] = True
    batch_aware: ClassVar[bool] = False
    sharded: ClassVar[bool] = False
    scored: ClassVar[bool] = False
    filters: ClassVar[bool] = False
    relabels: ClassVar[bool] = False
    sampler: ClassVar[str] = ""

    @property
    def needs_model(self) -> bool:
        """Whether a fitted model has to exist before this strategy can choose."""
        fitted = {"probs", "sampled", "passes", "gradients"}
        return any(need in fitted or need.startswith("scores.") for need in self.needs)

    @abstractmethod
    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Picks `count` distinct positions, the most wanted first, for `select` and for wrappers.

        `count` is at most `signals.total`, and the number of askable labelled examples more where it `relabels`.
        Scores lie where the signals do; positions may lie there or on the CPU, since they only index.
        """

    def select(self, signals: Signals, size: float, generator: torch.Generator) -> Selection:
        """Picks from the pool.

        signals: the fields in `needs`. size: how many examples, or what they may cost together where `signals.cost` is
        given (then an example that no longer fits ends the selection). generator: the only source of randomness.
        Examples with nothing to decide come behind all others, and pass no filter. Ties go to the lowest position.
        The signals may lie on any device; what is chosen comes back on the CPU, where the generator is.
        Where several processes hold the pool, all call this together, with generators in the same state.

        Raises:
            SignalError: a needed field is missing, or holds NaN or infinity.
        """
        import torch

        from nlp_al.signals import SignalError
        from nlp_al.signals.shards import kept

        signals.require(self.needs, self.needs_labelled, self.needs_validation)
        can_ask = signals.of_all(signals.can_ask())
        costs = None if signals.cost is None else signals.of_all(signals.cost)
        asked = torch.nonzero(can_ask).flatten()
        idle = torch.nonzero(~can_ask).flatten()
        pool = kept(signals, asked) if len(idle) else signals
        spare = idle[:0] if self.filters else idle
        total, most = signals.total, pool.total
        known = signals.labelled if self.relabels else None
        if known is not None:
            asked = torch.cat([asked, total + torch.arange(len(known), device=asked.device)])
            total, most = total + len(known), most + int(known.can_ask().sum())
            if costs is not None:
                if known.cost is None:
                    raise SignalError("The signals have no labelled.cost, but a cost.")
                costs = torch.cat([costs, known.cost])
        if costs is None:
            wanted = int(min(max(size, 0), total))
            chosen = self.choose(pool, min(wanted, most), generator)
            rest = spare[: max(wanted - most, 0)]
        else:
            cost = costs[asked]
            chosen = (self._prefix if self.nested else self._whole)(pool, cost, size, most, generator)
            left = size - float(cost[chosen.indices].sum())
            rest = spare[costs[spare].cumsum(0) <= left] if len(chosen.indices) == most else idle[:0]
        scores = None if chosen.scores is None else pool.of_all(chosen.scores)
        if scores is not None and len(idle):
            scores = scores.new_full((total,), -torch.inf).index_copy_(0, asked, scores)
        indices = torch.cat([asked[chosen.indices], rest]).cpu()
        return replace(chosen, indices=indices, scores=None if scores is None else scores.cpu())

    def _prefix(self, pool: Signals, cost: Tensor, size: float, most: int, generator: torch.Generator) -> Selection:
        """The longest prefix of the ranking that costs at most `size`; ranks only as far as it has to."""
        state = generator.get_state()
        count = min(affordable(cost, size), most)
        while True:
            generator.set_state(state)
            chosen = self.choose(pool, count, generator)
            fitting = int((cost[chosen.indices].cumsum(0) <= size).sum())
            if fitting < count or count == most:
                return replace(chosen, indices=chosen.indices[:fitting])
            count = min(2 * count + 1, most)

    def _whole(self, pool: Signals, cost: Tensor, size: float, most: int, generator: torch.Generator) -> Selection:
        """A choice that costs at most `size`, where one more would not; what a count costs corrects the next."""
        import torch

        state = generator.get_state()
        count, fits, overflows = affordable(cost, size), 0, most + 1
        best = Selection(torch.zeros(0, dtype=torch.int64))
        while overflows - fits > 1:
            count = min(max(count, fits + 1), overflows - 1)
            generator.set_state(state)
            chosen = self.choose(pool, count, generator)
            spent = float(cost[chosen.indices].sum())
            if spent <= size:
                fits, best = count, chosen
            else:
                overflows = count
            count = int(min(count * size / max(spent, 1e-9), most))
        return best


def check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """ValueError where a parameter is none of the names that it may be."""
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be {' or '.join(known)}.")


def affordable(cost: Tensor, size: float) -> int:
    """About how many examples of average cost `size` pays for, and one more."""
    if len(cost) == 0:
        return 0
    return int(min(max(size / max(float(cost.mean()), 1e-9) + 1, 0), len(cost)))
