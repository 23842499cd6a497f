"""Examples by stable id: their order, their ids, and the fold from answers to labels."""

import random

import pytest

from nlp_al.aggregation import Majority
from nlp_al.pool import Answer, Example, Pool, Query, content_hash, made_ids
from nlp_al.tasks import make_task


def pool_of(*names: str, answers: list[Answer] | None = None, asked: str = "", held: str = "") -> Pool:
    examples = [Example(name, f"text of {name}", words=len(name)) for name in names]
    kinds = [*((name, "margin") for name in asked), *((name, "holdout") for name in held)]
    queries = [Query(0, name, rank, None, kind, len(kinds)) for rank, (name, kind) in enumerate(kinds)]
    return Pool(examples, queries, answers or [])


def ids(examples) -> list[str]:
    return [example.id for example in examples]


# The fold


def test_the_last_answer_of_an_annotator_holds():
    pool = pool_of("a", "b", answers=[Answer("a", "x", "ann"), Answer("b", "x", "ann"), Answer("a", "y", "ann")])
    assert pool.labels() == {"a": "y", "b": "x"}


def test_the_majority_of_annotators_holds_not_the_last_line():
    answers = [Answer("a", "x", "ann"), Answer("a", "x", "bob"), Answer("a", "y", "cas")]
    assert pool_of("a", answers=answers).labels() == {"a": "x"}


def test_one_annotator_who_answers_often_has_one_vote():
    answers = [Answer("a", "y", "ann"), Answer("a", "x", "bob"), Answer("a", "y", "cas"), Answer("a", "x", "bob")]
    assert pool_of("a", answers=answers).labels() == {"a": "y"}


def test_on_a_tie_the_first_annotator_holds():
    assert pool_of("a", answers=[Answer("a", "y", "ann"), Answer("a", "x", "bob")]).labels() == {"a": "y"}
    assert pool_of("a", answers=[Answer("a", "x", "bob"), Answer("a", "y", "ann")]).labels() == {"a": "x"}


def test_lists_of_names_are_votes_too():
    answers = [Answer("a", ["O", "B-X"], "ann"), Answer("a", ["O", "O"], "bob"), Answer("a", ["O", "O"], "cas")]
    assert pool_of("a", answers=answers).labels() == {"a": ["O", "O"]}


@pytest.mark.parametrize("status", ["draft", "discarded", "skipped", "unreadable", "retracted"])
def test_only_submitted_answers_are_labels(status):
    assert pool_of("a", answers=[Answer("a", "x", "ann", status)]).labels() == {}
    assert pool_of("a", answers=[Answer("a", "x", "ann"), Answer("a", "x", "ann", status)]).labels() == {}
    assert pool_of("a", answers=[Answer("a", "x", "ann", status), Answer("a", "y", "bob")]).labels() == {"a": "y"}


def test_an_answer_about_an_example_that_left_the_data_is_no_label():
    assert pool_of("a", answers=[Answer("gone", "x", "ann")]).labels() == {}


def test_the_labels_of_a_round_are_those_of_its_first_answers():
    pool = pool_of("a", "b", answers=[Answer("a", "x", "ann"), Answer("b", "x", "ann"), Answer("a", "y", "ann")])
    assert [pool.labels(answers) for answers in (0, 1, 2)] == [{}, {"a": "x"}, {"a": "x", "b": "x"}]
    assert pool.labelled(1) == [(pool["a"], "x")]


# What is still to be answered, and to be asked


@pytest.mark.parametrize(
    ("statuses", "is_open"),
    [
        ((), True),
        (("draft",), True),
        (("draft", "submitted"), False),
        (("submitted", "retracted"), True),
        (("submitted", "retracted", "submitted"), False),
        (("discarded",), False),
        (("skipped",), False),
        (("unreadable",), False),
    ],
)
def test_a_query_waits_until_someone_has_a_final_answer(statuses, is_open):
    pool = pool_of("a", asked="a", answers=[Answer("a", None, "ann", status) for status in statuses])
    assert ids(pool.unanswered(0)) == (["a"] if is_open else [])


def test_an_answer_of_one_annotator_is_enough():
    pool = pool_of("a", asked="a", answers=[Answer("a", "x", "ann"), Answer("a", None, "bob", "draft")])
    assert pool.unanswered(0) == []


def test_another_round_does_not_wait():
    assert pool_of("a", asked="a").unanswered(1) == []


def test_nothing_is_asked_that_was_asked_or_answered():
    pool = pool_of(*"abcd", asked="a", held="b", answers=[Answer("c", None, "ann", "discarded")])
    assert ids(pool.unlabelled()) == ["d"]


def test_the_holdout_is_kept_apart_from_the_labelled_set():
    pool = pool_of(*"abc", asked="a", held="b", answers=[Answer(name, "x", "ann") for name in "abc"])
    assert sorted(ids(example for example, _ in pool.labelled())) == ["a", "c"]
    assert ids(example for example, _ in pool.labelled(holdout=True)) == ["b"]


# Order and ids


def test_the_order_is_the_same_whatever_the_order_of_the_rows():
    names = [f"row-{at}" for at in range(50)]
    shuffled = random.Random(0).sample(names, 50)
    assert ids(pool_of(*names).examples) == ids(pool_of(*shuffled).examples)
    assert ids(pool_of(*names).unlabelled()) == ids(pool_of(*names).examples)


def test_the_order_does_not_follow_a_file_sorted_by_class():
    names = [f"{label}-{at:02}" for label in ("neg", "pos") for at in range(50)]
    head = ids(pool_of(*names).examples)[:50]
    # Half of each class is expected; 50 of 50 is what an unshuffled pool would give.
    assert 15 <= sum(name.startswith("neg") for name in head) <= 35


def test_rows_that_are_added_leave_the_others_in_their_order():
    before = ids(pool_of(*(f"row-{at}" for at in range(20))).examples)
    after = ids(pool_of(*(f"row-{at}" for at in range(40))).examples)
    assert [name for name in after if name in before] == before


def test_made_ids_are_the_hash_of_the_text_and_an_ordinal_among_equal_texts():
    keys = [content_hash(text) for text in ("same", "other", "same", "same")]
    same, other = content_hash("same").hex(), content_hash("other").hex()
    assert made_ids(keys) == [f"{same}-0", f"{other}-0", f"{same}-1", f"{same}-2"]


def test_made_ids_stay_when_rows_are_added_elsewhere():
    texts = ["one", "two", "one"]
    before = made_ids(content_hash(text) for text in texts)
    after = made_ids(content_hash(text) for text in ["new", "one", "newer", "two", "one", "new"])
    assert [after[at] for at in (1, 3, 4)] == before
    assert len(set(after)) == 6


def test_the_hash_tells_words_from_a_text():
    assert content_hash(("a", "b")) != content_hash("a b")
    assert content_hash(("a", "b")) != content_hash(("ab",))
    assert Example("1", "same", 1).key == Example("2", "same", 1).key


# Cost


def test_cost_counts_what_was_asked_in_records_or_words():
    # Holdout included, answered or not; what the data brought along costs nothing.
    examples = [Example("a", "", 1), Example("bbb", "", 3), Example("cc", "", 2)]
    asked = [Query(0, "a", 0, None, "margin", 2), Query(0, "bbb", 1, None, "holdout", 2)]
    pool = Pool(examples, asked, [Answer("cc", "x", "dataset")])
    assert pool.cost("records") == 2.0
    assert pool.cost("words") == 4.0


# Several annotators


class Counting(Majority):
    """Notes how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __call__(self, last):
        self.asked += 1
        return super().__call__(last)


def test_the_same_answers_are_folded_once():
    pool = pool_of("a", "b", answers=[Answer("a", "x", "ann"), Answer("b", "x", "ann"), Answer("a", "y", "ann")])
    pool.fold = Counting()
    for _ in range(3):
        assert pool.labels() == pool.labels(3) == pool.labels(9) == {"a": "y", "b": "x"}
        assert pool.labels(2) == {"a": "x", "b": "x"}
        assert len(pool.labelled()) == 2
    assert pool.fold.asked == 2
    pool.answers.append(Answer("b", "y", "bob"))
    pool.answers.append(Answer("b", "y", "cas"))
    assert pool.labels()["b"] == "y"
    assert pool.labels(3)["b"] == "x"
    assert pool.fold.asked == 3


def test_other_answers_of_the_same_number_are_folded_anew():
    pool = pool_of("a", answers=[Answer("a", "x", "ann")])
    assert pool.labels() == {"a": "x"}
    pool.answers = [Answer("a", "y", "ann")]
    assert pool.labels() == {"a": "y"}
    pool.labels()["a"] = "z"
    assert pool.labels() == {"a": "y"}


def test_what_is_kept_of_many_folds_is_little():
    pool = pool_of("a", answers=[Answer("a", str(at), "ann") for at in range(100)])
    assert [pool.labels(at) for at in range(1, 101)] == [{"a": str(at)} for at in range(100)]
    assert len(pool._folded) < 10


@pytest.mark.parametrize(
    ("given", "is_open"),
    [
        ([("ann", "submitted"), ("bob", "submitted")], False),
        ([("ann", "submitted"), ("bob", "discarded")], False),
        ([("ann", "submitted")], True),
        ([("ann", "submitted"), ("ann", "submitted"), ("ann", "discarded")], True),  # a person counts once
        ([("ann", "submitted"), ("bob", "draft")], True),
        ([("ann", "submitted"), ("bob", "submitted"), ("bob", "retracted")], True),
        ([("ann", "submitted"), ("bob", "retracted"), ("cas", "skipped")], False),
    ],
)
def test_a_query_waits_for_as_many_people_as_it_needs(given, is_open):
    pool = pool_of("a", "b", asked="ab", answers=[Answer("a", "x", who, status) for who, status in given])
    pool.answers.append(Answer("b", "x", "ann"))
    pool.needs = {"a": 2, "b": 1}.__getitem__
    assert ids(pool.unanswered(0)) == (["a"] if is_open else [])
    assert pool.waiting() == ({"a"} if is_open else set())


def test_what_waits_does_so_in_any_round():
    pool = pool_of("a", "b", "c", asked="ab", answers=[Answer("a", "x", "ann")])
    pool.queries.append(Query(1, "c", 0, None, "margin", 1))
    assert pool.waiting() == {"b", "c"}


def test_disputed_is_what_people_label_differently_while_nobody_has_decided():
    answers = [
        *(Answer(name, "x", "ann") for name in "abcdefgh"),
        *(Answer(name, "y", "bob") for name in "acefgh"),
        Answer("b", "x", "bob"),
        Answer("d", "y", "bob", "draft"),
        Answer("c", "x", "bob"),  # who has come round
        Answer("e", "z", "eve"),
        Answer("f", None, "eve", "discarded"),
        Answer("g", "z", "eve", "draft"),
        Answer("gone", "x", "ann"),
        Answer("gone", "y", "bob"),
    ]
    pool = pool_of(*"hgfedcba", answers=answers)
    order = [example.id for example in pool.examples]
    assert pool.disputed() == [name for name in order if name in "aefgh"]
    pool.fold = Majority(decides="eve")
    assert pool.disputed() == [name for name in order if name in "agh"]
    assert pool.labels()["e"] == "z"
    assert pool.labels()["f"] == "x"


def test_labels_that_say_the_same_are_no_dispute():
    multi = make_task("text-classification", {"multi_label": True}).with_labels(["x", "y"])
    pool = pool_of("a", "b", answers=[Answer("a", ["x", "y"], "ann"), Answer("a", ["y", "x"], "bob")])
    pool.answers += [Answer("b", [], "ann"), Answer("b", ["x"], "bob")]
    pool.fold = Majority(multi)
    assert pool.disputed() == ["b"]
