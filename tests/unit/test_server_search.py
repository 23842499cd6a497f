"""The search engine on a real database of Argilla, against a brute-force twin over the same records in Python."""

import json
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

pytest.importorskip("argilla_server")

from nlp_al.argilla_server.create import create
from nlp_al.argilla_server.home import Home
from nlp_al.argilla_server.service import settle

WORDS = ["invoice", "refund", "password", "login", "lyon", "café", "router", "late"]
TOPICS = ["billing", "access", "other"]
LABELS = ["pos", "neg", "none"]
START = datetime(2026, 1, 1)


@pytest.fixture(scope="module")
def base() -> Any:
    """Argilla's own filters; importing them copies the page to a temporary folder."""
    with tempfile.TemporaryDirectory() as scratch:
        tempfile.tempdir, before = scratch, tempfile.tempdir
        try:
            import argilla_server.search_engine.base as found
        finally:
            tempfile.tempdir = before
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    home = Home(tmp_path_factory.mktemp("server"))
    home.make()
    create(home, 2)
    return home.database


class World:
    """A database, and what was written to it."""

    def __init__(self, path: Path, seed: int, count: int) -> None:
        self.draw = random.Random(seed)
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("PRAGMA foreign_keys = ON")
        self.questions: dict[tuple[str, str], str] = {}
        self.users = dict(self.database.execute("SELECT username, id FROM users").fetchall())
        self.dataset = self.new_dataset("one")
        self.other = self.new_dataset("two")
        self.records: list[dict[str, Any]] = [self.new_record(self.dataset, at) for at in range(count)]
        for at in range(5):
            self.new_record(self.other, at)

    def insert(self, table: str, **values: Any) -> str:
        ident = uuid4().hex
        row = {"id": ident, "inserted_at": stamp(0), "updated_at": stamp(0), **values}
        row = {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in row.items()}
        names = ", ".join(f'"{name}"' for name in row)
        self.database.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
        return ident if "id" not in values else str(values["id"])

    def new_dataset(self, name: str) -> str:
        workspace = self.database.execute("SELECT id FROM workspaces").fetchone()[0]
        dataset = self.insert(
            "datasets",
            name=f"{name}-{uuid4().hex}",
            workspace_id=workspace,
            status="ready",
            distribution={"strategy": "overlap", "min_submitted": 1},
            allow_extra_metadata=1,
            last_activity_at=stamp(0),
        )
        for at, (field, kind) in enumerate([("text", "text"), ("chat", "chat"), ("scan", "image")]):
            self.insert(
                "fields",
                name=field,
                title=field,
                required=0,
                settings={"type": kind},
                dataset_id=dataset,
                inserted_at=stamp(at),
            )
        for question, kind in (("label", "label_selection"), ("tags", "multi_label_selection"), ("stars", "rating")):
            self.questions[dataset, question] = self.insert(
                "questions", name=question, title=question, required=0, settings={"type": kind}, dataset_id=dataset
            )
        return dataset

    def new_record(self, dataset: str, at: int) -> dict[str, Any]:
        draw = self.draw
        text = " ".join(draw.choices(WORDS, k=draw.randint(0, 4)))
        chat = [{"role": "user", "content": " ".join(draw.choices(WORDS, k=2))} for _ in range(draw.randint(0, 2))]
        metadata: dict[str, Any] = {}
        if draw.random() < 0.7:
            metadata["rank"] = draw.choice([draw.randint(0, 9), draw.random() * 10])
        if draw.random() < 0.2:
            metadata["rank"] = draw.choice(["first", None, [1]])
        if draw.random() < 0.6:
            metadata["topic"] = draw.choice([draw.choice(TOPICS), draw.sample(TOPICS, 2)])
        if draw.random() < 0.6:
            metadata["doubt"] = round(draw.random(), 3)
        record = {
            "text": text,
            "chat": chat,
            "metadata": draw.choice([metadata, metadata, None]),
            "status": draw.choice(["pending", "completed"]),
            "external_id": draw.choice([f"x{at}", None]),
            "inserted_at": START + timedelta(seconds=at),
            "updated_at": START + timedelta(seconds=draw.randint(0, 99)),
            "suggestions": {},
            "responses": {},
        }
        record["id"] = self.insert(
            "records",
            fields={"text": text, "chat": chat, "scan": "data:invoice"},
            metadata=record["metadata"] or None,
            status=record["status"],
            external_id=record["external_id"],
            dataset_id=dataset,
            inserted_at=stamp(at),
            updated_at=f"{record['updated_at']:%Y-%m-%d %H:%M:%S.%f}",
        )
        values: dict[str, Any] = {
            "label": draw.choice(LABELS),
            "tags": draw.sample(LABELS, 2),
            "stars": draw.randint(1, 5),
        }
        for name, value in values.items():
            if draw.random() < 0.5:
                scores = [round(draw.random(), 2) for _ in value] if name == "tags" else round(draw.random(), 2)
                said = {"value": value, "score": draw.choice([scores, None]), "agent": draw.choice(["m1", "m2", None])}
                record["suggestions"][name] = said
                self.insert(
                    "suggestions",
                    value=json.dumps(value),
                    score=json.dumps(said["score"]),
                    agent=said["agent"],
                    type=None,
                    record_id=record["id"],
                    question_id=self.questions[dataset, name],
                )
        for user in ("annotator-1", "annotator-2"):
            if draw.random() < 0.4:
                self.answer(record, user)
        return record

    def answer(self, record: dict[str, Any], user: str) -> None:
        draw = self.draw
        given = {"label": draw.choice(LABELS), "tags": draw.sample(LABELS, 2), "stars": draw.randint(1, 5)}
        given = {name: value for name, value in given.items() if draw.random() < 0.8}
        status = draw.choice(["submitted", "draft", "discarded"])
        record["responses"][user] = {"status": status, "values": given}
        self.insert(
            "responses",
            values={name: {"value": value} for name, value in given.items()},
            status=status,
            record_id=record["id"],
            user_id=self.users[user],
        )

    def user(self, name: str) -> Any:
        return SimpleNamespace(id=UUID(self.users[name]))


def stamp(seconds: float) -> str:
    return f"{START + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S.%f}"


@pytest.fixture
def world(empty, tmp_path) -> Iterator[World]:
    path = tmp_path / "argilla.db"
    with sqlite3.connect(empty) as source, sqlite3.connect(path) as copy:
        source.backup(copy)
    made = World(path, seed=0, count=60)
    yield made
    made.database.close()


@pytest.fixture
def search(world, base) -> Any:
    from nlp_al.argilla_server.search import Search

    return Search(Path(world.database.execute("PRAGMA database_list").fetchone()[2]))


def many(value: Any) -> list[Any]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found if one is not None]


def said(world, record, scope, base) -> list[Any]:
    """The values of a record that a filter speaks of."""
    if isinstance(scope, base.MetadataFilterScope):
        return many((record["metadata"] or {}).get(scope.metadata_property))
    if isinstance(scope, base.RecordFilterScope):
        return many(record[str(scope.property)])
    if isinstance(scope, base.SuggestionFilterScope):
        return many(record["suggestions"].get(scope.question, {}).get(scope.property))
    return [
        value
        for name, response in record["responses"].items()
        if scope.user is None or scope.user.id.hex == world.users[name]
        for value in many(response["values"].get(scope.question))
    ]


def fits(world, record, wanted, base) -> bool:
    if isinstance(wanted, base.AndFilter):
        return all(fits(world, record, each, base) for each in wanted.filters)
    scope = wanted.scope
    if isinstance(scope, base.ResponseFilterScope) and scope.question is None:
        states = [
            response["status"]
            for name, response in record["responses"].items()
            if scope.user is None or scope.user.id.hex == world.users[name]
        ]
        return any(state in wanted.values for state in states) or ("pending" in wanted.values and not states)
    values = said(world, record, scope, base)
    if isinstance(wanted, base.TermsFilter):
        return any(str(value) in wanted.values for value in values)
    least = datetime.fromisoformat(wanted.ge) if isinstance(wanted.ge, str) else wanted.ge
    most = datetime.fromisoformat(wanted.le) if isinstance(wanted.le, str) else wanted.le
    return any((least is None or value >= least) and (most is None or value <= most) for value in values)


def wanted_order(world, records, sort, base) -> list[str]:
    """Stable sorts from the last order to the first, over the order of asking."""
    found = sorted(records, key=lambda record: (rank(record), record["inserted_at"]))
    for order in reversed(sort):
        descending = order.order == "desc"

        def value(record, order=order, descending=descending):
            values = said(world, record, order.scope, base)
            if isinstance(order.scope, base.ResponseFilterScope) and order.scope.question == "stars":
                return sum(values) / len(values) if values else None
            if isinstance(order.scope, base.ResponseFilterScope):
                return min(values, default=None)
            return (max if descending else min)(values, default=None)

        here = [record for record in found if value(record) is not None]
        here.sort(key=value, reverse=descending)
        found = here + [record for record in found if value(record) is None]
    return [record["id"] for record in found]


def rank(record) -> float:
    value = (record["metadata"] or {}).get("rank")
    return value if isinstance(value, (int, float)) else float("inf")


def some_scope(world, base, orders=False) -> Any:
    draw = world.draw
    user = draw.choice([None, world.user("annotator-1")])
    scopes = [
        base.MetadataFilterScope(metadata_property=draw.choice(["topic", "doubt"])),
        base.RecordFilterScope(property=draw.choice(["status", "inserted_at", "updated_at", "external_id"])),
        base.SuggestionFilterScope(
            question=draw.choice(["label", "tags", "stars"]), property=draw.choice(["value", "score"])
        ),
        base.SuggestionFilterScope(question="label", property="agent"),
        base.ResponseFilterScope(question=draw.choice(["label", "tags", "stars"]), user=user),
    ]
    if not orders:
        scopes.append(base.ResponseFilterScope(property="status", user=user))
    return draw.choice(scopes)


def some_filter(world, base) -> Any:
    draw = world.draw
    scope = some_scope(world, base)
    name = getattr(scope, "metadata_property", None) or getattr(scope, "property", None)
    if name == "doubt" or (name == "score"):
        ends = sorted(round(draw.random(), 2) for _ in range(2))
        return base.RangeFilter(scope=scope, ge=draw.choice([ends[0], None]), le=ends[1])
    if name in ("inserted_at", "updated_at"):
        at = draw.randint(0, 90)
        return base.RangeFilter(
            scope=scope,
            ge=(START + timedelta(seconds=at)).isoformat(),
            le=draw.choice([None, (START + timedelta(seconds=at + 30)).isoformat()]),
        )
    if isinstance(scope, base.ResponseFilterScope) and scope.question is None:
        states = ["pending", "submitted", "draft", "discarded"]
        return base.TermsFilter(scope=scope, values=draw.sample(states, draw.randint(1, 3)))
    of_stars = getattr(scope, "question", None) == "stars"
    if of_stars and draw.random() < 0.5:
        return base.RangeFilter(scope=scope, ge=draw.randint(1, 5))
    terms = {
        "topic": TOPICS,
        "status": ["pending", "completed"],
        "external_id": [f"x{at}" for at in range(60)],
        "agent": ["m1", "m2"],
    }.get(str(name), [str(at) for at in range(1, 6)] if of_stars else LABELS)
    return base.TermsFilter(scope=scope, values=draw.sample(terms, draw.randint(1, 2)))


def test_filters_and_orders_against_the_twin(world, search, base):
    draw = world.draw
    seen = set()
    for _ in range(600):
        filters = [some_filter(world, base) for _ in range(draw.randint(0, 2))]
        keep = base.AndFilter(filters=filters) if filters else None
        sort = [
            base.Order(scope=some_scope(world, base, orders=True), order=draw.choice(["asc", "desc"]))
            for _ in range(draw.randint(0, 2))
        ]
        offset, limit = draw.choice([(0, 100), (0, 7), (5, 10), (50, 5)])
        page, total = search.records(world.dataset, keep=keep, sort=sort, offset=offset, limit=limit)
        wanted = [record for record in world.records if keep is None or fits(world, record, keep, base)]
        asked = (filters, sort, offset)
        assert total == len(wanted), asked
        order = wanted_order(world, wanted, sort, base)
        assert [record for record, _ in page] == order[offset : offset + limit], asked
        seen.add(total)
    assert len(seen) > 20  # the filters were not all empty, nor let everything through


def words(record, field=None) -> list[str]:
    said_in_chat = " ".join(f"{turn['role']} {turn['content']}" for turn in record["chat"])
    texts = {"text": record["text"], "chat": said_in_chat}
    return " ".join(texts.values() if field is None else [texts[field]]).replace("é", "e").split()


@pytest.mark.parametrize("field", [None, "text", "chat"])
def test_text_against_the_twin(world, search, base, field):
    for typed in ("invoice", "INVOICE refund", "cafe", "user", "data", "nowhere"):
        wanted = {r["id"] for r in world.records if set(typed.lower().split()) <= set(words(r, field))}
        page, total = search.records(world.dataset, text=(typed, field), limit=100)
        assert {record for record, _ in page} == wanted, typed
        assert total == len(wanted)
        scores = [score for _, score in page]
        assert scores == sorted(scores, reverse=True)
        pending = base.TermsFilter(scope=base.RecordFilterScope(property="status"), values=["pending"])
        page, total = search.records(world.dataset, text=(typed, field), keep=pending, limit=100)
        assert {record for record, _ in page} == {
            r["id"] for r in world.records if r["id"] in wanted and r["status"] == "pending"
        }


def test_what_is_changed_and_deleted_is_found_as_it_is_now(world, search):
    first, second = world.records[0]["id"], world.records[1]["id"]
    run = world.database.execute
    run("UPDATE records SET fields = ? WHERE id = ?", [json.dumps({"text": "quite unheard of"}), first])
    run("UPDATE records SET metadata = ? WHERE id = ?", [json.dumps({"rank": -5}), first])
    assert [r for r, _ in search.records(world.dataset, text=("unheard", None))[0]] == [first]
    assert search.records(world.dataset, limit=1)[0][0][0] == first
    run("UPDATE records SET metadata = ? WHERE id = ?", [json.dumps({"rank": -6}), second])
    assert [r for r, _ in search.records(world.dataset, limit=2)[0]] == [second, first]
    run("DELETE FROM records WHERE id = ?", [first])
    assert search.records(world.dataset, text=("unheard", None)) == ([], 0)
    assert search.records(world.dataset)[1] == 59
    run("DELETE FROM datasets WHERE id = ?", [world.dataset])
    assert search.records(world.dataset) == ([], 0)
    left = [run(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("nlp_al_queue", "nlp_al_text")]
    assert left == [5, 5]


def test_progress(world, search):
    by_status = {"pending": 0, "completed": 0}
    by_answer: dict[str, int] = {}
    for record in world.records:
        by_status[record["status"]] += 1
        if state := record["responses"].get("annotator-1", {}).get("status"):
            by_answer[state] = by_answer.get(state, 0) + 1
    assert search.progress(world.dataset) == by_status
    assert search.user_progress(world.dataset, world.users["annotator-1"]) == by_answer


def test_what_a_filter_on_metadata_can_offer(world, search):
    topics = [topic for r in world.records for topic in many((r["metadata"] or {}).get("topic"))]
    assert dict(search.terms(world.dataset, "topic")) == {topic: topics.count(topic) for topic in TOPICS}
    doubts = [value for r in world.records for value in many((r["metadata"] or {}).get("doubt"))]
    assert search.ends(world.dataset, "doubt") == (min(doubts), max(doubts))
    assert search.ends(world.dataset, "unknown") == (None, None)


def test_a_crash_between_an_answer_and_the_status_is_settled(world, search):
    path = Path(world.database.execute("PRAGMA database_list").fetchone()[2])
    settle(path)
    for record in world.records:
        answers = sum(response["status"] == "submitted" for response in record["responses"].values())
        status = world.database.execute("SELECT status FROM records WHERE id = ?", [record["id"]]).fetchone()[0]
        assert status == ("completed" if answers else "pending")
        assert (
            world.database.execute("SELECT status FROM nlp_al_queue WHERE record_id = ?", [record["id"]]).fetchone()[0]
            == status
        )


def queue(world, search, base, name, **named) -> list[str]:
    user = world.user(name)
    mine = base.TermsFilter(scope=base.ResponseFilterScope(property="status", user=user), values=["pending"])
    open_ones = base.TermsFilter(scope=base.RecordFilterScope(property="status"), values=["pending"])
    keep = base.AndFilter(filters=[mine, open_ones])
    page, _ = search.records(world.dataset, keep=keep, user_id=user.id.hex, **named)
    return [record for record, _ in page]


def submitted(record) -> int:
    return sum(answer["status"] == "submitted" for answer in record["responses"].values())


def respond(world, record, name):
    values = {"record_id": record, "user_id": world.users[name], "status": "submitted", "values": {}}
    world.insert("responses", **values)


def test_people_are_not_handed_what_others_have_on_their_screens(world, search, base):
    first = queue(world, search, base, "annotator-1", limit=5)
    second = queue(world, search, base, "annotator-2", limit=5)
    assert not set(first) & set(second)
    assert queue(world, search, base, "annotator-1", limit=5) == first
    # What others have is handed out when nothing else is left: one at a time, what they come to last.
    fit = [
        r["id"]
        for r in sorted(world.records, key=lambda r: (rank(r), r["inserted_at"]))
        if r["status"] == "pending" and "annotator-2" not in r["responses"] and not submitted(r)
    ]
    whole = queue(world, search, base, "annotator-2", limit=100)
    assert whole == [record for record in fit if record not in first]
    pages = [queue(world, search, base, "annotator-2", offset=at, limit=4) for at in range(0, len(whole), 4)]
    assert [record for page in pages for record in page] == whole
    for record in whole:
        respond(world, record, "annotator-2")
    assert queue(world, search, base, "annotator-2", limit=4) == [record for record in fit if record in first][-1:]


def test_what_is_on_a_screen_stays_in_front_of_what_is_fetched_next(world, search, base):
    """Argilla's page asks from behind what is not answered; a record that it gets twice would leave it a hole."""
    first = queue(world, search, base, "annotator-1", limit=4)
    theirs = queue(world, search, base, "annotator-2", limit=4)
    more = queue(world, search, base, "annotator-1", offset=4, limit=2)
    respond(world, first[0], "annotator-1")
    respond(world, first[3], "annotator-2")
    wanted = world.new_record(world.dataset, 100)["id"]
    world.database.execute("DELETE FROM responses WHERE record_id = ?", [wanted])
    world.database.execute(
        """UPDATE records SET status = 'pending', metadata = '{"rank": -1}' WHERE id = ?""", [wanted]
    )
    last = queue(world, search, base, "annotator-1", offset=5, limit=2)
    assert last[0] == wanted
    assert len({*first, *theirs, *more, *last}) == 12
    # The server is started again, and the page goes on. Then the page is loaded again, at its second record.
    again = type(search)(Path(world.database.execute("PRAGMA database_list").fetchone()[2]))
    (further,) = queue(world, again, base, "annotator-1", offset=7, limit=1)
    assert further not in {*first, *theirs, *more, *last}
    left = [wanted, *first[1:3], *more]
    assert queue(world, again, base, "annotator-1", offset=1, limit=3) == left[:3]
    respond(world, wanted, "annotator-1")
    assert queue(world, again, base, "annotator-1", offset=1 + 2, limit=2) == left[3:5]


def test_two_answers_a_record_are_for_two_people(world, search, base):
    first = queue(world, search, base, "annotator-1", limit=5, min_submitted=2)
    second = queue(world, search, base, "annotator-2", limit=5, min_submitted=2)
    open_to_both = [
        r for r in first if "annotator-2" not in next(x for x in world.records if x["id"] == r)["responses"]
    ]
    assert set(open_to_both) <= set(second) | set(first)
    answered = {r["id"]: sum(a["status"] == "submitted" for a in r["responses"].values()) for r in world.records}
    shared = [record for record in open_to_both if answered[record] == 0]
    assert [record for record in second if record in shared] == shared[: len(second)]


def test_writing_without_spaces_is_found_inside_of_a_run(world, search):
    texts = ["我想要退款", "退货和退款的流程", "請求退貨", "배송이 늦어요", "ขอคืนเงินค่ะ"]
    ids = []
    for text in texts:
        ids.append(world.new_record(world.dataset, 100 + len(ids))["id"])
        world.database.execute("UPDATE records SET fields = ? WHERE id = ?", [json.dumps({"text": text}), ids[-1]])

    def found(typed):
        return {ids.index(record) for record, _ in search.records(world.dataset, text=(typed, "text"))[0]}

    assert found("退款") == {0, 1}
    assert found("退款 流程") == {1}
    assert found("배송") == {3}
    assert found("คืนเงิน") == {4}
    assert search.records(world.dataset, text=("退款", "chat")) == ([], 0)
