"""Simulated people: gold labels, with noise and refusals where asked for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from nlp_al.annotation.base import Annotator, Question, Setting
from nlp_al.annotation.noise import Kind, mistaken_spans, swaps
from nlp_al.errors import UserError
from nlp_al.pool import Answer, Example


@dataclass
class Oracle(Annotator):
    """Answers at once with the gold label. What it says of an example depends on `seed` and the id alone, and, where it
    is drawn towards the model's guesses, on these.
    """

    noise: float = field(
        default=0.0, metadata={"help": "chance that a decision, or with noise_kind spans an entity, is mistaken"}
    )
    noise_kind: Kind = field(
        default="symmetric",
        metadata={
            "help": "symmetric: all other labels are equally likely; pair_flip: it is the next one; "
            "instance_dependent: how often, and for which, depends on the text; spans: entities are missed, moved by a "
            "word at an end, or get another type"
        },
    )
    refusals: float = field(default=0.0, metadata={"help": "chance that an example is discarded without a label"})
    anchoring: float = field(
        default=0.0, metadata={"help": "chance that the model's guess is taken as it is; above 0 guesses are shown"}
    )
    control: float = field(
        default=0.05, metadata={"help": "share of the guesses that are not shown, to see what seeing one does"}
    )
    seed: int = field(default=0, metadata={"help": "seed of noise, refusals and anchoring, apart from loop.seed"})

    seconds_between_pulls: ClassVar[float] = 0.0
    hides_gold: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("noise", "refusals", "anchoring", "control"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        self._answers: dict[str, Answer] = {}

    @property
    def wants(self) -> frozenset[str]:
        """Guesses, where it is drawn towards them."""
        return frozenset({"suggestion"} if self.anchoring else ())

    def start(self, setting: Setting) -> None:
        """Knows the task."""
        super().start(setting)
        if self.noise_kind == "spans" and setting.task.shape != "sequence":
            raise UserError(f"annotator.noise_kind is spans, which {setting.task.name} has none of.")
        if self.noise_kind == "instance_dependent" and not setting.task.named:
            raise UserError(
                f"annotator.noise_kind is instance_dependent, but labels of {setting.task.name} have no names."
            )

    def push(self, questions: Sequence[Question]) -> None:
        """Answers each question on the spot."""
        for question in questions:
            name = question.example.id
            draw = random.Random(hashlib.blake2b(f"{self.seed}:{name}".encode()).digest())
            if draw.random() < self.refusals:
                self._answers[name] = Answer(name, None, "oracle", "discarded")
            else:
                gold = self.setting.gold[name]
                label = self._mistaken(gold, question.example, draw) if self.noise else gold
                drawn = self.anchoring and random.Random(f"{self.seed}:{name}:anchoring").random() < self.anchoring
                label = question.suggestion if drawn and question.shows(self.setting.task) else label
                self._answers[name] = Answer(name, label, "oracle", "submitted")

    def _mistaken(self, gold: Any, example: Example, draw: random.Random) -> Any:
        task = self.setting.task
        if self.noise_kind == "spans":
            return mistaken_spans(gold, list(task.guidelines({})), self.noise, draw)
        text = " ".join(map(str, task.question(example.inputs).values()))
        return task.mistaken(gold, example, swaps(self.noise_kind, self.noise, text, self.seed, draw))

    def pull(self) -> list[Answer]:
        """All answers so far, in the order they were asked for."""
        return list(self._answers.values())
