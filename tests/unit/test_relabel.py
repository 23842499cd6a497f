"""Labels that change while a run is under way."""

import itertools
import json

import pytest
from helpers import some_dialogues, some_rows, tiny_model, values_of

from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example
from nlp_al.relabel import Change, answers_after, changes_of, checked, examples_after, labels_after, names_after
from nlp_al.tasks import make_task


def add(name: str, answers: int = 0) -> Change:
    return Change("add", (), name, f"about {name}", answers)


def rename(old: str, new: str, answers: int = 0, guideline: str = "") -> Change:
    return Change("rename", (old,), new, guideline, answers)


def merge(*old: str, into: str, answers: int = 0) -> Change:
    return Change("merge", old, into, "", answers)


TEXTS = make_task("text-classification", {})
SEVERAL = make_task("text-classification", {"multi_label": True})
ENTITIES = make_task("token-classification", {})


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ([], {"a": "A", "b": "B", "c": ""}),
        ([add("d")], {"a": "A", "b": "B", "c": "", "d": "about d"}),
        ([add("a")], {"a": "A", "b": "B", "c": ""}),  # the config says so itself by now
        ([rename("b", "x")], {"a": "A", "x": "B", "c": ""}),
        ([rename("b", "x", guideline="new")], {"a": "A", "x": "new", "c": ""}),
        ([rename("z", "b")], {"a": "A", "b": "B", "c": ""}),
        ([merge("a", "c", into="c")], {"c": "A", "b": "B"}),
        ([merge("a", "b", into="x")], {"x": "A", "c": ""}),
        ([rename("a", "x"), add("a"), merge("x", "b", into="b")], {"b": "B", "c": "", "a": "about a"}),
    ],
)
def test_labels_of_the_config_after_changes(changes, after):
    assert labels_after({"a": "A", "b": "B", "c": ""}, changes, TEXTS) == after
    assert labels_after(None, changes, TEXTS) is None


def test_types_of_entities_are_changed_not_tags():
    for names in ({"O": "", "B-PER": "", "I-PER": "", "B-LOC": ""}, {"PER": "", "LOC": ""}):
        assert labels_after(names, [rename("PER", "PERSON")], ENTITIES) == {"PERSON": "", "LOC": ""}
    tags = ["O", "B-PER", "I-PER", "B-LOC"]
    assert ENTITIES.renamed(tags, {"PER": "PERSON"}) == ["O", "B-PERSON", "I-PERSON", "B-LOC"]


def test_of_two_labels_that_become_one_a_text_has_one():
    assert SEVERAL.renamed(["a", "c", "b"], {"a": "x", "b": "x"}) == ["x", "c"]


def test_names_after_changes_are_those_of_changing_step_by_step():
    kinds = [rename("a", "b"), rename("b", "a"), rename("b", "c"), merge("a", "c", into="c"), merge("c", "b", into="d")]
    for changes in itertools.product(kinds, repeat=3):
        found = names_after(changes)
        for name in "abcd":
            now = name
            for change in changes:
                now = change.new if now in change.old else now
            assert found.get(name, name) == now


def test_an_answer_is_read_by_the_changes_that_came_after_it():
    changes = [rename("a", "b", answers=1), add("a", answers=2), rename("b", "c", answers=3)]
    given = [Answer(str(at), "a", "ann") for at in range(5)]
    assert [answer.label for answer in answers_after(given, changes, TEXTS)] == ["c", "a", "a", "a", "a"]
    given = [Answer(str(at), "b", "ann") for at in range(5)]
    assert [answer.label for answer in answers_after(given, changes, TEXTS)] == ["c", "c", "c", "b", "b"]
    assert answers_after([Answer("x", None, "ann", "discarded")], changes, TEXTS)[0].label is None


def test_gold_labels_are_read_by_all_changes():
    examples = [Example("x", "text", 1, "a"), Example("y", "text", 1)]
    made = examples_after(examples, [rename("a", "b", answers=7), rename("b", "c", answers=9)], TEXTS)
    assert [example.label for example in made] == ["c", None]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add("a"), r"^There is a label 'a' already\.$"),
        (add(""), r"^A label must have a name\.$"),
        (rename("z", "x"), r"^There is no label 'z': "),
        (rename("a", "b"), r"^There is a label 'b' already; to make the two one: merge\.$"),
        (merge("a", "z", into="a"), r"^There is no label 'z': "),
    ],
)
def test_what_can_not_be_changed(change, told):
    with pytest.raises(Exception, match=told):
        checked(change, {"a": "", "b": ""})


def test_a_label_that_takes_in_others_is_one_of_them():
    assert checked(merge("a", into="b"), {"a": "", "b": ""}).old == ("a", "b")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_a_run_goes_on_with_other_labels(model, tmp_path, capsys):
    """Gold labels of train and test, old answers, and the strategy: all are in today's names."""
    given = values_of(tmp_path, model, some_rows(60), labels=["food", "money", "sport"], loop={"rounds": 1})
    run = tmp_path / "run"
    ActiveLearner(read_config(given, tmp_path)).run()
    before = (run / "labels.jsonl").read_bytes()
    assert main(["labels", str(run), "rename", "sport", "games"]) == 0
    assert main(["labels", str(run), "merge", "money", "--into", "food"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = sum(line["label"] == "sport" for line in map(json.loads, before.decode().splitlines()))
    told = f"The labels of {run} are food, money, games now; {count} answers that named 'sport' are read as 'games'."
    assert told in lines
    assert any(line.startswith(f"The labels of {run} are food, games now; ") for line in lines)
    given["loop"]["rounds"] = 2
    learner = ActiveLearner(read_config(given, tmp_path))
    learner.run()
    assert learner.task.labels == ("food", "games")
    assert set(learner.pool.labels().values()) == {"food", "games"}
    assert {label for _, label in learner.bench.gold("test")} == {"food", "games"}
    assert (run / "labels.jsonl").read_bytes().startswith(before)
    newer = [json.loads(line) for line in (run / "labels.jsonl").read_bytes()[len(before) :].splitlines()]
    assert {line["label"] for line in newer} <= {"food", "games"}
    learner = ActiveLearner(read_config(given, tmp_path))  # and again
    learner.run()
    assert set(learner.pool.labels().values()) == {"food", "games"}


def test_mistakes_are_told_in_a_sentence(model, tmp_path, capsys):
    given = values_of(tmp_path / "a", model, some_rows(60), loop={"rounds": 0})
    ActiveLearner(read_config(given, tmp_path)).run()
    assert main(["labels", str(tmp_path / "a" / "run"), "add", "x"]) == 2
    assert "reads its labels off the data; list them under 'labels'" in capsys.readouterr().err
    assert main(["labels", str(tmp_path / "b"), "add", "x"]) == 2
    assert "is no run directory" in capsys.readouterr().err
    assert main(["labels", str(tmp_path / "a" / "run")]) == 2
    assert "CHANGE" in capsys.readouterr().err
    files = {"train": str(tmp_path / "d.jsonl")}
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some_dialogues(30)))
    given = {**given, "task": "response-selection", "dataset": {"path": "json", "data_files": files}}
    given |= {"task_options": {}, "run_dir": str(tmp_path / "d")}
    ActiveLearner(read_config(given, tmp_path)).run()
    assert main(["labels", str(tmp_path / "d"), "add", "x"]) == 2
    assert "is a run of response-selection, which has no fixed labels." in capsys.readouterr().err


def test_a_torn_line_is_no_change(tmp_path):
    line = json.dumps({"kind": "add", "old": [], "new": "x", "guideline": "", "answers": 0, "time": ""})
    (tmp_path / "label_changes.jsonl").write_text(f"{line}\n{line[:20]}")
    assert [change.new for change in changes_of(tmp_path)] == ["x"]
