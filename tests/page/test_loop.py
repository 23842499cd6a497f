"""A run and a person who labels for it in the browser, from the first start of the recipe to its end, for each task.

NLP_AL_PICTURES=docs/images has it take the pictures loop-*.png of the second round.
"""

import json
import re
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import helpers
import pytest
from browser import Person, drag, needs_page, picture, visitors
from examples import ASPECTS, DIALOGUES, NO_CANDIDATE, REVIEWS, TICKETS, TOPICS, TWEETS, TYPES, marked, tags
from helpers import tiny_model, write_lines
from servers import Server, free_port

from nlp_al.argilla_server.home import Home
from nlp_al.run_files import run_lines

pytestmark = needs_page

RECIPES = Path(__file__).parents[2] / "recipes"
ANN = "annotator-1"
BATCH = 6
TEST = 4
"""Examples at the end whose labels the run is given."""
START, PATIENCE = 180, 60
"""Seconds that a run may take to start, with others beside it, and for anything later."""


class Shape(ABC):
    """A task as people meet it.

    name: that of the picture. rows: all columns, by id. values: the right answers, as REST takes them. shown: a text of
    the page by which an example is known. seed: one with which the model's guess is right for some of the second batch.
    """

    name: ClassVar[str]
    run_name: ClassVar[str]
    recipe: ClassVar[str] = "text_classification.py"
    label: ClassVar[str] = "label"
    seed: ClassVar[int]
    ahead: ClassVar[int | None]
    config: ClassVar[dict[str, Any]]
    people: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.values: dict[str, Any] = {}
        self.shown: dict[str, str] = {}
        self.read()

    def add(self, row: dict[str, Any], value: Any, shown: str) -> None:
        name = f"{self.run_name}-{len(self.rows) + 1}"
        self.rows[name], self.values[name], self.shown[name] = {"id": name, **row}, value, shown

    @abstractmethod
    def read(self) -> None:
        """Adds the examples."""

    @abstractmethod
    def wrong(self, name: str) -> Any:
        """An answer that is not right."""

    @abstractmethod
    def give(self, ann: Person, name: str, value: Any) -> None:
        """Answers in the page, whatever is filled in there."""

    @abstractmethod
    def filled_in(self, ann: Person) -> Any:
        """What the page has filled in, as `seen` has it; None: nothing."""

    def seen(self, value: Any) -> Any:
        """What one can tell of an answer by looking."""
        return value

    def as_label(self, name: str, value: Any) -> Any:
        """An answer as labels.jsonl has it."""
        return value

    def said_beside(self, name: str, value: Any) -> dict[str, str]:
        """What people write beside an answer."""
        return {}

    def look(self, ann: Person, name: str, value: Any) -> None:
        """Waits until an example is there with this answer filled in."""
        ann.sees(self.shown[name])
        end, wanted = time.monotonic() + 5, None if value is None else self.seen(value)
        while self.filled_in(ann) != wanted and time.monotonic() < end:
            ann.page.wait_for_timeout(50)
        assert self.filled_in(ann) == wanted


class OneLabel(Shape):
    """The number of a label is an answer."""

    name = "text"
    run_name = "help-desk"
    seed = 16
    ahead = 3
    config: ClassVar = {"labels": TOPICS}

    def read(self) -> None:
        for text, topic in TICKETS:
            shown = text.replace("<access", "＜access").replace("R&D", "R＆D")
            self.add({"text": text, "label": topic}, topic, shown)

    def wrong(self, name: str) -> str:
        return next(topic for topic in TOPICS if topic != self.values[name])

    def give(self, ann: Person, name: str, value: str) -> None:
        ann.sends(lambda: ann.page.keyboard.press(str([*TOPICS].index(value) + 1)))

    def filled_in(self, ann: Person) -> str | None:
        return next(iter(ann.chosen()), None)


class SeveralLabels(Shape):
    """Numbers choose and Enter submits."""

    name = "labels"
    run_name = "restaurant-reviews"
    seed = 163
    ahead = None
    config: ClassVar = {"labels": ASPECTS, "task_options": {"multi_label": True}}
    options = (*ASPECTS, "(none)")

    def read(self) -> None:
        for text, aspects in REVIEWS:
            self.add({"text": text, "label": aspects}, aspects or ["(none)"], text)

    def wrong(self, name: str) -> list[str]:
        return [option for option in ASPECTS if option not in self.values[name]]

    def give(self, ann: Person, name: str, value: list[str]) -> None:
        for option in {*value} ^ {*(self.filled_in(ann) or [])}:
            ann.page.keyboard.press(str(self.options.index(option) + 1))
        ann.sends(lambda: ann.page.keyboard.press("Enter"))

    def filled_in(self, ann: Person) -> list[str] | None:
        return ["(none)" if text == "none of these" else text for text in ann.chosen()] or None

    def as_label(self, name: str, value: list[str]) -> list[str]:
        return [option for option in value if option != "(none)"]


class Spans(Shape):
    """The mouse marks entities; their positions hold beside emoji."""

    name = "spans"
    run_name = "tweets"
    recipe = "ner.py"
    label = "tags"
    seed = 147
    ahead = None
    config: ClassVar = {"labels": TYPES, "task": "token-classification", "task_options": {"max_length": 32}}

    def read(self) -> None:
        for text in TWEETS:
            plain, spans = marked(text)
            self.add({"text": plain, "tags": spans}, spans, re.sub("[\U00010000-\U0010ffff]", "▯", plain))

    def wrong(self, name: str) -> list[dict[str, Any]]:
        return [{**span, "label": "person"} for span in self.values[name]]

    def give(self, ann: Person, name: str, value: list[dict[str, Any]]) -> None:
        for _ in self.filled_in(ann) or []:
            mark = ann.page.locator(".span-entity__container").first
            mark.hover()
            mark.locator(".span-entity__close-button").click()
        for span in value:
            if not ann.page.locator(f".questions-form input[name='{span['label']}']").is_checked():
                ann.label(span["label"]).click()
            drag(ann.page, span["start"], span["end"])
        ann.sends(lambda: ann.page.keyboard.press("Enter"))

    def filled_in(self, ann: Person) -> list[str] | None:
        return sorted(text.lower() for text in ann.page.locator(".span-entity__text").all_inner_texts()) or None

    def seen(self, value: list[dict[str, Any]]) -> list[str]:
        return sorted(span["label"] for span in value)

    def as_label(self, name: str, value: list[dict[str, Any]]) -> list[str]:
        return tags(self.rows[name]["text"], value)


class Dialogues(Shape):
    """The number of a candidate; where none is right, a reply that would be; and a note."""

    name = "dialogue"
    run_name = "shop-chat"
    recipe = "response_selection.py"
    seed = 17
    ahead = 3
    config: ClassVar = {
        "task": "response-selection",
        "task_options": {"max_length": 64, "none_of_these": NO_CANDIDATE},
    }
    people: ClassVar = {"notes": True, "replies": True}

    def read(self) -> None:
        for context, candidates, right in DIALOGUES:
            value = "none" if right is None else str(right + 1)
            row = {"context": context, "candidates": candidates, "label": "none" if right is None else str(right)}
            self.add(row, value, " ".join(f"{at}. {text}" for at, text in enumerate(candidates, 1)))

    def wrong(self, name: str) -> str:
        return "2" if self.values[name] == "1" else "1"

    def give(self, ann: Person, name: str, value: str) -> None:
        ann.label(NO_CANDIDATE if value == "none" else value).first.click()
        for question, text in self.said_beside(name, value).items():
            ann.page.locator(f"[aria-label='Question: {question}'] p").fill(text)
        ann.submits()

    def filled_in(self, ann: Person) -> str | None:
        return next(("none" if text == NO_CANDIDATE else text for text in ann.chosen()), None)

    def look(self, ann: Person, name: str, value: str | None) -> None:
        super().look(ann, name, value)
        turns = [text.strip() for text in ann.page.locator(".chat__bubble").all_inner_texts()]
        assert turns == [text.replace("<expired", "＜expired") for text in self.rows[name]["context"]]

    def as_label(self, name: str, value: str) -> Any:
        return "none" if value == "none" else int(value) - 1

    def said_beside(self, name: str, value: str) -> dict[str, str]:
        reply = {"reply": "I will ask the courier & call you."} if value == "none" else {}
        return {"note": f"about {name}", **reply}


SHAPES = {shape.name: shape for shape in (OneLabel, SeveralLabels, Spans, Dialogues)}


@dataclass
class Run:
    """A recipe at work, and what it has said and written so far."""

    shape: Shape
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, shape: Shape, folder: Path) -> "Run":
        folder.mkdir()
        rows = list(shape.rows.values())
        files = {
            "train": write_lines(folder / "train.jsonl", [{**row, shape.label: None} for row in rows[:-TEST]]),
            "test": write_lines(folder / "test.jsonl", rows[-TEST:]),
        }
        port = free_port()
        values = {
            "task_options": {"max_length": 32},
            "model": model_of(folder / "model", rows),
            "dataset": {"path": "json", "data_files": files},
            "strategy": "margin",
            "loop": {"initial": BATCH, "batch": BATCH, "rounds": 1, "seed": shape.seed},
            "training": {"mode": "frozen", "final": "none"},
            "annotator": {"name": "argilla", "data": "argilla", "port": port, "ahead": shape.ahead, **shape.people},
            "run_dir": shape.run_name,
            **shape.config,
        }
        (folder / "config.yaml").write_text(json.dumps(values), encoding="utf-8")
        command = [sys.executable, str(RECIPES / shape.recipe), "--config", "config.yaml"]
        with (folder / "output.txt").open("wb") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        return cls(shape, folder, port, process)

    @property
    def said(self) -> str:
        return (self.folder / "output.txt").read_text(encoding="utf-8")

    def says(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Waits until it says so."""
        return self.until(lambda: re.search(pattern, self.said, re.MULTILINE), pattern, patience)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A file of the run directory."""
        return run_lines(self.folder / self.shape.run_name, name)

    def newest(self) -> dict[str, dict[str, Any]]:
        """The last line of labels.jsonl by id."""
        return {line["id"]: line for line in self.lines("labels.jsonl")}

    def publishes(self, times: int) -> None:
        """Waits until it has said so many times that questions wait."""
        self.until(lambda: self.said.count(" questions wait at ") == times, "batch")

    def until(self, true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        end = time.monotonic() + patience
        while not (found := true()):
            assert self.process.poll() is None, f"the run ended: {self.said}"
            assert time.monotonic() < end, f"no {what}: {self.said}"
            time.sleep(0.1)
        return found

    @property
    def server(self) -> Server:
        return Server(Home(self.folder / "argilla"), self.port)

    def end(self) -> None:
        """Whatever it is at."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.server.home.made:
            self.server.command("down")


def model_of(folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """A tiny model that knows the words of these rows."""
    texts = " ".join(json.dumps([*row.values()], ensure_ascii=False) for row in rows)
    words = sorted({*re.findall(r"\w+|[^\w\s]", texts.lower())})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helpers, "WORDS", {})
        patch.setattr(helpers, "COMMON", words)
        return tiny_model(folder)


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Run]]:
    """One of each shape that is tested, begun at once: starting is mostly waiting."""
    folder = tmp_path_factory.mktemp("loop")
    asked = [item.callspec.params["shape"] for item in request.session.items if item.path == request.path]
    begun = {name: Run.begin(SHAPES[name](), folder / name) for name in asked}
    yield begun
    for run in begun.values():
        run.end()


def order_of(run: Run, round_: int) -> list[str]:
    """The ids of a round in the order in which people are to be asked."""
    queries = run.lines("queries.jsonl")
    places = {query["id"]: at for at, query in enumerate(queries)}
    for line in run.lines("reranked.jsonl"):
        places |= line["places"]
    ranks = {query["id"]: query["rank"] for query in queries if query["round"] == round_}
    assert sorted(ranks.values()) == list(range(len(ranks)))
    return sorted(ranks, key=places.__getitem__)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_from_its_start_to_its_end(runs, browser, shape):
    run = runs[shape]
    told = run.says(rf"^{BATCH} questions wait at ((http://[\d.:]+)/dataset/([\w-]+)/\S+); log in as {ANN}", START)
    password = run.says(rf"^  {ANN}  (\S+)  annotator$")[1]
    address, url, dataset = told.groups()
    with visitors(browser, url) as come:
        ann = come(ANN)
        ann.page.goto(address)
        ann.sign_in(password)
        label_first_batch(run, ann)
        look_at_second_batch(run, ann, dataset)
    answer_the_rest(run, dataset)
    assert run.process.wait(PATIENCE) == 0, run.said
    assert [(line["round"], line["labelled"]) for line in run.lines("metrics.jsonl")] == [(0, 5), (1, 11)]
    assert {name for name, line in run.newest().items() if line["status"] == "submitted"} == {
        *order_of(run, 0)[:-1],
        *order_of(run, 1),
    }


def label_first_batch(run: Run, ann: Person) -> None:
    """Five answers, one of which is corrected, and a record that nobody can decide."""
    shape, (mistaken, *others, last) = run.shape, order_of(run, 0)
    given = {mistaken: shape.wrong(mistaken), **{name: shape.values[name] for name in others}}
    for at, (name, value) in enumerate(given.items(), 1):
        shape.look(ann, name, None)
        shape.give(ann, name, value)
        if at == shape.ahead:
            run.publishes(2)
    run.until(lambda: len(run.lines("labels.jsonl")) == BATCH - 1, "answers")
    assert [line["id"] for line in run.lines("labels.jsonl")] == [*given]
    assert_labels(run, given, {})

    ann.view("submitted")
    shape.look(ann, mistaken, given[mistaken])
    given[mistaken] = shape.values[mistaken]
    shape.give(ann, mistaken, given[mistaken])
    ann.view("pending")
    ann.sees(shape.shown[last])
    ann.page.locator(".questions-form label").first.click()  # what is filled in does not count
    ann.sends(ann.page.locator(".button--discard").click)
    if shape.ahead:  # nobody has to wait
        chosen = [query["id"] for query in run.lines("queries.jsonl") if query["round"] == 1]
        ann.sees(shape.shown[chosen[0]])
    else:
        ann.page.locator(".wrapper--empty").wait_for()
    run.publishes(2)
    run.says("^ +round 1: 0 of 6 answered$")
    assert len(run.lines("labels.jsonl")) == BATCH + 1
    assert_labels(run, given, {})
    assert {key: run.newest()[last][key] for key in ("status", "label")} == {"status": "discarded", "label": None}
    (line,) = run.lines("metrics.jsonl")
    assert (line["round"], line["labelled"], line["answers"]) == (0, BATCH - 1, BATCH + 1)
    assert set(line["test"])


def look_at_second_batch(run: Run, ann: Person, dataset: str) -> None:
    """The page shows the next batch in the strategy's order, with what the model suggests; some of it is accepted."""
    shape, order = run.shape, order_of(run, 1)
    records = {record["external_id"]: record for record in run.server.api().records(dataset)}
    guesses = {name: suggested[0]["value"] for name in order if (suggested := records[name]["suggestions"])}
    assert guesses
    assert all(records[name]["suggestions"] == [] for name in order_of(run, 0))
    pictured = next((name for name in order if guesses.get(name) == shape.values[name]), order[0])
    ann.page.reload()
    given = {}
    for name in order:
        guess = guesses.get(name)
        shape.look(ann, name, guess)
        if name == pictured:
            picture(ann, f"loop-{shape.name}")
        if name == order[-1]:
            break
        given[name] = guess if guess and len(given) < 2 else shape.values[name]
        if given[name] == guess:
            ann.submits()
        else:
            shape.give(ann, name, given[name])
    run.until(lambda: len(run.newest()) == BATCH + len(given), "answers to suggestions")
    assert_labels(run, given, guesses)


def answer_the_rest(run: Run, dataset: str) -> None:
    ann = run.server.api(ANN)
    for record in run.server.api().records(dataset):
        if record["status"] == "pending" and not record["responses"]:
            ann.answer(record["id"], label=run.shape.values[record["external_id"]])


def assert_labels(run: Run, given: Mapping[str, Any], guesses: Mapping[str, Any]) -> None:
    """That the last line about each id says what was given in the page; nothing is written beside a guess."""
    newest = run.newest()
    for name, value in given.items():
        said = run.shape.said_beside(name, value) if value != guesses.get(name) else {}
        wanted = {"annotator": ANN, "status": "submitted", "label": run.shape.as_label(name, value), **said}
        assert {key: newest[name].get(key) for key in wanted} == wanted
