"""While people label, the other processes sleep without an open collective: none can time out."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of

from nlp_al.resume import to_yaml

RECIPE = Path(__file__).parents[2] / "recipes" / "text_classification.py"
TIMEOUT = 4

# The recipe as it is, in a group of processes whose collectives fail after a few seconds.
WRAPPED = f"""
import datetime, runpy, sys
import torch.distributed
torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds={TIMEOUT}))
from nlp_al.annotation.jsonl import Jsonl
Jsonl.seconds_between_pulls = 0.1
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def started(tmp_path):
    """A run of two processes that has asked its first questions."""
    rows = [{**row, "label": None} for row in some_rows(60)]
    given = values_of(
        tmp_path,
        tiny_model(tmp_path / "model"),
        rows,
        labels=["food", "money", "sport"],
        annotator="jsonl",
        loop={"rounds": 1},
    )
    (tmp_path / "config.yaml").write_text(to_yaml(given))
    (tmp_path / "wrapped.py").write_text(WRAPPED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [*launch, tmp_path / "wrapped.py", RECIPE, "--config", tmp_path / "config.yaml"],
        env={**environment, "NLP_AL_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, Path(given["run_dir"])
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def asked(process: subprocess.Popen, run: Path, count: int) -> list[str]:
    end = time.monotonic() + 90
    while len(found := [line["id"] for line in read_lines(run / "questions.jsonl")]) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_people_may_take_longer_than_any_collective(started):
    process, run = started
    gold = {row["id"]: row["label"] for row in some_rows(60)}
    for count in (10, 15):
        names = asked(process, run, count)
        time.sleep(TIMEOUT + 3)
        with (run / "answers.jsonl").open("a") as file:
            file.writelines(json.dumps({"id": name, "label": gold[name]}) + "\n" for name in names)
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 0, said
    assert len(read_lines(run / "metrics.jsonl")) == 2


def test_a_main_process_that_ends_takes_the_others_with_it(started):
    process, run = started
    asked(process, run, 10)
    time.sleep(1.5)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {}
    for child in children:
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks[next(item for item in environment if item.startswith(b"RANK="))] = int(child)
    os.kill(ranks[b"RANK=0"], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not Path(f"/proc/{ranks[b'RANK=1']}").exists()
