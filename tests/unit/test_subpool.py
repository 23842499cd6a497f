"""`subpool`: a strategy on random parts of the pool, and what is said of it over several sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_report import write_run

from nlp_al.report import audits, compare, read_study
from nlp_al.strategies import make_strategy
from nlp_al.testing import check_strategy, synthetic_signals


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_any_base_keeps_the_promises() -> None:
    check_strategy(make_strategy("subpool", base="badge", ratio=1.5), seed=1)


def test_the_base_chooses_among_so_many_batches() -> None:
    signals = synthetic_signals("single", 200)
    whole = make_strategy("margin").select(signals, 200, seeded()).indices.tolist()
    ranks = []
    for seed in range(40):
        found = make_strategy("subpool", base="margin", ratio=4).select(signals, 5, seeded(seed))
        assert found.scores is not None
        assert int(found.scores.isfinite().sum()) == 20
        ranks.append(whole.index(int(found.indices[0])))
    # The best of 20 out of 200: (200 + 1) / (20 + 1) − 1.
    assert abs(np.mean(ranks) - 8.57) < 4
    large = make_strategy("subpool", base="margin", ratio=1000).select(signals, 5, seeded())
    assert large.indices.tolist() == whole[:5]
    with pytest.raises(ValueError, match=r"ratio is 0\.5"):
        make_strategy("subpool", ratio=0.5)


def test_at_a_ratio_of_one_everybody_is_random() -> None:
    signals = synthetic_signals("single", 30)
    counts = torch.zeros(30)
    for seed in range(600):
        counts[make_strategy("subpool", base="margin", ratio=1).select(signals, 3, seeded(seed)).indices] += 1
    assert float(((counts - 60).square() / 60).sum()) < 60  # χ² of 29 degrees: above with a chance of .0006


def runs(root: Path, by_ratio: dict[int, list[float]], base: str = "margin", draw: int = 0) -> list[Path]:
    rng, seeds, noise = np.random.default_rng(draw), 8, 0.01

    def one(name: str, strategy: Any, values: list[float], seed: int) -> Path:
        return write_run(root / name, strategy, seed, np.add(values, rng.normal(0, noise, len(values))).tolist())

    made = [one("random", "random", [0.5, 0.7, 0.8], seed) for seed in range(seeds)]
    for ratio, values in by_ratio.items():
        strategy = {"name": "subpool", "base": base, "ratio": ratio}
        made += [one(f"r{ratio}", strategy, values, seed) for seed in range(seeds)]
    return made


def test_a_strategy_that_falls_behind_at_some_sizes_is_fragile(tmp_path) -> None:
    made = runs(tmp_path, {2: [0.5, 0.75, 0.85], 8: [0.5, 0.7, 0.8], 64: [0.5, 0.6, 0.7], 16: [0.5, 0.6, 0.75]})
    (said,) = audits(read_study(made, None))
    assert said.startswith("margin: AUBC against random's from -0.0")
    assert "over 4 pool ratios" in said
    assert said.endswith("fragile, for it falls behind random at 16, 64.")
    assert said in compare(made)


def test_random_is_not_fragile(tmp_path) -> None:
    flagged = 0
    for trial in range(20):
        same = {ratio: [0.5, 0.7, 0.8] for ratio in (2, 4, 8, 16, 32, 64)}
        (said,) = audits(read_study(runs(tmp_path / str(trial), same, "random", trial), None))
        flagged += "fragile" in said
    assert flagged <= 2


def test_a_single_size_says_nothing(tmp_path) -> None:
    assert audits(read_study(runs(tmp_path, {8: [0.5, 0.6, 0.7]}), None)) == []
