"""Doubtful labels go back to people: who is asked, and what becomes of the answers."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of, write_lines

from nlp_al.aggregation import Majority, heard
from nlp_al.ask_again import told_again, whose
from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Pool
from nlp_al.relabel import Change
from nlp_al.store import RunDirectory
from nlp_al.tasks import make_task


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def test_a_label_goes_back_to_those_who_gave_it() -> None:
    said = [Answer("a", "x", "ann"), Answer("a", "y", "bob"), Answer("a", "x", "cat"), Answer("a", "x", "dataset")]
    assert whose(said, "x") == ["ann", "cat"]
    assert whose(said, "z") == ["ann", "bob", "cat"]  # put together of several
    assert whose([Answer("a", "x", "dataset"), Answer("a", None, "ann", "discarded")], "x") == []


def test_what_people_say_goes_before_what_the_data_say() -> None:
    task = make_task("text-classification", {}).with_labels(["x", "y"])
    given = Answer("a", "x", "dataset")
    for said, label, disputed in (
        ([], "x", False),
        ([Answer("a", "y", "ann")], "y", False),
        ([Answer("a", None, "ann", "discarded")], "x", False),
        ([Answer("a", "y", "ann"), Answer("a", "x", "bob")], "y", True),
    ):
        fold = Majority(task)
        assert fold({"a": [given, *said]}) == {"a": label}
        assert fold.differ([given, *said]) == disputed
    assert heard([given]) == [given]


def test_how_many_are_others_now() -> None:
    task = make_task("text-classification", {}).with_labels(["x", "z"])
    answers = [Answer("a", "x", "ann"), Answer("b", "z", "ann"), Answer("c", None, "ann", "discarded")]
    pool = Pool([], answers=answers)
    lines = [{"id": name, "label": label, "answers": 2} for name, label in zip("abc", "zyx", strict=True)]
    told = "3 doubtful labels asked about again; {} now, 1 have none"
    assert told_again(lines, pool, task) == told.format("2 are others")
    assert told_again(lines, pool, task, [Change("rename", ("y",), "z", "", 2)]) == told.format("1 are others")
    assert told_again([], pool, task) is None


class Mistaken:
    """A run whose labels were given by people in files, some of them wrong."""

    def __init__(self, folder: Path, model: str, **sections: Any) -> None:
        self.rows = some_rows(150)
        self.gold = {row["id"]: row["label"] for row in self.rows}
        self.wrong = {row["id"] for row in self.rows[::10]}
        others = {"food": "money", "money": "sport", "sport": "food"}
        self.said = {name: others[label] if name in self.wrong else label for name, label in self.gold.items()}
        self.run = folder / "run"
        bare = [{**row, "label": None} for row in self.rows]
        loop = {"initial": len(self.rows), "rounds": 0}
        given = {"annotator": "jsonl", "loop": loop, "labels": ["food", "money", "sport"], **sections}
        self.values = values_of(folder, model, bare, test=0, **given)
        self.run.mkdir()

    def answer(self, labels: dict[str, str], annotator: str = "ann") -> None:
        lines = [{"id": name, "label": label, "annotator": annotator} for name, label in labels.items()]
        with (self.run / "answers.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def start(self) -> ActiveLearner:
        learner = ActiveLearner(read_config(self.values, Path.cwd()))
        learner.run()
        return learner

    def asked(self) -> list[dict[str, Any]]:
        return read_lines(self.run / "questions-again.jsonl")


def test_corrected_answers_are_the_labels_then(tmp_path, model, capsys) -> None:
    made = Mistaken(tmp_path, model)
    half = set(list(made.said)[:75])
    made.answer({name: label for name, label in made.said.items() if name in half}, "ann")
    made.answer({name: label for name, label in made.said.items() if name not in half}, "bob")
    made.start()
    capsys.readouterr()
    assert main(["review", str(made.run), "--ask"]) == 0
    said = capsys.readouterr().out
    asked = made.asked()
    ids = {line["id"] for line in asked}
    assert len(ids & made.wrong) > 7
    assert all(line["annotator"] == ("ann" if line["id"] in half else "bob") for line in asked)
    assert all(line["text"] and "label" not in line and "suggested" not in line for line in asked)
    counts = {name: sum(line["annotator"] == name for line in asked) for name in ("ann", "bob")}
    assert f"{counts['ann']} of ann" in said
    assert f"{counts['bob']} of bob" in said
    assert f"{made.run / 'review.csv'} holds {len(asked)} of 150 labelled examples" in said
    kept = read_lines(made.run / "asked_again.jsonl")
    assert {(line["id"], line["annotator"]) for line in kept} == {(line["id"], line["annotator"]) for line in asked}
    assert all(line["label"] == made.said[line["id"]] and line["answers"] == 150 for line in kept)
    assert [line["rank"] for line in asked if line["annotator"] == "bob"] == list(range(counts["bob"]))

    assert main(["review", str(made.run), "--ask"]) == 0  # nobody is asked twice
    assert "Nothing is asked again that was not before." in capsys.readouterr().out
    assert made.asked() == asked

    for line in asked:
        made.answer({line["id"]: made.gold[line["id"]]}, line["annotator"])
    learner = made.start()
    labels = learner.pool.labels()
    assert {name for name in labels if labels[name] != made.gold[name]} == made.wrong - ids
    assert len(labels) == 150
    capsys.readouterr()
    assert main(["status", str(made.run)]) == 0
    again = f"again    {len(ids)} doubtful labels asked about again; {len(ids & made.wrong)} are others now"
    assert again in capsys.readouterr().out


def test_one_person_is_asked_about_all_and_about_what_came_with_the_data(tmp_path, model, capsys) -> None:
    made = Mistaken(tmp_path, model, loop={"initial": 100, "rounds": 0})
    brought = set(list(made.said)[:50])
    rows = [{**row, "label": made.said[row["id"]] if row["id"] in brought else None} for row in made.rows]
    write_lines(Path(made.values["dataset"]["data_files"]["train"]), rows)
    made.answer({name: label for name, label in made.said.items() if name not in brought})
    made.start()
    capsys.readouterr()
    assert main(["review", str(made.run), "--ask"]) == 0
    first = {line["id"] for line in made.asked()}
    assert not first & brought
    said = capsys.readouterr().out
    assert "labels came with the data; say with --annotator NAME who is to look at these." in said
    assert main(["review", str(made.run), "--ask", "--annotator", "eve"]) == 0
    assert "came with the data" not in capsys.readouterr().out
    asked = [line for line in made.asked() if line["annotator"] == "eve"]
    ids = {line["id"] for line in asked}
    assert ids >= first
    assert ids & brought & made.wrong
    made.answer({name: made.gold[name] for name in ids & brought}, "eve")
    labels = made.start().pool.labels()
    assert all(labels[name] == made.gold[name] for name in ids & brought)


@pytest.mark.parametrize(
    ("annotator", "more", "told"),
    [
        ("oracle", ["--ask"], "error: The run's annotator can't ask again; only people can, with the annotator"),
        ("oracle", ["--annotator", "ann"], "error: --annotator says who is asked again; give --ask as well."),
        ("jsonl", ["--ask"], "is in use by another process"),
    ],
)
def test_what_can_not_be_asked_is_told(tmp_path, model, capsys, annotator, more: Sequence[str], told: str) -> None:
    loop = {"initial": 30, "rounds": 0}
    values = values_of(tmp_path, model, some_rows(30), test=0, loop=loop)
    learner = ActiveLearner(read_config(values, Path.cwd()))
    learner.run()
    run = Path(values["run_dir"])
    capsys.readouterr()
    if annotator == "oracle":
        assert main(["review", str(run), *more]) == 2
    else:
        with RunDirectory(run):
            assert main(["review", str(run), *more]) == 1
    assert told in capsys.readouterr().err
    assert not (run / "review.csv").exists()
    assert main(["review", str(tmp_path / "nothing"), "--ask"]) == 2
    assert not (tmp_path / "nothing").exists()


def test_status_loads_no_torch() -> None:
    code = "import sys, nlp_al.status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
