"""The pages of the strategies: up to date, and every parameter with its meaning."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from nlp_al.strategies import STRATEGIES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("strategy_pages", DOCS / "strategies.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_up_to_date(script: ModuleType) -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "strategies").glob("*.md")}
    assert there == script.pages(), "run: python docs/strategies.py"


@pytest.mark.parametrize("name", STRATEGIES)
def test_says_all(script: ModuleType, name: str) -> None:
    told = script.sections(STRATEGIES[name])
    assert all(told.get(heading) for heading in script.HEADINGS)
    assert [key for key, meaning in script.parameters(STRATEGIES[name]).items() if not meaning] == []


def test_reads_a_docstring(script: ModuleType) -> None:
    @dataclass(frozen=True)
    class Above:
        """What it shares.

        agg: `mean` or
        `max`. share: of what.
        """

        agg: str = "mean"
        share: float | None = None

    @dataclass(frozen=True)
    class Some(Above):
        """Scores to the power of beta: more or less.

        Of many, some. beta:
        the `beta` of old: a weight. share: how much.
        Use when: needed | wanted. Needs: probs,
        and more. Cost: none. Reference: nobody 2020.
        """

        beta: float = 1.0

    text = script.page("some", Some, {"family": "hybrid", "shapes": ["single", "ranking"]})
    assert script.sections(Some)["Needs"] == "probs, and more."
    assert script.parameters(Some) == {
        "agg": "`mean` or `max`.",
        "share": "how much.",
        "beta": "the `beta` of old: a weight.",
    }
    assert "Scores to the power of beta: more or less.\n\nOf many, some.\n" in text
    assert "| `beta` | `1.0` | the `beta` of old: a weight. |" in text
    assert "Serves texts with one label and contexts with one response to choose." in text
    assert "strategy:\n  name: some\n  agg: mean\n  share: null\n  beta: 1.0\n" in text
