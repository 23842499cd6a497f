"""Uncertainty of examples that are sequences of decisions, such as the words of a sentence.

With one decision an example they all say what the scores of `uncertainty.py` say, and serve every task.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy
from nlp_al.strategies.uncertainty import Entropy, LeastConfidence, Margin

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals

_CULOTTA = "Culotta & McCallum 2005, Reducing Labeling Effort for Structured Prediction Tasks"
_SETTLES = "Settles & Craven 2008, An Analysis of Active Learning Strategies for Sequence Labeling Tasks"


@dataclass(frozen=True)
class SequenceScore(Strategy):
    """A score of an example as a whole; the highest are asked. An example without decisions comes last."""

    family: ClassVar[str] = "uncertainty"
    needs: ClassVar[frozenset[str]] = frozenset({"probs"})
    sharded: ClassVar[bool] = True
    scored: ClassVar[bool] = True

    @abstractmethod
    def score(self, signals: Signals) -> Tensor:
        """float64[n]: how uncertain each example is, higher = more. In float32 all long sentences would have 1 − 0."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores."""
        import torch

        from nlp_al.selection.topk import top

        scores = self.score(signals).masked_fill(signals.decisions.offsets.diff() == 0, -torch.inf)
        return Selection(top(scores, count, signals.shard), scores)


@dataclass(frozen=True)
class Decoded(SequenceScore):
    """A score of the distribution over sequences.

    constrained: sequences are those of a linear chain with the `transitions` of the signals, without what these forbid;
    their probabilities sum to 1. Without transitions, and where the number of options varies, so that a column means
    nothing from one decision to the next, decisions are independent, as they are by default.
    """

    constrained: bool = False

    def __post_init__(self) -> None:
        if self.constrained:  # an instance may need more than its class
            object.__setattr__(self, "needs", self.needs | {"transitions"})

    def transitions(self, signals: Signals) -> Tensor | None:
        """float[O + 1, O] where the decisions are a chain, else None."""
        return signals.transitions if self.constrained and signals.options is None else None

    def best(self, signals: Signals, count: int) -> Tensor:
        """float64[n, count]: log-probabilities of the best sequences, minus infinity where there are fewer."""
        from nlp_al.selection.sequences import best_independent, best_of_chain, chain_totals

        logs, offsets = _log_probs(signals), signals.decisions.offsets
        transitions = self.transitions(signals)
        if transitions is None:
            return best_independent(logs, offsets, count)
        total, _ = chain_totals(logs, offsets, transitions)
        return best_of_chain(logs, offsets, transitions, count) - total[:, None]


@dataclass(frozen=True)
class SequenceLeastConfidence(Decoded):
    """1 − P of the best sequence. Grows with the number of decisions.

    constrained: keep to the transitions of the signals.
    Use when: only a fully correct example counts, and lengths are alike. Needs: probs. Cost: one pass over the pool.
    Reference: Culotta & McCallum 2005, AAAI.
    """

    reference: ClassVar[str] = _CULOTTA

    def score(self, signals: Signals) -> Tensor:
        """1 − P of each example, float64[n]."""
        return -self.best(signals, 1)[:, 0].expm1()


@dataclass(frozen=True)
class Mnlp(Decoded):
    """−(1/m) ln P of the best sequence, m decisions long: maximum normalised log-probability, turned round.

    constrained: keep to the transitions of the signals.
    Use when: a first choice for sentences; does not favour long ones. Needs: probs. Cost: one pass over the pool.
    Reference: Shen et al. 2018, arXiv 1707.05928.
    """

    reference: ClassVar[str] = "Shen et al. 2018, arXiv 1707.05928"

    def score(self, signals: Signals) -> Tensor:
        """−(1/m) ln P of each example, float64[n]."""
        return -self.best(signals, 1)[:, 0] / signals.decisions.offsets.diff().clamp(min=1)


@dataclass(frozen=True)
class TokenEntropy(Entropy):
    """The entropy of a decision (over ln K where the number of options varies), the mean over those of an example.

    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: as `entropy`, under the name it has for sentences. Needs: probs. Cost: one pass over the pool.
    Reference: Settles & Craven 2008, EMNLP.
    """

    reference: ClassVar[str] = _SETTLES


@dataclass(frozen=True)
class TotalTokenEntropy(SequenceScore):
    """The sum of the entropies of an example's decisions, each over ln K where the number of options varies.

    Use when: a long sentence is worth more than a short one. Needs: probs. Cost: one pass over the pool.
    Reference: Settles & Craven 2008, EMNLP.
    """

    reference: ClassVar[str] = _SETTLES

    def score(self, signals: Signals) -> Tensor:
        """Σ H of each example, float64[n]."""
        return _total_entropy(signals)


@dataclass(frozen=True)
class SequenceEntropy(Decoded):
    """The entropy over all sequences; of independent decisions it is the sum of theirs, as in `total_token_entropy`.

    Where the number of options varies each is divided by ln K. Grows with the number of decisions.
    constrained: keep to the transitions of the signals.
    Use when: decisions depend on each other, and length is welcome. Needs: probs. Cost: one pass over the pool.
    Reference: Settles & Craven 2008, EMNLP.
    """

    reference: ClassVar[str] = _SETTLES

    def score(self, signals: Signals) -> Tensor:
        """H over the sequences of each example, float64[n]."""
        from nlp_al.selection.sequences import chain_totals

        transitions = self.transitions(signals)
        if transitions is None:
            return _total_entropy(signals)
        return chain_totals(_log_probs(signals), signals.decisions.offsets, transitions)[1]


@dataclass(frozen=True)
class NBestEntropy(Decoded):
    """The entropy over the n best sequences, all there are where these are fewer.

    Where the number of options varies the entropy is divided by the logarithm of how many sequences were taken.
    n: how many. renormalise: divide their probabilities by their sum; the formula of 2008 does not.
    constrained: keep to the transitions of the signals.
    Use when: what counts is which whole answers compete. Needs: probs. Cost: the n best of each example.
    Reference: Settles & Craven 2008, EMNLP.
    """

    n: int = 10
    renormalise: bool = True

    reference: ClassVar[str] = _SETTLES

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_n(self.n)

    def score(self, signals: Signals) -> Tensor:
        """H over the best sequences of each example, float64[n]."""
        import torch

        logs = self.best(signals, self.n)
        entropies: Tensor = torch.special.entr(_shares(logs, self.renormalise)).sum(1)
        if signals.options is None:
            return entropies
        return entropies / logs.isfinite().sum(1).clamp(min=2).double().log()


@dataclass(frozen=True)
class SequenceMargin(Decoded):
    """−(P₁ − P₂) of the two best sequences; a single one has a second of 0.

    renormalise: divide both by the sum over the n best. n: how many these are.
    constrained: keep to the transitions of the signals.
    Use when: as `margin`, but a whole answer is right or wrong. Needs: probs. Cost: the n best of each example.
    Reference: Settles & Craven 2008, EMNLP.
    """

    renormalise: bool = False
    n: int = 10

    reference: ClassVar[str] = _SETTLES

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_n(self.n)

    def score(self, signals: Signals) -> Tensor:
        """−(P₁ − P₂) of each example, float64[n]."""
        shares = _shares(self.best(signals, self.n if self.renormalise else 2), self.renormalise)
        return shares[:, 1] - shares[:, 0]


@dataclass(frozen=True)
class TokenLeastConfidence(LeastConfidence):
    """1 − p₍₁₎ of a decision, the mean over those of an example: `least_confidence` under its name for sentences.

    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: only the top tag of a word matters. Needs: probs. Cost: one pass over the pool.
    Reference: Lewis & Gale 1994, arXiv cmp-lg/9407020.
    """


@dataclass(frozen=True)
class TokenMargin(Margin):
    """−(p₍₁₎ − p₍₂₎) of a decision, the mean over those of an example: `margin` under its name for sentences.

    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%).
    Use when: two tags compete for a word. Needs: probs. Cost: one pass over the pool.
    Reference: Scheffer, Decomain & Wrobel 2001, Active Hidden Markov Models for Information Extraction.
    """


@dataclass(frozen=True)
class EntityUncertainty(Entropy):
    """The entropy of decisions that may be an entity: p of the outside column below ½, or the highest of the example.

    Without an outside column in the signals all decisions count, as in `token_entropy`.
    agg: `mean`, `sum`, `max`, or `topm` (the mean of the highest 20%) of those.
    Use when: most words are of no entity, and sure of it. Needs: probs, outside. Cost: one pass over the pool.
    Reference: token entropy (Settles & Craven 2008, EMNLP), over likely entities alone.
    """

    reference: ClassVar[str] = _SETTLES
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "outside"})

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores. What counts always is the likeliest place of an entity that the model misses."""
        import torch

        from nlp_al.decisions import owners, reduce, segment_max, segment_sum
        from nlp_al.selection.topk import top

        values, offsets = self.score(signals), signals.decisions.offsets
        if signals.outside is not None:
            highest = values == segment_max(values, offsets)[owners(offsets)]
            counts = (signals.decisions.masked[:, signals.outside] < 0.5) | highest
            values = values[counts]
            offsets = torch.cat([offsets[:1], segment_sum(counts.long(), offsets).cumsum(0)])
        scores = reduce(values, offsets, self.agg)
        return Selection(top(scores, count, signals.shard), scores)


def _log_probs(signals: Signals) -> Tensor:
    """float64[M, O]; only what is no option has minus infinity, what underflowed is as unlikely as a float can be."""
    import torch

    from nlp_al.decisions import leading

    decisions = signals.decisions
    logs = decisions.masked.double().clamp(min=torch.finfo(torch.float64).tiny).log()
    if decisions.options is None:
        return logs
    return logs.masked_fill(~leading(decisions.options, logs.shape[1]), -torch.inf)


def _total_entropy(signals: Signals) -> Tensor:
    """The sum of the entropies of each example's decisions, float64[n]."""
    from nlp_al.decisions import Decisions, entropy, segment_sum

    decisions = signals.decisions
    exact = Decisions(decisions.probs.double(), decisions.offsets, decisions.options)
    return segment_sum(entropy(exact), exact.offsets)


def _shares(logs: Tensor, renormalise: bool) -> Tensor:
    """Probabilities out of the log-probabilities of the best sequences, float64[n, count]."""
    return logs.softmax(1) if renormalise else logs.exp()


def _check_n(n: int) -> None:
    if n < 2:
        raise ValueError(f"n is {n}; it must be at least 2.")
