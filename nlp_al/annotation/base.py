"""Who answers: the seam between the engine and people, simulated or real."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nlp_al.pool import Answer, Example
from nlp_al.tasks import Task


@dataclass(frozen=True)
class Question:
    """One example that somebody is asked about; rank 0 is the most wanted of its round."""

    example: Example
    round: int
    rank: int
    score: float | None = None


@dataclass(frozen=True)
class Setting:
    """What an annotator may know: the task, its labels with guidelines, the run's directory, gold labels by id."""

    task: Task
    labels: dict[str, str]
    run_dir: Path
    gold: dict[str, Any] = field(default_factory=dict)


class Annotator(ABC):
    """Two methods, called by the learner alone. Subclasses are dataclasses; their fields are the config's parameters.

    The learner pushes a batch, then pulls until each of its examples has an answer; after a crash it pushes the same
    batch again. So `push` must take a batch that it has seen, and `pull` may repeat answers: the learner keeps what is
    new. seconds_between_pulls: how long the learner waits when answers are still missing. hides_gold: whether gold
    labels of the train split are answers to be asked for (a simulation), not labels to start from.
    """

    seconds_between_pulls: ClassVar[float] = 2.0
    hides_gold: ClassVar[bool] = False
    setting: Setting

    def start(self, setting: Setting) -> None:
        """Called once before the first push."""
        self.setting = setting

    @abstractmethod
    def push(self, questions: Sequence[Question]) -> None:
        """Puts a batch before the annotators."""

    @abstractmethod
    def pull(self) -> list[Answer]:
        """All answers that have arrived, old and new."""
