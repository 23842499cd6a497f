"""Several heads on one encoder, each fitted to a resample of the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.samplers.base import Alone, Fitted, Sampler
from nlp_al.values import about

if TYPE_CHECKING:
    import torch

    from nlp_al.heads import Head
    from nlp_al.signals.collector import Committee, Scorer
    from nlp_al.tasks import Rows, Task


@dataclass(frozen=True)
class Heads(Sampler):
    """Linear heads on the features of the fitted encoder, which is not trained with them.

    Each counts a labelled example as often as a Poisson(1) draw says, which is a bootstrap; of a label that a draw
    leaves out altogether, one example is kept.
    Use when: features are frozen, or the committee must cost one pass over the pool. Needs: nothing more.
    Cost: `passes` convex fits of a head, and one pass over the pool. Reference: Osband et al. 2016, arXiv 1602.04621.
    """

    passes: int = about("how many heads there are", 10)

    reference: ClassVar[str] = "Osband et al. 2016, arXiv 1602.04621"

    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """All heads at once."""
        import torch

        from nlp_al.signals.rows import read_rows, take_examples

        task, labels = fitted.model.task, [label for _, label in fitted.labelled]
        rows = read_rows(fitted.model, [example for example, _ in fitted.labelled])
        heads: list[Head] = []
        if rows is not None:
            for member in range(self.passes):
                generator = torch.Generator().manual_seed(fitted.seed(f"head-{member}"))
                drawn = resampled(labels, task, generator)
                heads.append(task.fit_head(take_examples(rows, torch.tensor(drawn)), [labels[at] for at in drawn]))
        yield HeadCommittee.of(fitted.model, heads)


def resampled(labels: Sequence[Any], task: Task, generator: torch.Generator) -> list[int]:
    """Positions of labels, each as often as Poisson(1) says, at least one of every option that a label takes."""
    import torch

    times = torch.poisson(torch.ones(len(labels)), generator=generator).long()
    holders: dict[Any, list[int]] = {}
    for at, label in enumerate(labels):
        for key in _options_of(label, task):
            holders.setdefault(key, []).append(at)
    for own in holders.values():
        if not bool(times[own].any()):
            times[own[int(torch.randint(len(own), (), generator=generator))]] = 1
    found: list[int] = torch.repeat_interleave(torch.arange(len(labels)), times).tolist()
    return found


def _options_of(label: Any, task: Task) -> set[Any]:
    """What a label decides: which option, and where options mean something else in each decision, in which."""
    if not task.named:
        return {None}
    parts = task.parts(label)
    return set(parts) if task.alike else set(enumerate(parts))


class HeadCommittee(Alone):
    """A model with several heads in place of its own, or, with `added`, whose logits are added to its own."""

    def __init__(self, model: Scorer, heads: Sequence[Head], added: bool = False) -> None:
        super().__init__(model, plain=True)
        self._heads = heads
        self._added = added

    @classmethod
    def of(cls, model: Scorer, heads: Sequence[Head], added: bool = False) -> HeadCommittee:
        """heads: those of the main process, where others score as well."""
        from nlp_al.processes import shared

        return cls(model, shared(heads) if model.sharded else heads, added)

    def members(self, prepared: Sequence[Any], rows: Callable[[], Rows]) -> Iterator[Rows]:
        """The same hidden states under each head."""
        own = rows()
        for head in self._heads:
            made = self.task.score_rows(own, head)
            if self._added:
                assert made.logits is not None
                assert own.logits is not None
                made = made._replace(logits=own.logits + made.logits)
            yield made
