"""Strategies around another one in a run: what the model is asked, what is recorded, and when a filter ends it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al import fields
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def run(tmp_path, model):
    def go(rows: list[dict[str, Any]], strategy: Any, **sections: Any) -> ActiveLearner:
        given = values_of(tmp_path, model, rows, 0, strategy=strategy, **{"loop": {"rounds": 3}, **sections})
        learner = ActiveLearner(read_config(given, Path("/")))
        learner.run()
        return learner

    return go


def lines(learner: ActiveLearner, name: str) -> list[dict[str, Any]]:
    return read_lines(Path(learner.config.run_dir) / name)


def sizes(learner: ActiveLearner) -> dict[int, int]:
    return dict(Counter(line["round"] for line in lines(learner, "queries.jsonl")))


def test_seals_asks_the_model_about_neighbours_alone(run, monkeypatch) -> None:
    looked = []
    plain = fields.collect

    def counting(scorer, examples, wanted, *others):
        if "embeddings" not in wanted:  # which are the pretrained encoder's
            looked.append((set(wanted), len(examples)))
        return plain(scorer, examples, wanted, *others)

    monkeypatch.setattr(fields, "collect", counting)
    learner = run(some_rows(200), {"name": "seals", "k": 2, "base": "margin"})
    assert sizes(learner) == {0: 10, 1: 5, 2: 5, 3: 5}
    assert [wanted for wanted, _ in looked] == [{"probs"}] * 3
    assert all(5 <= count <= 2 * labelled for (_, count), labelled in zip(looked, (10, 15, 20), strict=True))


@pytest.mark.parametrize(
    ("rows", "task", "base"),
    [
        (some_rows(80), "text-classification", "margin"),
        (some_sentences(60), "token-classification", "mnlp"),
    ],
)
def test_class_balanced_reads_the_labels_of_the_labelled(run, rows, task, base) -> None:
    assert sizes(run(rows, {"name": "class_balanced", "base": base}, task=task)) == {0: 10, 1: 5, 2: 5, 3: 5}


def test_stages_sieves_and_words_go_together(run) -> None:
    staged = [{"name": "seals", "k": 3, "base": "entropy", "keep": "2x"}, {"name": "badge"}]
    assert sizes(run(some_rows(80), staged)) == {0: 10, 1: 5, 2: 5, 3: 5}


def test_a_budget_of_words_is_kept(run) -> None:
    loop = {"rounds": 3, "unit": "words", "initial": 60, "batch": 40}
    learner = run(some_sentences(60), {"name": "seals", "k": 3, "base": "mnlp"}, task="token-classification", loop=loop)
    costs = [line["cost"] for line in lines(learner, "metrics.jsonl")]
    assert all(planned - 20 < cost <= planned for cost, planned in zip(costs, (60, 100, 140, 180), strict=True))


def test_what_no_label_settles_ends_a_run(run) -> None:
    wide = {"name": "neural_cal", "gamma": 0.45}
    learner = run(some_rows(120), wide, stop={"rule": "noise_exit"})
    seen = [line["stop"] for line in lines(learner, "metrics.jsonl")]
    assert "abstained" not in seen[0]
    assert seen[-1]["abstained"] > 0.5
    assert seen[-1]["decision"]["stop"]
    assert learner.watch.ended is not None
    assert learner.watch.ended[0] == len(seen) - 1 < 3


def test_a_filter_that_lets_nothing_through_asks_nothing(run) -> None:
    shut = {"name": "neural_cal", "gamma": 0.499, "quantile": 0.49}
    learner = run(some_rows(120), shut, stop={"rule": "noise_exit"})
    assert sizes(learner) == {0: 10}
    assert learner.watch.ended == (
        1,
        "noise_exit: the share of toss-ups in what was undecided is 1, above 0.5",
    )


def test_a_filter_inside_a_sieve_serves_rankings(run) -> None:
    learner = run(some_dialogues(60), {"name": "seals", "k": 4, "base": "neural_cal"}, task="response-selection")
    assert set(sizes(learner)) <= {0, 1, 2, 3}
    assert sizes(learner)[0] == 10
