"""The card of the final model: numbers out of the run's files, and Python that works with transformers alone."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines
from huggingface_hub import ModelCard

from nlp_al.bench import Bench
from nlp_al.cards import hub_name, model_card
from nlp_al.cli import main
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example, Pool, Query
from nlp_al.predict import predict_rows
from nlp_al.tasks.tags import spans_of_tags

QUICK = {"mode": "full", "final": "full", "learning_rate": 1e-3, "num_train_epochs": 1, "min_steps": 100}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def run(values: dict[str, Any]) -> Path:
    ActiveLearner(read_config(values, Path("/"))).run()
    return Path(values["run_dir"])


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory) -> Path:
    loop = {"initial": 20, "batch": 10, "rounds": 2, "holdout": 0.2}
    training = {**QUICK, "mode": "frozen"}
    values = values_of(tmp_path_factory.mktemp("finished"), model, some_rows(80), loop=loop, training=training)
    return run(values)


def test_its_numbers_are_those_of_the_run(finished):
    card = ModelCard.load(finished / "model" / "README.md")
    final = json.loads((finished / "final.json").read_text())
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["active-learning"],
    }
    lines = card.text.splitlines()
    assert any("trained for text-classification on 32 labelled examples" in line for line in lines)
    assert "| labelled | 40 of 80 examples (50.0%) |" in lines
    assert "| by | a simulation, in which the labels of the data answered |" in lines
    assert "| chosen by | the initial set 16, the holdout 8, margin 16 |" in lines
    assert "| rounds | 2 after the initial set |" in lines
    (held,) = [line for line in lines if line.startswith("| holdout")]
    low, high = final["holdout_interval"]["accuracy"]
    assert f"| {final['holdout']['accuracy']:.3f} (95%: {low:.3f}–{high:.3f}) |" in held
    (test,) = [line for line in lines if line.startswith("| test")]
    assert test == f"| test | {final['test']['accuracy']:.3f} | {final['test']['f1_macro']:.3f} |"
    assert not any(row["text"] in card.content for row in some_rows(80))
    assert str(finished) not in card.content


def test_a_card_that_a_crash_left_out_is_written_and_one_that_is_there_left_alone(finished):
    path = finished / "model" / "README.md"
    before = path.read_text()
    path.unlink()
    assert main(["finish", str(finished)]) == 0
    assert path.read_text() == before
    written = path.stat().st_mtime_ns
    assert main(["finish", str(finished)]) == 0
    assert path.stat().st_mtime_ns == written


def test_people_weights_and_repositories_are_named(model, tmp_path):
    sections = {"annotator": "jsonl", "labels": ["food", "money", "sport"], "loop": {"aggregation": "majority"}}
    hub = {"model": "me/sms-spam", "dataset": "me/labels"}
    values = values_of(tmp_path, model, some_rows(20), **sections, push_to_hub=hub, training={"mode": "lora"})
    config = read_config({**values, "model": "org/weights"}, Path("/"))
    bench = Bench.of(read_config(values, Path("/")))
    pool = Pool([Example(f"t{at}", "x", 1) for at in range(2000)])
    pool.queries = [Query(at // 2, f"t{at}", at % 2, None, "cal" if at > 1 else "initial", 2) for at in range(4)]
    pool.queries.append(Query(2, "t6", 0, None, "cal", 1))  # asked while others were still open
    said = {"t0": ["ann"], "t1": ["ann", "bob"], "t2": ["bob"], "t9": ["dataset"], "t8": ["eve"]}
    pool.answers = [Answer(name, "food", who) for name, people in said.items() for who in people]
    pool.answers += [Answer("t3", None, "dan", "discarded"), Answer("t7", "food", "gus", "draft")]
    card = ModelCard(model_card(config, bench.task, pool, {"labelled": 5, "round": 1}))
    assert (card.data.base_model, card.data.datasets) == ("org/weights", ["me/labels"])
    lines = card.text.splitlines()
    assert "# sms-spam" in lines
    assert 'source = "me/sms-spam"' in lines
    assert any(line.startswith("Adapters on [org/weights](https://huggingface.co/org/weights) were") for line in lines)
    assert "| labelled | 5 of 2,000 examples (0.2%) |" in lines
    assert "| by | 3 people; 1 by more than one, agreed by majority |" in lines
    assert "| chosen by | the initial set 2, cal 1, with a label already 1, unasked 1 |" in lines
    assert "| rounds | 1 after the initial set |" in lines
    assert "## Scores" not in lines
    for name in ("ann", "bob", "eve"):
        assert not re.search(rf"\b{name}\b", card.content)


@pytest.mark.parametrize(
    ("name", "found"), [("org/weights", "org/weights"), ("bert", "bert"), ("pkg:a/b", None), ("/home/me/w", None)]
)
def test_only_a_name_on_the_hub_is_told(name, found):
    assert hub_name(name) == found


# The Python in it


def shapes() -> dict[str, tuple[list[dict[str, Any]], dict[str, Any]]]:
    rows = some_rows(40)
    dialogue = {"task": "response-selection"}
    several = [{**row, "label": [] if at % 5 == 0 else [row["label"]]} for at, row in enumerate(rows)]
    spans = []
    for row in some_sentences(40):
        ends = [len(" ".join(row["tokens"][: at + 1])) for at in range(len(row["tokens"]))]
        offsets = [[end - len(word), end] for word, end in zip(row["tokens"], ends, strict=True)]
        spans.append({"id": row["id"], "text": " ".join(row["tokens"]), "tags": spans_of_tags(offsets, row["tags"])})
    options = {"max_length": 32, "none_of_these": "None of these."}
    return {
        "single": (rows, {}),
        "pairs": ([{**row, "text": [row["text"], "very new"]} for row in rows], {}),
        "multi": (several, {"task_options": {"max_length": 32, "multi_label": True}}),
        "words": (some_sentences(40), {"task": "token-classification", "labels": ["X"]}),
        "spans": (spans, {"task": "token-classification", "labels": ["X"]}),
        "bi-encoder": (some_dialogues(40), {**dialogue, "task_options": options}),
        "cross-encoder": (some_dialogues(40), {**dialogue, "task_options": {**options, "form": "cross-encoder"}}),
    }


def code_of(run_dir: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (run_dir / "model" / "README.md").read_text(), re.DOTALL)
    assert "nlp_al" not in code
    assert code.startswith('source = "path/to/this/folder"\n')
    return code.replace("path/to/this/folder", str(run_dir / "model"))


def saved(model: str, folder: Path, shape: str) -> Path:
    rows, sections = shapes()[shape]
    return run(values_of(folder, model, rows, test=0, **sections, loop={"initial": 40, "rounds": 0}, training=QUICK))


def said_here(run_dir: Path, row: dict[str, Any], folder: Path) -> tuple[Any, Any]:
    """What this library says of a row with the same model: the label, and how sure it is."""
    file = write_lines(folder / "rows.jsonl", [{"id": "1", **row}])
    predict_rows(run_dir, Path(file), folder / "out.csv", 0.0)
    with (folder / "out.csv").open(encoding="utf-8-sig", newline="") as lines:
        (found,) = csv.DictReader(lines)
    return found["label"], json.loads(found["confidence"])


@pytest.mark.parametrize("shape", ["single", "pairs", "multi"])
def test_of_labels_says_what_is_said_here(model, tmp_path, shape):
    run_dir = saved(model, tmp_path, shape)
    text = "bread and cheese and soup was the team"
    code = code_of(run_dir).replace("A text.", text).replace("print(", "found = (")
    found: dict[str, Any] = {}
    exec(code, found)
    read = [text, "Its other half."] if shape == "pairs" else text
    label, sure = said_here(run_dir, {"text": read}, tmp_path)
    if shape == "multi":
        applies = {one["label"]: one["score"] for one in found["found"] if one["score"] > 0.5}
        assert applies == pytest.approx(dict(zip(json.loads(label), sure, strict=True)), abs=1e-4)
        assert {one["label"] for one in found["found"]} == {"food", "money", "sport"}
    else:
        one = found["found"] if shape == "pairs" else found["found"][0]
        assert (one["label"], one["score"]) == (label, pytest.approx(sure, abs=1e-4))


@pytest.mark.parametrize("shape", ["words", "spans"])
def test_of_entities_finds_what_is_found_here(model, tmp_path, shape):
    run_dir = saved(model, tmp_path, shape)
    words = ["the", "goal", "of", "coach", "league", "was", "bread"]
    found: dict[str, Any] = {}
    code = code_of(run_dir).replace("A text, or words with spaces between them.", " ".join(words))
    exec(code.replace("print(", "found = ("), found)
    row = {"tokens": words} if shape == "words" else {"text": " ".join(words)}
    tags = json.loads(said_here(run_dir, row, tmp_path)[0])
    ends = [len(" ".join(words[: at + 1])) for at in range(len(words))]
    spans = spans_of_tags([[end - len(word), end] for word, end in zip(words, ends, strict=True)], tags)
    assert len(spans) > 0
    assert [{"start": e["start"], "end": e["end"], "label": e["entity_group"]} for e in found["found"]] == spans


@pytest.mark.parametrize("shape", ["bi-encoder", "cross-encoder"])
def test_of_a_choice_scores_as_here(model, tmp_path, capsys, shape):
    run_dir = saved(model, tmp_path, shape)
    found: dict[str, Any] = {}
    capsys.readouterr()
    exec(code_of(run_dir), found)
    candidates = found["candidates"]
    assert candidates[-1] == "None of these."
    assert capsys.readouterr().out.strip() == candidates[int(found["scores"].argmax())]

    from nlp_al.predict import _model

    config = read_config(
        {**values_of(tmp_path / "x", model, shapes()[shape][0], test=0, **shapes()[shape][1])}, tmp_path
    )
    bench = Bench.of(config)
    inputs = {"context": ["Hello!", "When is the next match?"], "candidates": candidates[:-1]}
    example = Example("1", inputs, 1)
    scorer = _model(config, bench, run_dir, [example])
    prepared, _ = scorer.prepare([example])
    logits = scorer.rows(prepared).logits[:, 0]
    scale = 20.0 if shape == "bi-encoder" else 1.0
    assert torch.allclose(found["scores"] * scale, logits, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "tag"),
    [("words", "token-classification"), ("bi-encoder", "feature-extraction"), ("cross-encoder", "text-ranking")],
)
def test_it_names_what_the_hub_calls_the_task(model, tmp_path, shape, tag):
    rows, sections = shapes()[shape]
    config = read_config(values_of(tmp_path, model, rows, test=0, **sections), tmp_path)
    bench = Bench.of(config)
    card = ModelCard(model_card(config, bench.task, Pool(bench.splits["train"]), {"labelled": 0}))
    assert card.data.pipeline_tag == tag
