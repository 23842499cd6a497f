"""Two processes choose what one chooses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines

from nlp_al.resume import to_yaml

RECIPES = Path(__file__).parents[2] / "recipes"
TASKS = {
    "text_classification": ("text-classification", some_rows),
    "ner": ("token-classification", some_sentences),
    "response_selection": ("response-selection", some_dialogues),
}


def launch(processes: int, config: Path, cache: Path, *options: str) -> None:
    """Runs the recipe that the config's folder is named after on so many processes."""
    recipe = [str(Path(__file__).with_name("small_blocks.py")), str(RECIPES / f"{config.parent.name}.py")]
    command = [sys.executable, *recipe]
    if processes > 1:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            *recipe,
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


@pytest.fixture(params=TASKS)
def config(request, tmp_path):
    task, rows = TASKS[request.param]
    folder = tmp_path / request.param
    values = values_of(folder, tiny_model(tmp_path / "model"), rows(150), test=0, task=task, strategy="badge")
    # Sentences are longer than the window.
    values["task_options"]["max_length"] = 8 if request.param == "ner" else 32
    values["dataset"]["data_files"]["test"] = write_lines(folder / "test.jsonl", rows(30, seed=9, prefix="u"))
    path = folder / "config.yaml"
    path.write_text(to_yaml(values))
    return path


@pytest.mark.parametrize("sampler", ["mc_dropout", "heads"])
def test_a_committee_of_the_same_fine_tuned_model(sampler, tmp_path):
    """Masks and heads are those of any other process; what each has scored comes together."""
    folder = tmp_path / "text_classification"
    values = values_of(folder, tiny_model(tmp_path / "model"), some_rows(150), test=0)
    path = folder / "config.yaml"
    path.write_text(to_yaml(values))
    one, two = tmp_path / "run1", tmp_path / "run2"
    how = ("--strategy", "[{name: power_bald, keep: 60}, {name: batchbald}]", "--sampler.name", sampler)
    full = ("--training.mode", "full", "--training.min_steps", "5", "--training.num_train_epochs", "2", *how)
    launch(1, path, tmp_path / "cache", *full, "--loop.rounds", "0", "--run_dir", str(one))
    shutil.copytree(one, two)
    for processes, run in ((1, one), (2, two)):
        launch(processes, path, tmp_path / "cache", *full, "--loop.rounds", "1", "--run_dir", str(run))
    assert asked(two) == asked(one)
    assert len(asked(one)) == 15


def asked(run: Path):
    return [(line["round"], line["id"]) for line in read_lines(run / "queries.jsonl")]


def scores(run: Path):
    return [line["test"] for line in read_lines(run / "metrics.jsonl")]


def test_a_whole_frozen_run(config, tmp_path):
    one, two = tmp_path / "run1", tmp_path / "run2"
    for processes, run in ((1, one), (2, two)):
        # A cache each, so that the second run encodes its texts on both processes.
        how = ("--training.calibrate", "true", "--run_dir", str(run))
        launch(processes, config, tmp_path / f"cache{processes}", *how)
    assert asked(two) == asked(one)
    assert len(asked(one)) == 10 + 3 * 5
    assert scores(two) == scores(one)


def test_one_query_from_the_same_fine_tuned_model(config, tmp_path):
    one, two = tmp_path / "run1", tmp_path / "run2"
    full = ("--training.mode", "full", "--training.min_steps", "5", "--training.num_train_epochs", "2")
    launch(1, config, tmp_path / "cache", *full, "--loop.rounds", "0", "--run_dir", str(one))
    shutil.copytree(one, two)
    for processes, run in ((1, one), (2, two)):
        launch(processes, config, tmp_path / "cache", *full, "--loop.rounds", "1", "--run_dir", str(run))
    assert asked(two) == asked(one)
    assert len(asked(one)) == 15


@pytest.mark.parametrize("config", ["text_classification"], indirect=True)
def test_a_stopping_rule_ends_both(config, tmp_path):
    one, two = tmp_path / "run1", tmp_path / "run2"
    rule = "{any: [{name: kappa_average, threshold: 0.1, window: 1}, {name: classification_change}, selected_accuracy]}"
    options = ("--stop.rule", rule, "--loop.rounds", "8")
    for processes, run in ((1, one), (2, two)):
        launch(processes, config, tmp_path / "cache", *options, "--run_dir", str(run))
    observed = [[line["stop"] for line in read_lines(run / "metrics.jsonl")] for run in (one, two)]
    assert observed[0] == observed[1]
    assert 1 < len(observed[0]) < 9
    assert asked(one) == asked(two)
    # A fine-tuned model is asked on both processes, and the end is known to both.
    full = ("--training.mode", "full", "--training.min_steps", "5", "--training.num_train_epochs", "1")
    full = (*full, "--stop.rule.any", "[{name: overall_uncertainty, threshold: 1}]", "--loop.rounds", "8")
    launch(2, config, tmp_path / "cache", *full, "--run_dir", str(tmp_path / "full"))
    assert len(read_lines(tmp_path / "full" / "metrics.jsonl")) == 1
