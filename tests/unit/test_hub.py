"""The end of a run on the Hub: what goes there, what must not, what is said when it can't. The client is real."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of, write_lines
from hub_server import TOKEN, Hub, Repository, hub_server

from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.values import read_yaml

QUICK = {"final": "full", "num_train_epochs": 1, "min_steps": 0}
MODEL, LABELS = "models/me/sms-spam", "datasets/me/sms-labels"


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("weights"))


def values(folder: Path, weights: str, **sections: Any) -> dict[str, Any]:
    """A run of which somebody has answered all questions in a file."""
    rows = some_rows(20)
    given = values_of(
        folder,
        weights,
        [{"id": row["id"], "text": row["text"]} for row in rows],
        test=0,
        labels=["food", "money", "sport"],
        annotator={"name": "jsonl", "folder": str(folder)},
        **{"loop": {"rounds": 0}, "training": QUICK, **sections},
    )
    write_lines(folder / "answers.jsonl", [{"id": r["id"], "label": r["label"], "annotator": "ann"} for r in rows])
    return given


@pytest.fixture(scope="module")
def ended(weights, tmp_path_factory) -> Path:
    """A run that has ended, and was not pushed."""
    given = values(tmp_path_factory.mktemp("ended"), weights)
    ActiveLearner(read_config(given, Path("/"))).run()
    return Path(given["run_dir"])


@pytest.fixture
def finish(ended, tmp_path, capsys):
    """Finishes a copy of it with these settings; (the exit status, what it said)."""
    copy = tmp_path / "run"
    shutil.copytree(ended, copy)
    kept = read_yaml(copy / "config.yaml")

    def go(**wanted: Any) -> tuple[int, str]:
        section = {"model": "me/sms-spam", "dataset": "me/sms-labels", **wanted}
        (copy / "config.yaml").write_text(json.dumps({**kept, "push_to_hub": section}))
        status = main(["finish", str(copy)])
        told = capsys.readouterr()
        return status, told.err if status else told.out

    go.run = copy  # type: ignore[attr-defined]
    return go


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "nlp_al.json"
    }


def kept(run: Path) -> str:
    """What every failure says last."""
    return f"; everything is on the disk, in {run}/model and {run}/labelled, and `nlp-al finish {run}` tries again.\n"


def test_both_go_there_privately_in_one_commit_each(hub: Hub, finish):
    status, told = finish()
    assert status == 0
    assert set(hub.repositories) == {MODEL, LABELS}
    for name, folder in ((MODEL, "model"), (LABELS, "labelled")):
        there = hub.repositories[name]
        assert there.private
        assert there.files == files(finish.run / folder)
        assert len(there.commits) == 1
    assert 'source = "me/sms-spam"' in hub.repositories[MODEL].files["README.md"].decode()
    assert 'load_dataset("me/sms-labels")' in hub.repositories[LABELS].files["README.md"].decode()
    assert f"{hub.url}/me/sms-spam" in told
    assert f"{hub.url}/datasets/me/sms-labels" in told
    for path in finish.run.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes()


def test_by_the_other_protocol_too(hub: Hub, finish, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.large = ()
    assert finish()[0] == 0
    assert hub.repositories[MODEL].files == files(finish.run / "model")
    assert [len(there.commits) for there in hub.repositories.values()] == [1, 1]


def test_what_is_there_is_not_pushed_twice_and_what_changed_is(hub: Hub, finish):
    finish()
    asked = len(hub.requests)
    assert finish()[0] == 0
    assert len(hub.requests) == asked
    with (finish.run / "labels.jsonl").open("a") as file:
        line = read_lines(finish.run / "labels.jsonl")[0]
        file.write(json.dumps({**line, "annotator": "bob"}) + "\n")
    assert finish()[0] == 0
    assert len(hub.repositories[LABELS].commits) == 2
    assert hub.repositories[LABELS].files == files(finish.run / "labelled")
    # Another repository has nothing of it yet.
    assert finish(dataset="me/other")[0] == 0
    assert hub.repositories["datasets/me/other"].files == files(finish.run / "labelled")


@pytest.mark.parametrize("only", ["model", "dataset"])
def test_one_of_them_alone(hub: Hub, finish, only):
    other = "dataset" if only == "model" else "model"
    assert finish(**{other: None})[0] == 0
    assert set(hub.repositories) == {MODEL if only == "model" else LABELS}


def test_public_is_what_is_asked_for_alone(hub: Hub, finish):
    assert finish(private=False)[0] == 0
    assert not any(there.private for there in hub.repositories.values())


def test_a_repository_that_is_public_gets_nothing_private(hub: Hub, finish):
    hub.repositories[LABELS] = Repository(private=False)
    status, told = finish()
    assert status == 1
    assert told == (
        "error: Not pushed to the Hub: the dataset me/sms-labels (it is public, but push_to_hub.private is true: make "
        f"it private there, or set that to false){kept(finish.run)}"
    )
    assert hub.repositories[LABELS] == Repository(private=False)
    assert hub.repositories[MODEL].files  # which is no reason to keep the other one back
    assert finish(private=False)[0] == 0
    assert hub.repositories[LABELS].files == files(finish.run / "labelled")
    assert len(hub.repositories[MODEL].commits) == 1


def test_a_repository_of_ones_own_that_is_private_is_filled(hub: Hub, finish):
    hub.repositories[LABELS] = Repository(private=True, files={"notes.txt": b"mine"})
    assert finish()[0] == 0
    assert hub.repositories[LABELS].files == {**files(finish.run / "labelled"), "notes.txt": b"mine"}


@pytest.mark.parametrize("token", [None, "hf_wrong"])
def test_without_the_right_token(hub: Hub, finish, monkeypatch, tmp_path, token):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    before = files(finish.run / "model")
    refused = "the Hub refuses the access token: log in with `hf auth login`, or set HF_TOKEN, to write to me"
    status, told = finish()
    assert status == 1
    assert told == (
        f"error: Not pushed to the Hub: the model me/sms-spam ({refused}), the dataset me/sms-labels ({refused})"
        f"{kept(finish.run)}"
    )
    assert files(finish.run / "model").keys() == before.keys()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert finish()[0] == 0
    assert len(hub.repositories) == 2


def test_where_one_may_not_write(hub: Hub, finish):
    hub.refuses = 403
    status, told = finish(dataset=None)
    assert status == 1
    assert "(the Hub refuses the access token: " in told


def test_where_nobody_listens(hub: Hub, finish, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    status, told = finish()
    assert status == 1
    assert told.startswith(
        "error: Not pushed to the Hub: the model me/sms-spam (the Hub can't be reached), the dataset me/sms-labels "
    )
    assert told.endswith(kept(finish.run))
    assert told.count("\n") == 1


def test_where_the_network_is_not_to_be_used(hub: Hub, finish, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, told = finish(model=None)
    assert (status, "the dataset me/sms-labels (HF_HUB_OFFLINE is set)" in told) == (1, True)


def test_where_the_hub_is_ill(hub: Hub, finish):
    hub.refuses = 500
    status, told = finish()
    assert status == 1
    assert "500" in told
    assert told.count("\n") == 1
    assert told.endswith(kept(finish.run))


def test_a_run_pushes_at_its_end(hub: Hub, weights, tmp_path):
    given = values(tmp_path, weights, push_to_hub={"model": "me/sms-spam", "dataset": "me/sms-labels"})
    ActiveLearner(read_config(given, Path("/"))).run()
    assert set(hub.repositories) == {MODEL, LABELS}


@pytest.mark.parametrize("mode", ["frozen", "full"])
def test_without_a_final_model_none_is_pushed(hub: Hub, weights, tmp_path, mode):
    training = {**QUICK, "mode": mode, "final": "none"}
    wanted = {"model": "me/sms-spam", "dataset": "me/sms-labels"}
    given = values(tmp_path, weights, push_to_hub=wanted, training=training)
    ActiveLearner(read_config(given, Path("/"))).run()
    assert set(hub.repositories) == {LABELS}
    assert main(["finish", given["run_dir"]]) == 0
    assert set(hub.repositories) == {MODEL, LABELS}
