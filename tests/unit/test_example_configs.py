"""The configs in configs/: each is valid, and those of response selection load data of the form that they name."""

import importlib.util
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from helpers import read_lines, tiny_model, write_lines

from nlp_al.annotation import Question, Setting, make_annotator
from nlp_al.bench import Bench, make_pool
from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.values import read_yaml

ROOT = Path(__file__).parents[2]
RECIPES = {path.stem for path in (ROOT / "recipes").glob("*.py")}
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*/*.yaml") if path.parent.name != "accelerate")


def packages(values: dict[str, Any]) -> list[str]:
    """Packages that a config takes weights or text from and that are not installed."""
    text = json.dumps(values).split('"pkg:')[1:]
    return [name for name in (part.split("/")[0] for part in text) if importlib.util.find_spec(name) is None]


def some_files(values: dict[str, Any], folder: Path) -> None:
    """Puts a file wherever a config names one of the user's own."""
    for name in values["dataset"].get("data_files", {}).values():
        if not name.startswith("pkg:"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_config_is_valid_and_serves_the_recipe_of_its_folder(path, tmp_path):
    values = read_yaml(path)
    if missing := packages(values):
        pytest.skip(f"needs {missing}")
    base = tmp_path / "configs" / path.parent.name
    some_files(values, base)
    config = read_config(values, base)
    tasks = {"text_classification": "text-classification", "ner": "token-classification"}
    assert config.task == tasks.get(path.parent.name, "response-selection")
    assert path.read_text().startswith("# ")
    # Two configs that shared a directory would go on with each other's run.
    assert config.run_dir.startswith("runs/")
    assert [read_yaml(other)["run_dir"] for other in CONFIGS].count(config.run_dir) == 1


def test_each_recipe_has_configs_and_names_one_that_is_there():
    assert {path.parent.name for path in CONFIGS} == RECIPES
    for name in RECIPES:
        told = (ROOT / "recipes" / f"{name}.py").read_text()
        named = {word for word in told.split() if word.startswith("configs/")}
        assert named
        assert all((ROOT / word).is_file() for word in named)


# Response selection: the data that the comments describe


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def values_of(name: str, model: str, tmp_path: Path, **dataset: Any) -> dict[str, Any]:
    values = read_yaml(ROOT / "configs" / "response_selection" / f"{name}.yaml")
    known = {key: item for key, item in values["dataset"].items() if key != "revision"}
    training = {"mode": "frozen", "final": "none"}
    loop = {**values["loop"], "initial": 4, "batch": 2, "rounds": 1}
    own = {"model": model, "loop": loop, "training": training, "run_dir": str(tmp_path / "run")}
    return {**values, **own, "dataset": {**known, **dataset}}


def test_the_columns_of_the_hub_set(model, tmp_path):
    def rows(count: int, label: str) -> list[dict[str, Any]]:
        ending = ["goal", "bread", "bank", "soup"]
        return [{"ind": at, "ctx": f"the team {at}", "endings": ending, "label": label} for at in range(count)]

    files = {name: write_lines(tmp_path / f"{name}.jsonl", rows(15, "2")) for name in ("train", "validation")}
    given = values_of("hellaswag", model, tmp_path, path="json", data_files=files)
    split = {name: part.split("[")[0] for name, part in given["dataset"]["split"].items()}
    given["dataset"]["split"] = split
    bench = Bench.of(read_config(given, tmp_path))
    assert [(e.id, e.inputs["context"], e.label) for e in bench.splits["train"][:2]] == [
        ("0", ["the team 0"], 2),
        ("1", ["the team 1"], 2),
    ]
    assert len(bench.gold("test")) == 15


def test_contexts_with_candidates(model, tmp_path):
    rows = [
        {"id": str(at), "context": ["Hi!", f"Where is my soup {at}?"], "candidates": ["Look.", "Bye."], "label": at % 2}
        for at in range(20)
    ]
    write_lines(tmp_path / "my_dialogues.jsonl", rows)
    config = read_config(values_of("local_jsonl", model, tmp_path), tmp_path)
    ActiveLearner(config).run()
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert [line["labelled"] for line in lines] == [4, 6]
    assert {"recall_at_1", "mrr"} <= set(lines[-1]["test"])


@pytest.mark.parametrize("turns", [["Hi!", "Fine."], [{"speaker": "customer", "text": "Hi!"}, {"text": "Fine."}]])
def test_a_turn_may_say_who_speaks(model, tmp_path, turns):
    rows = [{"context": turns, "candidates": ["Look.", f"Bye {at}."], "label": "Look."} for at in range(20)]
    if isinstance(turns[0], dict):
        rows = [{**row, "context": [{"speaker": None, **turn} for turn in turns]} for row in rows]
    write_lines(tmp_path / "my_dialogues.jsonl", rows)
    bench = Bench.of(read_config(values_of("local_jsonl", model, tmp_path), tmp_path))
    first = bench.splits["train"][0]
    assert first.inputs["context"] == ["Hi!" if isinstance(turns[0], str) else "customer: Hi!", "Fine."]
    assert first.label == 0


@pytest.mark.parametrize("retriever", ["bm25", "embeddings"])
def test_contexts_without_candidates_and_a_bank(model, tmp_path, retriever):
    if retriever == "bm25":
        pytest.importorskip("bm25s")
    rows = [{"id": str(at), "context": ["Hi!", f"Where is my soup {at}?"]} for at in range(20)]
    write_lines(tmp_path / "my_contexts.jsonl", rows)
    (tmp_path / "my_responses.txt").write_text("".join(f"The soup is {at}.\n" for at in range(30)))
    given = values_of("local_bank", model, tmp_path)
    given["task_options"] = {**given["task_options"], "bank_retriever": retriever}
    config = read_config(given, tmp_path)
    bench = Bench.of(config)
    annotator = make_annotator(config.annotator.name, config.annotator.parameters)
    pool, _ = make_pool(config, bench, annotator)
    assert len(pool.unlabelled()) == 20
    example = pool.examples[0]
    assert len(set(example.inputs["candidates"])) == 10
    given_answers = (0, 9, "none", 10, "None of these is right.")
    assert [bench.task.readable(label, example) for label in given_answers] == [True, True, True, False, False]
    annotator.start(Setting(bench.task, {}, tmp_path))
    annotator.push([Question(example, 0, 0)])
    (shown,) = read_lines(tmp_path / "questions.jsonl")
    assert (shown["context"], shown["candidates"]) == (example.inputs["context"], example.inputs["candidates"])


# The demo's data


@pytest.mark.skipif(importlib.util.find_spec("chitchat_dataset") is None, reason='needs pip install "nlp-al[demo]"')
def test_the_rows_of_the_demo(tmp_path, monkeypatch):
    made = runpy.run_path(str(ROOT / "recipes" / "data" / "chitchat.py"))
    monkeypatch.setattr("sys.argv", ["chitchat.py", str(tmp_path / "build" / "data")])
    made["main"]()
    splits = {name: read_lines(tmp_path / "build" / "data" / f"chitchat-{name}.jsonl") for name in ("train", "test")}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1500, "test": 500}
    from_conversations = {name: {row["id"].rpartition("-")[0] for row in rows} for name, rows in splits.items()}
    assert not from_conversations["train"] & from_conversations["test"]
    heard = made["heard"]
    for rows in splits.values():
        right = [row["candidates"][row["label"]] for row in rows]
        assert 0.05 < sum(row["label"] == 0 for row in rows) / len(rows) < 0.15
        for row in rows:
            assert len({heard(one) for one in row["candidates"]}) == 10
            assert set(row["candidates"]) <= set(right)
            assert not {heard(one) for one in row["candidates"]} & {heard(turn) for turn in row["context"]}
            assert 1 <= len(row["context"]) <= made["TURNS"]
    first = (tmp_path / "build" / "data" / "chitchat-train.jsonl").read_bytes()
    made["main"]()
    assert (tmp_path / "build" / "data" / "chitchat-train.jsonl").read_bytes() == first


def test_without_the_package_the_demo_says_what_to_install(monkeypatch):
    made = runpy.run_path(str(ROOT / "recipes" / "data" / "chitchat.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="no package 'chitchat_dataset' is installed"):
        made["conversations"]()
