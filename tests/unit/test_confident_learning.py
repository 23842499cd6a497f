"""Labels that are likely to be wrong: the arithmetic, and what `nlp-al review` makes of a run."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import some_dialogues, some_rows, some_sentences, tiny_model, values_of

from nlp_al.cli import REVIEWS, main
from nlp_al.confident_learning import ISSUES, confident_joint, counted_as, joint, prune_by_class, thresholds
from nlp_al.config import read_config
from nlp_al.learner import ActiveLearner
from nlp_al.pool import Example
from nlp_al.review import doubts
from nlp_al.signals import Signals
from nlp_al.tasks import make_task

# Six items with two labels; the last of the first three looks like the other, the fifth is below both thresholds.
PROBS = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.25, 0.75], [0.2, 0.8], [0.6, 0.4], [0.1, 0.9]])
GIVEN = torch.tensor([0, 0, 0, 1, 1, 1])


def test_hand_computed_numbers():
    assert thresholds(PROBS, GIVEN).tolist() == pytest.approx([0.65, 0.70])
    assert counted_as(PROBS, GIVEN).tolist() == [0, 0, 1, 1, -1, 1]
    assert confident_joint(PROBS, GIVEN).tolist() == [[2, 1], [0, 2]]
    assert joint(PROBS, GIVEN).flatten().tolist() == pytest.approx([1 / 3, 1 / 6, 0, 1 / 2])
    for find in ISSUES.values():
        assert find(PROBS, GIVEN).tolist() == [False, False, True, False, False, False]


def test_right_labels_and_calibrated_models_leave_no_doubt():
    given = torch.arange(12) % 3
    probs = torch.full((12, 3), 0.1).scatter(1, given[:, None], 0.8)
    for find in ISSUES.values():
        assert not find(probs, given).any()


def blobs(apart: float, count: int = 3000, noise: float = 0.1):
    """Three clouds, a tenth of the labels another one's: out-of-fold probabilities, labels, which are wrong."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import cross_val_predict

    draw = np.random.default_rng(0)
    right = draw.integers(3, size=count)
    centres = apart * np.array([[0, 0], [1, 0], [0.5, 3**0.5 / 2]])
    points = centres[right] + draw.normal(size=(count, 2))
    given = np.where(draw.random(count) < noise, (right + draw.integers(1, 3, size=count)) % 3, right)
    probs = cross_val_predict(LinearDiscriminantAnalysis(), points, given, cv=5, method="predict_proba")
    return torch.from_numpy(probs), torch.from_numpy(given), torch.from_numpy(given != right)


@pytest.mark.parametrize("by", ISSUES)
def test_flipped_labels_among_three_clouds_are_found(by):
    probs, given, wrong = blobs(5.0)
    found = ISSUES[by](probs, given)
    assert float((found & wrong).sum() / wrong.sum()) >= 0.8
    assert float((found & wrong).sum() / found.sum()) >= 0.8


@pytest.mark.parametrize("by", ISSUES)
def test_the_order_of_rows_and_of_labels_makes_no_difference(by):
    probs, given, _ = blobs(2.0, 500)
    rows, options = torch.randperm(500), torch.tensor([2, 0, 1])
    found = ISSUES[by](probs, given)
    assert 0 < found.sum() < 500
    assert ISSUES[by](probs[rows], given[rows]).equal(found[rows])
    assert ISSUES[by](probs[:, options], options.argsort()[given]).equal(found)


def test_the_joint_has_the_shares_of_the_labels_and_sums_to_one():
    probs, given, _ = blobs(2.0, 500)
    found = joint(probs, given)
    assert float(found.sum()) == pytest.approx(1.0)
    assert found.sum(1).tolist() == pytest.approx((given.bincount() / 500).tolist())


def test_brute_force():
    probs, given, _ = blobs(1.5, 200)
    means = [probs[given == c][:, c].mean() for c in range(3)]
    counts = torch.zeros(3, 3, dtype=torch.int64)
    for row, label in zip(probs, given, strict=True):
        reaching = [c for c in range(3) if row[c] >= means[c]]
        if reaching:
            counts[label, max(reaching, key=lambda c: row[c])] += 1
    assert confident_joint(probs, given).equal(counts)
    quotas = [round(float((counts[c].sum() - counts[c, c]) / counts[c].sum() * (given == c).sum())) for c in range(3)]
    expected = set()
    for c, quota in enumerate(quotas):
        own = [at for at in range(200) if given[at] == c]
        expected |= set(sorted(own, key=lambda at: probs[at, c])[:quota])
    assert set(torch.nonzero(prune_by_class(probs, given)).flatten().tolist()) == expected


def test_a_label_that_nobody_has_is_never_suspected_of_being_right():
    probs = torch.cat([PROBS, torch.zeros(6, 1)], dim=1)
    assert counted_as(probs, GIVEN).tolist() == [0, 0, 1, 1, -1, 1]
    assert joint(probs, GIVEN)[2].tolist() == [0, 0, 0]


def test_cleanlab_finds_the_same():
    count = pytest.importorskip("cleanlab.count")
    probs, given, _ = blobs(2.0, 1000)
    counts, found = count.compute_confident_joint(
        given.numpy(), probs.numpy(), calibrate=False, return_indices_of_off_diagonals=True
    )
    assert confident_joint(probs, given).tolist() == counts.tolist()
    assert sorted(found) == torch.nonzero(ISSUES["confident_joint"](probs, given)).flatten().tolist()


# Of each task


def examples(inputs: list) -> list[Example]:
    return [Example(f"e{at}", one, 1) for at, one in enumerate(inputs)]


def test_words_share_what_is_known_of_tags_and_the_sentence_with_the_least_sure_word_is_first():
    task = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])
    sentences = [["a", "b"]] * 6
    given = [["B-X", "O"], ["B-X", "O"], ["O", "O"], ["O", "B-X"], ["B-X", "O"], ["B-X", "O"]]
    rows = [[0.1, 0.9, 0.0], [0.9, 0.1, 0.0]] * 6  # a is X, b is not
    rows[7] = [0.95, 0.05, 0.0]
    signals = Signals(
        probs=torch.tensor(rows),
        offsets=torch.arange(0, 13, 2),
        targets=torch.tensor([task.index[tag] for tags in given for tag in tags]),
    )
    found = doubts(task, list(zip(examples(sentences), given, strict=True)), signals)
    assert [(one.example.id, one.decisions, one.suggested) for one in found] == [
        ("e3", [0, 1], ["B-X", "O"]),
        ("e2", [0], ["B-X", "O"]),
    ]
    assert [one.confidence for one in found] == pytest.approx([0.05, 0.1])
    assert task.subjects(examples([["in", "old", "Paris", "now"]])[0])[1:3] == ["in [old] Paris", "old [Paris] now"]


def test_of_several_labels_each_is_judged_by_itself():
    task = make_task("text-classification", {"multi_label": True}).with_labels(["p", "q"])
    given = [["p"], ["p"], [], [], ["p", "q"], ["q"]]
    yes = [[0.9, 0.1], [0.9, 0.5], [0.1, 0.1], [0.95, 0.1], [0.9, 0.4], [0.1, 0.4]]  # models are shyer of q
    signals = Signals(
        probs=torch.tensor([[p, 1 - p] for row in yes for p in row]),
        offsets=torch.arange(0, 13, 2),
        targets=torch.tensor([int(name not in label) for label in given for name in task.labels]),
    )
    found = doubts(task, list(zip(examples(["text"] * 6), given, strict=True)), signals)
    assert [(one.example.id, one.suggested, one.decisions) for one in found] == [
        ("e3", ["p"], [0]),
        ("e1", ["p", "q"], [1]),
    ]
    assert task.subjects(found[0].example) == ["p", "q"]


def test_of_a_choice_each_candidate_is_a_question_and_a_single_one_is_none():
    task = make_task("response-selection", {})
    sizes, given = [2, 3, 2, 2, 1, 1, 1, 1, 1, 1], [0, 2, 1, 1, 0, 0, 0, 0, 0, 0]
    inputs = [{"context": ["hi"], "candidates": [f"c{at}" for at in range(size)]} for size in sizes]
    rows = [[0.52, 0.48, 9.0], [0.25, 0.25, 0.5], [0.55, 0.45, 9.0], [0.48, 0.52, 9.0], *[[1.0, 9.0, 9.0]] * 6]
    signals = Signals(probs=torch.tensor(rows), options=torch.tensor(sizes), targets=torch.tensor(given))
    (found,) = doubts(task, list(zip(examples(inputs), given, strict=True)), signals)
    assert (found.example.id, found.suggested, found.confidence) == ("e2", 0, pytest.approx(0.45))


def test_an_option_of_one_example_alone_is_not_judged():
    task = make_task("text-classification", {}).with_labels(["p", "q", "r"])
    given = ["p", "p", "q", "q", "r"]
    probs = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
    signals = Signals(probs=probs, targets=torch.tensor([task.index[name] for name in given]))
    found = doubts(task, list(zip(examples(["text"] * 5), given, strict=True)), signals)
    assert [(one.example.id, one.suggested) for one in found] == [("e3", "p")]


# Of a run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


def reviewed(folder: Path, model: str, capsys, rows: list, *more: str, **sections) -> list[dict[str, str]]:
    loop = {"initial": len(rows), "rounds": 0, "holdout": 0.1}
    values = values_of(folder, model, rows, test=0, loop=loop, **sections)
    ActiveLearner(read_config(values, Path.cwd())).run()
    capsys.readouterr()
    out = folder / "run" / "review.csv"
    assert main(["review", values["run_dir"], *more]) == 0
    with out.open(encoding="utf-8-sig", newline="") as file:
        found = list(csv.DictReader(file))
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{out} holds {len(found)} of {len(rows)} labelled examples, the most doubtful first."
    )
    assert [float(row["confidence"]) for row in found] == sorted(float(row["confidence"]) for row in found)
    return found


@pytest.mark.parametrize("by", REVIEWS)
def test_mistakes_of_a_simulated_annotator_come_to_light(tmp_path, model, capsys, by):
    rows = some_rows(300)
    gold = {row["id"]: row["label"] for row in rows}
    found = reviewed(tmp_path, model, capsys, rows, "--by", by, annotator={"name": "oracle", "noise": 0.1})
    answers = map(json.loads, (tmp_path / "run" / "labels.jsonl").read_text().splitlines())
    wrong = {line["id"] for line in answers if line["label"] != gold[line["id"]]}
    hits = [row for row in found if row["id"] in wrong]
    assert len(hits) / len(wrong) > 0.6
    assert len(hits) / len(found) > 0.4
    assert sum(row["suggested"] == gold[row["id"]] for row in hits) / len(hits) > 0.8
    assert {row["annotators"] for row in found} == {'["oracle"]'}


def test_words_of_a_run(tmp_path, model, capsys):
    rows = some_sentences(120)
    gold = {row["id"]: row["tags"] for row in rows}
    annotator = {"name": "oracle", "noise": 0.05}
    found = reviewed(tmp_path, model, capsys, rows, task="token-classification", annotator=annotator)
    answers = map(json.loads, (tmp_path / "run" / "labels.jsonl").read_text().splitlines())
    wrong = {line["id"] for line in answers if line["label"] != gold[line["id"]]}
    hits = [row for row in found if row["id"] in wrong]
    assert len(hits) / len(wrong) > 0.7
    assert len(hits) / len(found) > 0.4  # a quarter of all is wrong
    assert sum(json.loads(row["suggested"]) == gold[row["id"]] for row in hits) / len(hits) > 0.5
    assert all("[" in subject for row in found for subject in json.loads(row["doubtful"]))


def test_responses_of_a_run(tmp_path, model, capsys):
    rows = some_dialogues(200)
    draw, swapped = random.Random(0), set()
    for row in rows:
        if draw.random() < 0.1:
            row["label"] = (row["label"] + 1) % len(row["candidates"])
            swapped.add(row["id"])
    found = reviewed(tmp_path, model, capsys, rows, task="response-selection")
    assert len(swapped & {row["id"] for row in found}) / len(swapped) > 0.5


def test_the_command_s_ways_are_those_there_are():
    assert tuple(ISSUES) == REVIEWS


@pytest.mark.parametrize(
    ("rows", "more", "told"),
    [
        (12, ["--folds", "1"], "error: --folds is 1; it must be at least 2."),
        (12, ["--folds", "20"], "error: 12 examples are labelled; 20 folds take that many at least."),
    ],
)
def test_what_can_not_be_reviewed_is_told(tmp_path, model, capsys, rows, more, told):
    values = values_of(tmp_path, model, some_rows(rows), test=0, loop={"initial": rows, "rounds": 0})
    ActiveLearner(read_config(values, Path.cwd())).run()
    capsys.readouterr()
    assert main(["review", values["run_dir"], *more]) != 0
    assert capsys.readouterr().err.strip() == told
