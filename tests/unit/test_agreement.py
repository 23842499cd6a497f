"""How far people agree: numbers by hand, a brute-force twin, and what must not change them."""

import itertools
import random

import numpy as np
import pytest

from nlp_al.agreement import Person, agreement, krippendorff_alpha
from nlp_al.pool import Answer
from nlp_al.tasks import make_task

TEXT = make_task("text-classification", {}).with_labels(["x", "y", "z"])
MULTI = make_task("text-classification", {"multi_label": True}).with_labels(["a", "b", "unused"])
TAGS = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])

# Krippendorff 2011, section C: four observers of twelve units, with values missing.
OBSERVERS = ("123321412***", "1233224125*3", "*3332342251*", "12332441251*")
UNITS = ["".join(column).replace("*", "") for column in zip(*OBSERVERS, strict=True)]


def counts(units: list[str]) -> np.ndarray:
    """How often each option was given to each unit; a letter is an option."""
    options = sorted(set("".join(units)))
    return np.array([[unit.count(option) for option in options] for unit in units])


def those(votes: dict[str, dict[str, object]]) -> dict[str, list[Answer]]:
    return {name: [Answer(name, label, who) for who, label in people.items()] for name, people in votes.items()}


def disagreements(units: list[str]) -> tuple[float, float]:
    """Observed and expected, from their definition: pairs of values within units, and pairs of any paired values."""
    units = [unit for unit in units if len(unit) > 1]
    within = [sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units]
    values = "".join(units)
    return sum(within), sum(a != b for a, b in itertools.permutations(values, 2)) / (len(values) - 1)


def some_units(seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        "".join(draw.choice((right, draw.choice("xyz"))) for _ in range(draw.randint(0, 4)))
        for right in draw.choices("xyz", k=12)
    ]


class TestAlpha:
    def test_krippendorff_s_own_example(self):
        assert krippendorff_alpha([counts(UNITS)]) == pytest.approx(0.743, abs=5e-4)

    def test_by_hand(self):
        # xx yy xy: 2 of 6 ordered pairs differ; by chance 2·3·3/5 = 3.6 of 6.
        assert krippendorff_alpha([counts(["xx", "yy", "xy"])]) == pytest.approx(1 - 2 / 3.6)
        assert krippendorff_alpha([counts(["xx", "yy"])]) == 1.0
        assert krippendorff_alpha([counts(["xy", "xy"])]) == pytest.approx(1 - 4 / (8 / 3))

    def test_it_is_not_defined_where_all_say_the_same(self):
        assert krippendorff_alpha([counts(["xx", "xxx"])]) is None
        assert krippendorff_alpha([counts(["x", "y"])]) is None  # no pair
        assert krippendorff_alpha([]) is None

    @pytest.mark.parametrize("seed", range(10))
    def test_it_is_the_definition(self, seed):
        units = some_units(seed)
        observed, expected = disagreements(units)
        assert krippendorff_alpha([counts(units)]) == pytest.approx(1 - observed / expected)

    def test_questions_of_their_own_have_a_chance_of_their_own(self):
        # All say yes to the first and no to the second; of the third it is as good as chance.
        tables = [counts(["yy"] * 4), counts(["nn"] * 4), counts(["yy", "nn", "yn", "yn"])]
        assert krippendorff_alpha(tables) == krippendorff_alpha(tables[2:]) == pytest.approx(1 - 4 / (2 * 16 / 7))
        assert krippendorff_alpha([np.concatenate(tables[2:] * 2)]) != krippendorff_alpha(tables)

    @pytest.mark.parametrize("seed", range(5))
    def test_as_crowd_kit_has_it(self, seed):
        pandas = pytest.importorskip("pandas")
        crowd = pytest.importorskip("crowdkit.metrics.data", reason='needs pip install "nlp-al[crowd]"')
        units = UNITS if seed == 0 else some_units(seed)
        rows = [(at, who, option) for at, unit in enumerate(units) for who, option in enumerate(unit)]
        table = pandas.DataFrame(rows, columns=["task", "worker", "label"])
        assert krippendorff_alpha([counts(units)]) == pytest.approx(crowd.alpha_krippendorff(table))


class TestAgreement:
    def test_by_hand(self):
        last = those(
            {
                "1": {"ann": "x", "bob": "x", "cas": "y"},  # 1 of 3 pairs
                "2": {"ann": "x", "bob": "x"},  # all
                "3": {"ann": "y", "cas": "x"},  # none
                "4": {"ann": "z"},
                "5": {"bob": "y"},
            }
        )
        last["2"].append(Answer("2", "y", "cas", "draft"))
        last["5"].append(Answer("5", None, "cas", "discarded"))
        found = agreement(last, TEXT)
        assert found.examples == 3
        assert found.observed == pytest.approx((1 / 3 + 1 + 0) / 3)
        assert found.alpha == krippendorff_alpha([counts(["xxy", "xx", "yx"])])
        assert found.people == (
            # of the others: x and y for 1, where bob is earlier; x for 2, x for 3
            Person("ann", submitted=4, discarded=0, shared=3, alike=pytest.approx(2 / 3)),
            Person("bob", submitted=3, discarded=0, shared=2, alike=1.0),
            Person("cas", submitted=2, discarded=1, shared=2, alike=0.0),
        )

    def test_of_two_people_neither_is_the_measure(self):
        last = those({str(at): {"ann": "x", "bob": "x" if at < 7 else "y"} for at in range(10)})
        assert [(one.shared, one.alike) for one in agreement(last, TEXT).people] == [(10, 0.7), (10, 0.7)]

    @pytest.mark.parametrize("seed", range(5))
    def test_order_and_names_carry_no_meaning(self, seed):
        draw = random.Random(seed)
        votes = {f"{at:02}": dict(zip("pqrs", unit, strict=False)) for at, unit in enumerate(some_units(seed)) if unit}
        last = those(votes)
        other = {
            name: draw.sample([Answer(name, a.label, a.annotator.upper()) for a in last[name]], len(last[name]))
            for name in draw.sample(sorted(last), len(last))
        }
        found, again = agreement(last, TEXT), agreement(other, TEXT)
        assert (again.examples, again.observed, again.alpha) == pytest.approx(
            (found.examples, found.observed, found.alpha)
        )

    def test_the_order_of_several_labels_and_the_name_of_a_first_tag_carry_no_meaning(self):
        last = those({"1": {"ann": ["a", "b"], "bob": ["b", "a"]}, "2": {"ann": [], "bob": ["a"]}})
        found = agreement(last, MULTI)
        assert found.observed == 0.5
        # a: yes yes, no yes; b: yes yes, no no
        observed, expected = np.add(disagreements(["yy", "ny"]), disagreements(["yy", "nn"]))
        assert found.alpha == pytest.approx(1 - observed / expected)
        assert agreement(those({"1": {"ann": ["I-X", "O"], "bob": ["B-X", "O"]}}), TAGS).observed == 1.0

    def test_words_are_compared_one_by_one_and_sentences_as_wholes(self):
        last = those({"1": {"ann": ["O", "B-X", "O"], "bob": ["O", "O", "O"]}, "2": {"ann": ["B-X"], "bob": ["B-X"]}})
        found = agreement(last, TAGS)
        assert (found.examples, found.observed) == (2, 0.5)
        assert found.alpha == krippendorff_alpha([counts(["oo", "xo", "oo", "xx"])])

    def test_who_decides_is_no_measure_of_agreement_and_the_one_of_people(self):
        votes = {
            "1": {"ann": "x", "bob": "y", "cas": "x", "eve": "y"},
            "2": {"ann": "x", "bob": "x"},
            "3": {"ann": "z", "eve": "x"},
        }
        found, without = agreement(those(votes), TEXT, "eve"), agreement(those(votes), TEXT)
        assert (found.examples, without.examples) == (2, 3)
        assert found.observed == pytest.approx((1 / 3 + 1) / 2)
        assert found.alpha == krippendorff_alpha([counts(["xyx", "xx"])])
        alike = {one.name: one.alike for one in found.people}
        assert alike == {"ann": pytest.approx(1 / 3), "bob": 1.0, "cas": 0.0, "eve": None}

    def test_nobody_is_no_person(self):
        last = those({"1": {"dataset": "x", "ann": "x"}, "2": {"oracle": "x", "ann": "y"}})
        found = agreement(last, TEXT)
        assert (found.examples, found.observed, found.alpha) == (0, None, None)
        assert found.people == (Person("ann", 2, 0, 0, None),)
        assert agreement({}, TEXT).people == ()
