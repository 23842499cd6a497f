"""From files to examples: what is read as it stands, and what is told of a row, a column or a file that is wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from nlp_al.dataset import label_names, load_splits
from nlp_al.errors import RunError, UserError
from nlp_al.pool import Example
from nlp_al.source import read_dataset, rooted
from nlp_al.tasks import make_task

A, B = {"text": "a b", "label": "x"}, {"text": "c d", "label": "y"}
TEXT, NER = "text-classification", "token-classification"
CODES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Files:
    """Reads data as a run does: `section` is what stands under `dataset` beside path and data_files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, content: Any, kind: str = "json", task: str = TEXT, labels: Any = None, **section: Any):
        """(examples by split, labels); content: the train file's, or {file name: content}."""
        files = content if isinstance(content, dict) else {f"train.{kind}": content}
        for name, data in files.items():
            (self.folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        section = {"data_files": {name.split(".")[0]: name for name in files}, **section}
        adapter = make_task(task, {})
        found = read_dataset(rooted("dataset", {"path": kind, **section}, self.folder), {"id", *adapter.columns})
        given = dict.fromkeys(labels, "") if labels else None
        splits = load_splits(found, adapter, given)
        return splits, label_names(adapter, splits, given)

    def train(self, *arguments: Any, **section: Any) -> list[Example]:
        return self.read(*arguments, **section)[0]["train"]

    def told(self, *arguments: Any, **section: Any) -> str:
        with pytest.raises(UserError) as error:
            self.read(*arguments, **section)
        told = str(error.value)
        assert "\n" not in told
        assert told.endswith(".")
        return told.replace(f"{self.folder}/", "")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# What is read as it stands


def test_csv_cells_stay_text(files):
    csv = "id,text,label\n007,None,N/A\n08,null,NaN\n9,1.50,N/A\n"
    assert [(e.id, e.inputs, e.label) for e in files.train(csv, "csv")] == [
        ("007", "None", "N/A"),
        ("08", "null", "NaN"),
        ("9", "1.50", "N/A"),
    ]


@pytest.mark.parametrize("csv", ["text,label\na,\nb,x\n", "text,label\na\nb,x\n"])
def test_an_empty_csv_cell_is_no_label(files, csv):
    assert [e.label for e in files.train(csv, "csv", labels=["x", "y"])] == [None, "x"]


def test_windows_files(files):
    csv = b"\xef\xbb\xbftext,label\r\na b,x\r\nc d,y\r\n"
    assert [(e.inputs, e.label) for e in files.train(csv, "csv")] == [("a b", "x"), ("c d", "y")]
    jsonl = b"\xef\xbb\xbf" + lines(A, B).replace("\n", "\r\n").encode()
    assert [(e.inputs, e.label) for e in files.train(jsonl)] == [("a b", "x"), ("c d", "y")]


def test_text_keeps_every_character(files):
    odd = "naïve \u2028 line\u0085 \x0b 漢字 🙂"
    assert files.train(lines({"text": odd, "label": "ü"}, B))[0].inputs == odd
    assert files.train(f"text,label\n{odd},ü\nb,x\n", "csv")[0].inputs == odd
    assert [e.inputs for e in files.train("a\u2028b\nc\n", "text", labels=["x", "y"])] == ["a\u2028b", "c"]


@pytest.mark.parametrize(
    "content",
    [lines(A) + "\n  \n" + lines(B), json.dumps([A, B]), "\ufeff" + json.dumps([A, B], indent=1)],
    ids=["blank lines", "a list", "a list with a byte order mark"],
)
def test_forms_of_json(files, content):
    assert [e.label for e in files.train(content)] == ["x", "y"]


def test_compressed_json_and_patterns(files):
    content = {"train.0.json.gz": gzip.compress(lines(A).encode()), "train.1.json.gz": gzip.compress(lines(B).encode())}
    assert {e.label for e in files.train(content, data_files="train.*.json.gz")} == {"x", "y"}


@pytest.mark.parametrize(
    ("values", "labels", "found", "names"),
    [
        ([10, 2, -1], None, ["10", "2", "-1"], ["-1", "2", "10"]),
        (["10", "2", "a", "--1"], None, ["10", "2", "a", "--1"], ["2", "10", "--1", "a"]),
        ([1.0, 0.0], None, ["1", "0"], ["0", "1"]),
        ([1, 0], ["neg", "pos"], ["pos", "neg"], ["neg", "pos"]),
        (["1", "0"], ["neg", "pos"], ["pos", "neg"], ["neg", "pos"]),
        ([1, 2], ["1", "2"], ["1", "2"], ["1", "2"]),
        ([None, "", "x"], ["x", "y"], [None, None, "x"], ["x", "y"]),
        ([None, 1], ["neg", "pos"], [None, "pos"], ["neg", "pos"]),
        (["x", "x"], ["y", "x"], ["x", "x"], ["y", "x"]),
    ],
)
def test_labels(files, values, labels, found, names):
    rows = [{"text": f"t{at}", "label": value} for at, value in enumerate(values)]
    splits, derived = files.read(lines(*rows), labels=labels)
    assert [e.label for e in splits["train"]] == found
    assert derived == names


def test_numbers_in_csv_are_positions_of_the_names_given(files):
    assert [e.label for e in files.train("text,label\na,1\nb,0\nc,\n", "csv", labels=["neg", "pos"])] == [
        "pos",
        "neg",
        None,
    ]


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_class_labels_go_by_name_and_minus_one_is_none(files, name):
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=CODES)
    path = files.folder / f"train.{name}"
    data.to_parquet(path) if name == "parquet" else data.save_to_disk(files.folder / "saved")
    if name == "arrow":
        path.write_bytes(next((files.folder / "saved").glob("*.arrow")).read_bytes())
    splits, names = files.read({path.name: path.read_bytes()}, name, labels=["neg", "pos"])
    assert [e.label for e in splits["train"]] == ["pos", "neg", None]
    assert names == ["neg", "pos"]


def test_pandas_writes_whole_numbers_with_gaps_as_floats(files):
    import pandas as pd

    path = files.folder / "train.parquet"
    pd.DataFrame({"text": ["a", "b", "c"], "label": [1, None, 0], "id": [1.0, 2.0, 3.0]}).to_parquet(path)
    train = files.train({path.name: path.read_bytes()}, "parquet", labels=["neg", "pos"])
    assert [(e.id, e.label) for e in train] == [("1", "pos"), ("2", None), ("3", "neg")]


def test_equal_texts_are_examples_of_their_own(files):
    ids = [e.id for e in files.train(lines(A, A, B))]
    assert len(set(ids)) == 3
    assert ids[0].removesuffix("-0") == ids[1].removesuffix("-1")


def test_tags_by_name_and_by_position(files):
    rows = lines({"tokens": ["a", "b"], "tags": ["O", "B-X"]}, {"tokens": ["c"], "tags": ["O"]})
    first, _ = files.train(rows, task=NER)
    assert (first.inputs, first.words, first.label) == (["a", "b"], 2, ["O", "B-X"])
    numbers = lines({"tokens": ["a", "b"], "tags": [0, 1]}, {"tokens": ["c"], "tags": None})
    found = files.train(numbers, task=NER, labels=["O", "B-X"])
    assert [e.label for e in found] == [["O", "B-X"], None]


def test_columns_and_splits_by_name(files):
    rows = [{"body": f"t{at}", "topic": "xy"[at % 2], "id": f"i{at}"} for at in range(10)]
    columns = {"text": "body", "label": "topic"}
    splits, _ = files.read(lines(*rows), columns=columns, split={"train": "train[:80%]", "test": "train[80%:]"})
    assert [len(splits[name]) for name in ("train", "test")] == [8, 2]
    assert [e.id for e in splits["test"]] == ["i8", "i9"]


# What is told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lines(A, B) + '{"text": "a", "label"\n', "train.json line 3 is not valid JSON: Expecting ':' delimiter."),
        ('[{"text": "a"},\n {"text"}]', "train.json line 2 is not valid JSON: Expecting ':' delimiter."),
        (lines(A, [1, 2]), 'train.json line 2 holds [1, 2]; it must be an object, as {"text": ...}.'),
        (lines("x", "y"), "train.json line 1 holds 'x'; it must be an object, as {\"text\": ...}."),
        (lines(1, 2), 'train.json line 1 holds 1; it must be an object, as {"text": ...}.'),
        (json.dumps([A, "x"]), "train.json row 2 holds 'x'; it must be an object, as {\"text\": ...}."),
        (
            lines(A).encode() + '{"text": "é"}'.encode("latin-1"),
            "train.json line 2 is not UTF-8; save the file as UTF-8.",
        ),
        (
            '{"text": "a\\ud800", "label": "x"}\n',
            "The data set can't be read (train.json): JSON parse error: The surrog",
        ),
        ("", "dataset.data_files names train.json, which is empty."),
        ("\n\n", "The data set holds no row (train.json)."),
        (lines(A, {**B, "label": 1}), "The column 'label' mixes text ('x', train.json line 1) and numbers (1, train."),
        (
            lines({**A, "label": 1}, {**B, "label": "1"}),
            "The column 'label' mixes numbers (1, train.json line 1) and te",
        ),
        (
            lines({**A, "label": 1}, {**B, "label": True}),
            "The column 'label' mixes numbers (1, train.json line 1) and ",
        ),
        (
            lines({**A, "id": "007"}, {**B, "id": 8}),
            "The column 'id' mixes text ('007', train.json line 1) and numbers",
        ),
        (
            lines(A, {**B, "text": 5}),
            "The column 'text' mixes text ('a b', train.json line 1) and numbers (5, train.js",
        ),
        (lines({**A, "text": 5}), "Row 1 of the split train, column 'text': 5 is no text."),
        (lines({**A, "text": ["a"]}), "Row 1 of the split train, column 'text': ['a'] is no text."),
        (lines(A, {**B, "text": ""}), "Row 2 of the split train, column 'text': the text is empty."),
        (lines(A, {**B, "text": " \n\t"}), "Row 2 of the split train, column 'text': the text is empty."),
        (lines(A, {**B, "text": None}), "Row 2 of the split train, column 'text': the text is empty."),
        (lines(A, {"label": "y"}), "Row 2 of the split train, column 'text': the text is empty."),
        (
            lines({**A, "label": True}, B | {"label": False}),
            "Row 1 of the split train, column 'label': the label True is ",
        ),
        (
            lines({**A, "label": 1.5}, {**B, "label": 2}),
            "Row 1 of the split train, column 'label': the label 1.5 is neit",
        ),
        (
            lines({**A, "label": ["x"]}),
            "Row 1 of the split train, column 'label': ['x'] is a list; for several labels a text, set",
        ),
        (
            lines(A, {"text": "c"}),
            "Row 2 of the split train has no label, so the labels can't be derived: list them und",
        ),
        (
            lines(A, {**B, "label": ""}),
            "Row 2 of the split train has no label, so the labels can't be derived: list them",
        ),
        (
            lines({**A, "id": "a"}, {**B, "id": "a"}),
            "The id 'a' stands 2 times in column 'id' of the split train (as row",
        ),
        (
            lines({**A, "id": "a"}, B),
            "Row 2 has no id in column 'id' of the split train; give every row one, or leave t",
        ),
        (
            lines({**A, "id": "a"}, {**B, "id": " "}),
            "Row 2 has no id in column 'id' of the split train; give every row",
        ),
        (
            lines({**A, "id": [1]}),
            "Row 1 has the id [1] in column 'id' of the split train; an id must be text or a num",
        ),
        (
            lines({**A, "id": True}),
            "Row 1 has the id True in column 'id' of the split train; an id must be text or a nu",
        ),
        (
            lines({"txt": "a", "label": "x"}),
            "The split train has no column 'text' for dataset.columns.text: did you mean",
        ),
        (
            lines({"text": "a", "topic": "x"}),
            "The split train has no column 'label' for dataset.columns.label: there are",
        ),
    ],
)
def test_json_that_is_wrong(files, content, told):
    assert files.told(content).startswith(told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "dataset.data_files names train.csv, which is empty."),
        ("\n\n", "The data set can't be read (train.csv): No columns to parse from file."),
        ("text,label\n", "The data set holds no row (train.csv)."),
        ("text;label\na;x\n", "The split train has no column 'text' for dataset.columns.text: there are: text;label."),
        (
            "text,label\na,x\nb,y,z,w\n",
            "The data set can't be read (train.csv): Error tokenizing data. C error: Expected",
        ),
        (
            "text,label\ncafé,x\n".encode("latin-1"),
            "The data set is not UTF-8 (train.csv): save it as UTF-8, or name its",
        ),
        (
            "id,text,label\n1,a,x\n1,b,y\n",
            "The id '1' stands 2 times in column 'id' of the split train (as rows 1 and 2",
        ),
        (
            "id,text,label\n1,a,x\n,b,y\n",
            "Row 2 has no id in column 'id' of the split train; give every row one, or lea",
        ),
    ],
)
def test_csv_that_is_wrong(files, content, told):
    assert files.told(content, "csv").startswith(told)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "column 'tags': there are 2 tokens but 1 tags."),
        ({"tokens": ["a", "b"], "tags": "OO"}, "column 'tags': 'OO' is no list of tags."),
        ({"tokens": ["a", "b"], "tags": 3}, "column 'tags': 3 is no list of tags."),
        ({"tokens": ["a", "b"], "tags": ["O", None]}, "column 'tags': a tag is missing."),
        ({"tokens": "a b", "tags": ["O", "O"]}, "column 'tokens': 'a b' is no list of words."),
        ({"tokens": [1, 2], "tags": ["O", "O"]}, "column 'tokens': [1, 2] is no list of words."),
        ({"tokens": ["a", None], "tags": ["O", "O"]}, "column 'tokens': ['a', None] is no list of words."),
        ({"tokens": [], "tags": []}, "column 'tokens': the sentence is empty."),
    ],
)
def test_sentences_that_are_wrong(files, row, told):
    assert files.told(lines(row), task=NER) == f"Row 1 of the split train, {told}"


def test_tags_of_two_types(files):
    told = files.told(lines({"tokens": ["a", "b"], "tags": ["O", 1]}), task=NER)
    assert told.startswith("The column 'tags' mixes text ('O', train.json line 1) and numbers (1, train.json line 1)")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"foo": 1}, "Unknown key 'dataset.foo': load_dataset does not take it for 'json'."),
        (
            {"split": {"train": "train[:80%"}},
            "dataset.split.train is 'train[:80%', which can't be loaded: Unrecognized ",
        ),
        (
            {"split": {"train": "trian"}},
            "dataset.split.train is 'trian', which can't be loaded: Unknown split \"trian\"",
        ),
        ({"split": {"train": "train[:0]"}}, "dataset.split.train is 'train[:0]', which holds no row."),
        (
            {"split": {"test": "train"}},
            "The data set 'json' has no split 'train'; it has test: say in dataset.split whic",
        ),
        (
            {"columns": {"label": "topc"}},
            "The split train has no column 'topc' for dataset.columns.label: did you mean ",
        ),
        (
            {"columns": {"id": "key"}},
            "The split train has no column 'key' for dataset.columns.id: there are: label, tex",
        ),
        (
            {"labels": ["neg", "pos"]},
            "Row 1 of the split train has the label 'x', which is not under 'labels': there a",
        ),
    ],
)
def test_sections_that_are_wrong(files, section, told):
    assert files.told(lines({**A, "topic": "x"}, {**B, "topic": "y"}), **section).startswith(told)


def test_a_position_that_no_label_has(files):
    told = files.told(lines({**A, "label": 2}, {**B, "label": 0}), labels=["neg", "pos"])
    assert told.endswith("column 'label': the label 2 is not among the 2 labels, which count from 0.")


def test_a_test_split_that_is_wrong(files):
    told = files.told({"train.json": lines(A, B), "test.json": lines(A, {**B, "label": "z"})})
    assert told == "Row 2 of the split test has the label 'z', which no row of train has: there are: x, y."
    told = files.told({"train.csv": "text,label\na,x\nb,y\n", "test.csv": "text,lable\na,x\n"}, "csv")
    assert told.startswith("The split test has no column 'label' for dataset.columns.label: did you mean 'lable'?")


def test_files_of_one_split_have_the_same_columns(files):
    content = {"a.csv": "text,label\na,x\nb,y\n", "b.csv": "text,lable\na,x\n"}
    assert files.told(content, "csv", data_files={"train": ["a.csv", "b.csv"]}) == (
        "The data set can't be read (a.csv, b.csv): a file has other columns than the first one "
        "(label missing, lable new)."
    )


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_pool_without_labels_and_a_test_set_with_them(files, kind):
    content = {"train.json": lines({"text": "a"}, {"text": "b"}), "test.json": lines({**A, "id": "t1"})}
    if kind == "csv":
        content = {"train.csv": "text\na\nb\n", "test.csv": "id,text,label\nt1,a b,x\n"}
    splits, names = files.read(content, kind, labels=["x", "y"])
    assert [e.label for e in splits["train"]] == [None, None]
    assert [(e.id, e.label) for e in splits["test"]] == [("t1", "x")]
    assert names == ["x", "y"]


def test_mixed_types_in_two_files_are_found_too(files):
    told = files.told({"train.json": lines({**A, "id": "007"}, {**B, "id": "8"}), "test.json": lines({**A, "id": 7})})
    assert told.startswith("The column 'id' mixes text ('007', train.json line 1) and numbers (7, test.json line 1)")


class TestTheHub:
    """What `load_dataset` raises where a name is not known to it."""

    def told(self, path: str, error: Exception | None, monkeypatch: pytest.MonkeyPatch) -> str:
        if error is not None:

            def load(*_: Any, **__: Any) -> None:
                raise error

            monkeypatch.setattr(datasets, "load_dataset", load)
        with pytest.raises(UserError) as found:
            load_splits(read_dataset({"path": path}, set()), make_task(TEXT, {}))
        return str(found.value)

    def test_offline(self, monkeypatch):
        assert self.told("org/nope", None, monkeypatch) == (
            "dataset.path is 'org/nope', which is no local data set, and the Hub can't be reached (offline): "
            "check the name, or the connection."
        )

    @pytest.mark.parametrize("error", [ConnectionError("Couldn't reach it"), TimeoutError("timed out")])
    def test_no_connection(self, error, monkeypatch):
        assert "the Hub can't be reached" in self.told("org/nope", error, monkeypatch)

    def test_online(self, monkeypatch):
        error = datasets.exceptions.DatasetNotFoundError("Dataset 'org/nope' doesn't exist on the Hub.")
        told = "dataset.path is 'org/nope', but there is no such data set on the Hub (or it is private)."
        assert self.told("org/nope", error, monkeypatch) == told

    def test_a_configuration_that_has_to_be_named(self, monkeypatch):
        error = ValueError("Config name is missing.\nPlease pick one among: ['a', 'b']")
        told = "The data set 'glue' can't be loaded: Config name is missing. Please pick one among: ['a', 'b']."
        assert self.told("glue", error, monkeypatch) == told

    def test_a_full_disk_is_no_mistake_in_the_data(self, monkeypatch):
        monkeypatch.setattr(
            datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left"))
        )
        with pytest.raises(RunError, match=r"can't be put in the cache of datasets: .*No space left"):
            load_splits(read_dataset({"path": "org/any"}, set()), make_task(TEXT, {}))
