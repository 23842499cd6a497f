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
    """Answers at once with the gold label, in the name of one of its annotators.

    What each of them says of an example, and who is asked first, depends on `seed` and the id alone, and, where they
    are drawn towards the model's guesses, on these.
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
    annotators: int = field(
        default=1,
        metadata={"help": "how many answer, each with mistakes of their own; from 2 on a strategy may ask another one"},
    )
    seed: int = field(default=0, metadata={"help": "seed of noise, refusals and anchoring, apart from loop.seed"})

    seconds_between_pulls: ClassVar[float] = 0.0
    hides_gold: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("noise", "refusals", "anchoring", "control"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        if self.annotators < 1:
            raise ValueError(f"annotators is {self.annotators}; it must be at least 1.")
        self._answers: dict[tuple[str, str], Answer] = {}

    @property
    def in_turn(self) -> int:
        """All of them."""
        return self.annotators

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
            who, seed = self._asked(question)
            draw = _draw(f"{seed}:{name}")
            if draw.random() < self.refusals:
                self._answers[name, who] = Answer(name, None, who, "discarded")
            else:
                gold = self.setting.gold[name]
                label = self._mistaken(gold, question.example, seed, draw) if self.noise else gold
                drawn = self.anchoring and random.Random(f"{seed}:{name}:anchoring").random() < self.anchoring
                label = question.suggestion if drawn and question.shows(self.setting.task) else label
                self._answers[name, who] = Answer(name, label, who, "submitted")

    def _asked(self, question: Question) -> tuple[str, int]:
        """The name and the seed of whoever is to answer: the first, in an order of the example, who has not yet."""
        if self.annotators == 1:
            return "oracle", self.seed
        order = list(range(1, self.annotators + 1))
        _draw(f"{self.seed}:order:{question.example.id}").shuffle(order)
        others = [at for at in order if f"oracle-{at}" not in question.before]
        if not others:
            raise UserError(
                f"annotator.annotators is {self.annotators}, and all of them have answered {question.example.id!r}, "
                "which waits for one more; give as many as there were."
            )
        return f"oracle-{others[0]}", _draw(f"{self.seed}:annotator:{others[0]}").getrandbits(32)

    def _mistaken(self, gold: Any, example: Example, seed: int, draw: random.Random) -> Any:
        task = self.setting.task
        if self.noise_kind == "spans":
            return mistaken_spans(gold, list(task.guidelines({})), self.noise, draw)
        text = " ".join(map(str, task.question(example.inputs).values()))
        return task.mistaken(gold, example, swaps(self.noise_kind, self.noise, text, seed, draw))

    def pull(self) -> list[Answer]:
        """All answers so far, in the order they were asked for."""
        return list(self._answers.values())


def _draw(about: str) -> random.Random:
    return random.Random(hashlib.blake2b(about.encode()).digest())
