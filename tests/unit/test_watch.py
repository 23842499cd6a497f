"""Stopping rules in a run: what they are told, when the run ends, and that it ends there again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of, write_lines
from sklearn.metrics import cohen_kappa_score

from nlp_al import scores
from nlp_al.annotation import ANNOTATORS, Annotator, Question
from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import HOLDOUT, Answer
from nlp_al.stability import Predictions
from nlp_al.status import status_text
from nlp_al.stopping import STOPPING, Observation, Rule, first_stop, make_rule, observations
from nlp_al.watch import Watch

ROUNDS = 6
EASY = {"name": "kappa_average", "threshold": 0.3, "window": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def values(tmp_path, model):
    def make(rows=None, folder="one", **sections: Any) -> dict[str, Any]:
        given = {"loop": {"rounds": ROUNDS}, **sections}
        return values_of(tmp_path / folder, model, rows or some_rows(200), 0, **given)

    return make


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def run(given: dict[str, Any]) -> Path:
    config = read_config(given, Path("/"))
    ActiveLearner(config).run()
    return Path(config.run_dir)


def asked(run_dir: Path) -> list[str]:
    return [line["id"] for line in read_lines(run_dir / "queries.jsonl")]


def observed(run_dir: Path) -> list[dict[str, Any]]:
    return [line["stop"] for line in read_lines(run_dir / "metrics.jsonl")]


def stop_set(run_dir: Path) -> list[str]:
    return json.loads((run_dir / "stop_set.json").read_text())["ids"]


# What is observed

TASKS: dict[str, dict[str, Any]] = {
    "single": {"rows": some_rows(120)},
    "multi": {
        "rows": [{**row, "label": sorted({row["label"], "food"})} for row in some_rows(120)],
        "task_options": {"multi_label": True, "max_length": 32},
    },
    "sequence": {"rows": some_sentences(120), "task": "token-classification", "strategy": "entropy"},
    "constrained": {
        "rows": some_sentences(120),
        "task": "token-classification",
        "task_options": {"constrained": True},
        "strategy": "entropy",
    },
    "ranking": {"rows": some_dialogues(120), "task": "response-selection"},
}


def parts(task: Any, label: Any) -> list[Any]:
    """A prediction or label, decision by decision, by name."""
    if task.shape == "ranking":
        return [label[0] if isinstance(label, list) else int(label)]
    if task.shape == "multi":
        return [name in label for name in task.labels]
    return list(label) if isinstance(label, list) else [label]


@pytest.mark.parametrize("kind", TASKS)
def test_what_is_observed_is_what_models_say_by_name(values, monkeypatch, kind):
    """Beside the run, each model is asked by the task's own names, and compared with the one before in plain loops."""
    given = values(**TASKS[kind], stop={"log": True}, loop={"rounds": 4, "holdout": 0.2})
    given["task_options"] = TASKS[kind].get("task_options", {})
    monkeypatch.setattr(scores, "RESAMPLES", 2)
    said: list[dict[str, Any]] = []
    before: dict[int, dict[str, Any]] = {}
    learner = ActiveLearner(read_config(given, Path("/")))
    task, pool = learner.task, learner.pool

    def labels(names: Sequence[str]) -> dict[str, Any]:
        examples = [pool[name] for name in names]
        found = scores.predict(learner.fit.model, None, task, examples, learner._generator("x"))
        return {name: parts(task, label) for name, label in zip(names, found, strict=True)}

    observe, ask = Watch.observe, Watch.asked

    def observing(self, *arguments):
        said.append(labels([example.id for example in pool.examples]) | {"left": {e.id for e in pool.unlabelled()}})
        return observe(self, *arguments)

    def asking(self, batch, *arguments):
        if learner.fit.model is not None:
            before[batch[0].round] = labels([query.id for query in batch])
        return ask(self, batch, *arguments)

    monkeypatch.setattr(Watch, "observe", observing)
    monkeypatch.setattr(Watch, "asked", asking)
    learner.run()
    run_dir = Path(given["run_dir"])
    found, apart = observed(run_dir), stop_set(run_dir)
    assert "kappa" not in found[0]
    assert "accuracy" not in found[0]
    gold = {line["id"]: parts(task, line["label"]) for line in read_lines(run_dir / "labels.jsonl")}
    queries = read_lines(run_dir / "queries.jsonl")
    for at in range(1, 5):
        first, later = said[at - 1], said[at]
        columns = len(task.labels) if task.shape == "multi" else 1
        expected = []
        for column in range(columns):
            one, two = (
                [str(part) for name in apart for part in side[name][column if columns > 1 else 0 :: columns]]
                for side in (first, later)
            )
            expected.append(1.0 if len({*one, *two}) == 1 else cohen_kappa_score(one, two))
        assert found[at]["kappa"] == pytest.approx(expected, abs=1e-9)
        both = [name for name in first["left"] & later["left"] if len(first[name]) and kind != "ranking"]
        if kind == "ranking":
            both = [name for name in first["left"] & later["left"] if task.askable(pool[name])]
        pairs = [pair for name in both for pair in zip(first[name], later[name], strict=True)]
        assert found[at]["changed"] == pytest.approx(sum(a != b for a, b in pairs) / len(pairs), abs=1e-9)
        batch = [q["id"] for q in queries if q["round"] == at and q["strategy"] != HOLDOUT]
        assert 0 < len(batch) < sum(q["round"] == at for q in queries)
        right = [a == b for name in batch for a, b in zip(before[at][name], gold[name], strict=True)]
        assert found[at]["accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-9)
        assert 0 < found[at]["mean_entropy"] < found[at]["max_entropy"] <= 1
        assert found[at]["max_doubt"] > 0
    assert any(one.get("changed") for one in found)  # else all of this would hold of models that never move


def test_a_run_without_a_rule_writes_nothing_of_it(values):
    run_dir = run(values(loop={"rounds": 1}))
    assert not {"stop_set.json", "stopping"} & {path.name for path in run_dir.iterdir()}
    assert not any("stop" in line for line in read_lines(run_dir / "metrics.jsonl"))


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        (EASY, {"kappa"}),
        ("overall_uncertainty", {"mean_entropy", "max_entropy", "max_doubt"}),
        ({"name": "max_uncertainty", "by": "confidence"}, {"mean_entropy", "max_entropy", "max_doubt"}),
        ("classification_change", {"changed"}),
        ("selected_accuracy", {"accuracy"}),
        ({"name": "target", "threshold": 0.99}, set()),
        ({"all": [EASY, "selected_accuracy"]}, {"kappa", "accuracy"}),
    ],
)
def test_only_what_the_rule_reads_is_observed(values, monkeypatch, rule, fields):
    monkeypatch.setattr(scores, "RESAMPLES", 2)
    holdout = 0.2 if "target" in str(rule) else 0.0
    run_dir = run(values(stop={"rule": rule}, loop={"rounds": 2, "holdout": holdout}))
    assert set(observed(run_dir)[1]) == {*fields, "decision"}
    assert set(observed(run_dir)[1]["decision"]) == {"stop", "value", "reason"}
    assert (run_dir / "stop_set.json").exists() == ("kappa" in fields)


def test_what_a_filter_left_out_is_kept_until_the_round_is_done(values):
    """It is on the disk before the batch is; a batch that is chosen ahead has its own."""
    given = values(stop={"rule": "noise_exit"}, strategy="neural_cal", sampler="heads")
    learner = ActiveLearner(read_config(given, Path("/")))
    with learner.opened():
        watch, store = learner.watch, learner.store
        watch.filtered(1, 0.25, store)
        watch.filtered(2, None, store)
        again = Watch(learner.config, learner.bench, learner.pool)
        assert again.observe(1, 0, None, seeded(), store) == {"abstained": 0.25}
        assert again.observe(2, 0, None, seeded(), store) == again.observe(3, 0, None, seeded(), store) == {}
        watch.done(1, store)
        assert [path.name for path in (store.path / "stopping").iterdir()] == ["filter-2.json"]
        watch.filtered(3, 0.5, None)  # of another process


# The stop set


def test_the_stop_set_is_a_tenth_at_most_and_never_asked(values):
    run_dir = run(values(stop={"log": True}, loop={"rounds": 3}))
    names = stop_set(run_dir)
    assert len(names) == len(set(names)) == 20
    everything = run(values(folder="all", stop={"log": True}, loop={"initial": 20, "batch": 100, "rounds": 5}))
    assert len(asked(everything)) == 180
    assert not set(stop_set(everything)) & set(asked(everything))
    small = run(values(folder="small", stop={"log": True, "size": 7}, loop={"rounds": 0}))
    assert len(stop_set(small)) == 7
    other = run(values(folder="other", stop={"log": True}, loop={"rounds": 0, "seed": 1}))
    assert set(stop_set(other)) != set(names)


def test_a_pool_of_nine_has_no_stop_set(values):
    with pytest.raises(
        UserError, match=r"stop\.rule needs a stop set, at most a tenth of what may be asked, and only 9"
    ):
        run(values(some_rows(9), stop={"rule": EASY}, loop={"initial": 5, "rounds": 1}))


def test_rows_that_come_later_do_not_join_it_and_those_that_go_leave_it(values):
    given = values(stop={"rule": {**EASY, "threshold": 1.0}}, loop={"rounds": 2})
    first = stop_set(run(given))
    rows = [row for row in some_rows(200) if row["id"] != first[0]] + some_rows(100, seed=1, prefix="new")
    run_dir = run(values(rows, stop={"rule": {**EASY, "threshold": 1.0}}, loop={"rounds": 4}))
    assert stop_set(run_dir) == first
    assert len(observed(run_dir)) == 5
    assert all("kappa" in one for one in observed(run_dir)[1:])


# Ending


@pytest.fixture
def stopped(values):
    """A run that a rule ended early, and its config."""
    given = values(stop={"rule": EASY})
    run_dir = run(given)
    assert 1 < len(observed(run_dir)) < ROUNDS + 1
    return run_dir, given


def contents(run_dir: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


def test_a_rule_ends_the_run_and_says_why(stopped, capsys):
    run_dir, given = stopped
    last = observed(run_dir)[-1]["decision"]
    assert last["stop"]
    assert [one["decision"]["stop"] for one in observed(run_dir)[:-1]] == [False] * (len(observed(run_dir)) - 1)
    before = contents(run_dir)
    run(given)  # the same command again
    told = capsys.readouterr().out
    assert contents(run_dir) == before
    round_ = len(observed(run_dir)) - 1
    assert f"Stopped after round {round_} by {last['reason']}. Change stop.rule, or take it out, to go on." in told
    assert "kappa_average: the mean kappa of the last 2 rounds is" in told
    assert "The stop set, 20 of 200 rows drawn at random, is never asked." in told
    assert f"next: nothing: stopped after round {round_} by kappa_average" in status_text(run_dir)


def test_a_stopped_run_has_its_final_model_next(stopped):
    run_dir, _ = stopped
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("final: none", "final: full"))
    assert status_text(run_dir).endswith(f"next: nlp-al finish {run_dir}")
    *_, last = read_lines(run_dir / "metrics.jsonl")
    (run_dir / "final.json").write_text(json.dumps({name: last[name] for name in ("round", "labelled", "answers")}))
    assert status_text(run_dir).endswith(f"next: nothing: the final model is in {run_dir / 'model'}")


def test_more_rounds_do_not_go_on_but_another_rule_or_none_does(stopped, values):
    run_dir, _ = stopped
    size = len(observed(run_dir))
    run(values(stop={"rule": EASY}, loop={"rounds": ROUNDS + 3}))
    assert len(observed(run_dir)) == size
    run(values(stop={"rule": {**EASY, "threshold": 1.0}}))
    assert len(read_lines(run_dir / "metrics.jsonl")) == ROUNDS + 1
    assert not set(stop_set(run_dir)) & set(asked(run_dir))
    run(values(stop={"rule": EASY}, loop={"rounds": ROUNDS + 1}))  # that rule had stopped it long before
    assert len(read_lines(run_dir / "metrics.jsonl")) == ROUNDS + 1
    run(values(loop={"rounds": ROUNDS + 1}))
    lines = read_lines(run_dir / "metrics.jsonl")
    assert len(lines) == ROUNDS + 2
    assert "stop" not in lines[-1]


def test_a_run_in_two_parts_observes_what_the_run_in_one_does(values):
    stop = {"log": True, "rule": {**EASY, "threshold": 1.0}}
    whole = run(values(folder="whole", stop=stop, loop={"rounds": 4}))
    for rounds in (0, 1, 3, 4):
        parts = run(values(folder="parts", stop=stop, loop={"rounds": rounds}))
    assert observed(whole) == observed(parts)
    for name in ("queries.jsonl", "stop_set.json", "stopping/pool-4.safetensors", "stopping/stop_set-4.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert {path.name for path in (whole / "stopping").iterdir()} == {"pool-4.safetensors", "stop_set-4.safetensors"}


@pytest.mark.parametrize("name", ["kappa_average", "selected_accuracy", "classification_change"])
def test_where_the_log_says_that_a_rule_stops_a_run_with_the_rule_does(values, name):
    # The stop set is put apart where all rules are logged; a rule that needs none asks the same beside one that does.
    parameters = {"kappa_average": EASY, "selected_accuracy": {"threshold": 0.6}}.get(name, {"threshold": 0.3})
    rule = {"name": name, **{key: value for key, value in parameters.items() if key != "name"}}
    never = {"name": "kappa_average", "threshold": 1.0, "window": 50}
    log = run(values(folder="log", stop={"log": True}))
    seen = observations(read_lines(log / "metrics.jsonl"), "accuracy", 5)
    found, said = first_stop(make_rule(**rule), seen)
    assert 0 < found.round < ROUNDS
    real = run(values(folder="real", stop={"rule": {"any": [rule, never]}}))
    assert len(observed(real)) == found.round + 1
    assert observed(real)[-1]["decision"]["reason"] == said.reason
    assert asked(log)[: len(asked(real))] == asked(real)


def test_a_model_that_has_seen_the_batch_does_not_judge_it(values, monkeypatch):
    """A run that breaks off between fit and record has the newer model on the disk, and must not ask that one."""
    training = {"mode": "full", "num_train_epochs": 3, "min_steps": 10, "learning_rate": 1e-3}
    stop = {"rule": {"all": ["selected_accuracy", EASY, {"name": "classification_change"}]}}
    sections = {"training": training, "stop": stop, "loop": {"rounds": 2}}
    whole = run(values(some_rows(60), folder="whole", **sections))
    real, left = ActiveLearner._record, [2]

    def record(self, *arguments):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(ActiveLearner, "_record", record)
    with pytest.raises(KeyboardInterrupt):
        run(values(some_rows(60), folder="broken", **sections))
    monkeypatch.undo()
    broken = run(values(some_rows(60), folder="broken", **sections))
    assert observed(broken) == observed(whole)
    assert "accuracy" in observed(broken)[1]


def test_while_there_is_one_class_nothing_is_compared(values):
    rows = [{**row, "label": "a" if at else "b"} for at, row in enumerate(some_rows(60))]
    run_dir = run(values(rows, strategy="random", stop={"log": True}, loop={"initial": 5, "batch": 2, "rounds": 2}))
    assert observed(run_dir) == [{}, {}, {}]


def test_a_round_that_asks_nothing_is_no_sign_of_stability(values):
    """Every text costs 25 words: rounds 1 and 2 can pay for none, and their models are that of round 0."""
    rows = [{**row, "text": " ".join((row["text"].split() * 9)[:25])} for row in some_rows(60)]
    rule = {"name": "kappa_average", "window": 1}
    loop = {"unit": "words", "initial": 150, "batch": 10, "rounds": 5}
    run_dir = run(values(rows, strategy="random", stop={"rule": rule}, loop=loop))
    assert [one.get("kappa") for one in observed(run_dir)][:3] == [None, [1.0], [1.0]]
    assert not any(one["decision"]["stop"] for one in observed(run_dir)[:3])


# People


@dataclass
class Slow(Annotator):
    """One answer at each pull, in the order of asking."""

    ahead: int | None = field(default=None)
    seconds_between_pulls: ClassVar[float] = 0.0
    gold: ClassVar[dict[str, Any]] = {row["id"]: row["label"] for row in some_rows(200)}

    def __post_init__(self) -> None:
        self.asked: dict[str, Question] = {}
        self.given: list[Answer] = []

    def ahead_of(self, batch: int) -> int | None:
        return self.ahead

    def push(self, questions: Sequence[Question]) -> None:
        self.asked |= {question.example.id: question for question in questions}

    def pull(self) -> list[Answer]:
        known = {answer.id for answer in self.given}
        waiting = sorted((q.place, name) for name, q in self.asked.items() if name not in known)
        self.given += [Answer(name, self.gold[name], "ann") for _, name in waiting[:1]]
        return list(self.given)


def test_a_batch_that_was_published_is_waited_for_and_none_behind_it(values, monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "slow", Slow)
    bare = [{**row, "label": None} for row in some_rows(200)]
    labels = ["food", "money", "sport"]
    given = values(bare, labels=labels, annotator={"name": "slow", "ahead": 3}, stop={"rule": EASY})
    run_dir = run(given)
    stops = [one["decision"]["stop"] for one in observed(run_dir)]
    first = stops.index(True)
    assert first + 2 == len(stops) < ROUNDS + 1
    assert len(asked(run_dir)) == 10 + 5 * (first + 1) == len(read_lines(run_dir / "labels.jsonl"))
    before = contents(run_dir)
    run(given)
    assert contents(run_dir) == before


@dataclass(frozen=True)
class Once(Rule):
    """Stops after round 1, and would not after any other."""

    name = "once"
    stops = "at least"
    threshold: float = 1.0
    measure = "one of round 1"

    def value(self, seen: Sequence[Observation]) -> float | None:
        return float(seen[-1].round == 1)


def test_what_the_rule_says_of_the_batch_that_was_waited_for_changes_nothing(values, monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "slow", Slow)
    monkeypatch.setitem(STOPPING, "once", Once)
    bare = [{**row, "label": None} for row in some_rows(200)]
    annotator = {"name": "slow", "ahead": 1}
    given = values(bare, labels=["food", "money", "sport"], annotator=annotator, stop={"rule": "once"})
    for _ in range(2):
        assert [one["decision"]["stop"] for one in observed(run(given))] == [False, True, False]


def test_what_is_labelled_unasked_leaves_the_stop_set(values, monkeypatch):
    class Eager(Slow):
        def pull(self) -> list[Answer]:
            extra = [Answer(name, self.gold[name], "ann") for name in stop_set(self.setting.run_dir)[:5]]
            return [*super().pull(), *extra]

    monkeypatch.setitem(ANNOTATORS, "eager", Eager)
    bare = [{**row, "label": None} for row in some_rows(200)]
    rule = {**EASY, "threshold": 1.0}
    sections = {"labels": ["food", "money", "sport"], "annotator": "eager", "stop": {"rule": rule}}
    run_dir = run(values(bare, **sections, loop={"rounds": 2}))
    kept = Predictions.from_file(str(run_dir / "stopping/stop_set-2.safetensors"))
    assert len(kept.ids) == 15


def test_changed_labels_begin_the_comparison_anew(values, monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "slow", Slow)
    bare = [{**row, "label": None} for row in some_rows(200)]
    rule = {**EASY, "threshold": 1.0}
    labels = ["food", "money", "sport"]
    sections = {"annotator": "slow", "stop": {"rule": rule}}
    run(values(bare, labels=labels, **sections, loop={"rounds": 1}))
    run_dir = run(values(bare, labels=["art", *labels], **sections, loop={"rounds": 3}))
    assert ["kappa" in one for one in observed(run_dir)] == [False, True, False, True]


# What is refused where only loading tells


def test_a_rule_on_scores_needs_scores(values, tmp_path):
    rule = {"rule": {"name": "target", "threshold": 0.9}}
    folder = tmp_path / "data"
    folder.mkdir()
    write_lines(folder / "train.jsonl", some_rows(60))
    given = {**values(), "dataset": {"path": str(folder)}, "stop": rule}
    with pytest.raises(
        UserError, match=r"stop\.rule is target, which reads scores of validation or holdout, and there"
    ):
        run(given)
    write_lines(folder / "validation.jsonl", some_rows(30, seed=5, prefix="v"))
    run_dir = run({**given, "run_dir": str(tmp_path / "second"), "loop": {"initial": 10, "batch": 5, "rounds": 1}})
    assert (
        observed(run_dir)[0]["decision"]["value"] == read_lines(run_dir / "metrics.jsonl")[0]["validation"]["accuracy"]
    )
