"""Examples whose labels would change the model most, whatever they turn out to be."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection, Strategy
from nlp_al.strategies.representatives import by_representatives
from nlp_al.strategies.scored import Scored, highest, need

if TYPE_CHECKING:
    import torch

    from nlp_al.signals import Signals

WIDEST = 4000
"""Rows and columns of the information beyond which it is reduced; 4,000² numbers are 128 MB."""
_PRODUCTS = 2**26
"""Likewise of what is kept of all candidates together."""


@dataclass(frozen=True)
class Egl(Strategy):
    """Expected gradient length of the last layer, or of more of the model: Σ_c p_c ‖∇ℓ(x, c)‖.

    Over the words of a sentence it is their mean, over labels that are yes or no their sum.
    squared: Σ_c p_c ‖∇ℓ(x, c)‖². layers: the weights that count, as a regular expression that is looked for in their
    names (`encoder`, `layer.11|classifier`, or an empty one for all); null: those of the last layer.
    options: with `layers`, how many options of a decision count, the most probable ones; of labels that are yes or no
    so many labels, the least sure ones.
    Use when: long feature vectors mean something, as they do after fine-tuning; else it is near to `least_confidence`.
    Needs: probs and gradients (factors); with `layers` a model with gradients.
    Cost: one pass over the factors; with `layers` a backward pass for each option of each decision of an example, one
    by one: put a cheap stage before it.
    Reference: Settles, Craven & Ray 2007, Multiple-Instance Active Learning, NeurIPS.
    """

    squared: bool = False
    layers: str | None = None
    options: int = 3

    family: ClassVar[str] = "expected model change"
    reference: ClassVar[str] = "Settles, Craven & Ray 2007, Multiple-Instance Active Learning"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.options < 1:
            raise ValueError(f"options is {self.options}; it must be at least 1.")
        if self.layers is None:
            return
        try:
            re.compile(self.layers)
        except re.error as error:
            raise ValueError(f"layers is {self.layers!r}, which is no regular expression: {error}.") from error
        wanted = need("egl", layers=self.layers, options=self.options, squared=self.squared)
        object.__setattr__(self, "needs", frozenset({wanted}))

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Takes the longest."""
        if self.layers is not None:
            (wanted,) = self.needs
            return highest(signals, wanted, count)
        import torch

        from nlp_al.selection.last_layer import expected_length
        from nlp_al.selection.topk import top

        # The last digits of float64 differ between equal examples, which must tie.
        scores = expected_length(signals.decisions, signals.factors(), self.squared).float()
        scores = scores.masked_fill(signals.decisions.offsets.diff() == 0, -torch.inf)
        return Selection(top(scores, count), scores)


@dataclass(frozen=True)
class EglWord(Scored):
    """The word that a label would move most: max_w Σ_c p_c ‖∂ℓ(x, c) / ∂w‖ over the distinct words of a text.

    Its occurrences count together, and so do the tokens that it is made of; special tokens do not count. A label of a
    sentence gives all its words their first, second, ... tag; over labels that are yes or no there is a sum; of a
    dialogue the words are those of the context. options: how many options count, the most probable ones; of labels that
    are yes or no so many labels, the least sure ones.
    Use when: single words decide, as in sentiment, and embeddings are trained too.
    Needs: a model with gradients. Cost: a forward pass and `options` backward passes.
    Reference: Zhang, Lease & Wallace 2017, arXiv 1606.04212.
    """

    options: int = 3

    family: ClassVar[str] = "expected model change"
    reference: ClassVar[str] = "Zhang, Lease & Wallace 2017, arXiv 1606.04212"
    score: ClassVar[str] = "egl_word"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.options < 1:
            raise ValueError(f"options is {self.options}; it must be at least 1.")


@dataclass(frozen=True)
class Bait(Strategy):
    """The batch that lowers tr(M⁻¹ F) most, F the last layer's Fisher information of pool and labelled set together, M
    that of labelled set and batch, and a ridge. Twice the batch is picked greedily, and the less useful half dropped.

    The words of a sentence count as their mean. Of more than 50,000 examples, 20,000 at random stand for all.
    ridge: λ, what M starts from. trace: whether the information of a row is reduced to (1 − ‖p‖²) h hᵀ, which forgets
    which option it is about; null: where there would be more than 4,000 rows and columns. repo_scaling: each pick
    counts `batch` times as much, as in the authors' code.
    Use when: batches are large and the last layer is what is learnt, as with frozen features.
    Needs: probs and gradients (factors) of the pool and the labelled set.
    Cost: 2 · batch passes over the factors, and the cube of the rows of the information.
    Reference: Ash et al. 2021, arXiv 2106.09675.
    """

    ridge: float = 1.0
    trace: bool | None = None
    repo_scaling: bool = False

    family: ClassVar[str] = "expected model change"
    reference: ClassVar[str] = "Ash et al. 2021, arXiv 2106.09675"
    needs: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"probs", "gradients"})
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.ridge > 0 and math.isfinite(self.ridge)):
            raise ValueError(f"ridge is {self.ridge:g}; it must be above 0.")

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """Greedy, forwards and backwards."""
        return by_representatives(signals, count, generator, self._choose)

    def _choose(self, signals: Signals, count: int) -> Selection:
        import torch

        from nlp_al.selection.bait import choose_by_information
        from nlp_al.selection.last_layer import information, sizes_of

        if count == 0:
            return Selection(torch.zeros(0, dtype=torch.int64))
        factors, known = signals.factors(), signals.labelled
        width, products = sizes_of(signals.decisions, factors)
        traced = (width > WIDEST or products > _PRODUCTS) if self.trace is None else self.trace
        labelled = 0 if known is None else len(known)
        picks = choose_by_information(
            information(signals.decisions, factors, traced),
            information(known.decisions, known.factors(), traced) if known is not None and labelled else None,
            count,
            scale=(count if self.repo_scaling else 1) / (labelled + count),
            ridge=self.ridge,
            forward=2 * count,
        )
        told = f"the information would have {width:,} rows and columns, and was reduced to its traces"
        return Selection(picks, note=told if traced and self.trace is None else "")
