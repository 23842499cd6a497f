"""What other packages register is found like our own."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from nlp_al import annotation, strategies, tasks
from nlp_al.annotation.oracle import Oracle
from nlp_al.cli import strategy_rows
from nlp_al.strategies.random import Random
from nlp_al.tasks.text_classification import TextClassification


@dataclass(frozen=True)
class Coin(Random):
    """A strategy of somebody else."""

    sides: int = 2
    family: ClassVar[str] = "theirs"


class Reviews(TextClassification):
    """A task of somebody else."""


@dataclass
class Crowd(Oracle):
    """An annotator of somebody else."""


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    points = {
        "nlp_al.strategies": [EntryPoint("coin", f"{__name__}:Coin", "nlp_al.strategies")],
        "nlp_al.tasks": [EntryPoint("reviews", f"{__name__}:Reviews", "nlp_al.tasks")],
        "nlp_al.annotators": [EntryPoint("crowd", f"{__name__}:Crowd", "nlp_al.annotators")],
    }
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.attr])
    for module in (strategies, tasks, annotation):
        monkeypatch.setattr(module, "entry_points", lambda group: points[group])


def test_a_strategy():
    assert strategies.make_strategy("coin", sides=6).sides == 6
    with pytest.raises(ValueError, match="no parameter 'edges'"):
        strategies.make_strategy("coin", edges=1)
    assert {"name": "coin", "family": "theirs"}.items() <= next(
        r for r in strategy_rows() if r["name"] == "coin"
    ).items()


def test_a_task():
    assert isinstance(tasks.make_task("reviews", {"max_length": 9}), Reviews)


def test_an_annotator():
    assert annotation.make_annotator("crowd", {"noise": 0.5}).noise == 0.5
