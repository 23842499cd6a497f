"""Several processes that hold a pool together choose what one chooses, and none holds more than its share."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny_model
from shard_worker import STRATEGIES, TASKS, WIDE, WIDTH, work

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def alone(model):
    """What a single process finds."""
    return json.loads(json.dumps(work(model)))


@pytest.fixture(scope="module", params=[2, 4])
def found(request, model, tmp_path_factory):
    """What each of several processes finds."""
    out = tmp_path_factory.mktemp("found")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={request.param}"]
    done = subprocess.run(
        [*launch, str(Path(__file__).with_name("shard_worker.py")), model, str(out)],
        env={
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(TESTS),
            "MALLOC_MMAP_THRESHOLD_": "65536",  # what is let go goes back to the system at once, and is not measured
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(request.param)]


def test_they_choose_what_one_chooses(alone, found):
    """Of 127 texts or sentences, of which 37 come twice, and of 90 dialogues, in blocks of 16."""
    for task in TASKS:
        expected, _ = alone[task]
        assert len(expected) >= 3 * len(STRATEGIES)
        for one in found:
            assert one[task][0] == expected


def test_no_process_holds_more_than_its_share(alone, found):
    for task in TASKS:
        whole, held = alone[task][1], [one[task][1] for one in found]
        blocks = -(-whole // 16)
        assert sum(held) == whole
        assert max(held) <= 16 * -(-blocks // len(found))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
def test_memory_grows_with_the_share_alone(alone, found):
    """The whole pool has 128 MiB. Rows that are put in order, up to 40 MiB of them, are held twice meanwhile."""
    whole = WIDE * WIDTH * 4
    for name in ("wide, sharded: True", "wide, sharded: False"):
        assert alone[name]["bytes"] > 0.9 * whole
        for one in found:
            assert one[name]["picks"] == alone[name]["picks"]
            assert one[name]["rows"] == WIDE // len(found)
            assert one[name]["bytes"] < whole / len(found) + 48 * 2**20, (name, one[name])
