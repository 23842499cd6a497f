"""Whole runs of the ported methods on every shape that they serve, and the strategies of a comparison side by side."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines

from nlp_al.config import read_config
from nlp_al.evaluation import SPLITS, aubc, final_metric, learning_curve, read_run
from nlp_al.learner import ActiveLearner, run_all
from nlp_al.report import read_study, strategy_table

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "single": ("text-classification", {}),
    "multi": ("text-classification", {"multi_label": True}),
    "sequence": ("token-classification", {}),
    "ranking": ("response-selection", {}),
}
FROZEN: dict[str, dict[str, Any]] = {
    "mnlp": {},
    "suggestive_annotation": {},
    "layer_qbc": {},
    "instance_hybrid": {},
    "mc_token_map": {},
    "neural_cal": {"base": "bald", "gamma": 0.0},
    "two_stage_us": {},
    "subpool": {"base": "badge", "ratio": 3},
    "balent": {},
    "typiclust": {"min_cluster_size": 1},
    "by_budget": {"per_class": 4},
    "fisher_kernel": {},
    "isal": {},
    "ceal": {},
}
TUNED = {"mode": "full", "min_steps": 6, "num_train_epochs": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def rows_of(shape: str, count: int, seed: int = 0, prefix: str = "t") -> list[dict[str, Any]]:
    if shape == "sequence":
        return some_sentences(count, seed, prefix)
    if shape == "ranking":
        return some_dialogues(count, seed, prefix)
    rows = some_rows(count, seed, prefix)
    if shape == "multi":
        for at, row in enumerate(rows):
            row["label"] = [row["label"]] if at % 3 else ["food", "money"]
    return rows


def config_of(folder: Path, model: str, shape: str, strategy: Any, **sections: Any) -> Any:
    task, options = SHAPES[shape]
    sections = {"loop": {"initial": 10, "batch": 3, "rounds": 1}, **sections}
    values = values_of(
        folder, model, rows_of(shape, 36), 0, task=task, task_options=options, strategy=strategy, **sections
    )
    for split in ("validation", "test"):
        values["dataset"]["data_files"][split] = write_lines(folder / f"{split}.jsonl", rows_of(shape, 9, 5, split[0]))
    return read_config(values, folder)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_method_runs_on_every_shape(shape, tmp_path, model) -> None:
    configs = [
        config_of(tmp_path / name, model, shape, {"name": name, **parameters}) for name, parameters in FROZEN.items()
    ]
    configs.append(config_of(tmp_path / "snapshot", model, shape, "snapshot", training=TUNED, sampler={"passes": 3}))
    for config in configs:
        ActiveLearner(config).run()
        asked = read_lines(Path(config.run_dir) / "queries.jsonl")
        name = config.strategy_name
        assert len({line["id"] for line in asked}) == len(asked)
        assert [line["round"] for line in asked if line["round"]] == [1] * 3 or name == "neural_cal", name
        assert {line["strategy"] for line in asked} == {"initial", name}
        assert len(read_lines(Path(config.run_dir) / "metrics.jsonl")) == 2


def mean_of(base: str) -> dict[str, Any]:
    """What a comparative survey (Zhan et al. 2022, arXiv 2203.13450) calls a strategy with dropout."""
    return {"name": "committee_mean", "base": base}


COMPARED: list[Any] = [
    "random",
    *("least_confidence", "margin", "entropy"),
    *map(mean_of, ("least_confidence", "margin", "entropy")),
    *("variation_ratio", "mean_std", "bald"),
    *("embedding_kmeans", "coreset", {"name": "coreset", "pca": 8}),
    *("badge", "ceal", "waal", "adv_bim", "adv_deepfool"),
]


def test_a_comparison_tells_seeds_budget_time_area_and_end_of_each_strategy(tmp_path, model) -> None:
    loop, configs = {"initial": 10, "batch": 4, "rounds": 2}, []
    for seed in (0, 1):
        for at, strategy in enumerate(COMPARED):
            made = config_of(tmp_path / "one", model, "single", strategy, loop={**loop, "seed": seed})
            configs.append(replace(made, run_dir=str(tmp_path / f"{at}-{seed}")))
    run_all(configs)
    study = read_study([Path(config.run_dir) for config in configs], None)
    head, rows = strategy_table(study)
    assert head[:6] == ["strategy", "seeds", "labelled examples", "final accuracy", "AUBC", "seconds a round"]
    assert len(rows) == len(COMPARED)
    for row, cells in zip(study.rows, rows, strict=True):
        assert cells[1:3] == ["2", "18"]
        assert float(cells[5]) >= 0
        curves = [learning_curve(read_run(run.path), "accuracy", SPLITS[0]) for run in row.runs]
        assert [list(curve.x) for curve in curves] == [[10, 14, 18]] * 2
        assert row.areas.tolist() == [aubc(curve) for curve in curves]
        ends = [final_metric(curve) for curve in curves]
        assert cells[3].startswith(f"{sum(ends) / 2:.3f} ± ")
        assert cells[4].startswith(f"{row.areas.mean():.3f} ± ")
