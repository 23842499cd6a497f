"""Runs that several people answer: how many of them a question waits for, and which label the model is trained on."""

import importlib.util
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from helpers import read_lines, some_rows, some_sentences, tiny_model, values_of

from nlp_al import aggregation
from nlp_al.annotation import ANNOTATORS, Annotator
from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer
from nlp_al.run_files import run_pool, run_task

LABELS = ["food", "money", "sport"]

with_crowd_kit = pytest.mark.skipif(
    importlib.util.find_spec("crowdkit") is None, reason='needs pip install "nlp-al[crowd]"'
)


@dataclass
class Panel(Annotator):
    """Two people a question. `says` is what they say at the nth pull after a question was asked."""

    decides: ClassVar[str] = "eve"
    seconds_between_pulls: ClassVar[float] = 0.0
    says: ClassVar[Any] = None

    def start(self, setting) -> None:
        super().start(setting)
        self.pulls: Counter[str] = Counter()

    def push(self, questions) -> None:
        self.pulls.update({question.example.id: 0 for question in questions})
        for question in questions:
            self.pulls.setdefault(question.example.id, 0)

    def pull(self) -> list[Answer]:
        self.pulls.update(self.pulls.keys())
        return [Answer(name, *said) for name, at in self.pulls.items() for said in type(self).says(name, at)]

    def needs(self, name: str) -> int:
        return 2


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def learner(tmp_path, model, monkeypatch):
    """A run of one set of ten; what the panel says, and sections of its config."""

    def make(says, rows=None, **sections: Any) -> ActiveLearner:
        monkeypatch.setitem(ANNOTATORS, "panel", Panel)
        monkeypatch.setattr(Panel, "says", staticmethod(says))
        bare = [{k: v for k, v in row.items() if k not in ("label", "tags")} for row in rows or some_rows(30)]
        sections = {"labels": LABELS, "annotator": {"name": "panel"}, **sections}
        sections["loop"] = {"initial": 10, "rounds": 0, **sections.get("loop", {})}
        return ActiveLearner(read_config(values_of(tmp_path, model, bare, test=0, **sections), Path("/")))

    return make


def test_a_question_waits_for_the_second_person(learner):
    def says(name: str, pull: int) -> list[tuple[Any, ...]]:
        label = LABELS[int(name[1:]) % 3]
        said = [(label, "ann"), (label, "bob", "draft")]
        return [(label, "ann"), (label, "bob")] if pull > 4 else said

    made = learner(says)
    made.run()
    lines = read_lines(made.annotator.setting.run_dir / "labels.jsonl")
    assert [line["status"] for line in lines if line["annotator"] == "bob"] == ["draft"] * 10 + ["submitted"] * 10
    assert read_lines(made.annotator.setting.run_dir / "metrics.jsonl")[0]["answers"] == 30


def test_who_decides_is_who_the_model_learns_from(learner):
    asked: list[str] = []

    def says(name: str, pull: int) -> list[tuple[Any, ...]]:
        asked.extend([name] if name not in asked else [])
        label = LABELS[asked.index(name) % 3]
        right = [("sport", "eve")] if asked.index(name) < 4 else []
        return [(label, "ann"), (label, "bob"), *right]

    made = learner(says)
    made.run()
    expected = {name: "sport" if at < 4 else LABELS[at % 3] for at, name in enumerate(asked)}
    assert {example.id: label for example, label in made.pool.labelled()} == expected
    run_dir = made.annotator.setting.run_dir
    assert run_pool(run_dir, made.pool.examples, made.task).labels() == expected


@with_crowd_kit
def test_dawid_and_skene_in_a_run_is_fitted_once_a_round(learner, monkeypatch):
    fits = []
    chances = aggregation.DawidSkene._chances
    monkeypatch.setattr(aggregation.DawidSkene, "_chances", lambda *args: fits.append(1) or chances(*args))

    def says(name: str, pull: int) -> list[tuple[Any, ...]]:
        right = LABELS[int(name[1:]) % 3]
        return [(right, "ann"), (right, "bob"), *(("food", who) for who in ("cas", "dan", "fay"))]

    made = learner(says, loop={"rounds": 1, "batch": 10, "aggregation": "dawid_skene"})
    made.run()
    assert {e.id: label for e, label in made.pool.labelled()} == {
        e.id: LABELS[int(e.id[1:]) % 3] for e, _ in made.pool.labelled()
    }
    assert len(made.pool.labelled()) == 20
    assert len(fits) == 2


def test_tags_of_several_people_are_put_together_word_by_word(learner):
    rows = {row["id"]: row for row in some_sentences(30)}

    def says(name: str, pull: int) -> list[tuple[Any, ...]]:
        gold = rows[name]["tags"]
        slips = [["B-X" if at % 2 == odd else tag for at, tag in enumerate(gold)] for odd in (0, 1)]
        return [(slips[0], "ann"), (slips[1], "bob"), (gold, "cas")]

    made = learner(says, list(rows.values()), task="token-classification", labels=["X"], strategy="mnlp")
    made.run()
    found = {example.id: label for example, label in made.pool.labelled()}
    assert len(found) == 10
    assert found == {name: rows[name]["tags"] for name in found}


def test_the_missing_package_is_told_when_the_run_starts(learner, monkeypatch):
    monkeypatch.setattr(aggregation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "nlp-al\[crowd\]"'):
        learner(lambda name, pull: [], loop={"aggregation": "dawid_skene"})


def test_the_labels_of_a_run_s_task_are_those_that_were_answered(learner):
    made = learner(lambda name, pull: [(LABELS[int(name[1:]) % 2], "ann"), ("money", "bob", "discarded")])
    made.run()
    assert run_task(made.annotator.setting.run_dir).labels == ("food", "money")
