"""What a run does while it waits for people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers import read_lines, some_rows, tiny_model, values_of

from nlp_al import learner as learning
from nlp_al.annotation import ANNOTATORS, Annotator, Question
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer

ROWS = some_rows(60)
GOLD = {row["id"]: row["label"] for row in ROWS}


@dataclass
class Slow(Annotator):
    """One answer at each pull, in the order of asking."""

    ahead: int | None = field(default=None)
    seconds_between_pulls: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        self.asked: dict[str, Question] = {}
        self.given: list[Answer] = []
        self.told: list[tuple[int, list[str]]] = []

    def ahead_of(self, batch: int) -> int | None:
        return self.ahead

    def push(self, questions: Sequence[Question]) -> None:
        self.told.append((len(self.given), [question.example.id for question in questions]))
        self.asked |= {question.example.id: question for question in questions}

    def pull(self) -> list[Answer]:
        known = {answer.id for answer in self.given}
        waiting = sorted((q.place, name) for name, q in self.asked.items() if name not in known)
        self.given += [Answer(name, GOLD[name], "ann") for _, name in waiting[:1]]
        return list(self.given)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "slow", Slow)


def learner(folder: Path, model: str, **sections: Any) -> ActiveLearner:
    bare = [{**row, "label": None} for row in ROWS]
    given = {"labels": ["food", "money", "sport"], "annotator": "slow", "loop": {"rounds": 2}}
    return ActiveLearner(read_config(values_of(folder, model, bare, **{**given, **sections}), folder))


def test_the_accelerator_is_given_back_before_people_are_waited_for(model, tmp_path, monkeypatch):
    training = {"mode": "full", "num_train_epochs": 1, "min_steps": 2, "learning_rate": 1e-3}
    made = learner(tmp_path, model, training=training)
    seen: list[str] = []
    moves = torch.nn.Module.to

    def to(self: Any, *where: Any, **more: Any) -> Any:
        if type(self).__name__ == "BertForSequenceClassification" and where:
            seen.append(f"to {where[0]}")
        return moves(self, *where, **more)

    real = made.bell.after

    def after(wait: Any) -> str:
        seen.append("waits")
        said = real(wait)
        seen.append("goes on")
        return said

    monkeypatch.setattr(torch.nn.Module, "to", to)
    monkeypatch.setattr(made.bell, "after", after)
    monkeypatch.setattr(learning, "free_memory", lambda: seen.append("memory is free"))
    made.run()
    *waits, _ = [at for at, what in enumerate(seen) if what == "waits"]  # the last one is for what a run leaves
    assert len(waits) == 3
    assert all(seen[at - 1] == "memory is free" and seen[at + 1] == "goes on" for at in waits)
    assert all(seen[at - 2] == "to cpu" for at in waits[1:])  # there is no model before the first batch


@pytest.mark.parametrize("ahead", [None, 1, 3, 5])
def test_the_next_batch_is_chosen_after_so_many_answers(model, tmp_path, ahead):
    made = learner(tmp_path, model, annotator={"name": "slow", "ahead": ahead}, loop={"initial": 5, "batch": 5})
    annotator = made.annotator
    made.run()
    assert [query.round for query in made.pool.queries] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert len({query.id for query in made.pool.queries}) == 20
    first: dict[str, int] = {}
    for answered, names in annotator.told:
        for name in names:
            first.setdefault(name, answered)
    for query in made.pool.queries[5:]:
        before = [answer.id for answer in annotator.given[: first[query.id]]]
        known = {q.id for q in made.pool.queries if q.round == query.round - 1}
        assert len(known & set(before)) >= (ahead or 5)
    if ahead is None:
        assert [answered for answered, _ in annotator.told] == [0, 5, 10, 15]


def test_a_run_that_asks_ahead_goes_on_after_a_stop(model, tmp_path, monkeypatch):
    """What was chosen ahead is asked in its round, and not again."""
    made = learner(tmp_path, model, annotator={"name": "slow", "ahead": 2}, loop={"initial": 5, "batch": 5})
    real = made._prepare

    def prepare() -> None:
        real()
        raise KeyboardInterrupt

    monkeypatch.setattr(made, "_prepare", prepare)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    asked = [query.id for query in made.pool.queries]
    assert [query.round for query in made.pool.queries] == [0] * 5 + [1] * 5
    again = learner(tmp_path, model, annotator={"name": "slow", "ahead": 2}, loop={"initial": 5, "batch": 5})
    again.run()
    assert [query.id for query in again.pool.queries[:10]] == asked
    assert len({query.id for query in again.pool.queries}) == len(again.pool.queries) == 20
    assert [line["cost"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")] == [5, 10, 15, 20]
