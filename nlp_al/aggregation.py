"""Several people's answers to one question as one label: by majority, or by how reliable each of them is."""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlp_al.errors import UserError

if TYPE_CHECKING:
    from nlp_al.pool import Answer
    from nlp_al.tasks import Task

ROUNDS = 100
"""Of expectation and maximisation."""

DATASET = "dataset"
"""The annotator of labels that came with the data."""

Place = tuple[str, int]
"""A decision: the id of its example, and which of the example's decisions it is."""


class Aggregation(ABC):
    """From the answers of several annotators to labels, decision by decision.

    task: knows the decisions that a label consists of; None: a label is one. decides: an annotator whose submitted
    answer holds alone, whatever the others say; None: nobody's does.
    """

    def __init__(self, task: Task | None = None, decides: str | None = None) -> None:
        self.task = task
        self.decides = decides

    def __call__(self, last: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
        """The label of each example that has a submitted answer; one that a single annotator gave is as it was given.

        last: by id, the last answer of each annotator, in the order in which they first answered.
        """
        given = {name: heard(answers) for name, answers in last.items()}
        several = {name: answers for name, answers in given.items() if len(answers) > 1}
        decided = {a.id: a.label for answers in given.values() for a in answers if a.annotator == self.decides}
        agreed = self.agreed(several) if several.keys() - decided.keys() else {}
        labels = {}
        for name, answers in given.items():
            if answers:
                label = self._whole(agreed[name]) if name in agreed else answers[0].label
                labels[name] = decided.get(name, label)
        return labels

    @abstractmethod
    def agreed(self, several: Mapping[str, Sequence[Answer]]) -> dict[str, list[Any]]:
        """The options of each example's decisions. several: by id, two submitted answers or more."""

    def parts(self, label: Any) -> list[str]:
        """The options that a label takes, as texts to count and compare."""
        return [json.dumps(option) for option in ([label] if self.task is None else self.task.parts(label))]

    def differ(self, answers: Sequence[Answer]) -> bool:
        """Whether submitted answers among these have different labels."""
        return len({tuple(self.parts(answer.label)) for answer in heard(answers)}) > 1

    def _whole(self, parts: Sequence[Any]) -> Any:
        return parts[0] if self.task is None else self.task.whole(parts)


class Majority(Aggregation):
    """The option with the most votes; on a tie that of the earliest annotator."""

    def agreed(self, several: Mapping[str, Sequence[Answer]]) -> dict[str, list[Any]]:
        """The options of each example's decisions."""
        return {
            name: [
                json.loads(_most_voted(votes))
                for votes in zip(*(self.parts(answer.label) for answer in answers), strict=True)
            ]
            for name, answers in several.items()
        }


class DawidSkene(Aggregation):
    """Of the options that were given, the most probable one, where each annotator has error rates of their own.

    The rates, one for each pair of options, are estimated by expectation and maximisation, from the shares of the
    votes, on what several annotators answered; what one alone answered says nothing of their errors. Where somebody
    decides, that is the truth. Decisions over the same options (`Task.alike`) share a model. Among equally probable
    options the one with more votes is taken, then that of the annotator whose name comes first: in which order people
    answered makes no difference.

    Dawid and Skene, Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm, Applied Statistics
    28(1), 1979; the implementation is crowd-kit's (arXiv:2109.08584).
    """

    def agreed(self, several: Mapping[str, Sequence[Answer]]) -> dict[str, list[Any]]:
        """The options of each example's decisions."""
        alike = self.task is None or self.task.alike
        models: dict[int, list[tuple[Place, str, str]]] = {}
        for name, answers in sorted(several.items()):
            for answer in sorted(answers, key=lambda answer: answer.annotator):
                for at, option in enumerate(self.parts(answer.label)):
                    models.setdefault(0 if alike else at, []).append(((name, at), answer.annotator, option))
        chosen = {place: option for votes in models.values() for place, option in self._most_probable(votes).items()}
        counts = Counter(name for name, _ in chosen)
        return {name: [json.loads(chosen[name, at]) for at in range(counts[name])] for name in several}

    def _most_probable(self, votes: Sequence[tuple[Place, str, str]]) -> dict[Place, str]:
        """The option of each decision. votes: decision, annotator and option, in an order that is always the same."""
        said: dict[Place, list[str]] = {}
        for place, _, option in votes:
            said.setdefault(place, []).append(option)
        if all(len(set(options)) == 1 for options in said.values()):
            return {place: options[0] for place, options in said.items()}
        return {place: _best(said[place], chances) for place, chances in self._chances(votes).items()}

    def _chances(self, votes: Sequence[tuple[Place, str, str]]) -> dict[Place, dict[str, float]]:
        """How probable each option of each decision is."""
        check_installed("dawid_skene")
        import pandas
        from crowdkit import aggregation as crowd

        places = {place: at for at, place in enumerate(dict.fromkeys(place for place, _, _ in votes))}
        rows = [(places[place], who, option) for place, who, option in votes]
        truth = pandas.Series({at: option for at, who, option in rows if who == self.decides}, dtype=object)
        # By its own rule it stops once its bound has fallen, which it does within a step or two.
        model = crowd.DawidSkene(n_iter=ROUNDS, tol=-math.inf)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls pandas by names that are to go
            table = pandas.DataFrame(rows, columns=["task", "worker", "label"])
            found = model.fit_predict_proba(table, truth if len(truth) else None)
        return dict(zip(places, found.loc[list(places.values())].to_dict("records"), strict=True))


AGGREGATIONS: dict[str, type[Aggregation]] = {"majority": Majority, "dawid_skene": DawidSkene}


def make_aggregation(name: str, task: Task, decides: str | None) -> Aggregation:
    """One by the name in `loop.aggregation`, for a task whose labels are known."""
    return AGGREGATIONS[name](task, decides)


def check_installed(name: str) -> None:
    """UserError where an aggregation needs a package that is missing."""
    if name == "dawid_skene" and importlib.util.find_spec("crowdkit") is None:
        raise UserError('loop.aggregation is dawid_skene, which needs crowd-kit: pip install "nlp-al[crowd]".')


def submitted(answers: Sequence[Answer]) -> list[Answer]:
    """Those that stand for labels."""
    return [answer for answer in answers if answer.status == "submitted"]


def heard(answers: Sequence[Answer]) -> list[Answer]:
    """Those that count: people are asked about a label that came with the data where it is doubted, and theirs hold."""
    given = submitted(answers)
    return [answer for answer in given if answer.annotator != DATASET] or given


def _most_voted(votes: Sequence[str]) -> str:
    return _best(votes, dict.fromkeys(votes, 1.0))


def _best(votes: Sequence[str], chances: Mapping[str, float]) -> str:
    """Of equally probable votes, which rounding may part, the most frequent; then the first."""
    counts = Counter(votes)
    return max(votes, key=lambda vote: (round(chances[vote], 9), counts[vote]))
