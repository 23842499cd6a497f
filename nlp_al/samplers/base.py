"""What every sampler is: a small class with one method, `committees`.

Torch is imported inside the functions, here and in every sampler's file: a config is checked against these classes
before torch loads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from nlp_al.config import Training
    from nlp_al.pool import Example
    from nlp_al.signals.collector import Committee, Scorer
    from nlp_al.signals.live import Live
    from nlp_al.tasks import Rows, Task
    from nlp_al.training.snapshots import Snapshots


@dataclass(frozen=True)
class Fitted:
    """The model of a round, and what a sampler may ask for beside it.

    model: the fitted one. labelled: what it was fitted to. seed: a seed for each purpose, the same after a restart.
    another: a model fitted to the same labels from another seed. snapshots: the models along the fit, the last one at
    the end, or, with True, the mean of their weights; only where the fit was told to keep them.
    """

    model: Scorer
    labelled: Sequence[tuple[Example, Any]]
    seed: Callable[[str], int]
    another: Callable[[int], Scorer]
    snapshots: Callable[..., Iterator[Scorer]]


class Sampler(ABC):
    """A source of several opinions on one pool. Subclasses are frozen dataclasses: their fields are the parameters that
    a config may set.

    reference: the paper. modes: modes of training that it goes with. otherwise: why it does not go with the others.
    """

    passes: int

    reference: ClassVar[str]
    modes: ClassVar[tuple[str, ...]] = ("full", "lora", "frozen")
    otherwise: ClassVar[str] = ""

    @property
    def judged(self) -> bool:
        """Whether the metrics of a round are of `judges`, not of its model."""
        return False

    def __post_init__(self) -> None:
        if self.passes < 2:
            raise ValueError(f"passes is {self.passes}; it must be at least 2, or there is nothing to compare.")

    def refusal(self, training: Training) -> str | None:
        """Why it makes no sense with these settings, None where it does."""
        return self.otherwise if training.mode not in self.modes else None

    def keeps(self) -> Snapshots | None:
        """What keeps weights on the way of each fit, where it takes its members from there."""
        return None

    def check_model(self, task: Task, source: str) -> None:  # noqa: B027  # most have nothing to check
        """Called before anything is asked. source: the pretrained weights.

        Raises:
            UserError: it does not go with this model.
        """

    def judges(self, fitted: Fitted) -> Iterator[Committee]:
        """The committees whose mean is what the metrics of a round are of, where it is `judged`."""
        return self.committees(fitted)

    @abstractmethod
    def committees(self, fitted: Fitted) -> Iterator[Committee]:
        """Groups of members, one after the other: a group is gone when the next one comes. All processes call it."""


class Alone:
    """A model as a committee of one. plain: whether it is the model of the round."""

    def __init__(self, model: Scorer, plain: bool) -> None:
        self._model = model
        self.plain = plain
        self.task = model.task
        self.sharded = model.sharded

    def prepare(self, examples: Sequence[Example]) -> tuple[Sequence[Any], list[list[int]]]:
        """As the model does."""
        return self._model.prepare(examples)

    def rows(self, prepared: Sequence[Any]) -> Rows:
        """As the model does."""
        return self._model.rows(prepared)

    def members(self, prepared: Sequence[Any], rows: Callable[[], Rows]) -> Iterator[Rows]:
        """The model itself."""
        yield rows()

    def live(self) -> Live:
        """The model, with gradients."""
        return self._model.live()

    def rest(self) -> None:
        """Leaves the accelerator."""
        self._model.rest()
