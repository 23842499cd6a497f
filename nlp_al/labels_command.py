"""`nlp-al labels RUN add | rename | merge`: other labels in the middle of a run, and nothing is asked again."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nlp_al.errors import UserError
from nlp_al.relabel import FILE, Change, changes_of, checked, labels_after, names_after


def add_to(commands: Any) -> None:
    """Adds the command to the parser of nlp-al."""
    parser = commands.add_parser("labels", help="add, rename or merge labels of a run; its answers are carried over")
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="the run directory; its run must not be going on")
    kinds = parser.add_subparsers(required=True, metavar="CHANGE", dest="kind")

    added = kinds.add_parser("add", help="one more label; what was answered before stays as it is")
    added.add_argument("new", metavar="LABEL")
    added.add_argument("--guideline", default="", help="what people are told about it")
    added.set_defaults(old=[])

    renamed = kinds.add_parser("rename", help="another name for a label, in every answer")
    renamed.add_argument("old", nargs=1, metavar="OLD")
    renamed.add_argument("new", metavar="NEW")
    renamed.add_argument("--guideline", default="", help="what people are told about it; left out: as before")

    merged = kinds.add_parser("merge", help="several labels become one, in every answer")
    merged.add_argument("old", nargs="+", metavar="LABEL")
    merged.add_argument("--into", dest="new", required=True, metavar="NAME", help="one of them, or a new name")
    merged.add_argument("--guideline", default="", help="what people are told about it; left out: as before")

    parser.set_defaults(run=change)


def change(arguments: argparse.Namespace) -> None:
    """Notes the change in the run directory; the next start of the run works by it."""
    from nlp_al.run_files import run_config
    from nlp_al.store import RunDirectory
    from nlp_al.tasks import make_task

    run: Path = arguments.run_dir
    config = run_config(run)
    task = make_task(config.task, config.task_options)
    if not task.named:
        raise UserError(f"{run} is a run of {task.name}, which has no fixed labels.")
    with RunDirectory(run) as store:
        labels = labels_after(config.labels, changes_of(run), task)
        if labels is None:
            raise UserError(f"{run} reads its labels off the data; list them under 'labels' of its config first.")
        answers = store.answers()
        given = Change(arguments.kind, tuple(arguments.old), arguments.new, arguments.guideline, len(answers))
        one = checked(given, task.with_labels(task.label_set(labels)).guidelines(labels))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        store.append(FILE, [{**asdict(one), "old": list(one.old), "time": now}])
        changes = changes_of(run)
    names = set(names_after(changes[-1:]))
    known = names_after(changes[:-1])
    said = [answer for answer in answers if answer.label is not None]
    hit = sum(bool(names & {known.get(name, name) for name in _kinds(task, answer.label)}) for answer in said)
    today = ", ".join(labels_after(config.labels, changes, task) or ())
    print(f"The labels of {run} are {today} now; {_told(one, hit)}")
    print("Give the run's command again: it goes on with them, and asks nothing twice.")


def _kinds(task: Any, label: Any) -> set[str]:
    """The names that people know a label by: of tags, the types."""
    names = list(task.names_in(label))
    return set(task.with_labels(task.label_set(names)).guidelines({}))


def _told(change: Change, hit: int) -> str:
    if change.kind == "add":
        return "what was answered before stays as it is."
    return f"{hit} answers that named {', '.join(map(repr, change.old))} are read as {change.new!r}."
