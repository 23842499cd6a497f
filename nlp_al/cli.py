"""`nlp-al`: the tools around a run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from nlp_al import __version__, labels_command
from nlp_al.argilla_server import commands as server_commands
from nlp_al.errors import UserError
from nlp_al.main import run_command
from nlp_al.values import suggest

REVIEWS = ("confident_joint", "prune_by_class", "prune_by_noise_rate")
"""How `review` finds labels; the functions themselves load torch."""


class Parser(argparse.ArgumentParser):
    """Tells a wrong command line in one sentence, as everything else is told."""

    def error(self, message: str) -> NoReturn:
        """Instead of printing the usage."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; the exit status."""
    return run_command(lambda: command(argv))


def command(argv: Sequence[str] | None) -> None:
    """Reads the command line and does what it says."""
    parser = Parser(prog="nlp-al", description="Tools around a run of nlp_al; recipes start the runs.")
    parser.add_argument("--version", action="version", version=f"nlp-al {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listed = commands.add_parser("strategies", help="list the query strategies")
    listed.add_argument("--json", action="store_true", help="as JSON, a list of objects")
    listed.add_argument("--family", help="only those of one family, such as hybrid")
    listed.add_argument("--batch-aware", action="store_true", help="only those that look at a batch as a whole")
    listed.set_defaults(run=strategies)

    drawn = commands.add_parser("report", help="draw learning curves of runs on one HTML page")
    drawn.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run directory")
    drawn.add_argument("--out", type=Path, help="the page (one run: RUN/report.html, several: report.html beside them)")
    drawn.add_argument("--metric", help="the metric to draw; left out: the task's own")
    drawn.set_defaults(run=report)

    compared = commands.add_parser("compare", help="compare the strategies of runs in a table")
    compared.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run directory")
    compared.add_argument("--metric", help="the metric to compare; left out: the task's own")
    compared.set_defaults(run=compare)

    finished = commands.add_parser("finish", help="make the final model of a run on all its labels, and push it")
    finished.add_argument("run_dir", type=Path, metavar="RUN", help="the run directory")
    finished.set_defaults(run=finish)

    told = commands.add_parser("status", help="say where a run stands, also while it runs")
    told.add_argument("run_dir", type=Path, metavar="RUN", help="the run directory")
    told.set_defaults(run=status)

    exported = commands.add_parser("export", help="write all labels of a run as a table, also while it runs")
    exported.add_argument("run_dir", type=Path, metavar="RUN", help="the run directory")
    exported.add_argument("--csv", type=Path, required=True, metavar="FILE", help="the table")
    exported.set_defaults(run=export)

    predicted = commands.add_parser("predict", help="label what nobody labelled, or the rows of a file")
    predicted.add_argument("run_dir", type=Path, metavar="RUN", help="the run directory")
    predicted.add_argument(
        "file",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="rows as those of the run; left out: its rows without a label",
    )
    predicted.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table, as CSV")
    predicted.add_argument("--threshold", type=float, default=0.8, help="rows less sure than this are flagged [0.8]")
    predicted.set_defaults(run=predict)

    reviewed = commands.add_parser("review", help="list the labels of a run that are likely to be wrong")
    reviewed.add_argument("run_dir", type=Path, metavar="RUN", help="the run directory")
    reviewed.add_argument("--out", type=Path, metavar="FILE", help="the table, as CSV [RUN/review.csv]")
    reviewed.add_argument("--folds", type=int, default=5, help="models that judge, each what the others learn from [5]")
    reviewed.add_argument("--by", choices=REVIEWS, default=REVIEWS[0], help=f"how they are found [{REVIEWS[0]}]")
    reviewed.add_argument("--ask", action="store_true", help="have people answer them again; the run must not go on")
    reviewed.add_argument(
        "--annotator", metavar="NAME", help="who is asked; left out: the adjudicator, or else whoever gave the label"
    )
    reviewed.set_defaults(run=review)

    labels_command.add_to(commands)
    server_commands.add_to(commands)

    arguments = parser.parse_args(argv)
    arguments.run(arguments)


def strategies(arguments: argparse.Namespace) -> None:
    """Lists the strategies with what they need; no torch is loaded for it."""
    rows = strategy_rows()
    if arguments.family is not None:
        families = sorted({row["family"] for row in rows})
        rows = [row for row in rows if row["family"] == arguments.family]
        if not rows:
            raise UserError(f"There is no family {arguments.family!r}: {suggest(arguments.family, families)}.")
    rows = [row for row in rows if row["batch_aware"] or not arguments.batch_aware]
    if arguments.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    cells = [(row["name"], row["family"], f"needs {', '.join(row['needs']) or 'nothing'}") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row, own in zip(rows, cells, strict=True):
        print("  ".join([*(cell.ljust(width) for cell, width in zip(own, widths, strict=True)), row["reference"]]))


def strategy_rows() -> list[dict[str, Any]]:
    """name, family, scenario, batch_aware, tasks, shapes, needs and reference of every strategy."""
    from nlp_al.strategies import all_strategies
    from nlp_al.tasks import TASKS

    return [
        {
            "name": name,
            "family": strategy.family,
            "scenario": strategy.scenario,
            "batch_aware": strategy.batch_aware,
            "tasks": [task for task, adapter in TASKS.items() if adapter.shape in strategy.shapes],
            "shapes": list(strategy.shapes),
            "needs": sorted(strategy.needs),
            "reference": strategy.reference,
        }
        for name, strategy in ((name, _usual(kind)) for name, kind in sorted(all_strategies().items()))
    ]


def _usual(kind: Any) -> Any:
    """The strategy with its defaults, of which what it needs may depend; the class where a parameter has none."""
    try:
        return kind()
    except TypeError:
        return kind


def report(arguments: argparse.Namespace) -> None:
    """Writes the page and names it last."""
    from nlp_al.report import write_report

    print(write_report(arguments.runs, arguments.out, arguments.metric))


def compare(arguments: argparse.Namespace) -> None:
    """Prints the table."""
    from nlp_al.report import compare as compared

    print(compared(arguments.runs, arguments.metric))


def status(arguments: argparse.Namespace) -> None:
    """Where a run stands."""
    from nlp_al.status import status_text

    print(status_text(arguments.run_dir))


def export(arguments: argparse.Namespace) -> None:
    """All labels as a table."""
    from nlp_al.export import export as exported

    print(f"{arguments.csv} holds {exported(arguments.run_dir, arguments.csv)} rows.")


def predict(arguments: argparse.Namespace) -> None:
    """What the model says."""
    if not 0.0 <= arguments.threshold <= 1.0:
        raise UserError(f"--threshold is {arguments.threshold}; it must lie between 0 and 1.")
    from nlp_al.predict import predict_rows

    rows, flagged = predict_rows(arguments.run_dir, arguments.file, arguments.out, arguments.threshold)
    print(f"{arguments.out} holds {rows} rows; {flagged} are less sure than {arguments.threshold:g}: flag check.")


def review(arguments: argparse.Namespace) -> None:
    """Which labels to look at again, and who is to do it."""
    if arguments.folds < 2:
        raise UserError(f"--folds is {arguments.folds}; it must be at least 2.")
    if arguments.annotator is not None and not arguments.ask:
        raise UserError("--annotator says who is asked again; give --ask as well.")
    from nlp_al.ask_again import AskAgain
    from nlp_al.review import Labels
    from nlp_al.review import review as reviewed
    from nlp_al.run_files import run_config
    from nlp_al.store import RunDirectory

    run = arguments.run_dir
    run_config(run)  # or the folder would be made
    with RunDirectory(run) if arguments.ask else nullcontext() as store:
        known = Labels.of(run)
        again = AskAgain(known, store, arguments.annotator) if store is not None else None
        out = arguments.out or run / "review.csv"
        found = reviewed(known, out, arguments.folds, arguments.by)
        print(f"{out} holds {len(found)} of {len(known.labelled)} labelled examples, the most doubtful first.")
        if again is not None:
            print(again.ask(found))
            print(f"The answers come in when the run's command is given again, or with nlp-al finish {run}.")


def finish(arguments: argparse.Namespace) -> None:
    """Fine-tunes the final model on every label that the run has."""
    from nlp_al.run_files import run_config

    config = run_config(arguments.run_dir)

    from nlp_al.learner import ActiveLearner

    learner = ActiveLearner(config)
    with learner.opened():
        learner.finish()


if __name__ == "__main__":
    sys.exit(main())
