"""Scores of how far the members of a committee are apart; the largest are asked.

Members are passes with dropout, models, heads or draws of weights: whatever the sampler of the run is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, check_one_of
from nlp_al.strategies.uncertainty import Uncertainty

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals

_GAL = "Gal, Islam & Ghahramani 2017, arXiv 1703.02910"


@dataclass(frozen=True)
class Disagreement(Uncertainty):
    """A score a decision out of what all members say, reduced over the decisions of an example."""

    needs: ClassVar[frozenset[str]] = frozenset({"sampled"})

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        from nlp_al.selection.topk import top

        scores = self.scores(signals)
        return Selection(top(scores, count, signals.shard), scores)

    def scores(self, signals: Signals) -> Tensor:
        """float64[n]: a score an example."""
        from nlp_al.decisions import reduce

        assert signals.offsets is not None
        return reduce(self.score(signals), signals.offsets, self.agg)


@dataclass(frozen=True)
class Bald(Disagreement):
    """H(p̄) − mean H(pᵗ): what the label would tell about which member is right; over ln K where options vary.

    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: labels are noisy or classes overlap, so that plain doubt asks for what nobody could tell. Needs: a
    committee (`sampler`). Cost: one pass over the pool a member. Reference: Houlsby et al. 2011, arXiv 1112.5745.
    """

    reference: ClassVar[str] = f"Houlsby et al. 2011, arXiv 1112.5745; {_GAL}"

    def score(self, signals: Signals) -> Tensor:
        """H(p̄) − mean H(pᵗ) of each decision, float64[M], at least 0."""
        return signals.statistics().information(signals.options)


@dataclass(frozen=True)
class QbcKl(Bald):
    """The mean KL(pᵗ ‖ p̄) over the members: consensus disagreement, the same number as that of `bald`.

    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: as `bald`, under the name that it has for committees. Needs: a committee (`sampler`).
    Cost: one pass over the pool a member. Reference: McCallum & Nigam 1998, ICML.
    """

    reference: ClassVar[str] = "McCallum & Nigam 1998, Employing EM and Pool-Based Active Learning"


@dataclass(frozen=True)
class QbcVe(Disagreement):
    """The entropy of the members' votes; over ln K where the number of options varies.

    level: `decision`, votes on the top option of each; `sequence`, votes on all decisions of an example together;
    `ranking`, no votes, but the share of pairs of options that two members order differently (Kendall's distance).
    normalise: divide by the most that it could be, ln min(members, options), or ln members for sequences.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%); of no use with `sequence`.
    Use when: only the members' decisions count, not how sure they are. Needs: a committee (`sampler`).
    Cost: one pass over the pool a member. Reference: Dagan & Engelson 1995, ICML.
    """

    level: str = "decision"
    normalise: bool = False

    reference: ClassVar[str] = "Dagan & Engelson 1995; Seung, Opper & Sompolinsky 1992"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("level", self.level, ("decision", "sequence", "ranking"))
        if self.level != "decision":  # an instance may need more than its class
            object.__setattr__(self, "needs", frozenset({"passes"}))

    def scores(self, signals: Signals) -> Tensor:
        """float64[n]: a score an example."""
        if self.level != "sequence":
            return super().scores(signals)
        assert signals.offsets is not None
        return self._of_sequences(signals).masked_fill(signals.offsets.diff() == 0, -float("inf"))

    def score(self, signals: Signals) -> Tensor:
        """−Σ v ln v over the shares of the votes of each decision, float64[M]; or Kendall's distance."""
        import torch

        from nlp_al.decisions import leading

        if self.level == "ranking":
            return _kendall(signals)
        found = signals.statistics()
        shares = found.votes.double() / found.members
        columns = shares.shape[1]
        options = signals.options
        if options is not None:
            shares = shares.masked_fill(~leading(options, columns), 0.0)
        values: Tensor = torch.special.entr(shares).sum(1)
        most = torch.full_like(values, columns) if options is None else options.double()
        if self.normalise:
            return values / most.clamp(max=found.members).clamp(min=2).log()
        return values if options is None else values / most.clamp(min=2).log()

    def _of_sequences(self, signals: Signals) -> Tensor:
        """−Σ v ln v over the distinct sequences of top options that members give, float64[n]."""
        import torch

        from nlp_al.decisions import segment_sum

        assert signals.offsets is not None
        tops = [member.masked.argmax(1) for member in signals.members()]
        # How many have the sequence of each member, itself included.
        alike = signals.offsets.new_ones(len(tops), len(signals), dtype=torch.float64)
        for at, one in enumerate(tops):
            for other in range(at):
                same = segment_sum((one != tops[other]).long(), signals.offsets) == 0
                alike[at] += same
                alike[other] += same
        # A sequence that v members give is counted by each of them, with ln(v / T) / T.
        values = -(alike / len(tops)).log().mean(0)
        return values / torch.tensor(float(max(2, len(tops)))).log() if self.normalise else values


def _kendall(signals: Signals) -> Tensor:
    """The mean over pairs of members of the share of pairs of options that they order differently, float64[M].

    An option that a member holds equal to another counts half.
    """
    import torch

    from nlp_al.decisions import leading

    assert signals.passes is not None
    members, rows, columns = signals.passes.shape
    valid = signals.passes.new_ones(rows, columns, dtype=torch.bool)
    if signals.options is not None:
        valid = leading(signals.options, columns)
    apart = signals.passes.new_zeros(rows, dtype=torch.float64)
    pairs = torch.zeros_like(apart)
    for one in range(columns):
        for other in range(one):
            more = (signals.passes[:, :, one] > signals.passes[:, :, other]).double().sum(0)
            less = (signals.passes[:, :, one] < signals.passes[:, :, other]).double().sum(0)
            both = valid[:, one] & valid[:, other]
            apart += torch.where(both, more * less + (members - more - less) * (more + less) / 2, 0.0)
            pairs += both
    return apart / pairs.clamp(min=1) / max(1, members * (members - 1) // 2)


@dataclass(frozen=True)
class VariationRatio(Disagreement):
    """The share of members that do not vote for the most voted option: 1 − max v / T.

    kind: `vote`; or `soft`, 1 − max p̄, which is `least_confidence` of the mean.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: members are many and sure of themselves, as snapshots are. Needs: a committee (`sampler`).
    Cost: one pass over the pool a member. Reference: Freeman 1965; Gal, Islam & Ghahramani 2017, arXiv 1703.02910.
    """

    kind: str = "vote"

    reference: ClassVar[str] = f"Freeman 1965; {_GAL}"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("kind", self.kind, ("vote", "soft"))

    def score(self, signals: Signals) -> Tensor:
        """1 − max v / T of each decision, float64[M]."""
        from nlp_al.decisions import Decisions

        found = signals.statistics()
        assert signals.offsets is not None
        shares = found.mean if self.kind == "soft" else found.votes.double() / found.members
        return 1.0 - Decisions(shares, signals.offsets, signals.options).masked.amax(1)


@dataclass(frozen=True)
class MeanStd(Disagreement):
    """The standard deviation of each option's probability over the members (over T, not T − 1), the mean over options.

    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: as `bald`, less drawn to decisions with many options. Needs: a committee (`sampler`).
    Cost: one pass over the pool a member. Reference: Kampffmeyer et al. 2016, CVPRW; as used by Gal et al. 2017.
    """

    reference: ClassVar[str] = f"Kampffmeyer, Salberg & Jenssen 2016; {_GAL}"

    def score(self, signals: Signals) -> Tensor:
        """mean_c std_t(pᵗ_c) of each decision, float64[M]."""
        found = signals.statistics().std(signals.options)
        if signals.options is None:
            return found.mean(1)
        return found.sum(1) / signals.options


@dataclass(frozen=True)
class MarginEnsemble(Disagreement):
    """−(p̄₍₁₎ − p̄₍₂₎), the margin of the members' mean; with one member, or equal ones, that of `margin`.

    of: `mean_probs`; or `mean` or `min` of the members' own margins.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: the margin of one model jumps from round to round. Needs: a committee (`sampler`), cheapest as `heads`.
    Cost: one pass over the pool a member; of heads, one in all.
    Reference: Scheffer, Decomain & Wrobel 2001; Beluch et al. 2018, The Power of Ensembles for Active Learning.
    """

    of: str = "mean_probs"

    reference: ClassVar[str] = "Scheffer, Decomain & Wrobel 2001; Beluch et al. 2018"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("of", self.of, ("mean_probs", "mean", "min"))
        if self.of != "mean_probs":  # an instance may need more than its class
            object.__setattr__(self, "needs", frozenset({"passes"}))

    def score(self, signals: Signals) -> Tensor:
        """Minus the margin of each decision, float64[M]."""
        import torch

        from nlp_al.decisions import Decisions, margin

        assert signals.offsets is not None
        if self.of == "mean_probs":
            return -margin(Decisions(signals.statistics().mean, signals.offsets, signals.options))
        margins = torch.stack([margin(member).double() for member in signals.members()])
        return -(margins.mean(0) if self.of == "mean" else margins.amin(0))
