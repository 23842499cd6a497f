"""People in the page of an Argilla server: ours, which is started where it is not up, or anybody's. A leaf: no other
file imports argilla.

What bites in Argilla, and what is done about it: a record that is written again loses its metadata unless they are
written too; spans are counted by the page in UTF-16 and by the server in characters, so characters beyond the basic
plane are shown as one placeholder each; the client's own reader of answers falls over an answer without values, and its
settings know no descriptions of options, so both are the server's own REST.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nlp_al.annotation.base import Annotator, Question, Setting
from nlp_al.annotation.connection import Connection
from nlp_al.annotation.datasets import EVERYBODY, MAIN, REVIEW, DataSets, own
from nlp_al.annotation.payload import record
from nlp_al.errors import UserError
from nlp_al.pool import OPEN, Answer
from nlp_al.tasks.forms import ANSWER, CHAT

if TYPE_CHECKING:
    from nlp_al.annotation.pages import Page

NOTE, REPLY = "note", "reply"
"""The questions in one's own words."""


def about(text: str, default: Any, secret: bool = False) -> Any:
    """A parameter with its line of --help; a secret one is never shown or written."""
    return field(default=default, repr=not secret, metadata={"help": text, "secret": secret})


@dataclass
class Argilla(Annotator):
    """Publishes each batch as records of a data set, and takes the answers of everybody who may annotate in it."""

    api_url: str | None = about(
        "address of a server; null: ARGILLA_API_URL, else one of our own, started if need be", None
    )
    api_key: str | None = about(
        "key of its owner or an admin; null: ARGILLA_API_KEY; never written down", None, secret=True
    )
    data: str = about("folder of the server of our own", "argilla")
    port: int = about("port of the server of our own", 6900)
    annotators: int = about("how many people annotate; a server of our own has that many accounts at least", 1)
    workspace: str = about("the workspace whose people may annotate", "nlp-al")
    suggestions: bool = about("whether the model's guess is filled in; faster, and people are drawn towards it", True)
    scores: bool = about("whether a guess is shown with its probability, which draws people towards it further", False)
    explain: bool = about("whether a record's metadata tell the words that the model's guess hangs on the most", False)
    control: float = about("share of the guesses that are not shown, to see what seeing one does to answers", 0.05)
    vectors: bool = about("whether similar records can be looked for", True)
    notes: bool = about("whether people may write a note beside each answer", False)
    replies: bool = about("response selection: whether people may write a better reply than all candidates", False)
    min_submitted: int = about("answers that each record waits for", 1)
    agreement: float = about("share of the records that all annotators answer, to see how far they agree", 0.0)
    adjudicator: str | None = about("who decides where people disagree: the name of an account, or null", None)
    enough: int | str = about("answered records of a batch, or '90%' of it, after which the run goes on", "100%")
    ahead: int | str | None = about(
        "answered records of a batch, or '50%' of it, after which the next batch is chosen with what is known and "
        "published behind it, so that nobody waits for training; null: not before training",
        "50%",
    )

    seconds_between_pulls: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        if self.min_submitted < 1:
            raise ValueError(f"min_submitted is {self.min_submitted}; it must be at least 1.")
        for name in ("agreement", "control"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        if self.explain and not self.suggestions:
            raise ValueError("explain is true, but suggestions is false; it says what a suggestion hangs on.")
        if self.agreement and self.annotators < 2:
            raise ValueError(f"agreement is {self.agreement}, but annotators is {self.annotators}; it takes two.")
        for name in ("enough", "ahead"):
            given = getattr(self, name)
            if given is not None and _share(given) is None:
                raise ValueError(f"{name} is {given!r}; it must be a number of records from 1, or as '90%'.")

    @property
    def wants(self) -> frozenset[str]:
        """What questions are to carry beside the example."""
        wishes = {"suggestion": self.suggestions, "explanation": self.explain, "vector": self.vectors}
        return frozenset(name for name, wanted in wishes.items() if wanted)

    @property
    def decides(self) -> str | None:
        """The adjudicator."""
        return self.adjudicator

    def enough_of(self, batch: int) -> int:
        """How many answered records of a batch of this size are enough."""
        return _counted(self.enough, batch)

    def ahead_of(self, batch: int) -> int | None:
        """After how many answered records the next batch is chosen."""
        return None if self.ahead is None else _counted(self.ahead, batch)

    def needs(self, name: str) -> int:
        """All annotators' where the record is among those that all answer: known by its id, the same in every start."""
        return self.annotators if self._asks_all(name) else self.min_submitted

    def _asks_all(self, name: str) -> bool:
        drawn = int.from_bytes(blake2b(f"agreement {name}".encode(), digest_size=8).digest(), "big") / 2**64
        return drawn < self.agreement

    def start(self, setting: Setting) -> None:
        """Connects to the server, and goes on with this run's data sets where there are any."""
        super().start(setting)
        task = setting.task
        self._form = task.form(setting.examples)
        if self.replies and CHAT not in self._form.fields.values():
            raise UserError("annotator.replies is for response selection alone; leave it out.")
        texts = {NOTE: "Note"} if self.notes else {}
        texts |= {REPLY: "A better reply"} if self.replies else {}
        self._examples = {example.id: example for example in setting.examples}
        self._seen: dict[tuple[str, str], None] = {(answer.id, answer.annotator): None for answer in setting.answers}
        self._names: dict[str, str] = {}
        self._log_in = ""
        logging.getLogger("argilla.sdk").setLevel(logging.CRITICAL)  # what it says is told here, in a sentence
        self._server = self._connected()
        waits = {MAIN: self.min_submitted, EVERYBODY: self.annotators}  # one person alone is asked all else
        self._sets = DataSets(self._server, setting, self._form, texts, self.workspace, waits, self.adjudicator)
        if self.adjudicator is not None and self.adjudicator not in (known := self._sets.people().values()):
            raise UserError(f"annotator.adjudicator is {self.adjudicator!r}; the users are {', '.join(known)}.")

    def push(self, questions: Sequence[Question]) -> None:
        """Adds the records that are not there yet; of the others only the place in the order of asking may change."""
        told = []
        for kind, asked in self._by_kind(questions).items():
            page = self._sets.page(kind, asked[0].vector)
            new = page.write([self._record(page, question) for question in asked])
            of_all = f", for all {self.annotators} annotators," if kind == EVERYBODY else ""
            told += [f"{new} questions{of_all} wait at {page.url}"] if new else []
        if told:
            print(f"{', '.join(told)}{self._log_in}", flush=True)

    def pull(self) -> list[Answer]:
        """Every answer as it is now, by record and person; where people disagree the adjudicator is asked.

        Of somebody who was asked again the second answer holds, once it is more than a draft.
        """
        records, found = self._sets.answered(), dict[tuple[str, str], Answer]()
        for answer in (answer for one in records for answer in self._read(one)):
            who = (answer.id, answer.annotator)
            if answer.status not in OPEN or who not in found:
                found[who] = answer
        if self.adjudicator is not None:
            rounds = {one["external_id"]: one["metadata"]["round"] for one in records}
            self._ask_adjudicator(list(found.values()), rounds)
        return self._with_retracted(list(found.values()))

    def ask_again(self, questions: Sequence[Question], person: str | None) -> None:
        """Publishes them for this person alone: of the adjudicator, behind the disagreements."""
        if person is not None and person not in (known := self._sets.people().values()):
            raise UserError(f"There is no user {person!r} to be asked again; the users are {', '.join(known)}.")
        if questions:
            assert person is not None
            new, url = self._ask_one(person, questions)
            print(f"{new} questions wait for {person} at {url}{self._log_in}" if new else "Nothing new.", flush=True)

    def _ask_one(self, person: str, questions: Sequence[Question]) -> tuple[int, str]:
        """Adds what this person was not asked yet; how many, and where."""
        kind = REVIEW if person == self.adjudicator else own(person)
        asked = self._sets.asked(kind)
        fresh = [question for question in questions if question.example.id not in asked]
        page = self._sets.page(kind, None)
        placed = [replace(question, place=len(asked) + at) for at, question in enumerate(fresh)]
        page.write([self._record(page, question) for question in placed])
        return len(fresh), page.url

    def _by_kind(self, questions: Sequence[Question]) -> dict[str, list[Question]]:
        kinds: dict[str, list[Question]] = {}
        for question in questions:
            kind = EVERYBODY if self._asks_all(question.example.id) else MAIN
            kinds.setdefault(kind, []).append(question)
        return kinds

    def _record(self, page: Page, question: Question) -> dict[str, Any]:
        return record(question, self.setting.task, self._form, page.questions[ANSWER], self.scores)

    # Reading

    def _read(self, found: dict[str, Any]) -> Iterator[Answer]:
        """The answers of a record that stand for labels, or for none on purpose."""
        example = self._examples.get(found["external_id"])
        for response in found["responses"] if example is not None else ():
            assert example is not None
            values = {name: one["value"] for name, one in (response["values"] or {}).items()}
            given, who, label = values.get(ANSWER), self._name(response["user_id"]), None
            if response["status"] == "submitted":
                try:
                    empty: list[Any] | None = [] if self._form.kind != "label" else None
                    label = self.setting.task.from_form(empty if given is None else given, example)
                except UserError as error:
                    self._server.tell(f"{who} answered {example.id!r} with {given!r}, which is passed over: {error}")
                    continue
            words = {name: values[name] for name in (NOTE, REPLY) if values.get(name)}
            yield Answer(example.id, label, who, response["status"], **words)

    def _with_retracted(self, found: list[Answer]) -> list[Answer]:
        """Adds what people once answered and have taken back since."""
        now = {(answer.id, answer.annotator) for answer in found}
        gone = [who for who in self._seen if who not in now]
        if gone and not self._names:
            self._names = self._sets.people()
        people = set(self._names.values())
        self._seen.update(dict.fromkeys(now))
        return [*found, *(Answer(name, None, person, "retracted") for name, person in gone if person in people)]

    def _name(self, user: str) -> str:
        if user not in self._names:
            self._names = self._sets.people()
        return self._names.get(user, user)

    def _ask_adjudicator(self, answers: Sequence[Answer], rounds: Mapping[str, int]) -> None:
        """Publishes for the adjudicator what people have answered differently, once all who are to answer it have.

        So an adjudicator who is one of them is not asked twice.
        """
        said: dict[str, Counter[str]] = {}
        for answer in answers:
            if answer.status == "submitted":
                said.setdefault(answer.id, Counter())[json.dumps(answer.label)] += 1
        final = Counter(answer.id for answer in answers if answer.status not in OPEN)
        differ = [name for name, votes in said.items() if len(votes) > 1 and final[name] >= self.needs(name)]
        decided = {answer.id for answer in answers if answer.annotator == self.adjudicator}
        asked = self._sets.asked(REVIEW)
        open_ = [name for name in differ if name not in decided and name not in asked]
        if not open_:
            return
        questions = [
            Question(self._examples[name], rounds[name], at, why="disagreement") for at, name in enumerate(open_)
        ]
        assert self.adjudicator is not None
        _, url = self._ask_one(self.adjudicator, questions)
        count = f"{len(open_)} disagreements wait" if len(open_) > 1 else "1 disagreement waits"
        print(f"      {count} for {self.adjudicator} at {url}", flush=True)

    # The server

    def _connected(self) -> Connection:
        try:
            import argilla as rg
        except ImportError as error:
            raise UserError('annotator argilla needs its client: pip install "nlp-al[argilla]".') from error
        url = self.api_url or os.environ.get("ARGILLA_API_URL")
        key = self.api_key or os.environ.get("ARGILLA_API_KEY")
        if url is None:
            url, key = self._own_server()
        if not key:
            raise UserError(
                f"annotator.api_key is missing: give the key of an owner or admin of {url}, or ARGILLA_API_KEY."
            )
        return Connection(lambda: rg.Argilla(api_url=url, api_key=key).http_client, url.rstrip("/"))

    def _own_server(self) -> tuple[str, str]:
        from nlp_al.argilla_server.accounts import told
        from nlp_al.argilla_server.home import Home, require_extra
        from nlp_al.argilla_server.launcher import ensure

        require_extra()
        home = Home(Path(self.data).resolve())
        running, new = ensure(home, "127.0.0.1", self.port, self.annotators)
        if new:
            print(told(new), flush=True)
        self._log_in = f"; log in as annotator-1, or as one of nlp-al server user list --data {self.data}"
        return running.url, home.api_key()


def _share(count: int | str) -> tuple[int, float] | None:
    """(records, share), one of them 0; None where it is neither."""
    if isinstance(count, int):
        return (count, 0.0) if count > 0 else None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", count.strip())
    return (0, float(found[1]) / 100) if found and 0 < float(found[1]) <= 100 else None


def _counted(count: int | str, batch: int) -> int:
    whole, share = _share(count) or (0, 0.0)
    return min(batch, max(1, whole or math.ceil(share * batch)))
