"""Labels that the model makes itself: who gets one, what is fitted on them, and that they count for nothing else."""

import math
from pathlib import Path

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.learner import ActiveLearner
from nlp_al.made_labels import examples_of, make_labels
from nlp_al.pool import Example
from nlp_al.predict import predict_rows
from nlp_al.signals import Signals
from nlp_al.strategies import make_strategy
from nlp_al.tasks import make_task
from nlp_al.testing import check_strategy, synthetic_signals
from nlp_al.training.fit import Fitter
from nlp_al.training.frozen import fit_head


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("NLP_AL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


# --- who is sure


def test_the_threshold_falls_from_round_to_round_and_never_below_0() -> None:
    own = make_strategy("ceal")
    assert [own.limit(at) for at in (1, 2, 3)] == pytest.approx([0.05, 0.0467, 0.0434])
    assert own.limit(16) == pytest.approx(0.0005)
    assert own.limit(17) == own.limit(100) == 0
    summed = make_strategy("ceal", cumulative=True)
    assert [summed.limit(at) for at in (1, 2, 3)] == pytest.approx([0.05, 0.0467, 0.0401])


def test_entropy_is_compared_with_that_of_a_flat_distribution() -> None:
    probs = torch.tensor([[0.98, 0.01, 0.01], [0.999, 0.001, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]])
    signals = Signals(probs=probs.double())
    entropy = -(0.98 * math.log(0.98) + 0.02 * math.log(0.01))  # 0.1119; over ln 3 it is 0.1019
    for normalised, between in ((True, 0.105), (False, 0.105)):
        own = make_strategy("ceal", threshold=between, normalised=normalised)
        assert own.sure(signals, 1).tolist() == ([3, 1, 0] if normalised else [3, 1])
    assert make_strategy("ceal", threshold=entropy + 1e-6, normalised=False).sure(signals, 1).tolist() == [3, 1, 0]
    assert make_strategy("ceal", threshold=0.0).sure(signals, 1).tolist() == []


@pytest.mark.parametrize("shape", ["single", "multi", "sequence", "ranking"])
def test_decisions_are_averaged_and_what_has_none_is_never_sure(shape: str) -> None:
    signals = synthetic_signals(shape, 30, 1, undecided=5)
    own = make_strategy("ceal", threshold=0.85)
    decisions, found = signals.decisions, []
    for at in range(30):
        rows = range(int(decisions.offsets[at]), int(decisions.offsets[at + 1]))
        values = []
        for row in rows:
            k = int(decisions.options[row]) if decisions.options is not None else decisions.probs.shape[1]
            p = decisions.probs[row, :k].double()
            values.append(float(-(p * p.log()).sum()) / math.log(max(k, 2)))
        if bool(signals.can_ask()[at]) and sum(values) / len(values) < 0.85:
            found.append((sum(values) / len(values), at))
    assert own.sure(signals, 1).tolist() == [at for _, at in sorted(found)]
    assert found


def test_what_is_asked_gets_no_label_and_most_counts_what_is_left() -> None:
    pool = [Example(str(at), f"text {at}", 1) for at in range(4)]
    task = make_task("text-classification", {}).with_labels(["a", "b"])
    signals = Signals(probs=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.999, 0.001], [0.5, 0.5]]))
    for most, wanted in ((None, [("1", "b"), ("2", "a")]), (1, [("1", "b")])):
        own = [make_strategy("ceal", most=most)]
        assert make_labels(signals, own, 1, pool, ["0"], task) == wanted
    assert make_labels(signals, [make_strategy("margin")], 1, pool, [], task) is None
    assert make_labels(signals, [make_strategy("ceal")], 1, pool, ["0", "1", "2"], task) == []


# --- what the base chooses


@pytest.mark.parametrize("base", ["entropy", "badge", {"name": "margin", "agg": "max"}, "coreset", "typiclust"])
def test_the_order_of_asking_is_that_of_the_base(base) -> None:
    parameters = {"name": base} if isinstance(base, str) else dict(base)
    plain = make_strategy(parameters.pop("name"), **parameters)
    signals = synthetic_signals("single", 40)
    own = make_strategy("ceal", base=base)
    for size in (1, 7, 40):
        wanted = plain.select(signals, size, seeded(3)).indices
        assert torch.equal(own.select(signals, size, seeded(3)).indices, wanted)
    assert own.needs == plain.needs | {"probs"}
    check_strategy(own)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"base": "entropi"}, "base is 'entropi': There is no strategy 'entropi'"),
        ({"base": {"agg": "max"}}, "it must be the name of a strategy, or a mapping with one"),
        ({"base": "ceal"}, "base is 'ceal'; it must be another strategy"),
        ({"threshold": -1.0}, "threshold is -1; it must not be negative"),
        ({"most": 0}, "most is 0; it must be at least 1"),
    ],
)
def test_a_wrong_parameter_is_told(parameters: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_strategy("ceal", **parameters)


# --- runs


def run(folder: Path, model: str, rows: list, **sections):
    """(queries, metrics, what each fit was given, lines of made labels)."""
    given = []
    values = values_of(folder, model, rows, **sections)
    config = read_config(values, folder)
    learner = ActiveLearner(config)
    fit = learner.fitter.fit

    def noted(labelled, round_, *others):
        given.append((round_, [(example.id, label) for example, label in labelled]))
        return fit(labelled, round_, *others)

    learner.fitter.fit = noted
    learner.run()
    lines = [read_lines(folder / "run" / f"{name}.jsonl") for name in ("queries", "metrics", "made_labels", "labels")]
    return (*lines, given)


def checked(queries, metrics, made, answers, given) -> None:
    assert [line["round"] for line in made] == [1, 2, 3]
    assert any(line["labels"] for line in made)
    for line in made:
        round_, labels = line["round"], dict(line["labels"])
        asked = {query["id"] for query in queries if query["round"] <= round_}
        assert not asked & set(labels)
        (fitted,) = [dict(items) for at, items in given if at == round_]
        known = {answer["id"]: answer["label"] for answer in answers if answer["id"] in asked}
        assert fitted == {**labels, **known}
        assert metrics[round_]["labelled"] == metrics[round_]["answers"] == len(known)
        assert metrics[round_].get("made_labels", 0) == len(labels)


def test_the_round_is_fitted_on_both_and_only_answers_are_counted(tmp_path, model):
    checked(*run(tmp_path, model, some_rows(80), strategy={"name": "ceal", "threshold": 0.9}))


@pytest.mark.parametrize("form", ["bi-encoder", "cross-encoder"])
def test_of_candidates_the_first_is_the_label(tmp_path, model, form):
    options = {"max_length": 32, "form": form}
    sections = {"task": "response-selection", "task_options": options, "test": 0}
    checked(*run(tmp_path, model, some_dialogues(60), strategy={"name": "ceal", "threshold": 0.99}, **sections))


def test_of_sentences_all_words_are_labelled(tmp_path, model):
    sections = {"task": "token-classification", "test": 0}
    checked(*run(tmp_path, model, some_sentences(60), strategy={"name": "ceal", "threshold": 0.9}, **sections))


def test_of_several_labels_all_are_labelled(tmp_path, model):
    rows = [{**row, "label": [row["label"]]} for row in some_rows(80)]
    sections = {"task_options": {"max_length": 32, "multi_label": True}, "test": 0}
    checked(*run(tmp_path, model, rows, strategy={"name": "ceal", "threshold": 0.9}, **sections))


def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not(tmp_path, model, monkeypatch):
    stage = {"name": "ceal", "threshold": 0.9}
    whole = run(tmp_path / "whole", model, some_rows(80), strategy=stage)
    fit, broken = Fitter.fit, []

    def cut(self, labelled, round_, *others):
        if round_ == 2 and not broken:
            broken.append(True)
            raise KeyboardInterrupt
        return fit(self, labelled, round_, *others)

    monkeypatch.setattr(Fitter, "fit", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", model, some_rows(80), strategy=stage)
    parts = run(tmp_path / "cut", model, some_rows(80), strategy=stage)
    assert parts[0] == whole[0]
    assert parts[2] == whole[2]
    assert parts[4][-1] == whole[4][-1]
    for ours, theirs in zip(parts[1], whole[1], strict=True):
        assert ours["test"] == theirs["test"]


def test_fine_tuning_takes_them_too(tmp_path, model):
    training = {"mode": "full", "min_steps": 0, "num_train_epochs": 1.0}
    stage = {"name": "ceal", "threshold": 2.0, "most": 20}
    checked(*run(tmp_path, model, some_rows(60), strategy=stage, training=training))


def test_an_answer_takes_the_place_of_a_made_label_and_one_that_is_no_label_any_more_is_left_out(tmp_path, model):
    learner = ActiveLearner(read_config(values_of(tmp_path, model, some_rows(20)), tmp_path))
    made = [("t1", "sport"), ("t2", "money"), ("t3", "gone"), ("t-none", "food")]
    found = examples_of(made, learner.pool, {"t1"}, learner.task)
    assert [(example.id, label) for example, label in found] == [("t2", "money")]


def test_the_label_of_a_ranking_is_its_first_option() -> None:
    inputs = {"context": ["when?"], "candidates": ["now", "here"]}
    for none, best, wanted in ((None, 1, 1), ("no idea", 2, "none"), ("no idea", 0, 0)):
        task = make_task("response-selection", {"none_of_these": none}).with_labels([])
        probs = torch.full((1, 2 + (none is not None)), 1e-4)
        probs[0, best] = 1.0
        signals = Signals(probs=probs, options=torch.tensor([probs.shape[1]]))
        made = make_labels(signals, [make_strategy("ceal")], 1, [Example("a", inputs, 1)], [], task)
        assert made == [("a", wanted)]


def test_it_does_not_begin_a_run(tmp_path, model):
    with pytest.raises(UserError, match=r"initial\.strategy is 'ceal', which needs a fitted model"):
        read_config(values_of(tmp_path, model, some_rows(20), initial={"strategy": "ceal"}), tmp_path)


def test_whoever_fits_again_takes_the_made_labels_too(tmp_path, model, monkeypatch):
    """Members of a committee, and the head that answers for a run without a final model."""
    asked = {"name": "ceal", "base": "bald", "threshold": 2.0, "most": 15}
    members = []
    real = Fitter.another

    def another(self, labelled, seed):
        members.append({example.id for example, _ in labelled})
        return real(self, labelled, seed)

    monkeypatch.setattr(Fitter, "another", another)
    training = {"mode": "full", "final": "none", "min_steps": 0, "num_train_epochs": 1.0}
    *_, given = run(tmp_path / "full", model, some_rows(40), strategy=asked, training=training, sampler="ensemble")
    fitted = [{name for name, _ in labels} for _, labels in given]
    assert members
    assert all(member in fitted for member in members)

    *_, given = run(tmp_path / "frozen", model, some_rows(60), strategy={"name": "ceal", "threshold": 2.0, "most": 15})
    heads = []

    def noted(encoder, task, labelled):
        heads.append({(example.id, str(label)) for example, label in labelled})
        return fit_head(encoder, task, labelled)

    monkeypatch.setattr("nlp_al.predict.fit_head", noted)
    predict_rows(tmp_path / "frozen" / "run", None, tmp_path / "out.csv", 0.0)
    assert heads == [{(name, str(label)) for name, label in given[-1][1]}]
