"""The round, from a config to a run directory: what is asked, what is counted, and how a run goes on or is refused."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers import read_lines, some_rows, some_sentences, tiny_model, values_of, write_lines
from ruamel.yaml import YAML
from safetensors.torch import load_file

from nlp_al import scores
from nlp_al.annotation import ANNOTATORS, Annotator, Question
from nlp_al.config import read_config
from nlp_al.errors import RunError, UserError
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer
from nlp_al.store import RunDirectory
from nlp_al.training import fit

LABELS = ["food", "money", "sport"]
QUICK = {"learning_rate": 1e-3, "num_train_epochs": 1, "min_steps": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def values(tmp_path, model):
    """The values of a small run; more sections as keywords."""

    def make(rows=None, test=0, folder="one", **sections: Any) -> dict[str, Any]:
        return values_of(tmp_path / folder, model, rows or some_rows(60), test, **sections)

    return make


def run(values: dict[str, Any]) -> Path:
    """Runs to the end; the run directory."""
    config = read_config(values, Path("/"))
    ActiveLearner(config).run()
    return Path(config.run_dir)


def asked(run_dir: Path, round_: int | None = None) -> list[str]:
    return [line["id"] for line in read_lines(run_dir / "queries.jsonl") if round_ in (None, line["round"])]


def strategies(run_dir: Path) -> list[str]:
    """The strategy of each round, as the metrics tell it."""
    return [line["strategy"] for line in read_lines(run_dir / "metrics.jsonl")]


def of_metrics(run_dir: Path, name: str) -> list[Any]:
    return [line[name] for line in read_lines(run_dir / "metrics.jsonl")]


def answers(run_dir: Path) -> dict[str, Any]:
    return {line["id"]: line["label"] for line in read_lines(run_dir / "labels.jsonl")}


def contents(run_dir: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}


# A whole run

TRAINED = {
    "frozen": {"mode": "frozen", "final": "full", **QUICK},
    "full": {"mode": "full", "final": "full", **QUICK},
}


@pytest.mark.parametrize("mode", TRAINED)
def test_a_run_leaves_what_the_contract_names(values, mode):
    rows = some_rows(60)
    run_dir = run(values(rows, test=30, training=TRAINED[mode]))

    gold = {row["id"]: row["label"] for row in rows}
    queries = read_lines(run_dir / "queries.jsonl")
    assert [line["round"] for line in queries] == [0] * 10 + [1] * 5 + [2] * 5 + [3] * 5
    assert [line["rank"] for line in queries] == [*range(10), *range(5), *range(5), *range(5)]
    assert [line["strategy"] for line in queries] == ["initial"] * 10 + ["margin"] * 15
    assert all(line["score"] is None for line in queries[:10])
    for round_ in (1, 2, 3):  # margin ranks by its score
        ranked = [line["score"] for line in queries if line["round"] == round_]
        assert ranked == sorted(ranked, reverse=True)
    assert len(set(asked(run_dir))) == 25
    assert answers(run_dir) == {name: gold[name] for name in asked(run_dir)}

    for name, expected in {"round": [0, 1, 2, 3], "labelled": [10, 15, 20, 25], "answers": [10, 15, 20, 25]}.items():
        assert of_metrics(run_dir, name) == expected
    assert of_metrics(run_dir, "cost") == [10.0, 15.0, 20.0, 25.0]
    for line in read_lines(run_dir / "metrics.jsonl"):
        assert set(line["test"]) == {"accuracy", "f1_macro"}
        assert set(line["seconds"]) == {"fit", "score", "select", "annotate"}
        assert line["peak_memory_mb"] > 100
    final = json.loads((run_dir / "final.json").read_text())
    assert (final["round"], final["labelled"], final["answers"]) == (3, 25, 25)
    assert set(final["test"]) == {"accuracy", "f1_macro"}

    import transformers

    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(run_dir / "model")
    assert loaded.config.id2label == {0: "food", 1: "money", 2: "sport"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(run_dir / "model")
    assert tokenizer.decode(tokenizer("big match")["input_ids"], skip_special_tokens=True) == "big match"

    # Nothing that a person could not open in an editor, but for the weights; a pickle begins with its protocol, a
    # zipped one with PK.
    for name, data in contents(run_dir).items():
        assert Path(name).suffix in {".yaml", ".json", ".jsonl", ".safetensors", ".txt", ".md"} or name == ".lock"
        assert not data.startswith((b"\x80", b"PK"))


def test_the_config_is_kept_with_its_defaults(values):
    given = values(loop={"rounds": 0})
    kept = YAML(typ="safe").load(run(given) / "config.yaml")
    told = {"initial": 10, "batch": 5, "rounds": 0, "unit": "records", "seed": 0, "holdout": 0.0}
    assert kept["loop"] == {**told, "aggregation": "majority"}
    assert kept["strategy"] == {"name": "margin"}
    assert kept["dataset"]["data_files"] == given["dataset"]["data_files"]
    assert read_config(kept, Path("/")) == read_config(given, Path("/"))


def test_the_same_config_asks_the_same_to_the_byte(values):
    for at, strategy in enumerate(["margin", "badge", [{"name": "entropy", "keep": 20}, {"name": "typiclust"}]]):
        first, second = (run(values(folder=f"{at}-{time}", strategy=strategy)) for time in ("first", "second"))
        assert (first / "queries.jsonl").read_bytes() == (second / "queries.jsonl").read_bytes()


def test_the_same_config_trains_the_same_to_the_byte(values):
    sections = {"training": TRAINED["full"], "loop": {"rounds": 1}}
    first, second = (run(values(folder=str(at), **sections)) for at in range(2))
    assert (first / "queries.jsonl").read_bytes() == (second / "queries.jsonl").read_bytes()
    assert (first / "model/model.safetensors").read_bytes() == (second / "model/model.safetensors").read_bytes()


def test_another_seed_asks_something_else(values):
    first, second = (run(values(folder=str(seed), loop={"rounds": 0, "seed": seed})) for seed in range(2))
    assert set(asked(first)) != set(asked(second))


@pytest.mark.parametrize("mode", TRAINED)
def test_a_finished_run_is_left_as_it_is(values, mode):
    given = values(training=TRAINED[mode], loop={"rounds": 1})
    run_dir = run(given)
    before = contents(run_dir)
    assert run(given) == run_dir
    assert contents(run_dir) == before


# One class only


def rare_rows(sport: int) -> list:
    """100 rows sorted by class, the rare one last."""
    return [*some_rows(100 - sport, labels=["money"]), *some_rows(sport, prefix="rare", labels=["sport"])]


def test_while_there_is_one_class_coreset_asks_and_says_so(values, capsys):
    run_dir = run(values(rare_rows(2), test=30, labels=LABELS, loop={"rounds": 15}))
    first = next(line["round"] for line in read_lines(run_dir / "labels.jsonl") if line["label"] == "sport")
    assert 0 < first < 15  # else this run says nothing
    assert strategies(run_dir) == ["initial", *["coreset"] * first, *["margin"] * (15 - first)]
    told = "every label so far is 'money': until a second class turns up, coreset asks."
    assert capsys.readouterr().out.count(told) == first
    # Until then all are called money, which a third of the test split is (see `some_rows`).
    share = Counter(row["label"] for row in some_rows(30, seed=1000))["money"] / 30
    accuracies = [line["accuracy"] for line in of_metrics(run_dir, "test")]
    assert accuracies[:first] == pytest.approx([share] * first)


def test_a_strategy_that_needs_no_model_asks_from_the_start(values):
    run_dir = run(values(rare_rows(2), strategy="random", loop={"rounds": 2}))
    assert set(answers(run_dir).values()) == {"money"}
    assert strategies(run_dir) == ["initial", "random", "random"]


def test_a_run_that_ends_with_one_class_says_so_and_has_no_model(values, capsys):
    rows = rare_rows(2)
    run_dir = run(values(rows, strategy="random", loop={"rounds": 1}, training=TRAINED["frozen"]))
    assert set(answers(run_dir).values()) == {"money"}
    assert "every label so far is 'money'" in capsys.readouterr().out
    assert not (run_dir / "model").exists()
    assert not (run_dir / "final.json").exists()


# Simulated people


def test_refused_examples_are_paid_for_and_never_asked_again(values):
    run_dir = run(values(loop={"rounds": 10}, annotator={"name": "oracle", "refusals": 0.4}))
    lines = read_lines(run_dir / "labels.jsonl")
    refused = {line["id"] for line in lines if line["status"] == "discarded"}
    assert all(line["label"] is None for line in lines if line["id"] in refused)
    assert 10 <= len(refused) <= 38  # 24 of 60 are expected; the bounds are four deviations away
    assert len(asked(run_dir)) == len(set(asked(run_dir))) == 60
    assert of_metrics(run_dir, "cost")[-1] == 60.0
    assert of_metrics(run_dir, "labelled")[-1] == 60 - len(refused)


def test_a_run_whose_every_question_is_refused_ends(values, capsys):
    run_dir = run(values(test=30, loop={"rounds": 2}, annotator={"name": "oracle", "refusals": 1.0}))
    assert of_metrics(run_dir, "labelled") == [0, 0, 0]
    assert all("test" not in line for line in read_lines(run_dir / "metrics.jsonl"))
    assert strategies(run_dir) == ["initial", "coreset", "coreset"]
    assert "no label has come yet" in capsys.readouterr().out


def test_noise_belongs_to_the_annotator_not_to_the_loop(values):
    def labelled(folder: str, loop_seed: int, seed: int) -> dict[str, Any]:
        loop = {"initial": 40, "rounds": 0, "seed": loop_seed}
        return answers(run(values(folder=folder, loop=loop, annotator={"name": "oracle", "noise": 0.5, "seed": seed})))

    first, again, other = labelled("a", 0, 0), labelled("b", 1, 0), labelled("c", 0, 1)
    both = set(first) & set(again)
    assert len(both) >= 20
    assert set(first) != set(again)
    assert {name: first[name] for name in both} == {name: again[name] for name in both}
    assert set(first) == set(other)
    assert first != other
    gold = {row["id"]: row["label"] for row in some_rows(60)}
    assert 8 <= sum(gold[name] != label for name, label in first.items()) <= 32  # 20 of 40; four deviations are 12.6


# The budget


def rows_of(words: Sequence[int]) -> list:
    """Rows of so many words, every second one of sport."""
    kinds = [("sport", "goal"), ("money", "bank")]
    return [
        {"id": f"t{at}", "text": " ".join([kinds[at % 2][1], *["the"] * (count - 1)]), "label": kinds[at % 2][0]}
        for at, count in enumerate(words)
    ]


@pytest.mark.parametrize("strategy", ["random", "margin", "badge"])
def test_what_a_round_cannot_spend_is_left_to_the_next(values, strategy):
    # 25 words each. 50 buy two; then the rounds may spend 10 (nothing), 20 (nothing), 30 (one, 5 left), 15, 25 (one).
    loop = {"unit": "words", "initial": 50, "batch": 10, "rounds": 5}
    run_dir = run(values(rows_of([25] * 30), strategy=strategy, loop=loop))
    assert of_metrics(run_dir, "cost") == [50.0, 50.0, 50.0, 75.0, 75.0, 100.0]
    assert [len(asked(run_dir, round_)) for round_ in range(6)] == [2, 0, 0, 1, 0, 1]


def test_an_example_dearer_than_the_whole_budget_ends_no_loop(values):
    # 6 × 5 words are cheap, the rest is never affordable: 40 + 4 × 5 = 60 words in all, 30 of them can be spent.
    loop = {"unit": "words", "initial": 40, "batch": 5, "rounds": 4}
    run_dir = run(values(rows_of([5] * 6 + [500] * 4), strategy="random", loop=loop))
    assert of_metrics(run_dir, "round") == [0, 1, 2, 3, 4]
    assert of_metrics(run_dir, "cost")[-1] <= 30.0


def test_the_words_that_were_asked_are_within_the_budget(values):
    rows = some_rows(60)
    loop = {"unit": "words", "initial": 60, "batch": 30, "rounds": 4}
    run_dir = run(values(rows, loop=loop))
    words = {row["id"]: len(row["text"].split()) for row in rows}
    for round_, cost in enumerate(of_metrics(run_dir, "cost")):
        assert cost == sum(words[name] for at in range(round_ + 1) for name in asked(run_dir, at))
        assert 60 + 30 * round_ - 12 <= cost <= 60 + 30 * round_  # 12 words are the longest text


def test_the_loop_stops_at_a_cost(values):
    run_dir = run(values(loop={"rounds": 10}, stop={"cost": 22}))
    assert of_metrics(run_dir, "cost") == [10.0, 15.0, 20.0, 22.0]


def test_the_loop_ends_where_the_pool_does(values):
    run_dir = run(values(some_rows(23), loop={"rounds": 10}))
    assert of_metrics(run_dir, "cost") == [10.0, 15.0, 20.0, 23.0]
    assert sorted(asked(run_dir)) == sorted(row["id"] for row in some_rows(23))


def test_the_holdout_is_a_share_of_each_batch_and_trains_nothing(values, monkeypatch):
    trained: list[set[str]] = []
    real = fit.fit_head

    def noting(encoder, task, labelled):
        trained.append({example.id for example, _ in labelled})
        return real(encoder, task, labelled)

    monkeypatch.setattr(fit, "fit_head", noting)
    monkeypatch.setattr(scores, "RESAMPLES", 2)  # how wide the interval is does not matter here
    run_dir = run(values(loop={"initial": 20, "batch": 10, "rounds": 2, "holdout": 0.3}))
    held = [line for line in read_lines(run_dir / "queries.jsonl") if line["strategy"] == "holdout"]
    assert Counter(line["round"] for line in held) == {0: 6, 1: 3, 2: 3}
    assert of_metrics(run_dir, "labelled") == [14, 21, 28]
    assert of_metrics(run_dir, "cost") == [20.0, 30.0, 40.0]
    assert [len(ids) for ids in trained] == [14, 21, 28]
    assert not {line["id"] for line in held} & set.union(*trained)
    assert all(0 <= found["accuracy"] <= 1 for found in of_metrics(run_dir, "holdout"))


# Real people


@dataclass
class Person(Annotator):
    """Answers what was asked, in the way that a test sets."""

    seconds_between_pulls: ClassVar[float] = 0.0
    says: ClassVar[Any] = None
    pushed: ClassVar[list[list[str]]] = []

    def start(self, setting) -> None:
        super().start(setting)
        self.asked: list[Question] = []

    def push(self, questions: Sequence[Question]) -> None:
        self.pushed.append([question.example.id for question in questions])
        self.asked += questions

    def pull(self) -> list[Answer]:
        return [answer for question in self.asked for answer in type(self).says(question, self.asked[-1].round)]


@pytest.fixture
def person(monkeypatch):
    monkeypatch.setitem(ANNOTATORS, "person", Person)
    monkeypatch.setattr(Person, "pushed", [])

    def set_up(says) -> dict[str, Any]:
        monkeypatch.setattr(Person, "says", staticmethod(says))
        return {"name": "person"}

    return set_up


def partly_labelled(count: int, labelled: int) -> list:
    return [row if at < labelled else {**row, "label": None} for at, row in enumerate(some_rows(count))]


def test_rows_that_bring_a_label_count_as_labelled(values, person):
    annotator = person(lambda question, _: [Answer(question.example.id, "food", "ann")])
    rows = partly_labelled(60, 15)
    run_dir = run(values(rows, labels=LABELS, annotator=annotator, loop={"rounds": 1}))
    brought = {row["id"]: row["label"] for row in rows if row["label"]}
    lines = read_lines(run_dir / "labels.jsonl")
    assert {line["id"]: line["label"] for line in lines if line["annotator"] == "dataset"} == brought
    assert all(line["round"] == 0 and line["status"] == "submitted" for line in lines[:15])
    assert not set(asked(run_dir)) & set(brought)
    assert of_metrics(run_dir, "labelled") == [25, 30]
    assert of_metrics(run_dir, "cost") == [10.0, 15.0]
    run(values(rows, labels=LABELS, annotator=annotator, loop={"rounds": 2}))
    assert len([line for line in read_lines(run_dir / "labels.jsonl") if line["annotator"] == "dataset"]) == 15


def test_a_later_word_of_the_same_person_holds(values, person):
    def says(question: Question, now: int) -> list[Answer]:
        if question.round == 0 and now == 1:  # thinks better of the first set while the second is asked
            return [Answer(question.example.id, "sport", "ann")]
        return [Answer(question.example.id, "food" if question.rank % 2 else "money", "ann")]

    run_dir = run(values(partly_labelled(40, 0), labels=LABELS, annotator=person(says), loop={"rounds": 1}))
    assert of_metrics(run_dir, "answers") == [10, 25]  # ten answers; ten second thoughts and five more
    assert of_metrics(run_dir, "labelled") == [10, 15]
    assert {answers(run_dir)[name] for name in asked(run_dir, 0)} == {"sport"}


def test_an_answer_that_is_no_label_is_told_once_and_the_right_one_waited_for(values, person, capsys):
    pulls = Counter()

    def says(question: Question, _: int) -> list[Answer]:
        name = question.example.id
        pulls[name] += 1
        mistyped = question.rank == 0 and pulls[name] < 4
        return [Answer(name, "sprot" if mistyped else LABELS[question.rank % 3], "ann")]

    run_dir = run(values(partly_labelled(40, 0), labels=LABELS, annotator=person(says), loop={"rounds": 0}))
    assert pulls[asked(run_dir)[0]] == 4 + 1  # and once when all rounds are over
    assert set(answers(run_dir).values()) == set(LABELS)
    assert of_metrics(run_dir, "labelled") == [10]
    assert capsys.readouterr().out.count("with 'sprot', which is no label for it") == 1


def test_a_draft_is_waited_for(values, person):
    pulls = Counter()

    def says(question: Question, _: int) -> list[Answer]:
        name = question.example.id
        pulls[name] += 1
        return [Answer(name, LABELS[question.rank % 3], "ann", "submitted" if pulls[name] > 2 else "draft")]

    run_dir = run(values(partly_labelled(40, 0), labels=LABELS, annotator=person(says), loop={"rounds": 0}))
    statuses = [line["status"] for line in read_lines(run_dir / "labels.jsonl")]
    assert statuses == ["draft"] * 10 + ["submitted"] * 10
    assert of_metrics(run_dir, "labelled") == [10]


def test_after_an_interruption_the_same_batch_is_pushed_again_and_no_answer_written_twice(values, person, monkeypatch):
    ready = 4

    def says(question: Question, _: int) -> list[Answer]:
        return [Answer(question.example.id, LABELS[question.rank % 3], "ann")] if question.rank < ready else []

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)  # where the learner waits for the other six
    given = values(partly_labelled(40, 0), labels=LABELS, annotator=person(says), loop={"rounds": 1})
    run_dir = Path(given["run_dir"])
    with pytest.raises(KeyboardInterrupt):
        run(given)
    assert [line["id"] for line in read_lines(run_dir / "labels.jsonl")] == asked(run_dir)[:4]
    ready = 10
    run(given)
    assert Person.pushed == [asked(run_dir, 0), asked(run_dir, 0), asked(run_dir, 1)]
    assert [line["id"] for line in read_lines(run_dir / "labels.jsonl")] == asked(run_dir)


def test_people_behind_files(values, monkeypatch):
    given = values(partly_labelled(40, 0), labels=LABELS, annotator={"name": "jsonl"}, loop={"rounds": 1})
    run_dir = Path(given["run_dir"])
    gold = {row["id"]: row["label"] for row in some_rows(40)}

    def answer(_: float) -> None:
        """Called where the learner waits: everything is answered, the first question twice."""
        waiting = read_lines(run_dir / "questions.jsonl")
        known = read_lines(run_dir / "answers.jsonl")
        done = {line["id"] for line in known}
        fresh = [{"id": line["id"], "label": gold[line["id"]]} for line in waiting if line["id"] not in done]
        write_lines(run_dir / "answers.jsonl", [*known, {**fresh[0], "label": "food"}, *fresh])

    monkeypatch.setattr(time, "sleep", answer)
    run(given)
    assert answers(run_dir) == {name: gold[name] for name in asked(run_dir)}
    # The first answer of two that came together was never known; neither comes back at a later pull.
    assert len(read_lines(run_dir / "labels.jsonl")) == 15
    assert {line["annotator"] for line in read_lines(run_dir / "labels.jsonl")} == {"jsonl"}


# Going on


def history(run_dir: Path) -> list[tuple[int, dict[str, Any]]]:
    return [(line["round"], line["changed"]) for line in read_lines(run_dir / "config_history.jsonl")]


def test_a_run_goes_on_with_another_strategy_and_keeps_what_changed(values):
    run_dir = run(values(loop={"rounds": 1}))
    before = (run_dir / "queries.jsonl").read_bytes()
    assert history(run_dir) == []
    run(values(strategy="badge", loop={"rounds": 2}))
    assert strategies(run_dir) == ["initial", "margin", "badge"]
    assert (run_dir / "queries.jsonl").read_bytes().startswith(before)
    ((round_, changed),) = history(run_dir)
    assert round_ == 2
    assert changed["strategy"] == [{"name": "margin"}, {"name": "badge"}]
    assert [loop["rounds"] for loop in changed["loop"]] == [1, 2]
    assert set(changed) == {"strategy", "loop"}
    assert YAML(typ="safe").load(run_dir / "config.yaml")["strategy"] == {"name": "badge"}


@pytest.mark.parametrize("mode", TRAINED)
def test_a_run_in_two_parts_is_the_run_in_one(values, mode):
    training = {**TRAINED[mode], "init": "last"}
    whole = run(values(folder="whole", training=training, loop={"rounds": 2}))
    parts = run(values(folder="parts", training={**training}, loop={"rounds": 1}))
    run(values(folder="parts", training=training, loop={"rounds": 2}))
    for name in ("queries.jsonl", "model/model.safetensors"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_new_rows_join_the_pool_of_a_run(values):
    run_dir = run(values(some_rows(20), loop={"rounds": 1}))
    run(values([*some_rows(20), *some_rows(40, seed=1, prefix="new")], loop={"rounds": 5}))
    assert any(name.startswith("new") for name in asked(run_dir))
    ((_, _), (round_, changed)) = history(run_dir)
    assert (round_, set(changed)) == (2, {"dataset_fingerprint"})


def test_a_label_that_is_added_gives_the_model_an_output_that_is_trained(values, person, monkeypatch):
    fits = []
    real = fit.fine_tune
    monkeypatch.setattr(fit, "fine_tune", lambda *given: fits.append(1) or real(*given))
    annotator = person(lambda question, _: [Answer(question.example.id, LABELS[question.rank % 3], "ann")])
    sections = {"annotator": annotator, "training": TRAINED["full"], "loop": {"rounds": 0}}
    run_dir = run(values(partly_labelled(40, 0), labels=LABELS, **sections))
    run(values(partly_labelled(40, 0), labels=[*LABELS, "weather"], **sections))
    # The saved model has three outputs; with a fourth one drawn at random it would choose at random.
    assert len(fits) == 2
    assert len(json.loads((run_dir / "model/config.json").read_text())["id2label"]) == 4


# What is refused


def test_another_task_is_refused(values, tmp_path):
    given = values(loop={"rounds": 0})
    run_dir = run(given)
    before = contents(run_dir)
    rows = [
        {"tokens": row["text"].split(), "tags": ["O", *["B-X"] * (len(row["text"].split()) - 1)]}
        for row in some_rows(60)
    ]
    other = values(rows, folder="other", task="token-classification", task_options={}, run_dir=str(run_dir))
    with pytest.raises(UserError, match=r"holds a run of the task text-classification, not token-classification"):
        run(other)
    assert contents(run_dir) == before


def test_other_weights_are_refused(values, tmp_path):
    given = values(loop={"rounds": 0})
    before = contents(run(given))
    with pytest.raises(UserError, match=r"was begun with other weights than those of 'model' now"):
        run({**given, "model": tiny_model(tmp_path / "other", seed=1)})
    assert contents(Path(given["run_dir"])) == before


def test_asked_examples_that_are_gone_are_refused(values):
    rows = some_rows(60)
    run_dir = run(values(rows, loop={"rounds": 0}))
    before = contents(run_dir)
    gone = asked(run_dir)[3]
    with pytest.raises(UserError, match=rf"1 examples that were asked about are gone from the data, '{gone}' among"):
        run(values([row for row in rows if row["id"] != gone], loop={"rounds": 1}))
    assert contents(run_dir) == before


def test_rows_that_were_not_asked_may_go(values):
    rows = some_rows(60)
    run_dir = run(values(rows, loop={"rounds": 0}))
    known = set(asked(run_dir))
    idle = next(row["id"] for row in rows if row["id"] not in known)
    run(values([row for row in rows if row["id"] != idle], loop={"rounds": 1}))
    assert len(asked(run_dir)) == 15


def test_another_schema_is_refused(values):
    given = values(loop={"rounds": 0})
    path = run(given) / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    with pytest.raises(UserError, match=r"was written in schema 99 of run directories; this library reads 1"):
        run(given)


def test_answers_with_a_label_that_is_gone_are_refused(values, person):
    annotator = person(lambda question, _: [Answer(question.example.id, LABELS[question.rank % 3], "ann")])
    sections = {"annotator": annotator, "loop": {"rounds": 0}}
    run(values(partly_labelled(40, 0), labels=LABELS, **sections))
    with pytest.raises(UserError, match=r"was answered with 'sport', which is no label; add it under 'labels'"):
        run(values(partly_labelled(40, 0), labels=["food", "money"], **sections))


def test_a_directory_in_use_is_refused(values):
    given = values(loop={"rounds": 0})
    with RunDirectory(Path(given["run_dir"])), pytest.raises(RunError, match="in use by another process"):
        run(given)


# Fine-tuning in every round


@pytest.mark.parametrize("init", ["pretrained", "last"])
def test_a_round_starts_from_the_weights_that_init_names(values, model, init, monkeypatch):
    sources = []
    real = fit.fine_tune
    monkeypatch.setattr(fit, "fine_tune", lambda source, *rest: sources.append(source) or real(source, *rest))
    run_dir = run(values(training={**TRAINED["full"], "init": init}, loop={"rounds": 2}))
    later = str(run_dir / "model") if init == "last" else model
    assert sources == [model, later, later]


def test_tagging_by_words_goes_on_from_the_last_weights_with_old_and_new_labels(values, model, monkeypatch):
    """Light incremental training: few epochs a round, from where the last one ended, over all that is labelled."""
    fits = []
    real = fit.fine_tune

    def fine_tune(source, task, labelled, *rest):
        start = load_file(Path(source, "model.safetensors"))
        made = real(source, task, labelled, *rest)
        fits.append((source, start, {example.id for example, _ in labelled}, made.model.state_dict()))
        return made

    monkeypatch.setattr(fit, "fine_tune", fine_tune)
    training = {"mode": "full", "init": "last", "final": "none", **QUICK, "min_steps": 4}
    loop = {"unit": "words", "initial": 80, "batch": 40, "rounds": 2}
    given = values(some_sentences(60), task="token-classification", strategy="mnlp", training=training, loop=loop)
    run_dir = run(given)
    assert [source for source, *_ in fits] == [model, *[str(run_dir / "model")] * 2]
    before: set[str] = set()
    for at, (_, start, labelled, _) in enumerate(fits):
        assert labelled == before | set(asked(run_dir, at))
        assert set(asked(run_dir, at))
        before = labelled
        if at:
            assert all(torch.equal(value, fits[at - 1][3][name]) for name, value in start.items())
    for at, cost in enumerate(of_metrics(run_dir, "cost")):
        assert 80 + 40 * at - 12 < cost <= 80 + 40 * at  # no sentence has more than 12 words


@pytest.mark.parametrize(("floor", "steps"), [(0, [1, 1]), (7, [7, 7])])
def test_few_labels_get_the_least_number_of_steps(values, floor, steps, monkeypatch):
    import transformers

    taken = []
    real = transformers.Trainer.train

    def train(self):
        done = real(self)
        taken.append(self.state.global_step)
        return done

    monkeypatch.setattr(transformers.Trainer, "train", train)
    # One epoch over 10 and over 15 examples in batches of 16 is one step each.
    run(values(training={**TRAINED["full"], "min_steps": floor}, loop={"rounds": 1}))
    assert taken == steps


def test_a_finished_run_in_full_mode_fits_nothing_anew(values, monkeypatch):
    given = values(training=TRAINED["full"], loop={"rounds": 1})
    run(given)
    monkeypatch.setattr(fit, "fine_tune", None)
    run(given)


def test_the_final_model_of_a_frozen_run_knows_all_answers(values):
    run_dir = run(values(training=TRAINED["frozen"], loop={"rounds": 1}))
    first = (run_dir / "model/model.safetensors").read_bytes()
    run(values(training=TRAINED["frozen"], loop={"rounds": 2}))
    final = json.loads((run_dir / "final.json").read_text())
    assert (final["round"], final["labelled"]) == (2, 20)
    assert json.loads((run_dir / "model/nlp_al.json").read_text())["answers"] == 20
    assert (run_dir / "model/model.safetensors").read_bytes() != first
