"""People behind files: the batch is written to one file, answers are read from another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nlp_al.annotation.base import Annotator, Question, Setting
from nlp_al.pool import STATUSES, Answer


@dataclass
class Jsonl(Annotator):
    """Writes `questions.jsonl` and reads `answers.jsonl`, both in the run directory unless `folder` says otherwise.

    A question is {"id", "round", "rank", "text"}; an answer is {"id", "label"}, with "annotator" and "status" optional.
    A line that is no such answer is told and passed over; the last line of an id and annotator holds.
    """

    folder: str | None = field(default=None, metadata={"help": "folder of questions.jsonl and answers.jsonl"})

    def start(self, setting: Setting) -> None:
        """Makes the folder."""
        super().start(setting)
        self._folder = Path(self.folder) if self.folder else setting.run_dir
        self._folder.mkdir(parents=True, exist_ok=True)
        self._asked: dict[str, Question] = {}
        self._told: set[bytes] = set()

    def push(self, questions: Sequence[Question]) -> None:
        """Writes all questions of this process, the newest batch last."""
        self._asked.update({question.example.id: question for question in questions})
        lines = [
            json.dumps(
                {"id": q.example.id, "round": q.round, "rank": q.rank, "text": q.example.inputs}, ensure_ascii=False
            )
            for q in self._asked.values()
        ]
        fresh = self._folder / "questions.jsonl.new"
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        fresh.replace(self._folder / "questions.jsonl")
        print(f"{len(questions)} questions wait in {self._folder / 'questions.jsonl'}; ", end="")
        print(f'answer in {self._folder / "answers.jsonl"} as {{"id": ..., "label": ...}}.', flush=True)

    def pull(self) -> list[Answer]:
        """Every line that can be read, in file order."""
        path = self._folder / "answers.jsonl"
        if not path.is_file():
            return []
        answers = []
        for at, line in enumerate(path.read_bytes().splitlines(keepends=True)):
            answer = self._read(line)
            if answer is not None:
                answers.append(answer)
            elif line.strip() and line.endswith(b"\n") and line not in self._told:  # a last line may still be written
                self._told.add(line)
                print(f'{path} line {at + 1} is passed over: an answer is {{"id": ..., "label": ...}}.', flush=True)
        return answers

    def _read(self, line: bytes) -> Answer | None:
        try:
            given = json.loads(line)
            name, status = given["id"], given.get("status", "submitted")
            if type(name) not in (str, int) or status not in STATUSES:
                return None
            return Answer(str(name), given.get("label"), str(given.get("annotator", "jsonl")), status)
        except (ValueError, KeyError, AttributeError, TypeError):
            return None
