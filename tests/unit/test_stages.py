"""Several stages: what is collected of which examples, and what the batch is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from nlp_al.config import Stage
from nlp_al.query import choose_batch
from nlp_al.signals import Signals
from nlp_al.signals.merging import merge
from nlp_al.strategies import make_strategy
from nlp_al.testing import synthetic_signals
from nlp_al.view import View

WHOLE = synthetic_signals("single", 40)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Model:
    """Makes fields of synthetic signals, and notes of whom."""

    def __init__(self) -> None:
        self.made: list[tuple[str, tuple[int, ...]]] = []

    def __call__(self, examples: Sequence[Any], needs: set[str], in_shards: bool) -> Signals:
        self.made += [(name, tuple(examples)) for name in sorted(needs)]
        taken = WHOLE.take(torch.tensor(list(examples), dtype=torch.int64))
        return merge([Signals(count=len(examples)), *(Signals(**only(taken, name)) for name in needs)])


def only(signals: Signals, name: str) -> dict[str, Any]:
    decided = {"offsets": signals.offsets} if name in ("probs", "passes", "sampled") else {}
    return {name: getattr(signals, name), **decided}


def view(model: Model, cost: torch.Tensor | None = None, labelled: Sequence[int] = ()) -> View:
    return View(list(range(40)), labelled, Signals(count=40, cost=cost), model, False)  # type: ignore[arg-type]


def most_wanted(name: str, among: Sequence[int], count: int) -> list[int]:
    left = torch.tensor(sorted(among))
    return left[make_strategy(name).select(WHOLE.take(left), count, seeded()).indices].tolist()


def test_a_later_stage_is_made_only_for_what_is_left_and_nothing_twice() -> None:
    model = Model()
    stages = [Stage("entropy", keep=12), Stage("margin", keep=9), Stage("coreset")]
    choice = choose_batch(view(model, labelled=(3, 5)), stages, 4, 0.0, lambda _: seeded())
    kept = sorted(most_wanted("margin", most_wanted("entropy", range(40), 12), 9))
    assert model.made == [("probs", tuple(range(40))), ("embeddings", tuple(kept)), ("embeddings", (3, 5))]
    assert choice is not None
    assert choice.positions.tolist() == kept
    assert choice.seen.embeddings is not None
    assert torch.equal(choice.seen.embeddings, WHOLE.embeddings[kept])  # type: ignore[index]
    assert set(choice.chosen.indices.tolist()) <= set(kept)
    assert choice.chosen.indices.numel() == 4


def test_scores_are_those_of_the_whole_pool() -> None:
    choice = choose_batch(view(Model()), [Stage("random", keep=10), Stage("entropy")], 3, 0.0, lambda _: seeded())
    assert choice is not None
    scores = choice.chosen.scores
    assert scores is not None
    assert torch.isfinite(scores).nonzero().flatten().tolist() == choice.positions.tolist()
    best = sorted(choice.positions.tolist(), key=lambda at: -float(scores[at]))[:3]
    assert choice.chosen.indices.tolist() == best == most_wanted("entropy", choice.positions.tolist(), 3)


def test_what_is_held_out_is_nobody_elses() -> None:
    choice = choose_batch(view(Model()), [Stage("entropy", keep=20), Stage("margin")], 10, 0.3, lambda _: seeded())
    assert choice is not None
    held, chosen = choice.held.indices.tolist(), choice.chosen.indices.tolist()
    assert (len(held), len(chosen)) == (3, 7)
    assert not set(held) & set(chosen)
    assert not set(held) & set(choice.positions.tolist())
    left = set(range(40)) - set(held)
    assert chosen == most_wanted("margin", most_wanted("entropy", sorted(left), 20), 7)


def test_only_the_last_stage_looks_at_what_an_example_costs() -> None:
    cost = torch.full((40,), 3.0)
    choice = choose_batch(
        view(Model(), cost), [Stage("entropy", keep=20), Stage("margin")], 13, 0.0, lambda _: seeded()
    )
    assert choice is not None
    assert len(choice.positions) == 20
    assert choice.chosen.indices.numel() == 4


@pytest.mark.parametrize("keep", [40, 60])
def test_a_stage_that_keeps_all_changes_nothing(keep: int) -> None:
    plain = choose_batch(view(Model()), [Stage("margin")], 5, 0.0, lambda _: seeded())
    staged = choose_batch(view(Model()), [Stage("entropy", keep=keep), Stage("margin")], 5, 0.0, lambda _: seeded())
    assert plain is not None
    assert staged is not None
    assert plain.chosen.indices.tolist() == staged.chosen.indices.tolist()
