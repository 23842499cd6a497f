"""What a run prints: a line a round, and what the user should know beside it."""

from __future__ import annotations

import re
from typing import Any

from tqdm import tqdm

from nlp_al.config import Config
from nlp_al.pool import Answer
from nlp_al.tasks import Task


class Progress:
    """Prints on the main process, and keeps silent on the others."""

    def __init__(self, config: Config, task: Task, enabled: bool) -> None:
        self.config = config
        self.task = task
        self.enabled = enabled
        self._bar: Any = None
        self._told: set[str] = set()
        self._strange: set[str] = set()

    def start(self, metrics: list[dict[str, Any]]) -> None:
        """The head of the table, and the rounds that are done."""
        if not self.enabled:
            return
        config, loop = self.config, self.config.loop
        self._say(f"\n{config.run_dir}: {config.strategy_name}, seed {loop.seed}, {config.training.mode} training")
        columns = "".join(f"{name:>12}" for name in self.task.metrics)
        self._say(f"{'round':>5}{'labelled':>10}{'cost':>8}{columns}{'seconds':>9}  strategy")
        for line in metrics:
            self._line(line)
        # disable=None: no bar where the output is no terminal.
        self._bar = tqdm(
            total=loop.rounds + 1, initial=len(metrics), desc="rounds", unit="round", leave=False, disable=None
        )

    def round(self, line: dict[str, Any]) -> None:
        """One finished round."""
        if not self.enabled:
            return
        self._line(line)
        self._bar.update()

    def _line(self, line: dict[str, Any]) -> None:
        scores: dict[str, float] = line.get("test") or line.get("validation") or line.get("holdout") or {}
        columns = "".join(f"{scores[name]:>12.4f}" if name in scores else f"{'–':>12}" for name in self.task.metrics)
        seconds = sum(line["seconds"].values())
        told = (
            f"{line['round']:>5}{line['labelled']:>10}{line['cost']:>8.0f}{columns}{seconds:>9.2f}  {line['strategy']}"
        )
        self._say(told)

    def late(self, rows: int, done: int) -> None:
        """Rows that are new since the last start. done: how many rounds are over."""
        if rows:
            told = f"{rows} rows of train are new since the last start; they are in the pool now."
            over = " All rounds are done: raise loop.rounds to ask about them; nlp-al predict labels them as they are."
            self._say(told + (over if done > self.config.loop.rounds else ""))

    def stop_set(self, size: int, of: int) -> None:
        """What a stopping rule compares models on, where it does."""
        if size:
            self._say(f"The stop set, {size} of {of} rows drawn at random, is never asked.")

    def stopped(self, ended: tuple[int, str] | None) -> None:
        """The stopping rule has ended the run. ended: the round, and why."""
        if ended is not None:
            self._say(f"Stopped after round {ended[0]} by {ended[1]}. Change stop.rule, or take it out, to go on.")

    def one_class(self, only_label: Any, asks: str) -> None:
        """No model yet."""
        self._say(f"      {_known(only_label)}: until a second class turns up, {asks} asks.")

    def chosen(self, strategy: str, note: str) -> None:
        """What a strategy says of how it chose, told once, whatever its numbers are in later rounds."""
        kind = re.sub(r"[\d,.]+", "", f"{strategy}: {note}")
        if note and kind not in self._told:
            self._told.add(kind)
            self._say(f"      {strategy}: {note}.")

    def waiting(self, round_: int, missing: int, of: int) -> None:
        """Answers of a round that are still to come, told when their number changes."""
        told = f"      round {round_}: {of - missing} of {of} answered"
        if told not in self._told:
            self._told.add(told)
            self._say(told)

    def no_such_id(self, names: set[str]) -> None:
        """Answers to what is not in the data, each told once."""
        new = sorted(names - self._strange)
        self._strange |= names
        if new:
            listed = ", ".join(map(repr, new[:20])) + (", ..." if len(new) > 20 else "")
            self._say(f"      Answers to {listed} are passed over: the train split has no such id.")

    def no_such_label(self, answer: Answer, expected: str) -> None:
        """An answer that can't be one, told once; the example still waits for another."""
        told = f"      {answer.annotator} answered {answer.id!r} with {answer.label!r}, which is no label for it; "
        if told not in self._told:
            self._told.add(told)
            self._say(f"{told}{expected}.")

    def final(self, labelled: int) -> None:
        """The final fit begins."""
        if self.config.training.mode == "frozen":
            self._say(f"Fine-tuning the final model on {labelled} labels ...")

    def finished(self, about: dict[str, Any], model: Any) -> None:
        """The final model is there."""
        scores = about.get("test") or about.get("validation") or about.get("holdout") or {}
        told = ", ".join(f"{name} {scores[name]:.4f}" for name in self.task.metrics if name in scores)
        self._say(f"Final model: {model}" + (f" ({told})" if told else ""))

    def labelled(self, rows: int, folder: Any) -> None:
        """The labelled set is there, where there is one."""
        if rows:
            self._say(f"Labelled set: {folder} ({rows} rows)")

    def no_final(self, only_label: Any) -> None:
        """There is nothing to fine-tune."""
        self._say(f"      No final model: {_known(only_label)}, and a model needs two classes; ask for more labels.")

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _say(self, text: str) -> None:
        if self.enabled:
            tqdm.write(text)


def _known(only_label: Any) -> str:
    return "no label has come yet" if only_label is None else f"every label so far is {only_label!r}"
