"""What people made of the model's guesses: the edits, and what a run tells of them."""

import importlib.util
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import read_lines, some_rows, some_sentences, tiny_model, values_of

from nlp_al.annotation import ANNOTATORS, Annotator, Question
from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example, Pool
from nlp_al.refinement import Edits, Refinement, edits, refinement, span_edits, told
from nlp_al.relabel import Change
from nlp_al.tasks import make_task

PER, LOC = "PER", "LOC"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([(0, 2, PER)], [(0, 3, PER), (5, 6, LOC)], Edits(added=1, moved=1)),
        ([(0, 2, PER)], [(0, 2, PER)], Edits()),
        ([(0, 2, PER)], [], Edits(removed=1)),
        ([(0, 2, PER)], [(0, 2, LOC)], Edits(changed=1)),
        ([(0, 2, PER)], [(1, 3, LOC)], Edits(moved=1, changed=1)),
        ([(0, 2, PER)], [(2, 3, PER)], Edits(added=1, removed=1)),
        ([(0, 4, PER)], [(0, 1, PER), (1, 4, PER)], Edits(added=1, moved=1)),  # one is cut in two
        ([(0, 2, PER), (2, 6, LOC)], [(1, 6, LOC)], Edits(removed=1, moved=1)),  # the larger overlap is the same entity
    ],
)
def test_edits_of_entities(before, after, expected):
    assert span_edits(before, after) == expected
    assert span_edits(after, before) == Edits(expected.removed, expected.added, expected.moved, expected.changed)


def test_the_distance_is_no_more_than_taking_all_out_and_putting_all_in():
    draw = random.Random(0)
    for _ in range(500):
        one, other = (
            {(at, at + draw.randint(1, 3), draw.choice([PER, LOC])) for at in range(0, 12, 3) if draw.random() < 0.7}
            for _ in range(2)
        )
        found = span_edits(one, other)
        assert found.distance <= len(one ^ other)
        assert len(one) - found.removed == len(other) - found.added
        assert (found.distance == 0) == (one == other)


def test_edits_by_task():
    tags = make_task("token-classification", {}).with_labels(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    assert edits(tags, ["B-PER", "I-PER", "O", "O", "O", "O"], ["B-PER", "I-PER", "I-PER", "O", "O", "B-LOC"]) == Edits(
        added=1, moved=1
    )
    several = make_task("text-classification", {"multi_label": True}).with_labels(["a", "b", "c"])
    assert edits(several, ["a", "b"], ["b", "c"]) == Edits(added=1, removed=1)
    assert edits(several, ["a", "b"], ["b", "a"]) == Edits()
    assert edits(make_task("text-classification", {}).with_labels(["a", "b"]), "a", "b") == Edits(changed=1)
    assert edits(make_task("response-selection", {}), 0, 0) == Edits()


def pool(*answers: Answer) -> Pool:
    return Pool([Example(name, "text", 1) for name in "abcdef"], answers=list(answers))


def lines(**guesses) -> list[dict]:
    return [{"id": name, "label": label, "answers": 2} for name, label in guesses.items()]


def test_three_of_four_are_accepted():
    task = make_task("text-classification", {}).with_labels(["x", "y"])
    answers = [
        *(Answer(name, "x", "ana") for name in "abc"),
        Answer("d", "x", "ana"),
        Answer("d", "y", "ana"),  # the last one counts
        Answer("e", None, "ana", "discarded"),
        Answer("f", "x", "ana"),  # without a guess
        Answer("a", "y", "oracle"),
    ]
    found = refinement(lines(a="x", b="x", c="x", d="x", e="x"), pool(*answers), task)
    assert found == Refinement(4, 3, Edits(changed=1))
    assert found.acceptance == 0.75
    assert told(found) == "3 of 4 guesses accepted as they were (0.75); edits: 1 changed"
    assert refinement(lines(a="x"), pool(), task) is None
    assert refinement([], pool(*answers), task) is None


def test_a_guess_is_read_in_today_s_labels():
    task = make_task("text-classification", {}).with_labels(["x", "z"])
    answers = pool(Answer("a", "z", "ana"))
    for at, accepted in ((1, 0), (2, 1), (3, 1)):  # only what was renamed after it was shown
        renamed = [Change("rename", ("y",), "z", "", at)]
        assert refinement(lines(a="y"), answers, task, renamed).accepted == accepted


@dataclass
class Ana(Annotator):
    """Accepts what she is shown, but for every third record; what she was shown is in `seen`."""

    @property
    def wants(self) -> frozenset[str]:
        return frozenset({"suggestion"})

    def start(self, setting) -> None:
        super().start(setting)
        self.seen: dict[str, object] = {}
        self.said: dict[str, Answer] = {}

    def push(self, questions) -> None:
        for one in questions:
            self.seen.setdefault(one.example.id, one.suggestion if one.shows(self.setting.task) else None)
            guess = self.seen[one.example.id]
            label = guess if guess is not None and len(self.said) % 3 else self.gold[one.example.id]
            self.said.setdefault(one.example.id, Answer(one.example.id, label, "ana"))

    def pull(self) -> list[Answer]:
        return list(self.said.values())


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_run_keeps_what_people_were_shown(tmp_path, model, monkeypatch, capsys, task):
    words = task == "token-classification"
    rows = some_sentences(60) if words else some_rows(60)
    column = "tags" if words else "label"
    monkeypatch.setattr(Ana, "gold", {row["id"]: row[column] for row in rows}, raising=False)
    monkeypatch.setitem(ANNOTATORS, "ana", Ana)
    bare = [{k: v for k, v in row.items() if k != column} for row in rows]
    labels = ["X"] if words else ["food", "money", "sport"]
    loop = {"initial": 20, "batch": 10, "rounds": 2, "holdout": 0.1}
    values = values_of(tmp_path, model, bare, test=0, task=task, labels=labels, loop=loop, annotator="ana")
    learner = ActiveLearner(read_config(values, Path.cwd()))
    learner.run()
    ana, run = learner.annotator, Path(values["run_dir"])
    kept = read_lines(run / "suggestions.jsonl")
    assert {line["id"]: line["label"] for line in kept} == {k: v for k, v in ana.seen.items() if v is not None}
    assert {line["answers"] for line in kept} == {20, 30}
    assert not {line["id"] for line in kept} & learner.pool.held
    capsys.readouterr()
    accepted = sum(ana.said[line["id"]].label == line["label"] for line in kept)
    expected = f"{accepted} of {len(kept)} guesses accepted as they were ({accepted / len(kept):.2f})"
    assert main(["status", str(run)]) == 0
    assert f"guesses  {expected}" in capsys.readouterr().out
    if importlib.util.find_spec("matplotlib") is not None:
        assert main(["report", str(run)]) == 0
        assert expected in (run / "report.html").read_text()
    published: list = []
    monkeypatch.setattr(ana, "push", published.extend)
    with learner.opened():
        learner.answers.publish(learner.pool.queries, learner.fit.model, learner._generator("suggestions"))
    assert len(published) == 40
    again = read_lines(run / "suggestions.jsonl")
    assert again[: len(kept)] == kept
    assert len({line["id"] for line in again}) == len(again)


def test_a_guess_of_nothing_is_not_shown():
    words = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])
    several = make_task("text-classification", {"multi_label": True}).with_labels(["x"])
    for task, inputs, nothing, something in (
        (words, ["a", "b"], ["O", "O"], ["O", "B-X"]),
        (several, "a b", [], ["x"]),
        (make_task("response-selection", {}), {"context": ["a"], "candidates": ["b", "c"]}, None, 0),
    ):
        asked = [Question(Example("e", inputs, 2), 1, 0, suggestion=one) for one in (None, nothing, something)]
        assert [one.shows(task) for one in asked] == [False, False, True]
