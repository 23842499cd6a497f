"""Mistakes of simulated people: how many, and which."""

import itertools
import random
from collections import Counter

import pytest
from helpers import some_dialogues, some_rows, some_sentences

from nlp_al.annotation import Setting, make_annotator
from nlp_al.annotation.base import Question
from nlp_al.annotation.noise import instance_dependent, mistaken_spans, pair_flip, swaps, symmetric, transition
from nlp_al.errors import UserError
from nlp_al.pool import Example
from nlp_al.tasks import make_task
from nlp_al.tasks.tags import spans_of_tags

LABELS = ["a", "b", "c", "d"]
MANY = 100_000
KINDS = ["symmetric", "pair_flip", "instance_dependent"]


def instead(kind: str, at: int, options: int) -> list[float]:
    if kind == "instance_dependent":
        return instance_dependent(at, options, "the old bank", 0)
    return {"symmetric": symmetric, "pair_flip": pair_flip}[kind](at, options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [1, 2, 5])
def test_rows_of_the_transition_matrix_sum_to_one(kind, options):
    for at in range(options):
        row = transition(instead(kind, at, options), at, 0.3)
        assert sum(row) == pytest.approx(1.0)
        assert min(row) >= 0
        assert row[at] == pytest.approx(0.7 if options > 1 else 1.0)


def test_hand_computed_rows():
    assert transition(symmetric(1, 4), 1, 0.3) == pytest.approx([0.1, 0.7, 0.1, 0.1])
    assert transition(pair_flip(1, 4), 1, 0.3) == pytest.approx([0, 0.7, 0.3, 0])
    assert transition(pair_flip(3, 4), 3, 0.3) == pytest.approx([0.3, 0, 0, 0.7])


@pytest.mark.parametrize("kind", ["symmetric", "pair_flip"])
@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_the_rate_holds_within_three_standard_deviations(kind, rate):
    said = swaps(kind, rate, "", 0, random.Random(0))
    found = Counter((label, said(label, LABELS)) for label in itertools.islice(itertools.cycle(LABELS), MANY))
    flips = sum(count for (label, other), count in found.items() if label != other)
    assert abs(flips / MANY - rate) < 3 * (rate * (1 - rate) / MANY) ** 0.5
    assert len(found) == (16 if kind == "symmetric" else 8)


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_the_rate_over_texts_holds_where_each_has_its_own(rate):
    draw, texts = random.Random(0), 20_000
    words = [f"w{at}" for at in range(50)]
    flips = sum(
        swaps("instance_dependent", rate, draw.choice(words), 0, draw)("a", LABELS) != "a" for _ in range(texts)
    )
    assert abs(flips / texts - rate) < 3 * (rate * (1 - rate) / texts) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_all_mistakes_never_keep_a_label_and_none_always_does(kind):
    draw = random.Random(0)
    assert all(swaps(kind, 1.0, "a bank", 0, draw)("b", LABELS) != "b" for _ in range(1000))
    assert all(swaps(kind, 0.0, "a bank", 0, draw)("b", LABELS) == "b" for _ in range(1000))
    assert swaps(kind, 1.0, "a bank", 0, draw)("b", ["b"]) == "b"


def test_what_a_text_is_mistaken_for_depends_on_its_words_and_the_seed_alone():
    one, same, other = (instance_dependent(0, 4, text, 0) for text in ("the old bank", "Bank old, the", "new cheese"))
    assert one == pytest.approx(same)
    assert one != pytest.approx(other, abs=0.05)
    assert one != pytest.approx(instance_dependent(0, 4, "the old bank", 1), abs=0.05)
    leanings = Counter(max(range(4), key=instance_dependent(0, 4, f"w{at} x{at}", 0).__getitem__) for at in range(300))
    assert sorted(leanings) == [1, 2, 3]
    assert min(leanings.values()) > 60


# Spans


def spans(tags: list[str]) -> set[tuple[int, int, str]]:
    return {
        (one["start"], one["end"], one["label"]) for one in spans_of_tags([[i, i + 1] for i in range(len(tags))], tags)
    }


def test_entities_are_missed_moved_or_of_another_type():
    gold, seen, kept = ["O", "B-X", "I-X", "O", "B-Y", "O"], Counter(), 0
    first, draw = min(spans(gold)), random.Random(0)
    for _ in range(20_000):
        found = spans(mistaken_spans(gold, ["X", "Y"], 0.3, draw))
        kept += first in found
        ours = [one for one in found if one[0] < 3 and one[1] <= 4]
        if first not in found:
            assert len(ours) <= 1
            seen["missed" if not ours else "type" if ours[0][:2] == first[:2] else ours[0][:2]] += 1
            assert not ours or ours[0][:2] == first[:2] or ours[0][2] == "X"
    assert abs(kept / 20_000 - 0.7) < 3 * (0.21 / 20_000) ** 0.5
    assert seen.keys() == {"missed", "type", (0, 3), (2, 3), (1, 2), (1, 4)}
    for way in ("missed", "type"):
        assert seen[way] / seen.total() == pytest.approx(1 / 3, abs=0.02)


def test_entities_never_overlap_and_a_sentence_without_any_has_none():
    gold = ["B-X", "B-X", "I-X", "B-Y", "O", "B-X"]
    for at in range(500):
        answer = mistaken_spans(gold, ["X", "Y"], 1.0, random.Random(at))
        assert len(answer) == 6
        assert not spans(answer) & spans(gold) or spans(answer) != spans(gold)
    assert mistaken_spans(["O"] * 5, ["X"], 1.0, random.Random(0)) == ["O"] * 5
    assert mistaken_spans(gold, ["X", "Y"], 0.0, random.Random(0)) == gold
    assert mistaken_spans(["B-X"], ["X"], 1.0, random.Random(0)) == ["O"]


# The oracle


def answers(tmp_path, task, gold: dict, inputs: dict, **parameters) -> dict:
    oracle = make_annotator("oracle", parameters)
    examples = [Example(name, one, 1) for name, one in inputs.items()]
    oracle.start(Setting(task, {}, tmp_path, gold, examples))
    oracle.push([Question(example, 0, at) for at, example in enumerate(examples)])
    return {answer.id: answer.label for answer in oracle.pull()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_oracle_says_of_texts(tmp_path, kind):
    rows = some_rows(2000)
    gold = {row["id"]: row["label"] for row in rows}
    task = make_task("text-classification", {}).with_labels(["sport", "money", "food"])
    texts = {row["id"]: row["text"] for row in rows}
    said = answers(tmp_path, task, gold, texts, noise=0.2, noise_kind=kind)
    wrong = [(gold[name], label) for name, label in said.items() if label != gold[name]]
    assert len(wrong) / 2000 == pytest.approx(0.2, abs=3 * (0.16 / 2000) ** 0.5)
    assert said == answers(tmp_path, task, gold, dict(reversed(texts.items())), noise=0.2, noise_kind=kind)
    assert len(set(wrong)) == (3 if kind == "pair_flip" else 6)


def test_what_the_oracle_says_of_words_and_dialogues(tmp_path):
    rows = some_sentences(300)
    gold = {row["id"]: row["tags"] for row in rows}
    task = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])
    said = answers(tmp_path, task, gold, {r["id"]: r["tokens"] for r in rows}, noise=0.3, noise_kind="spans")
    whole = sum(len(spans(tags)) for tags in gold.values())
    right = sum(len(spans(tags) & spans(said[name])) for name, tags in gold.items())
    assert right / whole == pytest.approx(0.7, abs=0.08)
    assert all(
        task.readable(tags, Example(name, r["tokens"], 1)) for (name, tags), r in zip(said.items(), rows, strict=True)
    )
    rows = some_dialogues(1000)
    gold = {row["id"]: row["label"] for row in rows}
    inputs = {r["id"]: {"context": r["context"], "candidates": r["candidates"]} for r in rows}
    said = answers(tmp_path, make_task("response-selection", {}), gold, inputs, noise=0.3)
    swapped = [name for name, label in said.items() if label != gold[name]]
    assert len(swapped) / 1000 == pytest.approx(0.3, abs=3 * (0.21 / 1000) ** 0.5)
    assert all(0 <= said[name] < len(inputs[name]["candidates"]) for name in swapped)


def test_a_kind_that_does_not_fit_the_task_is_told(tmp_path):
    texts = make_task("text-classification", {}).with_labels(["a", "b"])
    with pytest.raises(UserError, match="spans, which text-classification has none of"):
        answers(tmp_path, texts, {}, {}, noise_kind="spans")
    with pytest.raises(UserError, match="response-selection have no names"):
        answers(tmp_path, make_task("response-selection", {}), {}, {}, noise_kind="instance_dependent")


def test_a_wrong_kind_is_told_before_torch_loads():
    with pytest.raises(UserError, match="noise_kind"):
        make_annotator("oracle", {"noise_kind": "gaussian"})
