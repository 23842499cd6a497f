"""What a report says of people's answers: whether the model is good enough by now, and how far annotators agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nlp_al import report_page as page
from nlp_al.aggregation import submitted
from nlp_al.agreement import NOBODY, Agreement, Person, agreement
from nlp_al.evaluation import Run, scores
from nlp_al.pool import HOLDOUT, Pool
from nlp_al.refinement import FILE as SUGGESTIONS
from nlp_al.refinement import told_guesses
from nlp_al.relabel import changes_of
from nlp_al.report_page import number
from nlp_al.run_files import run_lines, run_pool, run_task

FEW = 30
"""Texts of a holdout below which its interval is rough."""

GUIDE = (
    "Alpha is 1 where all agree, and 0 where they agree as often as by chance. Usually 0.8 is asked for, and 0.667 "
    "where conclusions are tentative."
)


def done(run: Run, metric: str) -> str:
    """The section on the score of a run's holdout, nothing where there is none. metric: to tell, where it is there."""
    entry = _newest(run)
    if entry is None:
        return ""
    found, pool = scores(entry, HOLDOUT), run_pool(run.path, [], run_task(run.path))
    name = metric if metric in found else next(iter(found))
    ends = (entry.get("holdout_interval") or {}).get(name)
    within = f"95% interval {page.interval(tuple(ends), 3)}" if ends else ""
    model = "final model" if entry is run.final else f"model of round {entry['round']}"
    labels = f"{model}, fitted on {number(entry['labelled'], 0)} labels"
    sentences = [_rests_on(entry, pool, labels), *_doubts(entry, pool, ends), _questions(pool)]
    return page.section("Are we done?", page.headline(f"{name} {number(found[name])}", within), page.prose(sentences))


def _newest(run: Run) -> dict[str, Any] | None:
    """Of the newest model that has a score on the holdout: its line of metrics, or what is said of the final one."""
    rounds = [entry for entry in run.rounds if scores(entry, HOLDOUT)]
    if scores(run.final, HOLDOUT) and run.final.get("round", -1) >= run.rounds[-1]["round"]:
        return run.final
    return rounds[-1] if rounds else None


def _texts(entry: dict[str, Any], pool: Pool) -> set[str]:
    """Ids of the texts that the score is of: those of the holdout that had a label by then."""
    last = pool.last(entry.get("answers"))
    return {name for name in pool.held if submitted(last.get(name, []))}


def _rests_on(entry: dict[str, Any], pool: Pool, model: str) -> str:
    return (
        f"This is the score of the {model}, on the {_counted(len(_texts(entry, pool)), 'text')} of the holdout. It is "
        "an unbiased estimate for all your data: these texts were drawn at random and never trained on, whatever the "
        "strategy asked for."
    )


def _doubts(entry: dict[str, Any], pool: Pool, ends: Sequence[float] | None) -> list[str]:
    """What may be wrong with the score."""
    texts, said = _texts(entry, pool), []
    if ends and ends[0] == ends[1]:
        said.append("The interval has no width, for all of these texts came out alike; it says less than it seems.")
    elif len(texts) < FEW:
        said.append(f"With fewer than {FEW} texts the interval is rough.")
    bare = {query.id for query in pool.queries if query.strategy == HOLDOUT and query.round <= entry["round"]} - texts
    if bare:
        verb = "was" if len(bare) == 1 else "were"
        said.append(
            f"{_counted(len(bare), 'more text')} {verb} drawn and had no label by then: nobody had answered, or nobody "
            "could tell. If such texts are harder than the rest, the model is worse than the number says."
        )
    return said


def _questions(pool: Pool) -> str:
    asked, waiting = len(pool.queries), len(pool.waiting())
    if not waiting:
        return f"All {_counted(asked, 'question')} so far are answered."
    verb = "waits" if waiting == 1 else "wait"
    return f"Of {_counted(asked, 'question')} so far {asked - waiting:,} are answered, {waiting:,} {verb}."


def annotators(runs: Sequence[Run]) -> str:
    """The section on people, of the runs in which more than one has answered; nothing where there is none."""
    found = [(run, one) for run in runs if (one := _agreement(run)) is not None]
    several = len(runs) > 1
    rows = [_cells(person, run, several) for run, one in found for person in one.people]
    if not rows:
        return ""
    said = [f"{run.path.name}: {_told(one)}" if several else _told(one) for run, one in found]
    said += [GUIDE] if any(one.alpha is not None for _, one in found) else []
    head = ["person", *(["run"] if several else []), "submitted", "discarded", "same label as the others"]
    caption = "Of the examples that others labelled too: how often a person's label is what the others' answers make"
    return page.section("Annotators", page.prose(said), page.table(caption, head, rows, left=1 + several))


def guesses(runs: Sequence[Run]) -> str:
    """The section on what people made of the model's guesses; nothing where there were none."""
    several, said = len(runs) > 1, []
    for run in runs:
        if lines := run_lines(run.path, SUGGESTIONS):
            task = run_task(run.path)
            found = told_guesses(lines, run_pool(run.path, [], task), task, changes_of(run.path))
            told = ". ".join(text[:1].upper() + text[1:] for text in found.values())
            said += [f"{run.path.name}: {told}." if several else f"{told}."] if found else []
    return page.section("Guesses", page.prose(said)) if said else ""


def _agreement(run: Run) -> Agreement | None:
    """How far people agree in a run, None where fewer than two have answered."""
    if len({line["annotator"] for line in run_lines(run.path, "labels.jsonl")} - NOBODY) < 2:
        return None
    task = run_task(run.path)
    pool = run_pool(run.path, [], task)
    return agreement(pool.last(), task, pool.fold.decides)


def _cells(person: Person, run: Run, several: bool) -> list[str]:
    alike = "–" if person.alike is None else f"{number(person.alike, 2)} of {person.shared:,}"
    counts = [f"{person.submitted:,}", f"{person.discarded:,}"]
    return [person.name, *([run.path.name] if several else []), *counts, alike]


def _told(found: Agreement) -> str:
    if found.observed is None:
        return "No example was labelled by more than one person, so nothing is known of how far they agree."
    verb = "was" if found.examples == 1 else "were"
    said = f"{_counted(found.examples, 'example')} {verb} labelled by several people; {number(found.observed, 2)} of "
    said += "the pairs of labels are the same."
    if found.alpha is None:
        return f"{said} Krippendorff's alpha is not defined, for all say the same throughout."
    return f"{said} Krippendorff's alpha is {number(found.alpha, 2)}."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
