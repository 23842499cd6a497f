"""Heads at several depths of one model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.samplers.base import Alone, Fitted, Sampler
from nlp_al.values import about

if TYPE_CHECKING:
    from nlp_al.heads import Head
    from nlp_al.pool import Example
    from nlp_al.signals.collector import Committee, Scorer
    from nlp_al.signals.live import Item, Reading
    from nlp_al.tasks import Rows


@dataclass(frozen=True)
class Layers(Sampler):
    """A linear head on each of the last layers of the fitted model, which is not trained with them.

    Use when: one model is all there is, and it should be asked where its layers differ; `layer_qbc` does so.
    Needs: nothing more. Cost: a convex fit of a head a layer, and one pass over the pool, whose features are not kept.
    Reference: Roy, Unmesh & Namboodiri 2018, Deep active learning for object detection, BMVC.
    """

    passes: int = about("how many layers, the last ones; 0: the last third of the model's, two at least", 0)

    reference: ClassVar[str] = "Roy, Unmesh & Namboodiri 2018, Deep active learning for object detection"

    def __post_init__(self) -> None:
        if self.passes != 0:
            super().__post_init__()

    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """All layers at once."""
        yield LayerCommittee(fitted.model, fitted.labelled, self.passes)


class LayerCommittee(Alone):
    """A model read at several depths, on every process, with a head for each that the main one fits."""

    def __init__(self, model: Scorer, labelled: Sequence[tuple[Example, Any]], count: int) -> None:
        import torch

        from nlp_al.processes import processes, shared
        from nlp_al.signals.rows import take_examples

        super().__init__(model, plain=False)
        self.sharded = True
        self._read = model.live()
        self._count = count
        items, batches = self.prepare([example for example, _ in labelled])
        back = torch.tensor([at for members in batches for at in members]).argsort()
        depths = _together([self._depths([items[at] for at in members]) for members in batches])
        labels, main = [label for _, label in labelled], processes().is_main_process
        heads = [self.task.fit_head(take_examples(rows, back), labels) for rows in depths] if main else []
        self._heads: list[Head] = shared(heads)

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """The pieces of each example, in batches of similar length."""
        return self._read.prepare(examples)

    def members(self, prepared: Sequence[Any], rows: Callable[[], Rows]) -> Iterator[Rows]:
        """What each head makes of its layer, the deepest last."""
        for layer, head in zip(self._depths(prepared), self._heads, strict=True):
            yield self.task.score_rows(layer, head)

    def _depths(self, items: Sequence[Item]) -> list[Rows]:
        """The rows of examples at each layer."""
        import torch

        with torch.inference_mode():
            return _together([self._layers(reading) for _, reading in self._read.readings(items)])

    def _layers(self, reading: Reading) -> list[Rows]:
        from nlp_al.tasks import READ

        live = self._read
        batch = {name: values for name, values in reading.batch.items() if name in READ}
        with live.precision.on(live.device):
            out: Any = live.model(**batch, output_hidden_states=True)
        states = out.decoder_hidden_states if "decoder_hidden_states" in out else out.hidden_states
        found = []
        for state in states[-(self._count or max(2, math.ceil((len(states) - 1) / 3))) :]:
            values, offsets = self.task.pool_rows(state.float(), reading.batch)
            found.append(self.task.assemble(values.cpu(), offsets.cpu()[reading.pieces], reading.examples))
        return found


def _together(parts: Sequence[list[Rows]]) -> list[Rows]:
    """Rows of several groups of examples at each layer, as rows of all of them."""
    import torch

    found = []
    for layer in zip(*parts, strict=True):
        lengths = torch.cat([rows.offsets.diff() for rows in layer])
        contexts = [rows.context for rows in layer if rows.context is not None]
        found.append(
            layer[0]._replace(
                hidden=torch.cat([rows.hidden for rows in layer]),
                offsets=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
                context=torch.cat(contexts) if contexts else None,
            )
        )
    return found
