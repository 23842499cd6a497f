"""Who answers: the seam between the engine and people, simulated or real."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nlp_al.errors import UserError
from nlp_al.pool import Answer, Example, Query
from nlp_al.strategies import all_strategies
from nlp_al.tasks import Task


@dataclass(frozen=True)
class Question:
    """One example that somebody is asked about; rank 0 is the most wanted of its round.

    strategy: what chose it, and why in a word. suggestion: the label that the model would give, with its probability (a
    list where the label has parts), and which model that is; salient: the words that it hangs on, with how much.
    vector: what similar examples are found by. place: in the order of asking, over all rounds. before: the annotators
    who have answered it already; somebody else is to.
    """

    example: Example
    round: int
    rank: int
    score: float | None = None
    strategy: str = ""
    why: str = ""
    suggestion: Any = None
    confidence: float | list[float] | None = None
    agent: str | None = None
    vector: list[float] | None = None
    place: int = 0
    salient: Mapping[str, float] | None = None
    before: tuple[str, ...] = ()

    def shows(self, task: Task) -> bool:
        """Whether there is a guess that a page can show."""
        return showable(self.suggestion, self.example, task)


@dataclass(frozen=True)
class Guess:
    """What a model says of an example that people are asked about; the fields are those of `Question`."""

    label: Any
    confidence: float | list[float] | None = None
    agent: str | None = None
    salient: Mapping[str, float] | None = None


def showable(label: Any, example: Example, task: Task) -> bool:
    """Whether a page can fill this label in; one of no label and no span it can't."""
    return label is not None and task.to_form(label, example) not in (None, [])


def as_questions(
    batch: Sequence[Query],
    examples: Sequence[Example],
    places: Mapping[str, int],
    guesses: Mapping[str, Guess],
    vectors: Sequence[list[float]] | None = None,
) -> list[Question]:
    """A batch with what is known of it. guesses: those that are shown, by id."""
    made = []
    whys = {name: _why(name) for name in {query.strategy for query in batch}}  # each asks what packages there are
    for at, (query, example) in enumerate(zip(batch, examples, strict=True)):
        guess = guesses.get(query.id, Guess(None))
        said = (guess.label, guess.confidence, guess.agent)
        about = (query.round, query.rank, query.score, query.strategy, whys[query.strategy], *said)
        vector = vectors[at] if vectors else None
        made.append(Question(example, *about, vector, places[example.id], guess.salient, query.before))
    return made


def _why(strategy: str) -> str:
    """In a word, why the last stage of a strategy asks."""
    name, known = strategy.split("+")[-1], all_strategies()
    return known[name].family if name in known else name


@dataclass(frozen=True)
class Setting:
    """What an annotator may know: the task, its labels with guidelines, the run's directory, gold labels by id, the
    examples that may be asked about, what was answered before this process began, and what labels that were renamed are
    called now.
    """

    task: Task
    labels: dict[str, str]
    run_dir: Path
    gold: dict[str, Any] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    answers: Sequence[Answer] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


class Annotator(ABC):
    """Two methods, called by the learner alone. Subclasses are dataclasses; their fields are the config's parameters.

    The learner pushes a batch, then pulls until each of its examples has an answer; after a crash, or where the order
    of asking has changed, it pushes the same batch again. So `push` must take questions that it has seen, of which only
    the place may be another, and `pull` may repeat answers: the learner keeps what is new. seconds_between_pulls: how
    long the learner waits when answers are still missing. hides_gold: whether gold labels of the train split are
    answers to be asked for (a simulation), not labels to start from.
    """

    seconds_between_pulls: ClassVar[float] = 2.0
    hides_gold: ClassVar[bool] = False
    setting: Setting

    @property
    def wants(self) -> frozenset[str]:
        """What questions are to carry beside the example: `suggestion`, `explanation` of it, `vector`."""
        return frozenset()

    @property
    def control(self) -> float:
        """The share of the suggestions that are made and not shown, to tell what seeing one does to answers."""
        return 0.0

    def enough_of(self, batch: int) -> int:
        """How many answers to a batch of this size are enough to go on."""
        return batch

    @property
    def decides(self) -> str | None:
        """The person whose submitted answer holds alone, whatever the others say; None: there is none."""
        return None

    @property
    def in_turn(self) -> int:
        """How many people can be asked about one example, one after the other, each in a round of their own.

        From two on, `Question.before` names those who are not to be asked again.
        """
        return 1

    def needs(self, name: str) -> int:
        """How many people's answers the question about this id waits for.

        All processes ask, and `nlp-al status` asks one that was never started: parameters and id alone must tell.
        """
        return 1

    def ahead_of(self, batch: int) -> int | None:
        """After how many answers to a batch of this size the next is chosen and pushed; None: not while it waits."""
        return None

    def start(self, setting: Setting) -> None:
        """Called once before the first push."""
        self.setting = setting

    @abstractmethod
    def push(self, questions: Sequence[Question]) -> None:
        """Puts a batch before the annotators."""

    def ask_again(self, questions: Sequence[Question], person: str | None) -> None:
        """Puts questions before one person about what is labelled already; `pull` brings the answers. What this person
        was asked again before is not asked once more.

        Called between two starts of a run, first without questions, to see whether that can be done.

        Raises:
            UserError: it can't, or there is no such person.
        """
        raise UserError("The run's annotator can't ask again; only people can, with the annotator argilla or jsonl.")

    @abstractmethod
    def pull(self) -> list[Answer]:
        """All answers that have arrived, old and new."""
