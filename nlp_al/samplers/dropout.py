"""Passes with dropout: Gal & Ghahramani 2016, arXiv 1506.02142."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.errors import UserError
from nlp_al.samplers.base import Alone, Fitted, Sampler
from nlp_al.values import about

if TYPE_CHECKING:
    from nlp_al.pool import Example
    from nlp_al.signals.collector import Committee, Scorer
    from nlp_al.tasks import Rows, Task
    from nlp_al.training.frozen import FrozenModel
    from nlp_al.training.masks import Masks

_NOTHING = "the model has no dropout: set sampler.rate, or take ensemble, heads, snapshots or laplace"


@dataclass(frozen=True)
class McDropout(Sampler):
    """The fitted model, each pass with other parts of its hidden states left out, the same for all examples.

    Use when: a model is fine-tuned, and one fit a round is all there is time for. Needs: a model with dropout.
    Cost: a pass over the pool for each of `passes`. Reference: Gal & Ghahramani 2016, arXiv 1506.02142.
    """

    passes: int = about("how many times the model reads the pool", 10)
    rate: float | None = about("share of a hidden state that is left out; null: the model's own in each place")

    reference: ClassVar[str] = "Gal & Ghahramani 2016, arXiv 1506.02142"
    modes: ClassVar[tuple[str, ...]] = ("full", "lora")
    otherwise: ClassVar[str] = "a head on frozen features has no dropout"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate is not None and not 0.0 < self.rate < 1.0:
            raise ValueError(f"rate is {self.rate:g}; it must lie between 0 and 1.")

    def check_model(self, task: Task, source: str) -> None:
        """UserError where the architecture has no dropout that is switched on; weights are not loaded for it."""
        import torch
        import transformers

        from nlp_al.signals.loading import LOAD_ERRORS, told
        from nlp_al.source import package_path
        from nlp_al.training.masks import dropouts

        try:
            config = transformers.AutoConfig.from_pretrained(package_path(source))
            with torch.device("meta"):
                model = getattr(transformers, task.auto_class).from_config(config)
        except LOAD_ERRORS as error:
            raise told(source, error) from error
        if not dropouts(model, self.rate):
            raise UserError(f"sampler is 'mc_dropout', but {_NOTHING}.")

    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """All passes batch by batch; where units are read apart, one after the other."""
        from nlp_al.training.frozen import FrozenModel
        from nlp_al.training.masks import Masks

        model: Any = fitted.model
        inner = model.encoder.model if isinstance(model, FrozenModel) else model.model
        masks = Masks(inner, fitted.seed("dropout"), self.rate)
        if not isinstance(model, FrozenModel):
            yield _Passes(model, masks, self.passes)
            return
        for member in range(self.passes):
            yield _UnitsApart(model, masks, member)


class _Passes(Alone):
    """A model that reads a batch several times."""

    def __init__(self, model: Scorer, masks: Masks, passes: int) -> None:
        super().__init__(model, plain=True)
        self._masks = masks
        self._passes = passes

    def members(self, prepared: Sequence[Any], rows: Callable[[], Rows]) -> Iterator[Rows]:
        """A forward each."""
        for member in range(self._passes):
            with self._masks.of(member):
                made = self._model.rows(prepared)
            if not self._masks.used:
                raise UserError(f"sampler is 'mc_dropout', but {_NOTHING}.")
            yield made


class _UnitsApart(Alone):
    """One pass of an encoder that reads the units of an example apart; what it makes of them goes with it."""

    def __init__(self, model: FrozenModel, masks: Masks, member: int) -> None:
        from nlp_al.signals.features import Trained
        from nlp_al.training.frozen import FrozenModel

        known = model.encoder
        encoder = Trained(known.model, known.tokenizer, known.task, known.batch_size, known.precision)
        super().__init__(FrozenModel(encoder, model.task, model.head), plain=False)
        self._masks = masks
        self._member = member

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """Reads every unit anew."""
        with self._masks.of(self._member):
            return super().prepare(examples)
