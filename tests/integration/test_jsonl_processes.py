"""A run and an annotator as two processes that know of each other through files alone.

The annotator sends half of a batch, thinks better of some of it, writes nonsense in between, and sends the rest; the
run is killed meanwhile or is not. All that was meant is labelled in the end, and nothing is asked twice.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of

ROOT = Path(__file__).parents[2]
LABELS = ["food", "money", "sport"]
NONSENSE = ["how do I leave?", "[1, 2]", '{"label": "food"}', '{"id": "t1", "label": "food", "status": "sure"}']
TOLD = 'is passed over: an answer is {"id": ..., "label": ...}.'

# The recipe as it is, but for the two seconds between its looks at the answers.
RECIPE = """
import runpy, sys
from nlp_al.annotation.jsonl import Jsonl
Jsonl.seconds_between_pulls = 0.1
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

ANNOTATOR = r"""
import json, sys, time
from pathlib import Path

run_dir, gold, nonsense = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
answers = run_dir / "answers.jsonl"
other = {"food": "money", "money": "sport", "sport": "food"}

def lines(name):
    path = run_dir / name
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

def asked(round_):
    while not (found := [line["id"] for line in lines("questions.jsonl") if line["round"] == round_]):
        time.sleep(0.05)
    return found

def send(*whole):
    with answers.open("a") as file:
        file.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in whole)

def right(name, **more):
    return {"id": name, "label": gold[name], **more}

def wrong(name):
    return {"id": name, "label": other[gold[name]]}

def taken(answer):
    while True:
        said = [line for line in lines("labels.jsonl") if line["id"] == answer["id"]]
        if said and answer.items() <= said[-1].items():
            return
        time.sleep(0.05)

# The first batch
a = asked(0)
send(right(a[0]), nonsense[0] + "\n", wrong(a[1]), wrong(a[2]), right(a[3], status="draft"), right(a[0]))
send(nonsense[1] + "\n", {"id": a[4], "label": "sprot"}, {"id": "nobody", "label": "food"})
taken(right(a[3], status="draft"))
line = json.dumps(right(a[6])) + "\n"
send(line[:9])
time.sleep(0.5)
send(line[9:], nonsense[0] + "\n", right(a[1]))
taken(right(a[6]))
taken(right(a[1]))
send({"id": a[7], "status": "discarded"}, {"id": a[8], "status": "skipped"}, {"id": a[8], "status": "skipped"})
send(right(a[3]), right(a[4]), right(a[5]), wrong(a[9]), right(a[9]), right(a[10]), right(a[11]))

# The second one, while an answer to the first is mended, and an editor writes the file anew
b = asked(1)
send(right(b[0]), right(b[1]), nonsense[2] + "\n", right(b[2]), right(a[2]))
taken(right(a[2]))
fresh = run_dir / "answers.new"
fresh.write_bytes(b"\xef\xbb\xbf" + answers.read_bytes().replace(b"\n", b"\r\n"))
fresh.replace(answers)
send(nonsense[0] + "\n", nonsense[3] + "\n", *map(right, reversed(b)))

# All others
round_ = 2
while True:
    send({"id": asked(round_)[0], "label": None}, *map(right, asked(round_)))
    round_ += 1
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


class Scene:
    """A run directory, its recipe and its annotator. `kill_at`: says of labels.jsonl's lines when the recipe dies."""

    def __init__(self, folder: Path, model: str) -> None:
        rows = some_rows(60)
        self.gold = {row["id"]: row["label"] for row in rows}
        pool = [{**row, "label": None} for row in rows]
        loop = {"initial": 12, "batch": 6, "rounds": 2}
        values = values_of(folder, model, pool, 30, labels=LABELS, annotator={"name": "jsonl"}, loop=loop)
        self.config = folder / "config.yaml"
        self.config.write_text(json.dumps(values))
        self.run_dir = Path(values["run_dir"])
        self.output = folder / "output"

    def recipe(self, *options: str, kill_at: Callable[[list[dict[str, Any]]], bool] | None = None) -> list[str]:
        """What the recipe printed until its end, or until it was killed."""
        script = str(ROOT / "recipes" / "text_classification.py")
        command = [sys.executable, "-c", RECIPE, script, "--config", str(self.config), *options]
        with self.output.open("w") as output:
            run = subprocess.Popen(
                command, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                until = time.monotonic() + 240
                while run.poll() is None and time.monotonic() < until:
                    if kill_at is not None and kill_at(self.lines("labels.jsonl")):
                        break
                    time.sleep(0.02)
            finally:
                run.kill()
                status = run.wait()
        printed = self.output.read_text()
        assert status == (0 if kill_at is None else -signal.SIGKILL), printed[-3000:]
        return printed.splitlines()

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of a file that is being written."""
        path = self.run_dir / name
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    def labels(self) -> dict[str, tuple[str, Any]]:
        """The last line of each id."""
        assert {line["annotator"] for line in self.lines("labels.jsonl")} == {"jsonl"}
        return {line["id"]: (line["status"], line["label"]) for line in self.lines("labels.jsonl")}

    def meant(self) -> dict[str, tuple[str, Any]]:
        """What the annotator means in the end."""
        asked = [line["id"] for line in self.lines("queries.jsonl")]
        meant = {name: ("submitted", self.gold[name]) for name in asked}
        return meant | {asked[7]: ("discarded", None), asked[8]: ("skipped", None)}


@pytest.fixture
def scene(tmp_path: Path, model: str) -> Iterator[Scene]:
    made = Scene(tmp_path, model)
    command = [sys.executable, "-c", ANNOTATOR, str(made.run_dir), json.dumps(made.gold), json.dumps(NONSENSE)]
    annotator = subprocess.Popen(command)
    yield made
    alive = annotator.poll() is None
    annotator.kill()
    annotator.wait()
    assert alive


def times(printed: list[str], text: str) -> int:
    return sum(text in line for line in printed)


def test_what_was_meant_is_labelled(scene: Scene):
    printed = scene.recipe()
    asked = [line["id"] for line in scene.lines("queries.jsonl")]
    assert len(asked) == len(set(asked)) == 24
    assert [line["id"] for line in scene.lines("questions.jsonl")] == asked
    assert scene.labels() == scene.meant()
    rounds = [
        [(one["id"], one["status"]) for one in scene.lines("labels.jsonl") if one["round"] == at] for at in (0, 1)
    ]
    assert (asked[3], "draft") in rounds[0]
    assert (asked[3], "submitted") in rounds[0]
    assert (asked[2], "submitted") in rounds[1]  # mended after its batch was complete
    metrics = scene.lines("metrics.jsonl")
    assert [line["labelled"] for line in metrics] == [10, 16, 22]
    # Each answer of round 1 is behind the fit of round 0, and before that of round 1.
    assert metrics[1]["answers"] - metrics[0]["answers"] == len(rounds[1]) == 7

    for number, nonsense in enumerate(NONSENSE):
        sent = (scene.run_dir / "answers.jsonl").read_text(encoding="utf-8-sig").splitlines()
        assert times(printed, f"{scene.run_dir}/answers.jsonl line {sent.index(nonsense) + 1} {TOLD}") == 1, number
    assert times(printed, TOLD) == len(NONSENSE)
    assert times(printed, "Answers to 'nobody' are passed over: the train split has no such id.") == 1
    assert times(printed, "nobody") == 1
    assert times(printed, f"jsonl answered {asked[4]!r} with 'sprot', which is no label for it") == 1
    assert times(printed, "which is no label for it") == 2  # and the None of round 2

    # An answer that is mended after the last round counts when the run goes on.
    name = asked[20]
    mended = next(label for label in LABELS if label != scene.gold[name])
    with (scene.run_dir / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"id": name, "label": mended}) + "\n")
    scene.recipe("--loop.rounds", "3")
    assert scene.labels() == {**scene.meant(), name: ("submitted", mended)}
    assert [line["labelled"] for line in scene.lines("metrics.jsonl")] == [10, 16, 22, 28]


def test_a_run_that_is_killed_loses_no_answer(scene: Scene, tmp_path: Path):
    labels, received = scene.run_dir / "labels.jsonl", b""
    for kill_at in (lambda lines: len(lines) >= 4, lambda lines: any(line["round"] == 1 for line in lines)):
        printed = scene.recipe(kill_at=kill_at)
        assert all(times(printed, line) <= 1 for line in printed if TOLD in line)
        assert labels.read_bytes().startswith(received)
        received = labels.read_bytes()
        time.sleep(1)  # the annotator writes on
    scene.recipe()
    assert labels.read_bytes().startswith(received)
    asked = [line["id"] for line in scene.lines("queries.jsonl")]
    assert len(asked) == len(set(asked)) == 24
    assert scene.labels() == scene.meant()
    said = [(line["id"], line["status"], line["label"]) for line in read_lines(labels)]
    assert len(said) == len(set(said))  # what was known before the kill is not written again
    assert [line["labelled"] for line in scene.lines("metrics.jsonl")] == [10, 16, 22]
