"""The highest scores, with a share of the batch for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nlp_al.strategies.base import Selection
from nlp_al.strategies.weighted import Weighted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nlp_al.decisions import Decisions
    from nlp_al.signals import Signals


@dataclass(frozen=True)
class ClassBalanced(Weighted):
    """The highest scores of each predicted class: half of a batch shared out evenly, half by what labels are lacking.

    base: what gives the scores, a name or `{name: ..., parameters}`. What a class can't fill goes by score alone.
    An example that has several classes, as a text with several labels or a sentence with its tags, counts for the one
    that is rarest among the labelled examples; a text without a predicted label counts for the most probable one.
    Use when: classes are rare, and scores alone ask for the frequent ones. Needs: probs, what the base needs, and the
    labels of the labelled set. Cost: that of the base. Reference: common practice.
    """

    family: ClassVar[str] = "hybrid"
    reference: ClassVar[str] = "common practice"
    needs: ClassVar[frozenset[str]] = frozenset({"probs"})
    needs_labelled: ClassVar[frozenset[str]] = frozenset({"targets"})
    shapes: ClassVar[tuple[str, ...]] = ("single", "multi", "sequence")
    nested: ClassVar[bool] = False
    batch_aware: ClassVar[bool] = True

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        """By quota of classes."""
        from nlp_al.selection.quotas import by_quota, quotas

        labels = label_count(signals)
        counts = _counts(signals, labels)
        classes = _rarest(signals.decisions, labels, counts)
        return Selection(by_quota(self.uncertainty(signals, generator), classes, quotas(counts, count)))


def label_count(signals: Signals) -> int:
    """How many labels there are, where each is a decision yes or no; 0 where the options are the classes."""
    import torch

    lengths = signals.decisions.offsets.diff()
    if signals.labelled is not None and signals.labelled.offsets is not None:
        lengths = torch.cat([lengths, signals.labelled.offsets.diff()])
    if signals.decisions.probs.shape[1] != 2 or len(lengths) == 0 or bool((lengths != lengths[0]).any()):
        return 0
    return int(lengths[0]) if lengths[0] > 1 else 0


def _counts(signals: Signals, labels: int) -> Tensor:
    """int64[C]: how many labelled examples have each class.

    Raises:
        SignalError: a label is none of the classes.
    """
    import torch

    from nlp_al.decisions import owners
    from nlp_al.signals import SignalError

    classes, known = labels or signals.decisions.probs.shape[1], signals.labelled
    if known is None or len(known) == 0:
        return torch.zeros(classes, dtype=torch.int64, device=signals.device)
    assert known.targets is not None
    assert known.offsets is not None
    owner, found = owners(known.offsets), known.targets
    if labels:
        place = torch.arange(len(found), device=found.device) - known.offsets[owner]
        owner, found = owner[found == 0], place[found == 0]
    if bool((found >= classes).any()):
        raise SignalError(f"labelled.targets holds {int(found.max())}; the pool has {classes} classes.")
    return torch.bincount(torch.unique(owner * classes + found) % classes, minlength=classes)


def _rarest(decisions: Decisions, labels: int, counts: Tensor) -> Tensor:
    """int64[n]: of the classes that are predicted for an example, the one of fewest labelled examples; ties: lowest.

    Of yes or no for each label, those above one half are predicted, or where there is none the most probable one.
    """
    import torch

    from nlp_al.decisions import owners

    order = torch.argsort(counts, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    if labels:
        yes = decisions.probs[:, 0].reshape(-1, labels)
        first = torch.where(yes > 0.5, rank, labels).amin(1)
        return torch.where(first < labels, order[first.clamp(max=labels - 1)], yes.argmax(1))
    predicted = rank[decisions.masked.argmax(1)]
    first = order.new_full((len(decisions),), len(order))
    first.scatter_reduce_(0, owners(decisions.offsets), predicted, "amin")
    return order[first.clamp(max=len(order) - 1)]
