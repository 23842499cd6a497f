"""`two_stage_us`: the boundary of the initial set asks in every round."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example, Pool, Query
from nlp_al.signals import Signals
from nlp_al.signals.first_stage import first_stage, margins
from nlp_al.strategies import make_strategy
from nlp_al.tasks import make_task


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def asked(tmp_path, model):
    """The ids of rounds 1 and later, in the order in which they are asked."""

    def go(name: str, rows: list[dict[str, Any]], strategy: Any, batch: int, rounds: int, **sections: Any) -> list[str]:
        sizes = {"initial": 20, "batch": batch, "rounds": rounds}
        given = values_of(tmp_path / name, model, rows, 0, strategy=strategy, **{"loop": sizes, **sections})
        learner = ActiveLearner(read_config(given, Path("/")))
        learner.run()
        lines = read_lines(Path(learner.config.run_dir) / "queries.jsonl")
        return [line["id"] for line in lines if line["round"] > 0]

    return go


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("text-classification", some_rows(120)),
        ("token-classification", some_sentences(120)),
        ("response-selection", some_dialogues(120)),
    ],
)
def test_three_rounds_ask_what_one_batch_by_margin_would(asked, task, rows) -> None:
    fixed = asked("fixed", rows, "two_stage_us", 5, 3, task=task)
    assert fixed == asked("once", rows, "margin", 15, 1, task=task)
    again = asked("again", rows, "margin", 5, 3, task=task)
    assert fixed[:5] == again[:5]
    assert fixed != again  # there the boundary moves


FULL = {"mode": "full", "final": "none", "num_train_epochs": 1, "min_steps": 4}


@pytest.mark.parametrize("training", [{}, FULL])
def test_a_restart_finds_the_boundary_again(asked, training) -> None:
    rows = some_rows(60)
    for rounds in (1, 2, 3):
        fixed = asked("fixed", rows, "two_stage_us", 4, rounds, training=training)
    assert fixed == asked("once", rows, "margin", 12, 1, training=training)


def test_parameters_go_to_the_score() -> None:
    decisions = Signals(probs=torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2]]), offsets=torch.tensor([0, 2, 3]))
    torch.testing.assert_close(margins(decisions), torch.tensor([-0.5, -0.6]))
    torch.testing.assert_close(margins(decisions, "max"), torch.tensor([-0.2, -0.6]))
    assert make_strategy("two_stage_us", agg="max").needs == {'scores.first_stage_margin {"agg": "max"}'}
    with pytest.raises(ValueError, match="agg is 'most'"):
        make_strategy("two_stage_us", agg="most")


def test_the_first_stage_ends_with_the_second_class() -> None:
    task = make_task("text-classification", {}).with_labels(["a", "b"])
    pool = Pool([Example(name, name, 1, None) for name in "uvwx"])
    pool.queries = [Query(round_, name, 0, None, "margin", 1) for round_, name in enumerate("uvwx")]

    def stage(labels: str) -> set[str]:
        pool.answers = [Answer(name, label, "me") for name, label in zip("uvwx", labels, strict=False)]
        return {example.id for example, _ in first_stage(pool, task)}

    assert stage("a") == stage("aa") == set()
    assert stage("aab") == stage("aabb") == {"u", "v", "w"}
    assert stage("abab") == {"u", "v"}
