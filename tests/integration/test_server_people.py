"""Eight people answer at the same time, as the page has them do it, while records are pushed: all of it arrives."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

pytest.importorskip("argilla_server")
pytest.importorskip("fakeredis")

from helpers import some_rows
from servers import Api, Server, answered, label_question, server

LABELS = ("sport", "money", "food")
PEOPLE = 8
PAGE = 10
BULK = 50


@dataclass
class Work:
    """What came of it: acknowledged answers by person and record, the seconds of each request, what failed."""

    given: dict[tuple[str, str], str] = field(default_factory=dict)
    answering: list[float] = field(default_factory=list)
    paging: list[float] = field(default_factory=list)
    pushing: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def work(one: Server, dataset: str, answers: int, first: int, pushed: int, pause: float = 0.0) -> Work:
    """Everybody gives so many answers, page by page. `first` records are there before, `pushed` in the end."""
    done = Work()
    begin = threading.Barrier(PEOPLE, timeout=60)

    def timed(seconds: list[float], ask: Any, *arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return ask(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - start)

    def annotate(name: str) -> None:
        api, draw, count = one.api(name), random.Random(name), 0
        begin.wait()
        while count < answers:
            page = timed(done.paging, api.queue, dataset, limit=PAGE)
            for record in page[: answers - count]:
                label = draw.choice(LABELS)
                timed(done.answering, api.answer, record, label=label)
                done.given[name, record] = label
                count += 1
            if not page:
                time.sleep(0.05)

    def push(api: Api) -> None:
        for at in range(first, pushed, BULK):
            timed(done.pushing, api.upsert, dataset, some_records(at, BULK))
            time.sleep(pause)

    def safely(act: Any, *arguments: Any) -> None:
        try:
            act(*arguments)
        except httpx.HTTPError as error:
            done.errors.append(repr(error))

    one.api().upsert(dataset, some_records(0, first))
    with ThreadPoolExecutor(PEOPLE + 1) as pool:
        pushing = pool.submit(safely, push, one.api())
        people = [pool.submit(safely, annotate, f"annotator-{at + 1}") for at in range(PEOPLE)]
        for each in people:
            each.result()
        pushing.result()
    return done


def some_records(start: int, count: int) -> list[dict[str, Any]]:
    """Records whose rank is the order in which they are pushed."""
    rows = some_rows(count, seed=start)
    return [
        {"external_id": f"r{start + at}", "fields": {"text": row["text"]}, "metadata": {"rank": start + at}}
        for at, row in enumerate(rows)
    ]


def kept_answers(one: Server, dataset: str) -> dict[tuple[str, str], str]:
    """Submitted answers by person and record, as the server has them."""
    names = {user["id"]: user["username"] for user in one.api().ask("GET", "users")["items"]}
    return {
        (names[each["user_id"]], record["id"]): each["values"]["label"]["value"]
        for record in one.api().records(dataset)
        for each in record["responses"]
        if each["status"] == "submitted"
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("people") / "argilla", PEOPLE) as one:
        yield one


@pytest.mark.parametrize("min_submitted", [1, 2])
def test_eight_people_answer_fifty_each_while_records_are_pushed(running: Server, min_submitted: int) -> None:
    questions = {"label": label_question(*LABELS)}
    owner = running.api()
    dataset = owner.dataset(
        questions=questions, metadata={"rank": "integer"}, min_submitted=min_submitted, name=f"of {min_submitted}"
    )
    done = work(running, dataset, answers=50, first=500, pushed=800)

    assert done.errors == []
    assert len(done.given) == PEOPLE * 50
    assert kept_answers(running, dataset) == done.given
    counts = Counter(record for _, record in done.given)
    for record in owner.records(dataset):
        assert record["status"] == ("completed" if counts[record["id"]] >= min_submitted else "pending")
    said = owner.ask("GET", f"datasets/{dataset}/progress")
    completed = sum(count >= min_submitted for count in counts.values())
    assert (said["total"], said["completed"]) == (len(list(owner.records(dataset))), completed)
    for at in range(PEOPLE):
        api = running.api(f"annotator-{at + 1}")
        assert api.ask("GET", f"me/datasets/{dataset}/metrics")["responses"]["submitted"] == 50
        assert api.search(dataset, answered("submitted"))["total"] == 50

    # There are more records than are answered or on screens, so nobody is handed one that others see to ...
    assert {record: count for record, count in counts.items() if count > min_submitted} == {}
    # ... and the most wanted ones are finished before others are begun.
    assert len(counts) <= PEOPLE * 50 / min_submitted + PEOPLE * PAGE


SPECIAL = {
    "HTML": '<script>alert("1")</script> <b onclick=x>bold</b> &amp; <img src=x onerror=alert(1)> marker1',
    "10,000 words": " ".join(f"word{at}" for at in range(9_999)) + " marker2",
    "right to left": "שלום עולם \u202eabc\u202c مرحبا بالعالم marker3",
    "NUL": "before\x00after marker4",
    "zero-width": "zero\u200bwidth \u200djoiner\ufeff \u2060 marker5",
    "emoji": "👩‍👩‍👧 and 🏳️‍🌈 and 🇨🇭 𝒻𝓊𝓃 marker6",
    "controls": "a\tb\r\nc\x1b[31m\x7f\u0085\u2028 marker7",
    "combining": "cafe\u0301s nai\u0308ve Ångström İstanbul straße marker8",
    "quotes": """it's "quoted" `so` \\n {"a": 1} $.x %s ? :v0 -- ; marker9""",
    "no words between": "日本語のテキスト marker10",
}
TYPED = {
    "HTML": ["bold", "onerror", "<script>", "<b onclick=x>"],
    "10,000 words": ["word0", "word9998", '"word17 word18"'],
    "right to left": ["שלום", "مرحبا بالعالم"],
    "NUL": ["before", "after"],
    "zero-width": ["zero", "width", "joiner"],
    "emoji": ["𝒻𝓊𝓃"],
    "controls": ["a b c"],
    "combining": ["cafés", "cafe\u0301s", "cafes", "naïve", "angstrom", "straße"],
    "quotes": ["quoted", "\"it's", "$.x"],
    "no words between": ["日本語のテキスト", "日本語", "テキスト"],
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_unusual_text_comes_back_as_it_went_in_and_is_found(running: Server, kind: str) -> None:
    owner, text = running.api(), SPECIAL[kind]
    dataset = owner.dataset({"text": "text", "turns": "chat"}, name=kind)
    turns = [{"role": "user", "content": "hello"}, {"role": "bot", "content": text[-5000:].replace("marker", "said")}]
    other = {"external_id": "other", "fields": {"text": "nothing of all this"}}
    made = owner.upsert(dataset, [{"external_id": kind, "fields": {"text": text, "turns": turns}}, other])
    assert made[0]["fields"] == {"text": text, "turns": turns}
    assert next(owner.records(dataset))["fields"] == {"text": text, "turns": turns}

    annotator = running.api("annotator-1")
    marker = text.split()[-1]
    for typed in [marker, marker.replace("marker", "said"), *TYPED[kind]]:
        found = annotator.search(dataset, {"query": {"text": {"q": typed}}})
        assert [item["record"]["external_id"] for item in found["items"]] == [kind], typed
        assert found["items"][0]["record"]["fields"] == {"text": text, "turns": turns}
