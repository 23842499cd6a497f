"""What people ask of a run beside it: where it stands, its labels as a table, what its model says of the rest."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines

from nlp_al.annotation import ANNOTATORS
from nlp_al.annotation.oracle import Oracle
from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.resume import to_yaml
from nlp_al.values import read_yaml


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory) -> Path:
    """A frozen run of two rounds with a holdout, and no final model."""
    values = values_of(
        tmp_path_factory.mktemp("finished"),
        model,
        some_rows(60),
        loop={"initial": 20, "batch": 10, "rounds": 1, "holdout": 0.2},
    )
    ActiveLearner(read_config(values, Path.cwd())).run()
    return Path(values["run_dir"])


def said(capsys, *words: object) -> str:
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_status_of_a_finished_run(finished, capsys):
    lines = said(capsys, "status", finished).splitlines()
    newest = json.loads((finished / "metrics.jsonl").read_text().splitlines()[-1])
    low, high = newest["holdout_interval"]["accuracy"]
    assert lines == [
        f"{finished}: text-classification, margin, frozen training",
        "asked    30, of which 30 are answered and 0 wait",
        "  oracle  30 submitted",
        f"holdout  accuracy {newest['holdout']['accuracy']:.3f}, between {low:.3f} and {high:.3f} with 95%, "
        "after round 1 with 24 labels",
        f"test     accuracy {newest['test']['accuracy']:.3f}, after round 1 with 24 labels",
        "next: nothing: all rounds are done; raise loop.rounds to go on",
    ]


def test_status_while_people_answer(finished, tmp_path, capsys):
    """The files of a run that waits: half a batch answered, by two people, and a line that is still being written."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text((finished / "config.yaml").read_text())
    queries = (finished / "queries.jsonl").read_text().splitlines(keepends=True)
    (run / "queries.jsonl").write_text("".join(queries[:20]))
    asked = [json.loads(line)["id"] for line in queries[:20]]

    def line(name, who, status="submitted"):
        return json.dumps(
            {"round": 0, "id": name, "label": "food", "annotator": who, "status": status, "scope": None, "time": ""}
        )

    answers = [line(asked[0], "ana"), line(asked[1], "ana"), line(asked[1], "ben"), line(asked[2], "ben", "discarded")]
    answers += [line(asked[3], "ana", "draft"), line(asked[0], "ana", "discarded")]
    (run / "labels.jsonl").write_text("\n".join(answers) + "\n" + line(asked[5], "ana")[:30])
    (run / "argilla.json").write_text('{"url": "http://127.0.0.1:6900", "pages": {"main": {"id": "123"}}}')
    assert said(capsys, "status", run).splitlines()[1:] == [
        "asked    20, of which 3 are answered and 17 wait",
        "  ana  1 discarded, 1 submitted, 1 draft; 1.00 of 1 as the others say",
        "  ben  1 submitted, 1 discarded; 1.00 of 1 as the others say",
        "agreement 1 record answered by several: 1.00 of pairs agree, alpha not defined",
        "scores   none yet: no round is finished",
        "next: 17 of the 20 questions of round 0 wait for an answer at "
        "http://127.0.0.1:6900/dataset/123/annotation-mode",
    ]


@dataclass
class Panel(Oracle):
    """Two people a question, and eve decides."""

    decides: ClassVar[str] = "eve"

    def needs(self, name):
        return 2


def several_people(finished: Path, run: Path, annotator: str) -> list[str]:
    """The files of a run in which ana, ben and eve have answered; what was asked."""
    run.mkdir()
    config = {**read_yaml(finished / "config.yaml"), "annotator": {"name": annotator}}
    (run / "config.yaml").write_text(to_yaml(config))
    (run / "queries.jsonl").write_text((finished / "queries.jsonl").read_text())
    asked = [line["id"] for line in read_lines(run / "queries.jsonl")]
    given = [
        *((asked[at], "food", "ana") for at in range(4)),
        *((asked[at], ("food", "food", "money", "money")[at], "ben") for at in range(4)),
        (asked[2], "money", "eve"),
        (asked[3], "sport", "eve"),
        (asked[4], "sport", "ben"),
    ]
    about = {"round": 0, "status": "submitted", "scope": None, "time": ""}
    write_lines(run / "labels.jsonl", [{**about, "id": i, "label": o, "annotator": who} for i, o, who in given])
    return asked


def test_status_says_how_far_people_agree(finished, tmp_path, capsys):
    several_people(finished, tmp_path / "run", "jsonl")
    # Pairs: 1, 1, 1/3, 0. Values: food 6, money 3, sport 1; different ones 4/2 + 6/2, by chance 54/9.
    assert said(capsys, "status", tmp_path / "run").splitlines()[2:6] == [
        "  ana  4 submitted; 0.50 of 4 as the others say",
        "  ben  5 submitted; 0.50 of 4 as the others say",
        "  eve  2 submitted; 0.00 of 2 as the others say",
        "agreement 4 records answered by several: 0.58 of pairs agree, alpha 0.17",
    ]


def test_status_and_export_know_who_decides_and_how_many_are_waited_for(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "panel", Panel)
    asked = several_people(finished, tmp_path / "run", "panel")
    assert said(capsys, "status", tmp_path / "run").splitlines()[1:6] == [
        "asked    30, of which 4 are answered and 26 wait",  # that of ben alone does
        "  ana  4 submitted; 0.50 of 4 as the others say",
        "  ben  5 submitted; 0.75 of 4 as the others say",
        "  eve  2 submitted",
        "agreement 4 records answered by several: 0.50 of pairs agree, alpha -0.17",
    ]
    said(capsys, "export", tmp_path / "run", "--csv", tmp_path / "labels.csv")
    labels = {row["id"]: row["label"] for row in table(tmp_path / "labels.csv")}
    assert [labels[name] for name in asked[:6]] == ["food", "food", "money", "sport", "sport", ""]


def test_export(finished, tmp_path, capsys):
    out = tmp_path / "labels.csv"
    assert said(capsys, "export", finished, "--csv", out) == f"{out} holds 30 rows.\n"
    rows = table(out)
    gold = {row["id"]: row for row in some_rows(60)}
    assert len(rows) == 30
    assert all((row["text"], row["label"]) == (gold[row["id"]]["text"], gold[row["id"]]["label"]) for row in rows)
    assert sum(row["state"] == "holdout" for row in rows) == 6
    assert {row["state"] for row in rows} == {"holdout", "labelled"}
    assert all(json.loads(row["answers"]) == {"oracle": row["label"]} for row in rows)


def test_predict_the_rest(finished, tmp_path, capsys):
    out = tmp_path / "rest.csv"
    told = said(capsys, "predict", finished, "--out", out, "--threshold", "0.6")
    rows = table(out)
    labelled = {json.loads(line)["id"] for line in (finished / "labels.jsonl").read_text().splitlines()}
    assert {row["id"] for row in rows} == {row["id"] for row in some_rows(60)} - labelled
    assert all((row["flag"] == "check") == (float(row["confidence"]) < 0.6) for row in rows)
    flagged = sum(row["flag"] == "check" for row in rows)
    assert 0 < flagged < len(rows)
    assert told.endswith(f"{out} holds 30 rows; {flagged} are less sure than 0.6: flag check.\n")


def test_predict_a_file_in_any_form(finished, tmp_path, capsys):
    rows = [{"id": row["id"], "text": row["text"]} for row in some_rows(8, seed=7, prefix="new-")]
    write_lines(tmp_path / "rows.jsonl", rows)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "rows.tsv").write_text("id\ttext\n" + "".join(f"{row['id']}\t{row['text']}\n" for row in rows))
    found = []
    for name in ("rows.jsonl", "rows.csv", "rows.tsv"):
        said(capsys, "predict", finished, tmp_path / name, "--out", tmp_path / "out.csv")
        found.append(table(tmp_path / "out.csv"))
    assert [row["id"] for row in found[0]] == [row["id"] for row in rows]
    assert found[0] == found[1] == found[2]


def test_predict_with_the_saved_model(model, tmp_path, capsys):
    training = {"mode": "full", "num_train_epochs": 1, "min_steps": 0, "final": "full"}
    values = values_of(tmp_path / "full", model, some_rows(30), loop={"rounds": 0}, training=training)
    ActiveLearner(read_config(values, Path.cwd())).run()
    said(capsys, "predict", values["run_dir"], "--out", tmp_path / "out.csv")
    assert len(table(tmp_path / "out.csv")) == 20


@pytest.mark.parametrize("kind", ["sequence", "ranking", "multi"])
def test_predict_and_export_every_shape(model, tmp_path, capsys, kind):
    sections: dict = {"loop": {"initial": 10, "rounds": 0}}
    if kind == "sequence":
        rows, sections["task"], sections["labels"] = some_sentences(24), "token-classification", ["X"]
    elif kind == "ranking":
        rows, sections["task"], sections["task_options"] = some_dialogues(24), "response-selection", {"max_length": 32}
    else:
        rows = [{**row, "label": [row["label"]]} for row in some_rows(24)]
        sections["task_options"] = {"max_length": 32, "multi_label": True}
    values = values_of(tmp_path, model, rows, test=0, **sections)
    ActiveLearner(read_config(values, Path.cwd())).run()
    said(capsys, "predict", values["run_dir"], "--out", tmp_path / "out.csv")
    said(capsys, "export", values["run_dir"], "--csv", tmp_path / "labels.csv")
    predicted, labelled = table(tmp_path / "out.csv"), table(tmp_path / "labels.csv")
    assert (len(predicted), len(labelled)) == (14, 10)
    gold = {row["id"]: row.get("label", row.get("tags")) for row in rows}
    assert all(json.loads(row["label"]) == gold[row["id"]] for row in labelled)
    if kind == "sequence":
        tokens = {row["id"]: row["tokens"] for row in rows}
        assert all(len(json.loads(row["label"])) == len(tokens[row["id"]]) for row in predicted)
    if kind == "ranking":
        candidates = {row["id"]: row["candidates"] for row in rows}
        assert all(0 <= json.loads(row["label"]) < len(candidates[row["id"]]) for row in predicted)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["status", "{empty}"], 2, "{empty} is no run directory: it holds no config.yaml."),
        (["export", "{empty}", "--csv", "{empty}/x.csv"], 2, "{empty} is no run directory: it holds no config.yaml."),
        (["predict", "{run}", "{empty}/rows.csv", "--out", "{empty}/o"], 2, "{empty}/rows.csv is no file."),
        (
            ["predict", "{run}", "{run}/config.yaml", "--out", "{empty}/o"],
            2,
            "{run}/config.yaml is no file of rows: its name must end with .csv, .tsv, .jsonl, .json, .parquet, .txt.",
        ),
        (
            ["predict", "{run}", "--out", "{empty}/o", "--threshold", "2"],
            2,
            "--threshold is 2.0; it must lie between 0 and 1.",
        ),
    ],
)
def test_a_mistake_is_told(finished, tmp_path, capsys, words, status, told):
    places = {"empty": tmp_path, "run": finished}
    assert main([word.format(**places) for word in words]) == status
    assert capsys.readouterr().err == f"error: {told.format(**places)}\n"
