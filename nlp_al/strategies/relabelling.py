"""What one more label tells most about: of an example that has one, or of one that has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy, check_one_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.signals import Signals


@dataclass(frozen=True)
class ActiveLab(Strategy):
    """The examples whose label is least sure to be right, labelled or not: another annotator is asked, or the first.

    How likely a label is right is what the model, which did not learn from the example, and all who answered it say
    together, each weighed by how well they agree with the others where several answered (CROWDLAB). It is drawn
    towards a guess, the more the fewer have answered. An example is asked about once more a round, never while it waits
    for an answer, and of nobody twice. Labels are still made of several answers by `loop.aggregation`.
    agg: over the words of a sentence or the labels of a text, `topm` (default), the mean of the 20% that are least
    sure, `max`, the least sure one, or `mean`. How far annotators are to be trusted is estimated over all words, or all
    labels, together.
    Use when: people make mistakes, there are at least two of them (`annotator.annotators`), and labels that are wrong
    cost more than labels that are few. It is the last stage, and no other strategy's base.
    Needs: probs of the pool; of the labelled set every annotator's votes, and the probabilities of models that were
    fitted without a fifth of it, each of that fifth, which are five fits more a round.
    Cost: O((n + l · J) · C) for l labelled examples and J annotators.
    Reference: Goh & Mueller 2023, arXiv 2301.11856; CROWDLAB: Goh, Tkachenko & Mueller 2022, arXiv 2210.06812.
    """

    agg: str = "topm"

    family: ClassVar[str] = "label noise"
    reference: ClassVar[str] = "Goh & Mueller 2023, arXiv 2301.11856"
    needs: ClassVar[frozenset[str]] = frozenset({"probs"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"out_of_fold", "votes"})
    relabels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_one_of("agg", self.agg, ("mean", "max", "topm"))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the highest scores, of the pool and the labelled set behind it."""
        import torch

        from nlp_al.activelab import activelab
        from nlp_al.decisions import Decisions, reduce
        from nlp_al.selection.topk import top

        at = signals.device
        nothing = Decisions(torch.zeros(0, 1, device=at), torch.zeros(1, dtype=torch.int64, device=at))
        pool, known = signals.decisions if len(signals) else nothing, signals.labelled
        held, votes = nothing, torch.full((0, 1), -1, device=at)
        askable = torch.ones(0, dtype=torch.bool, device=at)
        if known is not None and len(known):
            assert known.out_of_fold is not None
            assert known.offsets is not None
            assert known.votes is not None
            held = Decisions(known.out_of_fold, known.offsets, known.options)
            votes, askable = known.votes, known.can_ask()

        def reduced(scores: Tensor, of: Decisions) -> Tensor:
            # The last digits of float64 differ between equal examples, which must tie.
            return reduce(scores, of.offsets, self.agg).float()

        old, new = activelab(held.probs, votes, pool.probs, held.options, pool.options)
        again = reduced(old, held).masked_fill(~askable, -torch.inf)
        scores = torch.cat([reduced(new, pool), again])
        return Selection(top(scores, count), scores, relabel=True)
