"""The run directory: one process at a time, nothing half written, an error of the disk in one sentence."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import read_lines
from safetensors.torch import save_file

from nlp_al.errors import RunError
from nlp_al.pool import Answer, Query
from nlp_al.store import LABELLED, MODEL, Disk, RunDirectory


def batch(round_: int, names: str) -> list[Query]:
    return [Query(round_, name, rank, 0.5, "margin", len(names)) for rank, name in enumerate(names)]


@pytest.fixture
def run_dir(tmp_path):
    return tmp_path / "runs" / "one"


@pytest.fixture
def store(run_dir):
    with RunDirectory(run_dir) as opened:
        yield opened


def reopened(path: Path) -> RunDirectory:
    with RunDirectory(path) as store:
        return store


# The lock

HOLD = """
import sys
from pathlib import Path
from nlp_al.store import RunDirectory
store = RunDirectory(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_and_a_killed_one_frees_the_directory(run_dir):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(RunError, match=r"runs/one is in use by another process"):
            RunDirectory(run_dir)
        holder.send_signal(signal.SIGKILL)
        assert holder.wait() == -signal.SIGKILL
        RunDirectory(run_dir).close()
    finally:
        holder.kill()
        holder.communicate()


def test_a_second_handle_in_the_same_process_is_told(store):
    with pytest.raises(RunError, match="in use"):
        RunDirectory(store.path)


def test_closing_lets_the_next_one_in(run_dir):
    RunDirectory(run_dir).close()
    RunDirectory(run_dir).close()


# What comes back is what went in


def test_queries_and_answers_come_back_as_they_were(store):
    queries = [Query(0, "é\u2028", 0, None, "initial", 2), Query(0, "b", 1, -0.1 / 3, "holdout", 2)]
    answers = [
        Answer("é\u2028", 'say "hi"\r\n', "ann"),
        Answer("b", ["O", "B-X"], "bob", "submitted", (3, 7)),
        Answer("b", None, "bob", "discarded"),
    ]
    store.add_queries(queries)
    store.add_answers(answers[:1], 0)
    store.add_answers(answers[1:], 1)
    assert store.queries() == queries
    assert store.answers() == answers
    assert [line["round"] for line in read_lines(store.path / "labels.jsonl")] == [0, 1, 1]


def test_an_answer_has_the_fields_of_the_contract(store):
    store.add_answers([Answer("a", "x", "ann")], 3)
    (line,) = read_lines(store.path / "labels.jsonl")
    time_ = line.pop("time")
    assert line == {"round": 3, "id": "a", "label": "x", "annotator": "ann", "status": "submitted", "scope": None}
    assert time_.endswith("+00:00")


def test_a_batch_is_one_write_and_one_sync(run_dir):
    steps = []

    class Noting(Disk):
        def write(self, descriptor, data):
            steps.append(data.count(b"\n"))
            super().write(descriptor, data)

        def sync(self, descriptor):
            steps.append("sync")
            super().sync(descriptor)

    with RunDirectory(run_dir, Noting()) as store:
        store.add_queries(batch(0, "abc"))
        store.add_answers([Answer(name, "x", "ann") for name in "abc"], 0)
        store.add_answers([], 0)
    assert steps == [3, "sync", 3, "sync"]


def test_a_short_write_is_carried_on(run_dir, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    with RunDirectory(run_dir) as store:
        store.add_queries(batch(0, "abc"))
        assert store.queries() == batch(0, "abc")


# After a crash

FILES = ["queries.jsonl", "labels.jsonl", "metrics.jsonl", "config_history.jsonl", "added.jsonl"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("torn", [b"{", b'{"round": 1, "id": "c", "batch": 1}', b'{"id": "\xc3'])
def test_a_torn_last_line_goes_and_the_next_one_starts_afresh(run_dir, name, torn):
    whole = {"round": 0, "id": "a", "batch": 1}
    with RunDirectory(run_dir) as store:
        store.append(name, [whole])
    with (run_dir / name).open("ab") as file:
        file.write(torn)
    with RunDirectory(run_dir) as store:
        assert store.lines(name) == [whole]
        store.append(name, [{**whole, "round": 1}])
        assert [line["round"] for line in store.lines(name)] == [0, 1]


def test_a_file_of_one_torn_line_is_empty_afterwards(run_dir):
    run_dir.mkdir(parents=True)
    (run_dir / "queries.jsonl").write_bytes(b'{"round": 0, "id"')
    assert reopened(run_dir).queries() == []


@pytest.mark.parametrize("kept", [1, 2])
def test_a_batch_of_which_lines_are_missing_goes_whole(run_dir, kept):
    with RunDirectory(run_dir) as store:
        store.add_queries(batch(0, "abc"))
        store.add_queries(batch(1, "def")[:kept])
    assert reopened(run_dir).queries() == batch(0, "abc")


def test_the_first_batch_goes_too(run_dir):
    with RunDirectory(run_dir) as store:
        store.add_queries(batch(0, "abc")[:2])
    assert reopened(run_dir).queries() == []


def test_whole_batches_stay(run_dir):
    with RunDirectory(run_dir) as store:
        store.add_queries(batch(0, "abc"))
        store.add_queries(batch(1, "d"))
    assert reopened(run_dir).queries() == [*batch(0, "abc"), *batch(1, "d")]


def test_answers_stay_one_by_one(run_dir):
    with RunDirectory(run_dir) as store:
        store.add_answers([Answer(name, "x", "ann") for name in "abc"], 0)
    path = run_dir / "labels.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert [answer.id for answer in reopened(run_dir).answers()] == ["a", "b"]


class PowerCutError(Exception):
    """The process ends here."""


class CutAt(Disk):
    """Fails for good from a rename on: `model.old` means the one that puts the old model aside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rename(self, old, new):
        if new.name == self.name:
            raise PowerCutError
        super().rename(old, new)


def save(value: float):
    def save_to(folder: Path) -> None:
        save_file({"weight": torch.tensor([value])}, folder / "model.safetensors")
        (folder / "sub").mkdir()
        (folder / "sub" / "config.json").write_text("{}")

    return save_to


def model_of(run_dir: Path) -> tuple[float, dict]:
    from safetensors.torch import load_file

    about = json.loads((run_dir / "model" / "nlp_al.json").read_text())
    return load_file(run_dir / "model" / "model.safetensors")["weight"].item(), about


def test_a_model_is_replaced_whole(store):
    for value in (1.0, 2.0):
        store.swap(MODEL, save(value), {"round": int(value)})
        assert model_of(store.path) == (value, {"round": int(value)})
        assert store.made_from(MODEL) == {"round": int(value)}
        assert {path.name for path in store.path.iterdir()} == {".lock", "model"}


def test_each_folder_has_its_own_place(store):
    store.swap(MODEL, save(1.0), {"round": 1})
    store.swap(LABELLED, save(2.0), {"answers": 5})
    assert model_of(store.path) == (1.0, {"round": 1})
    assert (store.made_from(MODEL), store.made_from(LABELLED)) == ({"round": 1}, {"answers": 5})


def test_without_a_model_there_is_nothing_saved(store):
    assert store.made_from(MODEL) is None


@pytest.mark.parametrize(
    ("cut", "left", "found"),
    [
        ("nlp_al.json", {"model", "model.new"}, 1.0),  # the new one is not whole
        ("model.old", {"model", "model.new"}, 1.0),  # the old one is still in its place
        ("model", {"model.old", "model.new"}, 2.0),  # between the two renames: the new one is whole, and newer
    ],
)
def test_a_swap_that_was_cut_short_leaves_one_whole_model(run_dir, cut, left, found):
    with RunDirectory(run_dir) as store:
        store.swap(MODEL, save(1.0), {"round": 1})
    with RunDirectory(run_dir, CutAt(cut)) as store, pytest.raises(PowerCutError):
        store.swap(MODEL, save(2.0), {"round": 2})
    assert {path.name for path in run_dir.glob("model*")} == left
    reopened(run_dir)
    assert {path.name for path in run_dir.glob("model*")} == {"model"}
    assert model_of(run_dir) == (found, {"round": int(found)})


def test_a_labelled_set_whose_swap_was_cut_short_is_whole(run_dir):
    with RunDirectory(run_dir) as store:
        store.swap(LABELLED, save(1.0), {"answers": 1})
    for cut, found in (("labelled.old", 1), ("labelled", 2)):
        with RunDirectory(run_dir, CutAt(cut)) as store, pytest.raises(PowerCutError):
            store.swap(LABELLED, save(2.0), {"answers": 2})
        with RunDirectory(run_dir) as store:
            assert store.made_from(LABELLED) == {"answers": found}
        assert {path.name for path in run_dir.glob("labelled*")} == {"labelled"}


def test_a_model_that_was_put_aside_comes_back_where_the_new_one_is_torn(run_dir):
    with RunDirectory(run_dir) as store:
        store.swap(MODEL, save(1.0), {"round": 1})
    (run_dir / "model").rename(run_dir / "model.old")
    (run_dir / "model.new").mkdir()
    save(2.0)(run_dir / "model.new")
    reopened(run_dir)
    assert model_of(run_dir) == (1.0, {"round": 1})


def test_the_old_model_goes_where_only_its_removal_was_cut_short(run_dir):
    with RunDirectory(run_dir) as store:
        store.swap(MODEL, save(2.0), {"round": 2})
    (run_dir / "model.old").mkdir()
    (run_dir / "model.old" / "config.json").write_text("{}")
    reopened(run_dir)
    assert {path.name for path in run_dir.glob("model*")} == {"model"}
    assert model_of(run_dir) == (2.0, {"round": 2})


def test_a_first_model_that_was_torn_while_it_was_saved_is_none(run_dir):
    def half(folder: Path) -> None:
        (folder / "config.json").write_text("{")
        raise PowerCutError

    with RunDirectory(run_dir) as store, pytest.raises(PowerCutError):
        store.swap(MODEL, half, {"round": 0})
    assert reopened(run_dir).made_from(MODEL) is None
    assert list(run_dir.glob("model*")) == []


def test_every_file_of_a_model_is_synced_before_it_is_named(run_dir):
    steps = []

    class Noting(Disk):
        def sync(self, descriptor):
            steps.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)

        def rename(self, old, new):
            steps.append((old.name, new.name))
            old.replace(new)

    with RunDirectory(run_dir, Noting()) as store:
        store.swap(MODEL, save(1.0), {})
    at = steps.index(("model.new", "model"))
    assert {"model.safetensors", "config.json", "sub", "model.new", "nlp_al.json.new"} <= set(steps[:at])
    assert steps.index(("nlp_al.json.new", "nlp_al.json")) == at - 1


def test_a_file_is_replaced_whole_or_not_at_all(run_dir):
    with RunDirectory(run_dir) as store:
        store.write_json("final.json", {"round": 1})
    with RunDirectory(run_dir, CutAt("final.json")) as store:
        with pytest.raises(PowerCutError):
            store.write_json("final.json", {"round": 2})
        assert store.read_json("final.json") == {"round": 1}


def test_a_file_that_is_as_it_should_be_is_not_written_again(run_dir):
    with RunDirectory(run_dir) as store:
        store.update("README.md", "é\n")
    with RunDirectory(run_dir, CutAt("README.md")) as store:
        store.update("README.md", "é\n")
        with pytest.raises(PowerCutError):
            store.update("README.md", "e\n")
        assert (run_dir / "README.md").read_text(encoding="utf-8") == "é\n"


def test_a_line_that_a_hand_has_broken_is_told(run_dir):
    with RunDirectory(run_dir) as store:
        store.add_answers([Answer(name, "x", "ann") for name in "ab"], 0)
        path = run_dir / "labels.jsonl"
        path.write_text(path.read_text().replace('"a",', '"a"'))
        with pytest.raises(RunError, match=r"labels\.jsonl line 1 is not valid JSON"):
            store.answers()


# Errors of the disk


class Failing(Disk):
    """Writes a little, then fails."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, descriptor, data):
        os.write(descriptor, data[:5])
        raise OSError(self.number, os.strerror(self.number))


WRITES = {
    "queries.jsonl": lambda store: store.add_queries(batch(1, "bc")),
    "labels.jsonl": lambda store: store.add_answers([Answer("b", "x", "ann")], 0),
    "final.json": lambda store: store.write_json("final.json", {"round": 2}),
    "model.new": lambda store: store.swap(MODEL, save(2.0), {"round": 2}),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(
    ("number", "told"),
    [
        (
            errno.ENOSPC,
            r"^The disk is full: \S+{name}\S* can't be written\. Free some space and give the command again\.$",
        ),
        (
            errno.EDQUOT,
            r"^The disk is full: \S+{name}\S* can't be written\. Free some space and give the command again\.$",
        ),
        (errno.EACCES, r"^No permission to write \S+{name}\S*\.$"),
        (errno.EROFS, r"^No permission to write \S+{name}\S*\.$"),
    ],
)
def test_an_error_of_the_disk_is_one_sentence_and_takes_nothing_away(run_dir, name, number, told):
    with RunDirectory(run_dir) as store:
        for write in (
            lambda: store.add_queries(batch(0, "a")),
            lambda: store.add_answers([Answer("a", "x", "ann")], 0),
            lambda: store.write_json("final.json", {"round": 1}),
            lambda: store.swap(MODEL, save(1.0), {"round": 1}),
        ):
            write()
    with RunDirectory(run_dir, Failing(number)) as store, pytest.raises(RunError, match=told.format(name=name)):
        WRITES[name](store)
    store = reopened(run_dir)
    assert store.queries() == batch(0, "a")
    assert store.answers() == [Answer("a", "x", "ann")]
    assert store.read_json("final.json") == {"round": 1}
    assert model_of(run_dir) == (1.0, {"round": 1})


def test_a_disk_that_is_full_while_the_weights_are_saved_is_told_too(store, monkeypatch):
    # safetensors turns the disk's error into one of its own, which is no OSError.
    from safetensors import SafetensorError

    def full(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(RunError, match="The disk is full"):
        store.swap(MODEL, full, {})


def test_an_error_that_is_not_the_disk_s_is_not_renamed(store):
    from safetensors import SafetensorError

    def wrong(folder: Path) -> None:
        raise SafetensorError("Error while deserializing header: invalid JSON")

    with pytest.raises(SafetensorError):
        store.swap(MODEL, wrong, {})


def test_a_directory_that_may_not_be_made_is_told(run_dir, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match=r"^No permission to write \S+runs/one\.$"):
        RunDirectory(run_dir)


def test_a_lock_that_may_not_be_taken_is_told(run_dir, monkeypatch):
    real = os.open

    def refuse(path, *rest, **more):
        if str(path).endswith(".lock"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match=r"^No permission to write \S+runs/one\.$"):
        RunDirectory(run_dir)


@pytest.mark.parametrize("inside", [".", "deeper"])
def test_a_file_in_the_way_is_told(tmp_path, inside):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RunError, match=r"^\S+taken\S* can't be made: a file is in the way\.$"):
        RunDirectory(tmp_path / "taken" / inside)
