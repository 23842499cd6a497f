"""Several people's answers as one label: by majority and by Dawid and Skene's model, decision by decision."""

import importlib.util
import random
from collections import Counter

import numpy as np
import pytest

from nlp_al import aggregation
from nlp_al.aggregation import DawidSkene, Majority, check_installed
from nlp_al.errors import UserError
from nlp_al.pool import Answer
from nlp_al.tasks import make_task

TEXT = make_task("text-classification", {}).with_labels(["x", "y", "z"])
MULTI = make_task("text-classification", {"multi_label": True}).with_labels(["a", "b", "c"])
TAGS = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X", "B-Y", "I-Y"])
RANKING = make_task("response-selection", {"none_of_these": "None of these."})

with_crowd_kit = pytest.mark.skipif(
    importlib.util.find_spec("crowdkit") is None, reason='needs pip install "nlp-al[crowd]"'
)


def said(**labels) -> dict[str, list[Answer]]:
    """One example, with a label by each of these people, who answered in this order."""
    return {"1": [Answer("1", label, who) for who, label in labels.items()]}


def those(votes: dict[str, dict[str, object]]) -> dict[str, list[Answer]]:
    return {name: [Answer(name, label, who) for who, label in people.items()] for name, people in votes.items()}


def shuffled(last: dict[str, list[Answer]], seed: int) -> dict[str, list[Answer]]:
    """The same answers, come in another order."""
    draw = random.Random(seed)
    names = draw.sample(sorted(last), len(last))
    return {name: draw.sample(last[name], len(last[name])) for name in names}


class TestMajority:
    def test_a_label_may_be_one_that_nobody_gave_as_a_whole(self):
        tags = said(ann=["B-X", "O", "O"], bob=["O", "B-X", "O"], cas=["B-X", "B-X", "O"], dan=["O", "B-X", "B-Y"])
        tags["1"] += [Answer("1", ["B-X", "O", "B-Y"], "eve"), Answer("1", ["B-X", "B-X", "B-Y"], "fay")]
        assert Majority(TAGS)(tags) == {"1": ["B-X", "B-X", "O"]}
        assert Majority()(tags) == {"1": ["B-X", "O", "O"]}  # as wholes all differ, and the first one holds

    def test_several_labels_are_a_vote_each(self):
        assert Majority(MULTI)(said(bob=["b", "c"], ann=["a", "b"], cas=["a"])) == {"1": ["a", "b"]}
        assert Majority(MULTI)(said(ann=["a"], bob=["b"], cas=["c"])) == {"1": []}

    def test_a_tie_is_the_earliest_annotator_s_in_each_decision(self):
        assert Majority(TEXT)(said(bob="y", ann="x")) == {"1": "y"}
        assert Majority(TEXT)(said(bob="y", ann="x", cas="z", dan="x", eve="z")) == {"1": "x"}
        assert Majority(MULTI)(said(bob=["b"], ann=["a", "b"])) == {"1": ["b"]}
        assert Majority(TAGS)(said(bob=["O", "B-Y"], ann=["B-X", "I-X"])) == {"1": ["O", "B-Y"]}

    def test_tags_put_together_are_legal(self):
        answers = said(ann=["B-X", "I-X"], bob=["B-X", "I-X"], cas=["O", "O"], dan=["O", "O"], eve=["O", "B-X"])
        assert Majority(TAGS)(answers) == {"1": ["O", "B-X"]}  # O, then a tie of I-X and O

    def test_a_tag_that_begins_an_entity_by_another_name_is_the_same_vote(self):
        answers = said(ann=["O", "O"], bob=["O", "I-X"], cas=["O", "B-X"])
        assert Majority(TAGS)(answers) == {"1": ["O", "B-X"]}
        assert not Majority(TAGS).differ(answers["1"][1:])

    def test_a_candidate_is_one_vote(self):
        assert Majority(RANKING)(said(ann=2, bob=0, cas="none", dan="none")) == {"1": "none"}
        assert Majority(RANKING)(said(ann=2, bob=0)) == {"1": 2}

    def test_it_is_what_counting_by_hand_gives_in_any_order(self):
        draw = random.Random(0)
        for seed in range(50):
            labels = [[draw.choice(["O", "B-X", "B-Y"]) for _ in range(4)] for _ in range(5)]
            answers = said(**{f"p{at}": label for at, label in enumerate(labels)})
            counts = [Counter(column).most_common() for column in zip(*labels, strict=True)]
            if any(len(count) > 1 and count[0][1] == count[1][1] for count in counts):
                continue
            assert Majority(TAGS)(shuffled(answers, seed)) == {"1": [count[0][0] for count in counts]}


@pytest.mark.parametrize("fold", [Majority, DawidSkene])
class TestBoth:
    @pytest.mark.parametrize(
        ("task", "label"), [(TEXT, "z"), (MULTI, ["c", "a"]), (MULTI, []), (TAGS, ["I-X", "O"]), (RANKING, 3)]
    )
    def test_a_single_annotator_s_label_is_as_it_was_given(self, fold, task, label):
        answers = said(ann=label)
        answers["1"] += [Answer("1", None, "bob", "discarded"), Answer("1", "?", "cas", "draft")]
        assert fold(task)(answers) == {"1": label}

    @pytest.mark.parametrize("status", ["draft", "discarded", "skipped", "unreadable", "retracted"])
    def test_only_submitted_answers_count(self, fold, status):
        answers = {"1": [*said(ann="x")["1"], Answer("1", "y", "bob", status), Answer("1", "y", "cas", status)]}
        answers["2"] = [Answer("2", "y", "bob", status)]
        assert fold(TEXT)(answers) == {"1": "x"}

    def test_who_decides_holds_alone(self, fold):
        answers = those({"1": {"bob": ["b"], "ann": ["c", "a"], "cas": ["b"]}, "2": {"bob": ["b"], "ann": ["a"]}})
        assert fold(MULTI, "ann")(answers) == {"1": ["c", "a"], "2": ["a"]}
        assert fold(MULTI, "dan")({"1": [answers["1"][0], Answer("1", None, "dan", "discarded")]}) == {"1": ["b"]}

    def test_who_decides_some_leaves_the_others_to_the_rest(self, fold):
        if fold is DawidSkene:
            pytest.importorskip("crowdkit", reason='needs pip install "nlp-al[crowd]"')
        votes = {"1": {"bob": "x", "ann": "z"}, "2": {"bob": "y", "cas": "y"}}
        assert fold(TEXT, "ann")(those(votes)) == {"1": "z", "2": "y"}

    def test_where_all_agree_all_hold(self, fold):
        answers = those({str(at): {"ann": label, "bob": label} for at, label in enumerate("xyzzyx")})
        assert fold(TEXT)(answers) == dict(zip("012345", "xyzzyx", strict=True))

    def test_nothing_answered_is_no_label(self, fold):
        assert fold(TEXT)({}) == {}


# Dawid and Skene


def expectation_maximisation(votes, truth, rounds):
    """The model of votes {example: {person: option}}, in its authors' formulas; by example, option: probability."""
    people = sorted({who for given in votes.values() for who in given})
    options = sorted({option for given in votes.values() for option in given.values()})
    said_ = np.zeros((len(votes), len(people), len(options)))
    for at, given in enumerate(votes.values()):
        for who, option in given.items():
            said_[at, people.index(who), options.index(option)] = 1
    fixed = {at: options.index(truth[name]) for at, name in enumerate(votes) if name in truth}
    chances = said_.sum(1) / said_.sum((1, 2))[:, None]
    for _ in range(rounds):
        for at, option in fixed.items():
            chances[at] = np.eye(len(options))[option]
        prior = chances.mean(0)
        errors = np.einsum("npo,nt->pot", said_, chances) + 1e-12
        errors /= errors.sum(1, keepdims=True)
        logs = np.log(prior + 1e-12) + np.einsum("npo,pot->nt", said_, np.log(errors))
        chances = np.exp(logs - logs.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
    return {name: dict(zip(options, row, strict=True)) for name, row in zip(votes, chances, strict=True)}


def some_votes(seed: int, examples: int = 60, options: str = "xyz") -> dict[str, dict[str, str]]:
    """Two who are mostly right, one who guesses, one who prefers the first option, on most examples each."""
    draw = random.Random(seed)
    votes = {}
    for at in range(examples):
        right = draw.choice(options)
        given = {
            "ann": right if draw.random() < 0.9 else draw.choice(options),
            "bob": right if draw.random() < 0.85 else draw.choice(options),
            "cas": draw.choice(options),
            "dan": options[0] if draw.random() < 0.7 else right,
        }
        people = draw.sample(sorted(given), draw.randint(2, 4))
        votes[f"{at:03}"] = {who: given[who] for who in sorted(people)}
    return votes


@with_crowd_kit
class TestDawidSkene:
    def test_two_who_know_outweigh_three_who_do_not_look(self):
        # On y the votes are 2 : 3. One round by hand: y 0.4 · 1 · 1, x 1.6/2 · (0.6/1.6)² = 0.1125.
        votes = {f"{at}": dict.fromkeys(["ann", "bob"], "x" if at < 10 else "y") for at in range(20)}
        answers = those({name: {**good, "cas": "x", "dan": "x", "eve": "x"} for name, good in votes.items()})
        assert set(Majority(TEXT)(answers).values()) == {"x"}
        assert DawidSkene(TEXT)(answers) == {name: good["ann"] for name, good in votes.items()}

    def test_it_does_not_stop_before_it_has_converged(self):
        votes = {f"{at}": {"ann": "x" if at < 10 else "y", "bob": "x" if at < 10 else "y"} for at in range(20)}
        rows = [((n, 0), who, o) for n, p in votes.items() for who, o in {**p, "c": "x", "d": "x", "e": "x"}.items()]
        assert DawidSkene(TEXT)._chances(rows)["15", 0]["y"] > 0.999

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("decided", [0, 5])
    def test_it_is_what_the_formulas_give(self, seed, decided):
        votes = some_votes(seed)
        truth = dict.fromkeys(sorted(votes)[:decided], "z")
        votes |= {name: {**votes[name], "eve": option} for name, option in truth.items()}
        expected = expectation_maximisation(votes, truth, rounds=1000)
        found = DawidSkene(TEXT, "eve")(those(votes))
        assert found == {name: max(votes[name].values(), key=expected[name].get) for name in votes} | truth
        assert found != Majority(TEXT, "eve")(those(votes))

    def test_a_label_that_nobody_gave_is_none(self):
        # The formulas alone say z of the second example, as of the first, which somebody decided.
        votes = {"1": {"ann": "x", "bob": "y", "eve": "z"}, "2": {"ann": "x", "bob": "y"}}
        assert DawidSkene(TEXT, "eve")(those(votes)) == {"1": "z", "2": "x"}

    @pytest.mark.parametrize("seed", range(4))
    def test_the_order_in_which_people_answered_makes_no_difference(self, seed):
        answers = those(some_votes(1))
        assert DawidSkene(TEXT)(shuffled(answers, seed)) == DawidSkene(TEXT)(answers)
        tied = those({str(at): {"ann": "y", "bob": "x"} for at in range(5)})
        assert DawidSkene(TEXT)(shuffled(tied, seed)) == dict.fromkeys("01234", "y")
        wide = those({str(at): {"ann": "z", "bob": "x", "cas": "x", "dan": "z"} for at in range(5)})
        assert DawidSkene(TEXT)(shuffled(wide, seed)) == dict.fromkeys("01234", "z")

    def test_rounding_decides_no_tie(self):
        # Each pair of labels once in either order: nothing tells the two people apart.
        pairs = [(one, other) for one in "xyz" for other in "xyz" if one != other]
        votes = {str(at): {"ann": one, "bob": other} for at, (one, other) in enumerate(pairs)}
        rows = [((name, 0), who, option) for name, given in votes.items() for who, option in given.items()]
        gaps = [abs(c[a] - c[b]) for c, (a, b) in zip(DawidSkene(TEXT)._chances(rows).values(), pairs, strict=True)]
        assert max(gaps) < 1e-12
        assert DawidSkene(TEXT)(those(votes)) == {name: given["ann"] for name, given in votes.items()}

    def test_names_of_labels_and_people_carry_no_meaning(self):
        votes, names = some_votes(2), {"x": "z", "y": "x", "z": "y"}
        other = {name: {f"{who[::-1]}": names[o] for who, o in given.items()} for name, given in votes.items()}
        found = DawidSkene(TEXT)(those(votes))
        assert DawidSkene(TEXT)(those(other)) == {name: names[label] for name, label in found.items()}

    def test_several_labels_have_a_model_each(self):
        draw, names = random.Random(0), [f"{at:02}" for at in range(60)]
        each = {label: some_votes(at, options="ny") for at, label in enumerate("abc")}
        people = {name: draw.sample(["ann", "bob", "cas", "dan"], 3) for name in names}
        for votes in each.values():  # the same people for each label
            for name, key in zip(names, list(votes), strict=True):
                votes[name] = {who: votes[key].get(who, draw.choice("ny")) for who in people[name]}
                del votes[key]
        sets = {
            name: {who: [label for label in "abc" if each[label][name][who] == "y"] for who in people[name]}
            for name in names
        }
        single = {label: DawidSkene(TEXT)(those(votes)) for label, votes in each.items()}
        found = DawidSkene(MULTI)(those(sets))
        assert found == {name: [label for label in "abc" if single[label][name] == "y"] for name in names}
        assert found != Majority(MULTI)(those(sets))

    def test_all_words_share_a_model(self):
        options = {"x": "O", "y": "B-X", "z": "B-Y"}
        votes = {name: {who: options[o] for who, o in given.items()} for name, given in some_votes(3).items()}
        apart = DawidSkene(TEXT)(those(votes))
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, given in votes.items():
            groups.setdefault(tuple(given), []).append(name)
        sentences = {
            str(at): {who: [votes[name][who] for name in group] for who in people}
            for at, (people, group) in enumerate(groups.items())
        }
        found = DawidSkene(TAGS)(those(sentences))
        assert len(sentences) < 15
        assert found == {str(at): [apart[name] for name in group] for at, group in enumerate(groups.values())}

    def test_what_one_alone_answered_says_nothing_of_errors(self):
        votes = some_votes(4)
        found = DawidSkene(TEXT)(those(votes))
        alone = {f"single-{at}": {"cas": "x"} for at in range(500)}
        assert DawidSkene(TEXT)(those({**votes, **alone})) == {**found, **dict.fromkeys(alone, "x")}

    def test_decisions_tell_whom_to_believe_elsewhere(self):
        votes = {f"{at}": {"ann": "x" if at % 2 else "y", "bob": "y" if at % 2 else "x"} for at in range(8)}
        assert DawidSkene(TEXT, "eve")(those(votes)) == {name: given["ann"] for name, given in votes.items()}
        decided = {f"{at}": {**votes[f"{at}"], "eve": votes[f"{at}"]["bob"]} for at in range(4)}
        found = DawidSkene(TEXT, "eve")(those({**votes, **decided}))
        assert found == {name: given["bob"] for name, given in votes.items()}

    def test_nothing_is_printed_or_warned(self, capfd, recwarn):
        DawidSkene(TEXT)(those(some_votes(0)))
        assert capfd.readouterr() == ("", "")
        assert not recwarn.list


def test_the_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(aggregation.importlib.util, "find_spec", lambda name: None)
    check_installed("majority")
    with pytest.raises(UserError, match=r'which needs crowd-kit: pip install "nlp-al\[crowd\]"\.$'):
        check_installed("dawid_skene")
    # Where nobody was answered twice nothing is fitted.
    assert DawidSkene(TEXT)(those({"1": {"ann": "x"}, "2": {"bob": "y"}})) == {"1": "x", "2": "y"}
    with pytest.raises(UserError, match=r"nlp-al\[crowd\]"):
        DawidSkene(TEXT)(said(ann="x", bob="y"))
