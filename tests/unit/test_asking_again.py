"""Examples that have a label are asked about again, of somebody else: from the strategy to the files of a run."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import read_lines, some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al.activelab import activelab
from nlp_al.annotation import Setting, make_annotator
from nlp_al.annotation.base import Question
from nlp_al.config import read_config
from nlp_al.errors import UserError
from nlp_al.evaluation import read_run
from nlp_al.export import export
from nlp_al.fields import FOLDS
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Answer, Example, Pool, Query
from nlp_al.report import compare
from nlp_al.signals import SignalError, Signals
from nlp_al.signals.targets import votes
from nlp_al.status import status_text
from nlp_al.stopping.base import observations
from nlp_al.store import RunDirectory
from nlp_al.strategies import Selection, make_strategy
from nlp_al.strategies.relabelling import ActiveLab
from nlp_al.tasks import make_task
from nlp_al.testing import check_strategy, synthetic_signals

NOISY = {"name": "oracle", "annotators": 3, "noise": 0.4}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# The strategy


def of(pool: torch.Tensor, known: torch.Tensor, given: list[list[int]], **more: Any) -> Signals:
    """Signals of a pool and of a labelled set with these votes, a row a decision."""
    labelled = Signals(out_of_fold=known, votes=torch.tensor(given), **more)
    return Signals(probs=pool, labelled=labelled)


def test_of_a_doubtful_label_and_a_new_example_the_label_is_asked_about_first():
    """q = 0.6 of one annotator: (0.6 · 2 + 1/3) / 3; new, p = 0.7: (0.7 + 1/3) / 2."""
    signals = of(torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1]]), [[0], [1]])
    chosen = make_strategy("activelab").select(signals, 3, seeded())
    assert chosen.scores.tolist() == pytest.approx([-0.516667, -0.511111, -(0.8 * 2 + 1 / 3) / 3], abs=1e-6)
    assert chosen.indices.tolist() == [1, 0, 2]
    assert chosen.relabel


def test_what_waits_is_not_asked_about_however_doubtful():
    known = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    signals = of(torch.tensor([[0.7, 0.2, 0.1]]), known, [[0], [0]], askable=torch.tensor([True, False]))
    chosen = make_strategy("activelab").select(signals, 9, seeded())
    assert chosen.indices.tolist() == [1, 0]
    assert chosen.scores[2] == -torch.inf


def test_with_nothing_labelled_or_nothing_new_it_chooses_among_the_rest():
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    alone = make_strategy("activelab").select(Signals(probs=probs), 2, seeded())
    assert alone.indices.tolist() == [1, 0]
    assert alone.scores.tolist() == pytest.approx([-(0.7 + 1 / 3) / 2, -(0.5 + 1 / 3) / 2])
    bare = Signals(count=0, labelled=of(probs, probs, [[0], [0]]).labelled)
    assert make_strategy("activelab").select(bare, 2, seeded()).indices.tolist() == [1, 0]
    assert make_strategy("activelab").select(Signals(count=0), 2, seeded()).indices.tolist() == []


def test_a_sentence_is_as_sure_as_its_least_sure_words():
    """The lowest fifth, rounded up: of six words two, of two words one; what one annotator said once everywhere."""
    sure = [0.9, 0.8, 0.4, 0.95, 0.5, 0.99, 0.6, 0.9]
    known = torch.tensor([[p, 1 - p] for p in sure])
    signals = of(torch.tensor([[0.9, 0.1]]), known, [[0]] * 8, offsets=torch.tensor([0, 6, 8]))
    each = [(2 * p + 0.5) / 3 for p in sure]
    found = make_strategy("activelab").select(signals, 1, seeded()).scores
    assert found.tolist() == pytest.approx([-(0.9 + 0.5) / 2, -(each[2] + each[4]) / 2, -each[6]])
    lowest = make_strategy("activelab", agg="max").select(signals, 1, seeded()).scores
    assert lowest.tolist()[1:] == pytest.approx([-each[2], -each[6]])
    mean = make_strategy("activelab", agg="mean").select(signals, 1, seeded()).scores
    assert mean.tolist()[1:] == pytest.approx([-sum(each[:6]) / 6, -sum(each[6:]) / 2])


def test_candidates_count_as_many_as_there_are():
    """K is 2 or 4; what stands in the columns beyond is no candidate."""
    probs = torch.tensor([[0.6, 0.4, 7.0, 7.0], [0.4, 0.3, 0.2, 0.1]])
    options = torch.tensor([2, 4])
    signals = replace(of(probs, probs, [[0], [0]], options=options), options=options)
    found = make_strategy("activelab").select(signals, 1, seeded()).scores
    assert found.tolist() == pytest.approx(
        [-(0.6 + 1 / 2) / 2, -(0.4 + 1 / 4) / 2, -(0.6 * 2 + 1 / 2) / 3, -(0.4 * 2 + 1 / 4) / 3]
    )


def test_where_columns_are_no_classes_annotators_are_compared_with_a_guess():
    """Always the first of two: as a class it would be certain, and nobody could be better than that.

    Two agree on four, and not on the fifth: e = 1/5, a guess errs in 1/2 of the cases, so w = 1 − (1/5) / (1/2) = 0.6.
    """
    probs = torch.tensor([[0.9, 0.1, 5.0]] * 5)
    given = torch.tensor([[0, 0]] * 4 + [[0, 1]])
    options = torch.full((5,), 2)
    from nlp_al.activelab import crowdlab

    found = crowdlab(probs, given, options)
    assert found.weights.tolist() == pytest.approx([0.6, 0.6])
    assert found.model == pytest.approx(2**0.5)
    assert found.labels.tolist() == [0] * 5
    # The fifth: the model 0.9, one who says so with P = (4 + 1/2) / 5 = 0.9, one who says the other.
    quality = (2**0.5 * 0.9 + 0.6 * 0.9 + 0.6 * 0.1) / (2**0.5 + 1.2)
    assert float(found.quality[4]) == pytest.approx(quality)
    assert crowdlab(probs[:, :2], given).weights.tolist() == pytest.approx([1e-6, 1e-6])


@pytest.mark.parametrize("rubbish", [0.0, 1.0, 1e9])
def test_columns_beyond_the_options_are_never_read(rubbish):
    made = synthetic_signals("ranking", 30)
    known, beyond = made.labelled, torch.arange(5)
    other = known.out_of_fold.masked_fill(beyond >= known.options[:, None], rubbish)
    pool = made.probs.masked_fill(beyond >= made.options[:, None], rubbish)
    first = activelab(known.out_of_fold, known.votes, made.probs, known.options, made.options)
    again = activelab(other, known.votes, pool, known.options, made.options)
    assert all(one.allclose(two) for one, two in zip(first, again, strict=True))
    wide = torch.nn.functional.pad(other, (0, 3), value=rubbish)
    assert activelab(wide, known.votes, pool, known.options, made.options)[0].allclose(first[0])


def test_the_options_may_come_in_any_order_where_all_are_there():
    made = synthetic_signals("single", 30, labelled=20).labelled
    full = torch.full((20,), 4)
    _, new = activelab(made.out_of_fold, made.votes, made.out_of_fold, full, full)
    order = torch.tensor([3, 1, 0, 2])
    turned = torch.where(made.votes >= 0, order.argsort()[made.votes], -1)
    probs = made.out_of_fold[:, order]
    assert activelab(probs, turned, probs, full, full)[1].allclose(new)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("agg", ["mean", "max"])
def test_it_keeps_the_promises_with_other_parameters(agg, seed):
    check_strategy(make_strategy("activelab", agg=agg), seed=seed)


def test_the_budget_counts_what_is_asked_again():
    probs = torch.tensor([[0.7, 0.3], [0.9, 0.1]])
    signals = replace(of(probs, probs, [[0], [0]], cost=torch.tensor([3.0, 1.0])), cost=torch.tensor([4.0, 1.0]))
    order = make_strategy("activelab").select(replace(signals, cost=None), 4, seeded()).indices.tolist()
    assert order == [0, 2, 1, 3]
    for size, count in ((3, 0), (4, 1), (6, 1), (7, 2), (8, 3), (9, 4)):
        assert make_strategy("activelab").select(signals, size, seeded()).indices.tolist() == order[:count]


def test_labelled_examples_without_a_cost_are_told():
    probs = torch.tensor([[0.7, 0.3]])
    with pytest.raises(SignalError, match=r"no labelled\.cost"):
        make_strategy("activelab").select(replace(of(probs, probs, [[0]]), cost=torch.ones(1)), 1, seeded())


@dataclass(frozen=True)
class Greedy(ActiveLab):
    """Asks about what waits."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        known = signals.labelled and replace(signals.labelled, askable=None)
        return super().choose(replace(signals, labelled=known), count, generator)


@dataclass(frozen=True)
class Silent(ActiveLab):
    """Does not say that it chose among the labelled examples."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        return replace(super().choose(signals, count, generator), relabel=False)


@dataclass(frozen=True)
class Shy(ActiveLab):
    """Leaves the labelled examples out."""

    def choose(self, signals: Signals, count: int, generator: torch.Generator) -> Selection:
        found = super().choose(signals, len(signals) + 99, generator)
        return replace(found, indices=found.indices[found.indices < len(signals)][:count])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Greedy, "I2 .*labelled examples that are not to be asked about again"),
        (Silent, "I2 .*does not say"),
        (Shy, "I1 .*it gave"),
    ],
)
def test_the_harness_sees_what_is_wrong_with_asking_again(kind, told):
    with pytest.raises(AssertionError, match=told):
        check_strategy(kind, ("single",))


# The pool


def pool_of(*answers: tuple[str, str, str], people: int = 3, **asked: Any) -> Pool:
    examples = [Example(name, name, 1) for name in "abcdefgh"]
    given = [Answer(name, "x" if status == "submitted" else None, who, status) for name, who, status in answers]
    return Pool(examples, answers=given, people=people, **asked)


def asked(name: str, round_: int, *before: str, strategy: str = "activelab") -> Query:
    return Query(round_, name, 0, None, strategy, 1, before)


@pytest.mark.parametrize(
    ("said", "is_open"),
    [
        ([], True),
        ([("ann", "submitted")], True),  # who answers anew is still the same person
        ([("bob", "draft")], True),
        ([("bob", "submitted")], False),
        ([("bob", "discarded")], False),
        ([("bob", "submitted"), ("bob", "retracted")], True),
        ([("ann", "retracted"), ("bob", "submitted")], False),
    ],
)
def test_what_is_asked_again_waits_for_somebody_else(said, is_open):
    queries = [asked("a", 0), asked("a", 3, "ann")]
    pool = pool_of(("a", "ann", "submitted"), *(("a", who, status) for who, status in said), queries=queries)
    assert [query.id for query in pool.unanswered(3)] == (["a"] if is_open else [])
    assert pool.waiting() == ({"a"} if is_open else set())
    assert pool.unanswered(0) == []


def test_several_people_are_needed_by_a_new_question_alone():
    queries = [asked("a", 0), asked("a", 1, "ann", "bob")]
    pool = pool_of(*(("a", who, "submitted") for who in ("ann", "bob")), queries=queries, needs=lambda name: 2)
    assert (pool.unanswered(0), pool.unanswered(1)) == ([], [queries[1]])
    pool.answers.append(Answer("a", "x", "cas"))
    assert pool.unanswered(1) == []


def test_what_may_be_asked_again_is_labelled_in_the_train_part_and_left_to_somebody():
    pool = pool_of(
        ("a", "ann", "submitted"),
        ("b", "ann", "discarded"),  # has no label
        *(("c", who, "submitted") for who in ("ann", "bob", "cas")),  # answered by all
        ("d", "ann", "submitted"),  # waits
        ("e", "ann", "submitted"),  # held out
        *(("f", who, "submitted") for who in ("dataset", "ann", "bob")),  # the data are nobody
        ("g", "ann", "submitted"),
        ("g", "bob", "draft"),
        queries=[asked("a", 0), asked("d", 0), asked("d", 1, "ann"), asked("e", 0, strategy="holdout")],
    )
    assert pool.askable_again() == {"a", "f", "g"}
    pool.people = 2
    assert pool.askable_again() == {"a", "g"}
    assert [example.id for example in pool.unlabelled()] == ["h"]


def test_each_annotation_costs_and_the_first_question_tells_the_round():
    pool = pool_of(queries=[asked("a", 0, strategy="initial"), asked("b", 1), asked("a", 2, "ann"), asked("a", 3, "x")])
    assert [pool.cost("records", until) for until in (0, 1, 2, 3)] == [1, 2, 3, 4]
    assert [pool.asked_again(until) for until in range(4)] == [0, 0, 1, 2]
    assert [(name, query.round) for name, query in pool.first_queries().items()] == [("a", 0), ("b", 1)]
    assert pool.places() == {"a": 3, "b": 1}


def test_only_a_question_that_is_asked_again_names_who_answered(tmp_path):
    made = [replace(asked("a", 0), batch=1), replace(asked("a", 1, "ann", "bob"), batch=1)]
    with RunDirectory(tmp_path) as store:
        store.add_queries(made[:1])
        store.add_queries(made[1:])
        assert store.queries() == made
    lines = read_lines(tmp_path / "queries.jsonl")
    assert "before" not in lines[0]
    assert lines[1]["before"] == ["ann", "bob"]


# Who answers


def oracle(gold: dict[str, str], tmp_path: Path, **parameters: Any):
    made = make_annotator("oracle", {"annotators": 3, "noise": 0.5, **parameters})
    task = make_task("text-classification", {}).with_labels(["x", "y", "z"])
    made.start(Setting(task, {}, tmp_path, gold))
    return made


def questions(names: list[str], before: dict[str, tuple[str, ...]]) -> list[Question]:
    return [Question(Example(name, name, 1), 0, 0, before=before.get(name, ())) for name in names]


def test_each_annotator_is_asked_once_and_makes_mistakes_of_their_own(tmp_path):
    names = [f"t{at}" for at in range(900)]
    made, before = oracle(dict.fromkeys(names, "x"), tmp_path), defaultdict(tuple)
    for turn in range(1, 4):
        made.push(questions(names, before))
        made.push(questions(names, before))  # after a crash
        said = made.pull()
        assert len(said) == turn * len(names)
        for answer in said:
            before[answer.id] = tuple(dict.fromkeys((*before[answer.id], answer.annotator)))
    assert {tuple(sorted(who)) for who in before.values()} == {("oracle-1", "oracle-2", "oracle-3")}
    assert min(Counter(who[0] for who in before.values()).values()) > 250  # no one is asked first always
    label = {(answer.id, answer.annotator): answer.label == "x" for answer in made.pull()}
    shares = [[label[name, f"oracle-{at}"] for name in names] for at in (1, 2, 3)]
    for right in shares:
        assert sum(right) / len(names) == pytest.approx(0.5, abs=0.05)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = sum(a and b for a, b in zip(shares[one], shares[other], strict=True)) / len(names)
        assert both == pytest.approx(0.25, abs=0.05)


def test_what_an_annotator_says_depends_on_who_and_what_alone(tmp_path):
    gold = {f"t{at}": "x" for at in range(40)}
    made = oracle(gold, tmp_path)
    made.push(questions(sorted(gold), {}))
    first = {(answer.id, answer.annotator): answer for answer in made.pull()}
    other = oracle(gold, tmp_path)
    everybody = dict.fromkeys(gold, ("oracle-1", "oracle-2", "oracle-3"))
    for name, who in first:
        other.push(questions([name], {name: tuple(one for one in everybody[name] if one != who)}))
    assert {(answer.id, answer.annotator): answer for answer in other.pull()} == first
    changed = oracle(gold, tmp_path, seed=1)
    changed.push(questions(sorted(gold), {}))
    assert changed.pull() != made.pull()
    with pytest.raises(UserError, match=r"annotators is 3, and all of them have answered 't0'"):
        made.push(questions(["t0"], everybody))


def test_a_single_oracle_says_what_it_always_said(tmp_path):
    made = oracle({"a": "x", "b": "y"}, tmp_path, annotators=1, noise=0.0)
    made.push(questions(["a", "b"], {}))
    assert made.pull() == [Answer("a", "x", "oracle"), Answer("b", "y", "oracle")]
    with pytest.raises(UserError, match=r"annotators is 0; it must be at least 1"):
        make_annotator("oracle", {"annotators": 0})
    with pytest.raises(UserError, match=r"annotators is 0; it must be at least 1"):
        make_annotator("jsonl", {"annotators": 0})


def test_files_name_those_who_have_answered_and_what_is_asked_again_stands_last(tmp_path):
    made = make_annotator("jsonl", {"annotators": 2})
    made.start(Setting(make_task("text-classification", {}).with_labels(["x", "y"]), {}, tmp_path))
    made.push(questions(["a", "b", "c"], {}))
    made.push([replace(one, round=1) for one in questions(["a", "d"], {"a": ("ann",)})])
    lines = read_lines(tmp_path / "questions.jsonl")
    assert [(line["id"], line["round"]) for line in lines] == [("b", 0), ("c", 0), ("a", 1), ("d", 1)]
    assert [line.get("answered_by") for line in lines] == [None, None, ["ann"], None]


# What is known of the labelled set


def test_votes_have_a_row_a_decision_and_a_column_an_annotator():
    task = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])
    pair = [Example("a", ("u", "v"), 2), Example("b", ("w",), 1)]
    last = {
        "a": [Answer("a", ["O", "B-X"], "ann"), Answer("a", ["B-X", "I-X"], "bob")],
        "b": [Answer("b", None, "ann", "discarded"), Answer("b", ["O"], "cas")],
    }
    found = votes(task, pair, last)
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.votes.tolist() == [[0, 1, -1], [1, 2, -1], [-1, -1, 0]]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_AL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def learner(folder: Path, model: str, rows: list, **sections: Any) -> ActiveLearner:
    given = {"strategy": "activelab", "annotator": NOISY, "loop": {"initial": 30, "batch": 10, "rounds": 4}}
    return ActiveLearner(read_config(values_of(folder, model, rows, 0, **{**given, **sections}), folder))


def test_probabilities_are_of_models_that_did_not_see_the_label(tmp_path, model):
    made = learner(tmp_path, model, some_rows(60), loop={"initial": 30, "rounds": 0})
    made.run()
    known = [example for example, _ in made.pool.labelled()]
    found = made.fields.of(1, made.fit, known, {"out_of_fold", "votes"})
    assert found.votes.shape == (30, 3)
    assert (found.votes >= 0).sum(1).tolist() == [1] * 30
    labels = made.pool.labels()
    order = sorted(range(30), key=lambda at: json.dumps(labels[known[at].id]))
    for fold in range(FOLDS):
        held = order[fold::FOLDS]
        rest = [(known[at], labels[known[at].id]) for at in range(30) if at not in held]
        other = made.fitter.aside(rest)
        said = made.fields._of_model(1, replace(made.fit, model=other), [known[at] for at in held], {"probs"}, False)
        torch.testing.assert_close(found.out_of_fold[held], said.probs)
    own = made.fields.of(1, made.fit, known, {"probs"})
    assert not found.out_of_fold.allclose(own.probs, atol=1e-3)


def test_where_labels_are_too_few_for_folds_the_model_of_the_round_stands_in(tmp_path, model):
    made = learner(tmp_path, model, some_rows(60), loop={"initial": 30, "rounds": 0})
    made.run()
    labels = made.pool.labels()
    names = {label: name for name, label in labels.items()}
    pair = [made.pool[names[label]] for label in sorted(names)[:2]]  # without either, one class is left
    found = made.fields.of(1, made.fit, pair, {"out_of_fold"})
    torch.testing.assert_close(found.out_of_fold, made.fields.of(1, made.fit, pair, {"probs"}).probs)


# Runs


def once(run: Path) -> None:
    """What has to hold of every run that asks again."""
    lines, given = read_lines(run / "queries.jsonl"), read_lines(run / "labels.jsonl")
    pairs = [(line["id"], line["annotator"]) for line in given]
    assert len(pairs) == len(set(pairs)) == len(lines)  # each question one answer, nobody the same thing twice
    for round_ in {line["round"] for line in lines}:
        names = [line["id"] for line in lines if line["round"] == round_]
        assert len(names) == len(set(names))
    order: dict[str, list[str]] = defaultdict(list)
    for line in given:
        order[line["id"]].append(line["annotator"])
    seen: Counter[str] = Counter()
    for line in lines:
        assert line.get("before", []) == order[line["id"]][: seen[line["id"]]]
        seen[line["id"]] += 1
    assert max(seen.values()) <= 3


def test_a_whole_run_asks_again_counts_it_and_goes_on_alike_after_a_stop(tmp_path, model):
    rows = some_rows(120)
    whole = learner(tmp_path / "whole", model, rows)
    whole.run()
    run = tmp_path / "whole" / "run"
    once(run)
    lines, metrics = read_lines(run / "queries.jsonl"), read_lines(run / "metrics.jsonl")
    assert [line["cost"] for line in metrics] == [line["answers"] for line in metrics] == [30, 40, 50, 60, 70]
    again = [line for line in lines if "before" in line]
    assert len(again) > 10
    assert [line.get("again", 0) for line in metrics] == [sum(q["round"] <= at for q in again) for at in range(5)]
    assert all(line["labelled"] + line.get("again", 0) == line["cost"] for line in metrics)
    assert all(line["score"] is not None for line in lines if line["round"])

    part = learner(tmp_path / "part", model, rows)
    pull, stops = part.answers._take, iter([False, False, True])

    def take(round_: int) -> None:
        if next(stops, False):
            raise KeyboardInterrupt  # the batch of a round that asks again is asked, and not answered
        pull(round_)

    part.answers._take = take
    with pytest.raises(KeyboardInterrupt):
        part.run()
    half = tmp_path / "part" / "run"
    assert len(read_lines(half / "queries.jsonl")) > len(read_lines(half / "labels.jsonl"))
    learner(tmp_path / "part", model, rows).run()
    for name in ("queries.jsonl", "labels.jsonl"):
        told = [[{**line, "time": ""} for line in read_lines(folder / name)] for folder in (run, half)]
        assert told[0] == told[1]


@pytest.mark.parametrize(
    ("task", "rows", "options"),
    [
        ("text-classification", [{**row, "label": [row["label"]]} for row in some_rows(80)], {"multi_label": True}),
        ("token-classification", some_sentences(80), {}),
        ("response-selection", some_dialogues(80), {}),
    ],
)
def test_every_task_is_served(tmp_path, model, task, rows, options):
    sections = {"task": task, "task_options": options, "annotator": {**NOISY, "noise": 0.2}}
    learner(tmp_path, model, rows, loop={"initial": 30, "batch": 10, "rounds": 3}, **sections).run()
    once(tmp_path / "run")
    assert any("before" in line for line in read_lines(tmp_path / "run" / "queries.jsonl"))


def test_when_all_have_answered_all_the_run_ends(tmp_path, model):
    made = learner(
        tmp_path, model, some_rows(20), loop={"initial": 12, "batch": 9, "rounds": 20}, annotator={**NOISY, "noise": 0}
    )
    made.run()
    once(tmp_path / "run")
    metrics = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert metrics[-1]["cost"] == 60
    assert [line["labelled"] for line in metrics][-3:] == [20, 20, 20]
    assert len(metrics) == 7  # 12, 21, ..., 57, 60


def test_the_holdout_is_asked_about_once_and_words_are_paid_for_each_time(tmp_path, model, monkeypatch):
    monkeypatch.setattr("nlp_al.scores.RESAMPLES", 2)
    loop = {"initial": 150, "batch": 60, "rounds": 3, "unit": "words", "holdout": 0.2}
    made = learner(tmp_path, model, some_rows(80), loop=loop)
    made.run()
    once(tmp_path / "run")
    lines = read_lines(tmp_path / "run" / "queries.jsonl")
    held = [line for line in lines if line["strategy"] == "holdout"]
    assert held
    assert not {line["id"] for line in held} & {line["id"] for line in lines if "before" in line}
    assert any("before" in line for line in lines)
    words = {example.id: example.words for example in made.pool.examples}
    spent = [sum(words[line["id"]] for line in lines if line["round"] <= at) for at in range(4)]
    assert [line["cost"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")] == spent
    assert spent[-1] <= 330


def test_a_stage_before_it_leaves_the_labelled_set_whole(tmp_path, model):
    for name, strategy in (("both", [{"name": "margin", "keep": 10}, "activelab"]), ("first", "margin")):
        about = {"loop": {"initial": 30, "batch": 10, "rounds": 1}, "annotator": {**NOISY, "noise": 0.0}}
        learner(tmp_path / name, model, some_rows(80), strategy=strategy, **about).run()
    once(tmp_path / "both" / "run")
    files = [tmp_path / name / "run" / "queries.jsonl" for name in ("both", "first")]
    both, first = ([line for line in read_lines(file) if line["round"]] for file in files)
    assert {line["strategy"] for line in both} == {"margin+activelab"}
    new = {line["id"] for line in both if "before" not in line}
    assert 0 < len(new) < len(both)
    assert new < {line["id"] for line in first}


def test_people_behind_files_answer_in_turn(tmp_path, model, monkeypatch):
    rows = some_rows(60)
    gold = {row["id"]: row["label"] for row in rows}
    made = learner(
        tmp_path,
        model,
        [{**row, "label": None} for row in rows],
        labels=["food", "money", "sport"],
        annotator={"name": "jsonl", "annotators": 2},
        loop={"initial": 20, "batch": 10, "rounds": 2},
    )
    run, pulls, waits = tmp_path / "run", Counter(), []

    def nap(seconds: float) -> None:
        """Ann answers all; what she has answered already is left to Bob, who comes later."""
        lines = read_lines(run / "questions.jsonl")
        round_ = lines[-1]["round"]
        pulls[round_] += 1
        given = [(line, "ann") for line in lines if line["round"] == round_]
        if pulls[round_] > 1:
            waits.append(len(made.pool.unanswered(round_)))
            given = [(line, "bob") for line, _ in given if line.get("answered_by") == ["ann"]]
        with (run / "answers.jsonl").open("a") as file:
            for line, who in given:
                file.write(json.dumps({"id": line["id"], "label": gold[line["id"]], "annotator": who}) + "\n")

    monkeypatch.setattr("nlp_al.answers.time.sleep", nap)
    made.run()
    again = [line for line in read_lines(run / "queries.jsonl") if "before" in line]
    assert again
    assert all(line["before"] == ["ann"] for line in again)
    assert sum(waits) == len(again)  # Ann's second answer counts as none
    said = [(line["id"], line["annotator"]) for line in read_lines(run / "labels.jsonl")]
    assert {name for name, who in said if who == "bob"} == {line["id"] for line in again}


# What is told


def test_reports_count_what_is_paid_for(tmp_path, model):
    pytest.importorskip("matplotlib")
    rows = some_rows(80)
    for name in ("activelab", "random"):
        folder = tmp_path / name
        values = values_of(folder, model, rows, 30, strategy=name, annotator=NOISY, loop={"initial": 30, "rounds": 2})
        ActiveLearner(read_config(values, folder)).run()
    runs = [tmp_path / name / "run" for name in ("activelab", "random")]
    found = [read_run(run) for run in runs]
    assert [[entry[run.budget] for entry in run.rounds] for run in found] == [[30, 35, 40]] * 2
    assert found[0].rounds[-1]["labelled"] < 40
    told = compare(runs)
    assert " labels" in told
    assert "labelled examples" not in told
    again = len({line["id"] for line in read_lines(runs[0] / "queries.jsonl") if "before" in line})
    assert f"wait; {again} were asked again" in status_text(runs[0])
    assert "asked again" not in status_text(runs[1])
    export(runs[0], tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().count('""oracle-') == 40  # each person's answer, in a cell an example
    spent = [one.spent for one in observations(read_lines(runs[0] / "metrics.jsonl"), "accuracy", 5)]
    assert spent == [30, 35, 40]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"annotator": "oracle"},
            "strategy is 'activelab', .* annotator is oracle with nobody else to ask",
        ),
        ({"annotator": "jsonl"}, "annotator is jsonl with nobody else"),
        (
            {"annotator": {"name": "argilla", "annotators": 3}},
            r"annotator is argilla .*\(the page of argilla asks about a record once\)",
        ),
        (
            {"strategy": [{"name": "activelab", "keep": 50}, "margin"]},
            r"strategy\[0\] is 'activelab', .* must be the last stage",
        ),
        ({"strategy": {"name": "seals", "base": "activelab"}}, "base is 'activelab', .* has to stand alone"),
        ({"strategy": {"name": "by_budget", "high": "activelab"}}, "high is 'activelab', .* has to stand alone"),
        ({"initial": "activelab"}, "needs a fitted model"),
        ({"strategy": {"name": "activelab", "agg": "sum"}}, "agg is 'sum'; it must be mean or max or topm"),
    ],
)
def test_a_config_that_could_not_ask_again_is_refused(tmp_path, sections, told):
    given = {"strategy": "activelab", "annotator": NOISY, **sections}
    with pytest.raises(UserError, match=told):
        read_config(values_of(tmp_path, str(tmp_path), some_rows(60), 0, **given), tmp_path)
