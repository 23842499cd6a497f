"""Where a run stands: what was asked and answered, by whom, how good the model is, what comes next. No torch in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from nlp_al.agreement import Agreement, agreement
from nlp_al.ask_again import FILE as ASKED_AGAIN
from nlp_al.ask_again import told_again
from nlp_al.config import Config
from nlp_al.pool import Pool
from nlp_al.refinement import FILE as SUGGESTIONS
from nlp_al.refinement import told_guesses
from nlp_al.relabel import changes_of
from nlp_al.run_files import run_config, run_json, run_lines, run_pool, run_task
from nlp_al.stopping import first_stop, observations, read_rule
from nlp_al.tasks import make_task


def status_text(path: Path) -> str:
    """What `nlp-al status` prints; UserError where the folder is no run's."""
    config = run_config(path)
    task = run_task(path)
    pool, metrics = run_pool(path, [], task), run_lines(path, "metrics.jsonl")
    final = run_json(path, "final.json")
    if final.get("round") != len(metrics) - 1:  # rounds came after it
        final = {}
    lines = [f"{path}: {config.task}, {config.strategy_name}, {config.training.mode} training"]
    lines += _counted(pool, agreement(pool.last(), task, pool.fold.decides))
    for name, said in told_guesses(run_lines(path, SUGGESTIONS), pool, task, changes_of(path)).items():
        lines.append(f"{name:<9}{said}")
    again = told_again(run_lines(path, ASKED_AGAIN), pool, task, changes_of(path))
    lines += [f"again    {again}"] if again is not None else []
    lines += _scores(config, metrics, final)
    lines.append(f"next: {_next(config, path, pool, metrics, final)}")
    return "\n".join(lines)


def _counted(pool: Pool, found: Agreement) -> list[str]:
    """Examples that were asked about, each person's answers, and how far people agree."""
    asked, open_ = {query.id for query in pool.queries}, pool.waiting()
    twice = len({query.id for query in pool.queries if query.before})
    again = f"; {twice} were asked again" if twice else ""
    lines = [f"asked    {len(asked)}, of which {len(asked) - len(open_)} are answered and {len(open_)} wait{again}"]
    people: dict[str, Counter[str]] = {}
    for answer in pool.last_answers():
        people.setdefault(answer.annotator, Counter())[answer.status] += 1
    width = max(map(len, people), default=0)
    compared = [person for person in found.people if person.alike is not None]
    alike = {person.name: f"; {person.alike:.2f} of {person.shared} as the others say" for person in compared}
    for name, states in sorted(people.items()):
        told = ", ".join(f"{count} {state}" for state, count in sorted(states.items(), key=lambda item: -item[1]))
        lines.append(f"  {name:<{width}}  {told}{alike.get(name, '')}")
    if found.examples:
        alpha = "not defined" if found.alpha is None else f"{found.alpha:.2f}"
        several = f"{found.examples} record{'s' * (found.examples > 1)} answered by several"
        lines.append(f"agreement {several}: {found.observed:.2f} of pairs agree, alpha {alpha}")
    return lines


def _scores(config: Config, metrics: list[dict[str, Any]], final: dict[str, Any]) -> list[str]:
    """The newest score of each split, first that of the holdout: it alone is of texts that nobody chose."""
    if not metrics:
        return ["scores   none yet: no round is finished"]
    newest, lines = final or metrics[-1], []
    of = "of the final model" if final else f"after round {newest['round']}"
    main = make_task(config.task, config.task_options).metrics[0]
    for split in ("holdout", "test", "validation"):
        if main in (newest.get(split) or {}):
            told = f"{split:<9}{main} {newest[split][main]:.3f}"
            if split == "holdout" and "holdout_interval" in newest:
                low, high = newest["holdout_interval"][main]
                told += f", between {low:.3f} and {high:.3f} with 95%"
            lines.append(f"{told}, {of} with {newest['labelled']} labels")
    return lines or ["scores   none: there is no test, validation or holdout set (loop.holdout)"]


def _next(config: Config, path: Path, pool: Pool, metrics: list[dict[str, Any]], final: dict[str, Any]) -> str:
    round_ = len(metrics)
    waiting = len(pool.unanswered(round_))
    if waiting:
        batch = len(pool.round_queries(round_))
        where = ""
        pages = run_json(path, "argilla.json")
        if ident := pages.get("pages", {}).get("main", {}).get("id"):
            where = f" at {pages['url']}/dataset/{ident}/annotation-mode"
        return f"{waiting} of the {batch} questions of round {round_} wait for an answer{where}"
    stopped = None if config.stop.rule is None else _stopped(config, metrics)
    if stopped is not None and not final and config.training.final == "none":
        return f"nothing: {stopped}; change stop.rule, or take it out, to go on"
    if round_ > config.loop.rounds or stopped is not None:
        if final:
            return f"nothing: the final model is in {path / 'model'}"
        if config.training.final == "none":
            return "nothing: all rounds are done; raise loop.rounds to go on"
        return f"nlp-al finish {path}"
    return f"give the run's command again: round {round_} of {config.loop.rounds} is to be asked or fitted"


def _stopped(config: Config, metrics: list[dict[str, Any]]) -> str | None:
    """Where the stopping rule has ended the run, and why; None where it has not."""
    main = make_task(config.task, config.task_options).metrics[0]
    seen = observations(metrics, main, config.loop.batch, config.loop.unit)
    found = first_stop(read_rule(config.stop.rule), seen)
    return None if found is None else f"stopped after round {found[0].round} by {found[1].reason}"
