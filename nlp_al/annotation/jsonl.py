"""People behind files: the batch is written to one file, answers are read from another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_al.annotation.base import Annotator, Question, Setting
from nlp_al.pool import STATUSES, Answer

BOM = b"\xef\xbb\xbf"
"""What some editors put before the first line of a file."""

MOST_TOLD = 20
"""Lines that are told one by one; a file of another kind has thousands of them."""


@dataclass
class Jsonl(Annotator):
    """Writes `questions.jsonl` and reads `answers.jsonl`, both in the run directory unless `folder` says otherwise.

    A question is {"id", "round", "rank"} and what is to be read: "text", "tokens", or "context" and "candidates". One
    that is asked again has "answered_by" too, a list of those who have answered it: somebody else is to. An answer is
    {"id", "label"}, with "annotator" and "status" optional. A line that is no such answer is told once and passed over,
    unless it is the last one and may still be written; the last line of an id and annotator holds. What is in doubt is
    in `questions-again.jsonl`, with the "annotator" who is to answer it.
    """

    folder: str | None = field(default=None, metadata={"help": "folder of questions.jsonl and answers.jsonl"})
    annotators: int = field(
        default=1, metadata={"help": "how many people answer, by name; from 2 on a strategy may ask another one"}
    )

    def __post_init__(self) -> None:
        if self.annotators < 1:
            raise ValueError(f"annotators is {self.annotators}; it must be at least 1.")

    @property
    def in_turn(self) -> int:
        """All of them."""
        return self.annotators

    def start(self, setting: Setting) -> None:
        """Makes the folder."""
        super().start(setting)
        self._folder = Path(self.folder) if self.folder else setting.run_dir
        self._folder.mkdir(parents=True, exist_ok=True)
        self._asked: dict[str, Question] = {}
        self._answers: list[Answer] = []
        self._state: tuple[int, ...] = ()
        self._told: set[bytes] = set()

    def push(self, questions: Sequence[Question]) -> None:
        """Writes all questions of this process, the newest batch last."""
        for question in questions:
            if question.before:
                self._asked.pop(question.example.id, None)  # what is asked again goes behind the rest
            self._asked[question.example.id] = question
        lines = [json.dumps(self._line(question), ensure_ascii=False) for question in self._asked.values()]
        fresh = self._folder / "questions.jsonl.new"
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        fresh.replace(self._folder / "questions.jsonl")
        print(f"{len(questions)} questions wait in {self._folder / 'questions.jsonl'}; ", end="")
        print(f'answer in {self._folder / "answers.jsonl"} as {{"id": ..., "label": ...}}.', flush=True)

    def ask_again(self, questions: Sequence[Question], person: str | None) -> None:
        """Adds them to the file."""
        if questions:
            path = self._folder / "questions-again.jsonl"
            whole = [{**self._line(question), "annotator": person} for question in questions]
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in whole)
            told = json.dumps({"id": "...", "label": "...", "annotator": person}, ensure_ascii=False)
            print(f"{len(questions)} questions wait in {path}; ", end="")
            print(f"answer in {self._folder / 'answers.jsonl'} as {told}.", flush=True)

    def _line(self, asked: Question) -> dict[str, Any]:
        about = {"id": asked.example.id, "round": asked.round, "rank": asked.rank}
        again = {"answered_by": list(asked.before)} if asked.before else {}
        return {**about, **again, **self.setting.task.question(asked.example.inputs)}

    def pull(self) -> list[Answer]:
        """Every line that can be read, in file order. The file is read again only where it has changed."""
        path = self._folder / "answers.jsonl"
        try:
            about = path.stat()  # before reading, so that what is written meanwhile shows at the next pull
            state = (about.st_ino, about.st_size, about.st_mtime_ns)
            if state != self._state:
                self._answers, self._state = self._read(path), state
        except FileNotFoundError:  # no answer yet, or an editor is putting a new file in its place
            return []
        return list(self._answers)

    def _read(self, path: Path) -> list[Answer]:
        answers, wrong = [], []
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
            bare = line.removeprefix(BOM).strip()
            answer = _answer(bare)
            if answer is not None:
                answers.append(answer)
            elif bare and line.endswith((b"\n", b"\r")) and bare not in self._told:
                self._told.add(bare)
                wrong.append(number)
        for number in wrong[:MOST_TOLD]:
            print(f'{path} line {number} is passed over: an answer is {{"id": ..., "label": ...}}.', flush=True)
        if len(wrong) > MOST_TOLD:
            print(f"{path}: {len(wrong) - MOST_TOLD} more lines like these are passed over.", flush=True)
        return answers


def _answer(line: bytes) -> Answer | None:
    try:
        # Exports of tables fill what is left out with null or an empty text.
        given = {key: value for key, value in json.loads(line).items() if value not in (None, "")}
        name, label = given["id"], given.get("label")
        annotator, status = given.get("annotator", "jsonl"), given.get("status", "submitted")
        if type(name) not in (str, int) or type(annotator) not in (str, int) or status not in STATUSES:
            return None
        # What labels.jsonl could not hold: numbers that JSON lacks, halves of characters.
        json.dumps([name, label, annotator], ensure_ascii=False, allow_nan=False).encode()
        return Answer(str(name), label, str(annotator), status)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
