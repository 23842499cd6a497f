"""Labels that are doubted go back to people.

`asked_again.jsonl` has a line for each person who was asked about one: id, annotator, the label that was doubted, and
`answers`, how many lines labels.jsonl had by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlp_al.agreement import NOBODY
from nlp_al.annotation import Question, Setting, make_annotator
from nlp_al.pool import Answer, Pool
from nlp_al.relabel import Change, names_after
from nlp_al.store import RunDirectory
from nlp_al.tasks import Task

if TYPE_CHECKING:
    from nlp_al.review import Doubt, Labels

FILE = "asked_again.jsonl"


class AskAgain:
    """Puts doubtful labels before people, through the annotator of the run, whose directory is held meanwhile.

    They see the example as at first, and neither what was said of it nor what the model says. Their answers are like
    any others.

    Raises:
        UserError: the annotator can't ask again, or there is no person of this name.
    """

    def __init__(self, known: Labels, store: RunDirectory, person: str | None = None) -> None:
        """person: who answers all; None: the annotator that decides, or else those who gave the labels."""
        config, bench, self._pool = known.config, known.bench, known.pool
        self._store = store
        self._annotator = make_annotator(config.annotator.name, config.annotator.parameters)
        self._person = person or self._annotator.decides
        examples, answers = self._pool.examples, self._pool.answers
        self._annotator.start(
            Setting(bench.task, bench.guidelines, store.path, {}, examples, answers, names_after(bench.changes))
        )
        self._annotator.ask_again([], self._person)

    def ask(self, doubts: Sequence[Doubt]) -> str:
        """Asks about them, the most doubtful first, but nobody twice about the same; what was done, in words."""
        before = {(line["id"], line["annotator"]) for line in self._store.lines(FILE)}
        rounds = {query.id: query.round for query in self._pool.queries}
        last, bare = self._pool.last(), 0
        asked: dict[str, list[Doubt]] = {}
        for doubt in doubts:
            name = doubt.example.id
            people = [self._person] if self._person is not None else whose(last[name], doubt.label)
            bare += not people
            for person in people:
                if (name, person) not in before:
                    asked.setdefault(person, []).append(doubt)
        for person, own in asked.items():
            questions = [
                Question(one.example, rounds.get(one.example.id, 0), at, why="doubt", place=at)
                for at, one in enumerate(own)
            ]
            self._annotator.ask_again(questions, person)
            answers = len(self._pool.answers)
            self._store.append(
                FILE,
                [{"id": one.example.id, "annotator": person, "label": one.label, "answers": answers} for one in own],
            )
        told = ", ".join(f"{len(own)} of {person}" for person, own in asked.items())
        said = f"Asked again: {told}." if told else "Nothing is asked again that was not before."
        if bare:
            said += f" {bare} labels came with the data; say with --annotator NAME who is to look at these."
        return said


def whose(answers: Sequence[Answer], label: Any) -> list[str]:
    """The people who gave this label; where nobody did, as it was put together of several, all of these."""
    said = [answer for answer in answers if answer.status == "submitted" and answer.annotator not in NOBODY]
    return [answer.annotator for answer in said if answer.label == label] or [answer.annotator for answer in said]


def told_again(
    lines: Sequence[Mapping[str, Any]], pool: Pool, task: Task, changes: Sequence[Change] = ()
) -> str | None:
    """In words how many labels people were asked about again, and how many are others now; None where none were.

    pool: its answers are read, no examples.
    """
    labels = pool.fold(pool.last())
    before: dict[str, Any] = {}
    for line in lines:
        since = names_after(change for change in changes if change.answers >= line["answers"])
        before.setdefault(line["id"], task.renamed(line["label"], since))
    if not before:
        return None
    other = sum(pool.fold.parts(labels[name]) != pool.fold.parts(old) for name, old in before.items() if name in labels)
    gone = len(before.keys() - labels.keys())
    told = f"{len(before):,} doubtful label{'s' * (len(before) > 1)} asked about again; {other:,} are others now"
    return f"{told}, {gone:,} have none" if gone else told
