"""`by_budget`: which strategy asks, by how many labels there are."""

from dataclasses import replace

import pytest
import torch

from nlp_al.signals import Signals
from nlp_al.strategies import Selection, make_strategy
from nlp_al.testing import check_strategy, synthetic_signals


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def select(signals: Signals, **parameters: object) -> Selection:
    return make_strategy("by_budget", **parameters).select(signals, 5, seeded())


@pytest.mark.parametrize(
    ("shape", "classes"),
    [("single", 4), ("multi", 3), ("sequence", 4), ("ranking", 5)],
)
def test_ten_labels_a_class_are_enough(shape: str, classes: int) -> None:
    for labelled, name in ((10 * classes - 1, "typiclust"), (10 * classes, "margin")):
        signals = synthetic_signals(shape, 60, labelled=labelled)
        found, alone = select(signals), make_strategy(name).select(signals, 5, seeded())
        assert found.indices.tolist() == alone.indices.tolist()
        assert found.note.startswith(f"{name} asks")
        assert (found.scores is None) == (alone.scores is None)


def test_nothing_labelled_is_few() -> None:
    signals = replace(synthetic_signals("single", 30), labelled=None)
    assert select(signals).note == "typiclust asks while labels are few"


@pytest.mark.parametrize(
    "parameters",
    [
        {"low": {"name": "probcover", "delta": 0.5}, "high": "badge"},
        {"low": "random", "high": "entropy", "per_class": 1},
    ],
)
def test_other_strategies_keep_the_promises(parameters: dict[str, object]) -> None:
    check_strategy(make_strategy("by_budget", **parameters), seed=1)


def test_it_needs_what_both_need() -> None:
    made = make_strategy("by_budget", low="alps", high={"name": "class_balanced", "base": "isal"})
    assert made.needs == {"probs", "gradients", *make_strategy("alps").needs}
    assert made.needs_labelled == {"targets", "probs", "gradients"}
    assert made.needs_validation == {"probs", "gradients", "targets"}
    assert made.shapes == ("single", "multi", "sequence")
    assert not made.nested
    assert made.group == "seeded"
    with pytest.raises(ValueError, match="high is 'margn': There is no strategy"):
        make_strategy("by_budget", high="margn")
    with pytest.raises(ValueError, match="per_class is 0"):
        make_strategy("by_budget", per_class=0)
