"""Simulated people: gold labels, with noise and refusals where asked for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from nlp_al.annotation.base import Annotator, Question
from nlp_al.pool import Answer


@dataclass
class Oracle(Annotator):
    """Answers at once with the gold label. What it says of an example depends on `seed` and the id alone."""

    noise: float = field(
        default=0.0, metadata={"help": "chance that a decision gets another label, each equally likely"}
    )
    refusals: float = field(default=0.0, metadata={"help": "chance that an example is discarded without a label"})
    seed: int = field(default=0, metadata={"help": "seed of noise and refusals, apart from loop.seed"})

    seconds_between_pulls: ClassVar[float] = 0.0
    hides_gold: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("noise", "refusals"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        self._answers: dict[str, Answer] = {}

    def push(self, questions: Sequence[Question]) -> None:
        """Answers each question on the spot."""
        for question in questions:
            name = question.example.id
            draw = random.Random(hashlib.blake2b(f"{self.seed}:{name}".encode()).digest())
            if draw.random() < self.refusals:
                self._answers[name] = Answer(name, None, "oracle", "discarded")
            else:
                gold = self.setting.gold[name]
                label = self.setting.task.mistaken(gold, question.example, self.noise, draw) if self.noise else gold
                self._answers[name] = Answer(name, label, "oracle", "submitted")

    def pull(self) -> list[Answer]:
        """All answers so far, in the order they were asked for."""
        return list(self._answers.values())
