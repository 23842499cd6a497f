"""Two processes choose what one chooses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import read_lines, some_rows, tiny_model, values_of

from nlp_al.resume import to_yaml

RECIPE = Path(__file__).parents[2] / "recipes" / "text_classification.py"


def launch(processes: int, config: Path, cache: Path, *options: str) -> None:
    """Runs the recipe on so many processes."""
    command = [sys.executable, str(RECIPE)]
    if processes > 1:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            str(RECIPE),
        ]
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "NLP_AL_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(cache / "datasets"),
    }
    done = subprocess.run(
        [*command, "--config", str(config), *options], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def config(tmp_path):
    values = values_of(tmp_path, tiny_model(tmp_path / "model"), some_rows(150), strategy="badge")
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(values))
    return path


def asked(run: Path):
    return [(line["round"], line["id"]) for line in read_lines(run / "queries.jsonl")]


def test_a_whole_frozen_run(config, tmp_path):
    for processes in (1, 2):
        # A cache each, so that the second run encodes its texts on both processes.
        launch(processes, config, tmp_path / f"cache{processes}", "--run_dir", str(tmp_path / f"run{processes}"))
    assert asked(tmp_path / "run2") == asked(tmp_path / "run1")
    assert len(asked(tmp_path / "run1")) == 10 + 3 * 5
    scores = [[line["test"] for line in read_lines(tmp_path / f"run{p}" / "metrics.jsonl")] for p in (1, 2)]
    assert scores[0] == scores[1]


def test_one_query_from_the_same_fine_tuned_model(config, tmp_path):
    full = ("--training.mode", "full", "--training.min_steps", "5", "--training.num_train_epochs", "2")
    launch(1, config, tmp_path / "cache", *full, "--loop.rounds", "0", "--run_dir", str(tmp_path / "run1"))
    shutil.copytree(tmp_path / "run1", tmp_path / "run2")
    for processes in (1, 2):
        run = str(tmp_path / f"run{processes}")
        launch(processes, config, tmp_path / "cache", *full, "--loop.rounds", "1", "--run_dir", run)
    assert asked(tmp_path / "run2") == asked(tmp_path / "run1")
    assert len(asked(tmp_path / "run1")) == 15
