"""The labelled set that a run leaves: what loads with `datasets` alone, and is the data of the next run as it is."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import datasets
import pytest
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al.annotation import ANNOTATORS, Annotator, Question
from nlp_al.bench import Bench
from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer
from nlp_al.tasks import Task
from nlp_al.tasks.text_classification import TextClassification

NAMES = ["zoe@example.org", "Ann Lee"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@dataclass
class Crowd(Annotator):
    """Two people who say what `gold` says of a row, of a row without any that they don't know; one has second thoughts.

    The first to answer is the one whose name comes last in the alphabet.
    """

    seconds_between_pulls: ClassVar[float] = 0.0
    gold: ClassVar[dict[str, Any]] = {}

    def start(self, setting) -> None:
        super().start(setting)
        self.asked: list[Question] = []

    def push(self, questions: Sequence[Question]) -> None:
        self.asked += questions

    def pull(self) -> list[Answer]:
        answers = []
        for question in self.asked:
            name = question.example.id
            label = self.gold.get(name)
            status = "discarded" if label is None else "submitted"
            answers.append(Answer(name, label, NAMES[0], status, note="call me at 555"))
            if question.rank % 2:
                answers.append(Answer(name, label, NAMES[1], "draft" if question.rank % 4 == 1 else "submitted"))
        return answers


@pytest.fixture
def crowd(monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "crowd", Crowd)

    def says(gold: dict[str, Any]) -> dict[str, Any]:
        monkeypatch.setattr(Crowd, "gold", gold)
        return {"name": "crowd"}

    return says


def run(values: dict[str, Any]) -> Path:
    ActiveLearner(read_config(values, Path("/"))).run()
    return Path(values["run_dir"])


def bare(rows: Sequence[dict[str, Any]], role: str, labelled: int = 0) -> list[dict[str, Any]]:
    """The rows without their label, but for the first ones."""
    return [row if at < labelled else {**row, role: None} for at, row in enumerate(rows)]


# What is in it


@pytest.fixture
def classified(model, tmp_path, crowd) -> Path:
    """A run of people over 60 texts, 4 of them with a label and 3 that nobody can label, with a holdout."""
    rows = some_rows(60)
    gold = {row["id"]: row["label"] for row in rows[3:]}
    labels = {"food": "what | one\neats", "money": "", "sport": ""}
    loop = {"initial": 20, "batch": 10, "rounds": 2, "holdout": 0.2}
    sections = {"labels": labels, "loop": loop, "annotator": crowd(gold)}
    train = [row if 3 <= at < 7 else {**row, "label": None} for at, row in enumerate(rows)]
    return run(values_of(tmp_path / "first", model, train, **sections))


def test_datasets_loads_it_with_everything_in_its_place(classified):
    loaded = datasets.load_dataset(str(classified / "labelled"))
    gold = {row["id"]: row for row in some_rows(60)}
    asked = {line["id"]: line for line in read_lines(classified / "queries.jsonl")}
    submitted = {line["id"] for line in read_lines(classified / "labels.jsonl") if line["status"] == "submitted"}

    assert set(loaded) == {"train", "holdout"}
    rows = {name: {row["id"]: row for row in split} for name, split in loaded.items()}
    held = {name for name, line in asked.items() if line["strategy"] == "holdout"}
    assert set(rows["holdout"]) == submitted & held
    assert set(rows["train"]) == submitted - held
    assert len(held) > 0

    feature = loaded["train"].features["label"]
    assert feature == datasets.ClassLabel(names=["food", "money", "sport"])
    for row in (*rows["train"].values(), *rows["holdout"].values()):
        line = asked.get(row["id"])
        assert (row["text"], feature.int2str(row["label"])) == (gold[row["id"]]["text"], gold[row["id"]]["label"])
        assert (row["round"], row["strategy"]) == ((line["round"], line["strategy"]) if line else (None, "dataset"))
    strategies = Counter(row["strategy"] for row in rows["train"].values())
    assert strategies["dataset"] == 4
    assert set(strategies) == {"dataset", "initial", "margin"}
    assert list(loaded["train"].features) == ["id", "text", "label", "round", "strategy", "answers"]


def test_the_answers_are_one_by_one_and_without_names(classified):
    loaded = datasets.load_dataset(str(classified / "labelled"))
    rows = {row["id"]: row for split in loaded.values() for row in split}
    asked = {line["id"]: line for line in read_lines(classified / "queries.jsonl")}
    for name, row in rows.items():
        label = json.dumps(some_rows(60)[int(name.removeprefix("t"))]["label"])
        one, two = ({"annotator": f"annotator_{at}", "status": "submitted", "label": label} for at in (1, 2))
        if row["strategy"] == "dataset":
            assert row["answers"] == [{**one, "annotator": "dataset"}]
        else:  # a draft is no answer yet
            assert row["answers"] == ([one, two] if asked[name]["rank"] % 4 == 3 else [one])
    assert sum(len(row["answers"]) == 2 for row in rows.values()) > 2
    written = b"".join(path.read_bytes() for path in (classified / "labelled").rglob("*") if path.is_file())
    for secret in (b"zoe", b"Ann Lee", b"555"):
        assert secret in (classified / "labels.jsonl").read_bytes()
        assert secret not in written


def test_a_discarded_answer_beside_a_label_has_none(model, tmp_path, crowd, monkeypatch):
    def pull(self) -> list[Answer]:
        given = [(q.example.id, "food" if q.rank % 2 else "money") for q in self.asked]
        return [a for n, label in given for a in (Answer(n, label, "a"), Answer(n, "food", "b", "discarded"))]

    monkeypatch.setattr(Crowd, "pull", pull)
    sections = {"labels": ["food", "money"], "annotator": crowd({}), "loop": {"rounds": 0}}
    run_dir = run(values_of(tmp_path, model, bare(some_rows(20), "label"), test=0, **sections))
    for row in datasets.load_dataset(str(run_dir / "labelled"))["train"]:
        assert [answer["status"] for answer in row["answers"]] == ["submitted", "discarded"]
        assert row["answers"][1]["label"] is None


def test_its_card_tells_what_it_is(classified):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(classified / "labelled" / "README.md")
    assert card.data.task_categories == ["text-classification"]
    assert card.data.tags == ["active-learning"]
    labelled = [row for split in datasets.load_dataset(str(classified / "labelled")).values() for row in split]
    both = sum(len(row["answers"]) == 2 for row in labelled)
    lines = card.text.splitlines()
    assert f"| labelled | {len(labelled)} of 60 examples ({len(labelled) / 60:.1%}) |" in lines
    assert f"| by | 2 people; {both} by more than one, agreed by majority |" in lines
    assert "| rounds | 2 after the initial set |" in lines
    assert "| food | what \\| one eats |" in lines
    chosen = next(line for line in lines if line.startswith("| chosen by |"))
    counts = Counter(row["strategy"] for row in labelled)
    assert f"the initial set {counts['initial']}" in chosen
    assert f"margin {counts['margin']}" in chosen
    assert f"the holdout {counts['holdout']}" in chosen
    assert f"with a label already {counts['dataset']}" in chosen


# As the data of another run


def shapes() -> dict[str, tuple[list[dict[str, Any]], str, dict[str, Any]]]:
    """Rows with gold labels, the role of these, and the sections of a run over them."""
    rows, dialogues = some_rows(24), some_dialogues(24)
    text = {"sections": {"labels": ["food", "money", "sport"]}}
    several = [{**row, "label": [] if at % 5 == 0 else sorted({row["label"], "food"})} for at, row in enumerate(rows)]
    pairs = [{**row, "text": [row["text"], f"{row['label']} again"]} for row in rows]
    spans = []
    for row in some_sentences(24):
        text_of, at, found = " ".join(row["tokens"]), 0, []
        for word, tag in zip(row["tokens"], row["tags"], strict=True):
            if tag != "O":
                found.append({"start": at, "end": at + len(word), "label": "X"})
            at += len(word) + 1
        spans.append({"id": row["id"], "text": text_of, "tags": found})
    numbers = [
        {**row, "candidates": [str(at + 1) for at in range(len(row["candidates"]))]} for row in some_dialogues(24, 1)
    ]
    none = {"max_length": 32, "none_of_these": "None of these."}
    tags = {"task": "token-classification", "labels": ["X"]}
    dialogue = {"task": "response-selection", "task_options": {"max_length": 32}}
    return {
        "single": (rows, "label", text["sections"]),
        "numbers": ([{**row, "label": str(at % 2)} for at, row in enumerate(rows)], "label", {"labels": ["1", "0"]}),
        "multi": (
            several,
            "label",
            {"labels": ["sport", "food", "money"], "task_options": {"max_length": 32, "multi_label": True}},
        ),
        "pairs": (pairs, "label", text["sections"]),
        "words": (some_sentences(24), "tags", tags),
        "spans": (spans, "tags", tags),
        "ranking": (dialogues, "label", dialogue),
        "none of these": (
            [{**row, "label": "none" if at % 3 == 0 else str(row["label"])} for at, row in enumerate(dialogues)],
            "label",
            {**dialogue, "task_options": none},
        ),
        "candidates that read like positions": (numbers, "label", {**dialogue, "task_options": none}),
    }


@pytest.mark.parametrize("shape", shapes())
def test_another_run_reads_it_as_gold_labels(model, tmp_path, crowd, shape):
    rows, role, sections = shapes()[shape]
    gold = Bench.of(read_config(values_of(tmp_path / "gold", model, rows, test=0, **sections), Path("/")))
    labels = {e.id: e.label for e in gold.splits["train"]}
    pool = bare(rows, role)
    if shape == "spans":  # a column of nothing but null has no type
        pool = [{"id": row["id"], "text": row["text"]} for row in rows]
    given = values_of(tmp_path, model, pool, test=0, **sections, annotator=crowd(labels), loop={"rounds": 1})
    run_dir = run(given)

    again = {**given, "dataset": {"path": str(run_dir / "labelled")}, "run_dir": str(tmp_path / "again")}
    config = read_config({**again, "annotator": "oracle"}, Path("/"))
    found = Bench.of(config)
    before = {example.id: example for example in gold.splits["train"]}
    assert len(found.splits["train"]) == 15
    for example in found.splits["train"]:
        assert (example.inputs, example.label) == (before[example.id].inputs, labels[example.id])
    assert found.task.labels == gold.task.labels
    ActiveLearner(config, found).run()
    assert not (Path(config.run_dir) / "labelled").exists()  # of a simulation there is none


def test_a_task_need_not_name_the_type_of_its_labels(model, tmp_path, crowd, monkeypatch):
    monkeypatch.setattr(TextClassification, "feature", Task.feature)
    rows = some_rows(20)
    sections = {"labels": ["food", "money", "sport"], "annotator": crowd({row["id"]: row["label"] for row in rows})}
    run_dir = run(values_of(tmp_path, model, bare(rows, "label"), test=0, **sections, loop={"rounds": 0}))
    split = datasets.load_dataset(str(run_dir / "labelled"))["train"]
    assert split.features["label"] == datasets.Value("string")
    gold = {row["id"]: row["label"] for row in rows}
    assert all(row["label"] == gold[row["id"]] for row in split)


def test_the_holdout_may_be_the_test_set_of_another_run(classified, tmp_path, model):
    values = values_of(tmp_path / "second", model, some_rows(10), loop={"rounds": 0})
    split = {"train": "train", "test": "holdout"}
    values["dataset"] = {"path": str(classified / "labelled"), "split": split}
    bench = Bench.of(read_config(values, Path("/")))
    assert len(bench.gold("test")) == datasets.load_dataset(str(classified / "labelled"))["holdout"].num_rows > 0


# When it is written


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_written_anew_only_when_it_is_out_of_date(classified, model, tmp_path, crowd, capsys):
    before = files(classified / "labelled")
    datasets.load_dataset(str(classified / "labelled"))  # what it keeps of this must not come back
    assert main(["finish", str(classified)]) == 0
    told = f"Labelled set: {classified / 'labelled'} ("
    assert told in capsys.readouterr().out
    assert files(classified / "labelled") == before
    # Somebody thinks better of it: as many answers of as many examples, and one more line.
    name = next(line["id"] for line in read_lines(classified / "labels.jsonl") if line["annotator"] == NAMES[0])
    with (classified / "labels.jsonl").open("a") as file:
        line = {"round": 2, "id": name, "label": "sport", "annotator": NAMES[0], "status": "submitted", "scope": None}
        file.write(json.dumps({**line, "time": ""}) + "\n")
    assert main(["finish", str(classified)]) == 0
    loaded = datasets.load_dataset(str(classified / "labelled"))
    (changed,) = [row for split in loaded.values() for row in split if row["id"] == name]
    assert loaded["train"].features["label"].int2str(changed["label"]) == "sport"


def test_a_text_that_was_corrected_in_the_data_is_corrected_there(classified):
    """As many answers as before, and the same card."""
    row = datasets.load_dataset(str(classified / "labelled"))["train"][0]
    data = classified.parent / "train.jsonl"
    assert data.read_text().count(f'"{row["text"]}"') == 1
    data.write_text(data.read_text().replace(f'"{row["text"]}"', '"a big new text"'))
    assert main(["finish", str(classified)]) == 0
    again = datasets.load_dataset(str(classified / "labelled"))["train"]
    assert [one["text"] for one in again if one["id"] == row["id"]] == ["a big new text"]


def test_the_same_answers_make_the_same_bytes(model, tmp_path, crowd):
    found = []
    for name in ("one", "two"):
        rows = some_rows(40)
        sections = {"labels": ["food", "money", "sport"], "annotator": crowd({r["id"]: r["label"] for r in rows})}
        given = values_of(tmp_path / name, model, bare(rows, "label"), test=0, **sections)
        found.append({name: data for name, (data, _) in files(run(given) / "labelled").items()})
    assert found[0] == found[1]
    assert set(found[0]) == {"README.md", "nlp_al.json", "data/train-00000-of-00001.parquet"}


def test_without_a_label_there_is_none(model, tmp_path, crowd):
    sections = {"labels": ["food", "money"], "annotator": crowd({}), "loop": {"rounds": 0}}
    run_dir = run(values_of(tmp_path, model, bare(some_rows(20), "label"), test=0, **sections))
    assert {line["status"] for line in read_lines(run_dir / "labels.jsonl")} == {"discarded", "draft"}
    assert not (run_dir / "labelled").exists()


def test_with_labels_of_one_class_there_is_one_and_no_model(model, tmp_path, crowd):
    rows = some_rows(20)
    sections = {"labels": ["food", "money"], "annotator": crowd({row["id"]: "food" for row in rows})}
    training = {"final": "full"}
    given = values_of(tmp_path, model, bare(rows, "label"), test=0, **sections, loop={"rounds": 0}, training=training)
    run_dir = run(given)
    assert datasets.load_dataset(str(run_dir / "labelled"))["train"].num_rows == 10
    assert not (run_dir / "model").exists()


def test_where_all_is_held_out_there_is_no_train(model, tmp_path, crowd):
    rows = some_rows(20)
    held = {"initial": 1, "batch": 1, "rounds": 0, "holdout": 0.9}
    sections = {"labels": ["food", "money"], "annotator": crowd({row["id"]: "food" for row in rows}), "loop": held}
    run_dir = run(values_of(tmp_path, model, bare(rows, "label"), test=0, **sections))
    loaded = datasets.load_dataset(str(run_dir / "labelled"))
    assert {name: split.num_rows for name, split in loaded.items()} == {"holdout": 1}
