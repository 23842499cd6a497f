"""What a user sees of a mistake, on the recipe's own command line: one sentence on stderr, and the exit status."""

import errno
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import transformers
from helpers import some_rows, tiny_model, values_of

from nlp_al.annotation import Setting, make_annotator
from nlp_al.main import run_command
from nlp_al.resume import to_yaml
from nlp_al.store import Disk, RunDirectory
from nlp_al.tasks import make_task

RECIPE = Path(__file__).parents[2] / "recipes" / "text_classification.py"

# Runs the recipe and says on stdout, last, which of the slow libraries it had loaded.
WATCHED = f"""
import runpy, sys
sys.argv[0] = {str(RECIPE)!r}
try:
    runpy.run_path({str(RECIPE)!r}, run_name="__main__")
finally:
    print([name for name in ("torch", "transformers", "datasets", "numpy") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def give(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Gives the recipe's command over a config with these sections: (exit status, the sentence)."""
    spec = importlib.util.spec_from_file_location("recipe", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)

    def command(train: Any = None, *argv: str, **sections: Any) -> tuple[int, str]:
        values = values_of(
            tmp_path, sections.pop("model", model), some_rows(20) if train is None else train, **sections
        )
        (tmp_path / "config.yaml").write_text(to_yaml(values))
        monkeypatch.setattr(sys, "argv", [str(RECIPE), "--config", str(tmp_path / "config.yaml"), *argv])
        capsys.readouterr()
        status = run_command(recipe.main)
        told = capsys.readouterr().err
        assert told == "" or (told.startswith("error: ") and told.count("\n") == 1), told
        return status, told.removeprefix("error: ").rstrip("\n")

    return command


@pytest.mark.parametrize(
    ("argv", "config", "told"),
    [
        ("--config c.yaml --loop.bach 3", b"", "Unknown key 'loop.bach': did you mean 'batch'? (there are: "),
        (
            "--config c.yaml --strategy margn",
            b"",
            "strategy: There is no strategy 'margn'; the closest name is 'margin'.",
        ),
        ("--config c.yaml --training.lerning_rate 1", b"", "Unknown key 'training.lerning_rate': the closest name is "),
        ("--config c.yaml --task token-classification", b"", "task is 'token-classification'; this script serves text"),
        ("--config c.yaml --model ./nope", b"", "model is '{cwd}/nope', which is no folder; name one, or weights on"),
        (
            "--config c.yaml --dataset.data_files no.csv",
            b"",
            "dataset.data_files names {cwd}/no.csv, which is no file.",
        ),
        (
            "--config c.yaml",
            b"loop: {batch: 3",
            "c.yaml line 4 is not valid YAML: expected ',' or '}', but got the end.",
        ),
        (
            "--config c.yaml",
            b"loop: {}\nloop: {}",
            'c.yaml line 5 is not valid YAML: found duplicate key "loop" with v',
        ),
        ("--config c.yaml", b"run_dir: caf\xe9", "c.yaml is not UTF-8: byte 84 can't be read; save it as UTF-8."),
        ("--config nope.yaml", b"", "--config names nope.yaml, which is no file."),
        ("--config", b"", "--config lacks its value; a value that begins with -- is written --config=value."),
        ("", b"", "The config lacks 'model': give it in the file or as --model."),
    ],
)
def test_a_config_mistake_is_told_at_once(tmp_path: Path, argv, config, told):
    start = b"task: text-classification\nmodel: org/weights\ndataset: {path: org/data}\n"
    (tmp_path / "c.yaml").write_bytes(start + config + b"\n")
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *argv.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert time.perf_counter() - began < 2
    assert done.stderr.startswith(f"error: {told.replace('{cwd}', str(tmp_path))}")
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def rows(*labels: Any) -> list[dict[str, Any]]:
    return [{"id": f"r{at}", "text": f"text {at}", "label": label} for at, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("train", "sections", "told"),
    [
        (rows("sport", None, "food"), {"labels": ["sport", "food", "money"]}, "row 2 of the split train has no label"),
        (rows("sport", "", "food"), {"labels": ["sport", "food", "money"]}, "row 2 of the split train has no label"),
        (rows("sport", None, "food"), {}, "Row 2 of the split train has no label, so the labels can't be derived"),
        (rows(*["sport"] * 20), {"labels": ["sport", "food", "money"]}, "All rows of train have the same label"),
        (rows(*["sport", "money", "food"] * 3), {}, "loop.initial is 10, but the pool holds only 9 records"),
        (
            rows(*["sport", "money", "food"] * 3),
            {"loop": {"unit": "words", "initial": 30}},
            "loop.initial is 30, but the pool holds only 18 words",
        ),
        (
            rows("sport", "money"),
            {"labels": ["sport", "food"]},
            "Row 2 of the split train has the label 'money', which",
        ),
        (rows("sport", "money"), {}, "of the split test has the label 'food', which no row of train has"),
        (rows("sport", 1), {}, "The column 'label' mixes text ('sport', "),
        ([{"text": "a"}], {}, "The split train has no column 'label'"),
    ],
)
def test_data_that_cannot_be_used(give, tmp_path: Path, train, sections, told):
    status, sentence = give(train, **sections)
    assert status == 2
    assert told in sentence
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_there(give, monkeypatch):
    offline = "which is no local folder, and the Hub can't be reached (offline): check the name, or the connection."
    assert give(model="org/nope") == (2, f"model is 'org/nope', {offline}")

    def missing(*_: Any, **__: Any) -> None:
        raise OSError("org/nope is not a local folder and is not a valid model identifier\nlisted on the Hub.")

    for name in ("AutoTokenizer", "AutoModel"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", missing)
    status, told = give(model="org/nope")
    assert status == 2
    assert told.startswith("model is 'org/nope', which can't be loaded: org/nope is not a local folder and is not a")


def test_a_folder_that_holds_no_weights(give, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    status, told = give(model=str(tmp_path / "empty"))
    assert status == 2
    assert told.startswith(f"model is '{tmp_path}/empty', which can't be loaded: ")


def test_a_run_directory_in_use(give, tmp_path: Path):
    with RunDirectory(tmp_path / "run"):
        sentence = f"{tmp_path}/run is in use by another process; wait for it, or name another run_dir."
        assert give() == (1, sentence)


@pytest.mark.parametrize("below", ["", "/run"])
def test_a_run_directory_that_is_a_file(give, tmp_path: Path, below):
    (tmp_path / "taken").write_text("mine")
    status, told = give(run_dir=f"{tmp_path}/taken{below}")
    assert (status, told) == (1, f"{tmp_path}/taken{below} can't be made: a file is in the way.")
    assert (tmp_path / "taken").read_text() == "mine"


def test_no_right_to_write_the_run_directory(give, tmp_path: Path, monkeypatch):
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
    else:  # root may write everywhere
        refused = PermissionError(errno.EACCES, "Permission denied")
        make = Path.mkdir
        monkeypatch.setattr(
            Path,
            "mkdir",
            lambda path, *a, **k: (_ for _ in ()).throw(refused) if "locked" in str(path) else make(path, *a, **k),
        )
    assert give(run_dir=f"{tmp_path}/locked/run") == (1, f"No permission to write {tmp_path}/locked/run.")


def test_a_full_disk_loses_nothing(give, tmp_path: Path, monkeypatch):
    whole = Disk.write

    def full(disk: Disk, descriptor: int, data: bytes) -> None:
        if b'"peak_memory_mb"' in data:
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(disk, descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "write", full)
        status, told = give()
    run = tmp_path / "run"
    assert (status, told) == (
        1,
        f"The disk is full: {run}/metrics.jsonl can't be written. Free some space and give the command again.",
    )
    before = (run / "labels.jsonl").read_bytes()
    assert len(before.splitlines()) == 10
    assert give() == (0, "")
    assert (run / "labels.jsonl").read_bytes().startswith(before)


def test_equal_texts_are_allowed_and_said_once(give, monkeypatch):
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
    train = some_rows(20)
    train[3]["text"] = train[7]["text"] = train[0]["text"]
    assert give(train, loop={"rounds": 0})[0] == 0
    assert sum("2 of 20 rows of train repeat the text of another one." in line for line in printed) == 1


def test_lines_that_are_no_answer_are_told_once_and_passed_over(tmp_path: Path, capsys):
    annotator = make_annotator("jsonl", {"folder": str(tmp_path)})
    annotator.start(Setting(make_task("text-classification", {}).with_labels(["x", "y"]), {"x": "", "y": ""}, tmp_path))
    wrong = ["nonsense", "[1]", '{"label": "x"}', '{"id": null, "label": "x"}', '{"id": "a", "status": "done"}']
    right = ['{"id": "a", "label": "x"}', '{"id": 7, "label": "y"}', ""]
    (tmp_path / "answers.jsonl").write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([*right, *wrong, '{"id": "b", "la']).encode()
    )
    for _ in range(2):
        assert [(answer.id, answer.label) for answer in annotator.pull()] == [("a", "x"), ("7", "y")]
    printed = capsys.readouterr().out.splitlines()
    says = 'is passed over: an answer is {"id": ..., "label": ...}.'
    assert printed == [f"{tmp_path}/answers.jsonl line {at} {says}" for at in range(4, 9)]


def test_a_whole_process_prints_nothing_else(tmp_path: Path):
    values = values_of(tmp_path, "org/nope", some_rows(20))
    (tmp_path / "config.yaml").write_text(to_yaml(values))
    done = subprocess.run(
        [sys.executable, str(RECIPE), "--config", "config.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: model is 'org/nope', which is no local folder, and the Hub can't be reached")
    assert done.stderr.count("\n") == 1
    asked = json.loads(json.dumps(values))["dataset"]["data_files"]["train"]
    assert Path(asked).read_text().count("\n") == 20
