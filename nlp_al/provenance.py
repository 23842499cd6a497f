"""How the labels of a run came about. People who labelled stay without names."""

from __future__ import annotations

from collections import Counter

from nlp_al.aggregation import DATASET
from nlp_al.annotation import annotator_class
from nlp_al.config import Config
from nlp_al.pool import HOLDOUT, Pool

TOLD = {"initial": "the initial set", HOLDOUT: "the holdout", DATASET: "with a label already", None: "unasked"}
FOLDS = {"majority": "by majority", "dawid_skene": "by the model of Dawid and Skene"}


def simulated(config: Config) -> bool:
    """Whether the data bring all labels, and an annotator only tells them."""
    return annotator_class(config.annotator.name).hides_gold


def aliases(pool: Pool) -> dict[str, str]:
    """annotator_1, annotator_2, ... for those who answered, in the order of their first answer."""
    people = dict.fromkeys(answer.annotator for answer in pool.answers if answer.annotator != DATASET)
    return {DATASET: DATASET} | {name: f"annotator_{at}" for at, name in enumerate(people, 1)}


def chosen_by(pool: Pool) -> dict[str, str]:
    """By id, the strategy that first asked about an example, or `dataset` where it brought its label."""
    asked = {name: query.strategy for name, query in pool.first_queries().items()}
    return asked | {a.id: DATASET for a in pool.answers if a.annotator == DATASET and a.id not in asked}


def provenance(config: Config, pool: Pool) -> dict[str, str]:
    """How many examples were labelled, by whom, and what chose them, in words."""
    answers = [answer for answer in pool.last_answers() if answer.status == "submitted" and answer.id in pool]
    times = Counter(answer.id for answer in answers)
    people = {answer.annotator for answer in answers} - {DATASET}
    several = sum(count > 1 for count in times.values())
    strategies = chosen_by(pool)
    known = dict.fromkeys([*strategies, *times])
    chosen = Counter(strategies.get(name) for name in known if name in times)
    by = "a simulation, in which the labels of the data answered" if simulated(config) else _people(len(people))
    return {
        "labelled": f"{len(times):,} of {len(pool.examples):,} examples ({len(times) / len(pool.examples):.1%})",
        "by": by + (f"; {several:,} by more than one, agreed {FOLDS[config.loop.aggregation]}" if several else ""),
        "chosen by": ", ".join(f"{TOLD.get(name, name)} {count:,}" for name, count in chosen.items()),
        "rounds": f"{len({query.round for query in pool.queries if query.id in times} - {0})} after the initial set",
    }


def _people(number: int) -> str:
    return "1 person" if number == 1 else f"{number:,} people"
