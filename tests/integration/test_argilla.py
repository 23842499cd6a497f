"""The Argilla annotator against a real server. What was published is read back through the server's plain REST."""

import itertools
import json
import pkgutil
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("argilla_server")
pytest.importorskip("argilla")

import httpx
from servers import Api, Server, server

from nlp_al.annotation.argilla import Argilla
from nlp_al.annotation.base import Question, Setting
from nlp_al.annotation.holder import LEASE
from nlp_al.annotation.payload import PLACEHOLDER
from nlp_al.errors import RunError, UserError
from nlp_al.pool import Answer, Example
from nlp_al.tasks import make_task


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server") / "data", annotators=3) as made:
        yield made


def annotator(running: Server, run_dir, task, examples, guidelines=None, renamed=(), **parameters: Any) -> Argilla:
    url = f"http://127.0.0.1:{running.port}"
    made = Argilla(**{"api_url": url, "api_key": running.home.api_key(), **parameters})
    run_dir.mkdir(exist_ok=True)
    made.start(Setting(task, task.guidelines(guidelines or {}), run_dir, {}, examples, renamed=dict(renamed)))
    return made


def published(running: Server, run_dir) -> tuple[Api, dict[str, Any], list[dict[str, Any]]]:
    """The data set of a run and its records, as the server has them."""
    api = running.api()
    ident = json.loads((run_dir / "argilla.json").read_text())["pages"]["main"]["id"]
    parts = {
        part: {item["name"]: item for item in api.ask("GET", f"datasets/{ident}/{part}")["items"]}
        for part in ("fields", "questions", "vectors-settings")
    }
    return api, {"id": ident, **api.ask("GET", f"datasets/{ident}"), **parts}, list(api.records(ident))


def asked(examples: Sequence[Example], **more: Any) -> list[Question]:
    """A first batch, in this order."""
    return [Question(example, 0, at, place=at, **more) for at, example in enumerate(examples)]


def classes(*labels: str, **options: Any) -> Any:
    return make_task("text-classification", options).with_labels(labels)


def test_one_label_a_text(running, tmp_path):
    task = classes("billing", "login")
    examples = [Example("a", "I was charged twice", 4), Example("b", "Password 😀 lost", 3)]
    made = annotator(running, tmp_path / "run", task, examples, {"billing": "invoices, refunds"})
    made.push(
        [
            Question(
                examples[1], 3, 0, -0.25, "margin", "uncertainty", "login", 0.75, "model-of-round-2", [0.5, 1.0], 40
            ),
            Question(examples[0], 3, 1, None, "holdout", "holdout", vector=[1.0, 0.0], place=41),
        ]
    )
    _, dataset, records = published(running, tmp_path / "run")
    assert dataset["name"].startswith("run-")
    assert dataset["status"] == "ready"
    assert "- **billing**: invoices, refunds\n- **login**" in dataset["guidelines"]
    assert dataset["fields"]["text"]["settings"] == {"type": "text", "use_markdown": False}
    question = dataset["questions"]["label"]
    assert (question["settings"]["type"], question["required"]) == ("label_selection", True)
    options = [(option["value"], option["description"]) for option in question["settings"]["options"]]
    assert options == [("billing", "invoices, refunds"), ("login", None)]
    assert dataset["vectors-settings"]["embedding"]["dimensions"] == 2
    assert [record["external_id"] for record in records] == ["b", "a"]
    first, second = records
    assert first["fields"] == {"text": "Password 😀 lost"}
    assert first["metadata"] == {
        "round": 3,
        "rank": 40,
        "score": -0.25,
        "strategy": "margin",
        "why": "uncertainty",
    }
    (guess,) = first["suggestions"]
    assert [guess[name] for name in ("value", "score", "agent")] == ["login", None, "model-of-round-2"]
    assert first["vectors"] == {"embedding": [0.5, 1.0]}
    assert second["suggestions"] == []
    assert "score" not in second["metadata"]


def test_pairs(running, tmp_path):
    example = Example("a", ["It rains.", "It is wet."], 5)
    made = annotator(running, tmp_path / "run", classes("yes", "no"), [example])
    made.push(asked([example]))
    _, _, (record,) = published(running, tmp_path / "run")
    assert record["fields"] == {"text_1": "It rains.", "text_2": "It is wet."}


def test_several_labels_a_text(running, tmp_path):
    example = Example("a", "late and broken", 3)
    task = classes("late", "broken", "rude", multi_label=True)
    made = annotator(running, tmp_path / "run", task, [example], scores=True)
    made.push([Question(example, 1, 0, suggestion=["late", "broken"], confidence=[0.75, 0.5], agent="m")])
    _, dataset, (record,) = published(running, tmp_path / "run")
    question = dataset["questions"]["label"]
    assert (question["settings"]["type"], question["required"]) == ("multi_label_selection", True)
    (guess,) = record["suggestions"]
    assert (guess["value"], guess["score"]) == (["late", "broken"], [0.75, 0.5])
    running.api("annotator-1").answer(record["id"], label=["rude", "late"])
    assert made.pull() == [Answer("a", ["late", "rude"], "annotator-1", "submitted")]
    assert [option["value"] for option in question["settings"]["options"]] == ["late", "broken", "rude", "(none)"]
    running.api("annotator-2").answer(record["id"], label=["(none)"])
    assert Answer("a", [], "annotator-2", "submitted") in made.pull()  # none of the labels applies


def test_entities_with_characters_that_utf16_writes_as_two(running, tmp_path):
    words = ["😀😀", "Ada", "Lovelace", "lives", "in", "𝓛ondon"]
    examples = [Example("a", words, 6), Example("b", ["Nobody", "here"], 2)]
    task = make_task("token-classification", {}).with_labels(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    made = annotator(running, tmp_path / "run", task, examples, {"PER": "people"}, scores=True)
    tags = ["O", "B-PER", "I-PER", "O", "O", "B-LOC"]
    made.push(
        [
            Question(examples[0], 1, 0, suggestion=tags, confidence=[0.75, 0.5], agent="m"),
            Question(examples[1], 1, 1, suggestion=["O", "O"], confidence=[], agent="m"),
        ]
    )
    _, dataset, (first, second) = published(running, tmp_path / "run")
    assert dataset["questions"]["label"]["settings"]["field"] == "text"
    assert [option["value"] for option in dataset["questions"]["label"]["settings"]["options"]] == ["PER", "LOC"]
    shown = first["fields"]["text"]
    assert shown == f"{PLACEHOLDER * 2} Ada Lovelace lives in {PLACEHOLDER}ondon"
    assert len(shown.encode("utf-16-le")) == 2 * len(shown)  # so the page and the server count alike
    (guess,) = first["suggestions"]
    assert guess["value"] == [{"label": "PER", "start": 3, "end": 15}, {"label": "LOC", "start": 25, "end": 31}]
    assert guess["score"] == [0.75, 0.5]
    assert second["suggestions"] == []
    # People may cut a word; the whole of it is meant.
    spans = [{"label": "PER", "start": 3, "end": 13}, {"label": "LOC", "start": 26, "end": 31}]
    running.api("annotator-1").answer(first["id"], label=spans)
    running.api("annotator-1").answer(second["id"], label=[])
    assert made.pull() == [
        Answer("a", tags, "annotator-1", "submitted"),
        Answer("b", ["O", "O"], "annotator-1", "submitted"),
    ]


def test_what_the_page_would_take_for_html(running, tmp_path):
    words = ["<b>", "R&amp;D", "I", "<3", "AT&T", "a\r\nb", "nul\x00l"]
    example = Example("a", words, 7)
    task = make_task("token-classification", {}).with_labels(["O", "B-X", "I-X"])
    made = annotator(running, tmp_path / "spans", task, [example])
    made.push([Question(example, 0, 0, suggestion=["O"] * 6 + ["B-X"], confidence=[0.5], agent="m")])
    _, _, (record,) = published(running, tmp_path / "spans")
    shown = record["fields"]["text"]
    assert shown == f"＜b> R＆amp;D I <3 AT＆T a \nb nul{PLACEHOLDER}l"
    assert len(shown) == len(" ".join(words))
    (guess,) = record["suggestions"]
    assert shown[guess["value"][0]["start"] : guess["value"][0]["end"]] == f"nul{PLACEHOLDER}l"
    bad = '<img src="x" onerror="alert(1)">'
    text = Example("b", bad, 3)
    annotator(running, tmp_path / "text", classes("a", "b"), [text]).push([Question(text, 0, 0)])
    assert published(running, tmp_path / "text")[2][0]["fields"]["text"].startswith("＜img")
    chat = Example("c", {"context": [bad], "candidates": ["<script>", "no"]}, 3)
    annotator(running, tmp_path / "chat", make_task("response-selection", {}), [chat]).push([Question(chat, 0, 0)])
    fields = published(running, tmp_path / "chat")[2][0]["fields"]
    assert fields["context"][0]["content"].startswith("＜img")
    assert fields["candidates"] == "1. ＜script>\n2. no"


def test_responses_of_a_dialogue(running, tmp_path):
    task = make_task("response-selection", {"none_of_these": "None of these fits."})
    dialogues = [
        {"context": ["Hi", "Hello, what can I do?", "Book a table"], "candidates": ["For how many?", "Goodbye"]},
        {"context": ["Is it open?"], "candidates": ["Yes", "No", "Perhaps 😀"]},
    ]
    examples = [Example(name, inputs, 9) for name, inputs in zip("ab", dialogues, strict=True)]
    made = annotator(running, tmp_path / "run", task, examples)
    made.push(
        [Question(example, 0, at, suggestion=1, confidence=0.5, agent="m") for at, example in enumerate(examples)]
    )
    _, dataset, (first, second) = published(running, tmp_path / "run")
    options = dataset["questions"]["label"]["settings"]["options"]
    assert {option["value"]: option["text"] for option in options} == {
        "1": "1",
        "2": "2",
        "3": "3",
        "none": "None of these fits.",
    }
    assert first["fields"]["context"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello, what can I do?"},
        {"role": "user", "content": "Book a table"},
    ]
    assert first["fields"]["candidates"] == "1. For how many?\n2. Goodbye"
    assert second["suggestions"][0]["value"] == "2"
    people = running.api("annotator-1")
    people.answer(first["id"], label="1")
    people.answer(second["id"], label="none")
    assert [answer.label for answer in made.pull()] == [0, "none"]


@pytest.fixture
def two(running, tmp_path) -> tuple[Argilla, list[Example], list[dict[str, Any]]]:
    examples = [Example("a", "one", 1), Example("b", "two", 1)]
    made = annotator(running, tmp_path / "run", classes("yes", "no"), examples)
    made.push(asked(examples))
    return made, examples, published(running, tmp_path / "run")[2]


def test_every_state_of_an_answer(running, two):
    made, _, (first, second) = two
    people = running.api("annotator-1")
    assert made.pull() == []
    given = people.answer(first["id"], status="draft", label="no")
    assert made.pull() == [Answer("a", None, "annotator-1", "draft")]
    edited = {"status": "submitted", "values": {"label": {"value": "yes"}}}
    people.ask("PUT", f"responses/{given['id']}", edited)
    assert made.pull() == [Answer("a", "yes", "annotator-1", "submitted")]
    edited["values"]["label"]["value"] = "no"
    people.ask("PUT", f"responses/{given['id']}", edited)
    assert made.pull() == [Answer("a", "no", "annotator-1", "submitted")]
    people.ask("POST", f"records/{second['id']}/responses", {"status": "discarded"})  # without values at all
    running.api("annotator-2").answer(first["id"], label="yes")
    assert made.pull() == [
        Answer("a", "no", "annotator-1", "submitted"),
        Answer("a", "yes", "annotator-2", "submitted"),
        Answer("b", None, "annotator-1", "discarded"),
    ]
    people.ask("DELETE", f"responses/{given['id']}")
    assert Answer("a", None, "annotator-1", "retracted") in made.pull()


def test_a_batch_that_is_pushed_again_keeps_what_was_answered(running, two, tmp_path):
    _, examples, (first, _) = two
    running.api("annotator-1").answer(first["id"], label="yes")
    again = annotator(running, tmp_path / "run", classes("yes", "no"), examples)
    again.push(asked(examples))
    _, _, records = published(running, tmp_path / "run")
    assert [record["external_id"] for record in records] == ["a", "b"]
    assert [record["metadata"]["rank"] for record in records] == [0, 1]
    assert again.pull() == [Answer("a", "yes", "annotator-1", "submitted")]


def test_the_key_is_in_no_file_of_a_run(running, two, tmp_path):
    kept = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert kept
    assert not any(running.home.api_key().encode() in path.read_bytes() for path in kept)


def test_a_wrong_key(running, tmp_path):
    with pytest.raises(UserError, match=r"^Argilla refuses the key: annotator\.api_key"):
        annotator(running, tmp_path / "run", classes("a", "b"), [Example("a", "one", 1)], api_key="wrong")


def test_a_key_of_somebody_who_may_not_publish(running, tmp_path):
    example = Example("a", "one", 1)
    made = annotator(
        running, tmp_path / "run", classes("a", "b"), [example], api_key=running.home.api_key("annotator-1")
    )
    with pytest.raises(UserError, match=r"^The user of annotator\.api_key may not do this"):
        made.push(asked([example]))


def test_no_key(running, tmp_path, monkeypatch):
    monkeypatch.delenv("ARGILLA_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"^annotator\.api_key is missing: give the key of an owner or admin"):
        annotator(running, tmp_path / "run", classes("a", "b"), [Example("a", "one", 1)], api_key=None)


def test_the_environment_names_the_server(running, tmp_path, monkeypatch):
    monkeypatch.setenv("ARGILLA_API_URL", f"http://127.0.0.1:{running.port}")
    monkeypatch.setenv("ARGILLA_API_KEY", running.home.api_key())
    made = annotator(running, tmp_path / "run", classes("a", "b"), [Example("a", "one", 1)], api_url=None, api_key=None)
    assert made.pull() == []


def test_a_workspace_that_is_not_there(running, tmp_path):
    example = Example("a", "one", 1)
    made = annotator(running, tmp_path / "run", classes("a", "b"), [example], workspace="sales")
    with pytest.raises(UserError, match=r"^annotator\.workspace is 'sales'; the workspaces there are 'nlp-al'\.$"):
        made.push(asked([example]))


def test_a_data_set_that_somebody_renamed_or_deleted(running, two, tmp_path):
    _, examples, _ = two
    ident = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]["main"]["id"]
    owner = running.api()
    owner.ask("PATCH", f"datasets/{ident}", {"name": "another-name"})
    again = annotator(running, tmp_path / "run", classes("yes", "no"), examples)
    assert again.pull() == []
    owner.ask("DELETE", f"datasets/{ident}")
    with pytest.raises(RunError, match=r"is gone from Argilla; all answers that came are in labels\.jsonl"):
        again.pull()
    with pytest.raises(
        RunError, match=r"^The data set 'another-name' is gone from http://\S+\. All answers that came are in "
    ):
        annotator(running, tmp_path / "run", classes("yes", "no"), examples)


def test_labels_that_changed_after_it_was_published(running, tmp_path):
    """One added, one renamed, two made one: every state of every answer is carried over, and the old page is gone."""
    examples = [Example(name, name, 1) for name in "abcdef"]
    made = annotator(running, tmp_path / "run", classes("login", "bill", "refund"), examples, scores=True)
    made.push(asked(examples, suggestion="bill", confidence=0.5, agent="m", vector=[0.5, 0.25]))
    api, old, records = published(running, tmp_path / "run")
    ann, bob = running.api("annotator-1"), running.api("annotator-2")
    ann.answer(records[0]["id"], label="refund")
    bob.answer(records[0]["id"], label="login")
    ann.answer(records[1]["id"], status="draft", label="bill")
    ann.answer(records[2]["id"], status="discarded")
    bob.answer(records[3]["id"], label="login")
    before = {(a.id, a.annotator): a for a in made.pull()}

    names = {"login": "account", "bill": "money", "refund": "money"}
    task = classes("account", "money", "other")
    again = annotator(running, tmp_path / "run", task, examples, renamed=names)
    after = {(a.id, a.annotator): a for a in again.pull()}
    assert after == {who: replace(a, label=names.get(a.label, a.label)) for who, a in before.items()}
    _, new, moved = published(running, tmp_path / "run")
    assert new["id"] != old["id"]
    assert [option["value"] for option in new["questions"]["label"]["settings"]["options"]] == list(task.labels)
    for one, two in zip(records, moved, strict=True):
        assert all(one[name] == two[name] for name in ("external_id", "fields", "metadata", "vectors"))
        assert [(s["value"], s["score"], s["agent"]) for s in two["suggestions"]] == [("money", 0.5, "m")]
    assert [one["status"] for one in moved] == ["completed", "pending", "pending", "completed", "pending", "pending"]
    assert old["id"] not in [one["id"] for one in api.ask("GET", "me/datasets")["items"]]
    again.push(asked(examples))  # nothing is asked again, and nobody's work is written over
    assert {(a.id, a.annotator): a for a in again.pull()} == after
    assert len(list(api.records(new["id"]))) == len(examples)


@pytest.mark.parametrize("state", ["named", "made", "copied", "deleted"])
def test_a_process_that_ended_while_labels_changed(running, two, tmp_path, monkeypatch, state):
    made, examples, (first, _) = two
    running.api("annotator-1").answer(first["id"], label="yes")
    task = classes("yes", "no", "maybe")
    where, only = {
        "named": ("nlp_al.annotation.datasets.publish", None),
        "made": ("nlp_al.annotation.pages.Page.take_over", None),
        "copied": ("nlp_al.annotation.connection.Connection.send", "DELETE"),
        "deleted": ("nlp_al.annotation.datasets.DataSets._noted", None),
    }[state]
    real = pkgutil.resolve_name(where)

    def stop(*given: Any, **named: Any) -> Any:
        if only is None or only in given:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        with pytest.raises(KeyboardInterrupt):
            annotator(running, tmp_path / "run", task, examples)
    again = annotator(running, tmp_path / "run", task, examples)
    assert again.pull() == [Answer("a", "yes", "annotator-1", "submitted")]
    owner, _, records = published(running, tmp_path / "run")
    assert [one["external_id"] for one in records] == ["a", "b"]
    names = [one["name"] for one in owner.ask("GET", "me/datasets")["items"]]
    kept = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]["main"]["name"]
    assert kept in names
    assert made._sets._pages["main"].name not in names


def test_another_order_of_asking_changes_nothing_but_the_place(running, tmp_path):
    examples = [Example(name, name, 1) for name in "abc"]
    made = annotator(running, tmp_path / "run", classes("yes", "no"), examples)
    made.push(asked(examples, suggestion="yes", confidence=0.5, agent="m", vector=[0.5, 0.25], strategy="margin"))
    _, dataset, before = published(running, tmp_path / "run")
    places = {"b": 2, "c": 1}
    made.push([Question(one, 0, 0, suggestion="no", place=places[one.id], strategy="margin") for one in examples[1:]])
    _, _, after = published(running, tmp_path / "run")
    assert [one["metadata"]["rank"] for one in after] == [0, 2, 1]
    for one, two in zip(before, after, strict=True):
        apart = {"metadata": None, "updated_at": None}
        assert {**one, **apart} == {**two, **apart}
        assert {**one["metadata"], "rank": 0} == {**two["metadata"], "rank": 0}
    assert running.api("annotator-2").queue(dataset["id"]) == [after[at]["id"] for at in (0, 2, 1)]


def test_a_share_that_all_annotators_answer(running, tmp_path, capsys):
    examples = [Example(str(at), f"text {at}", 2) for at in range(60)]
    made = annotator(running, tmp_path / "run", classes("yes", "no"), examples, agreement=0.25, annotators=2)
    made.push(asked(examples))
    of_all = [example.id for example in examples if made.needs(example.id) == 2]
    assert 5 <= len(of_all) <= 25
    assert all(Argilla(agreement=0.25, annotators=2).needs(name) == 2 for name in of_all)  # so in every process
    pages = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]
    ann, bob = running.api("annotator-1"), running.api("annotator-2")
    assert len(ann.queue(pages["main"]["id"], limit=100)) == 60 - len(of_all)
    (record, *_) = ann.queue(pages["everybody"]["id"], limit=100)
    ann.answer(record, label="yes")
    assert record not in ann.queue(pages["everybody"]["id"], limit=100)
    assert record in bob.queue(pages["everybody"]["id"], limit=100)  # one answer is not enough
    bob.answer(record, label="no")
    assert [(answer.id in of_all, answer.label, answer.annotator) for answer in made.pull()] == [
        (True, "yes", "annotator-1"),
        (True, "no", "annotator-2"),
    ]
    assert f"{len(of_all)} questions, for all 2 annotators, wait at" in capsys.readouterr().out


def test_disagreements_go_to_the_adjudicator(running, tmp_path, capsys):
    examples = [Example(name, name, 1) for name in "ab"]
    given: dict[str, Any] = {"min_submitted": 2, "adjudicator": "annotator-3"}
    made = annotator(running, tmp_path / "run", classes("yes", "no"), examples, **given)
    made.push(asked(examples))
    _, _, (first, second) = published(running, tmp_path / "run")
    for name, labels in {"annotator-1": ("yes", "no"), "annotator-2": ("no", "no")}.items():
        for record, label in zip((first, second), labels, strict=True):
            running.api(name).answer(record["id"], label=label)
    assert len(made.pull()) == 4
    assert "1 disagreement waits for annotator-3 at" in capsys.readouterr().out
    pages = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]
    judge, others = running.api("annotator-3"), running.api("annotator-1")
    (record,) = judge.queue(pages["review"]["id"])
    with pytest.raises(httpx.HTTPStatusError):
        others.queue(pages["review"]["id"])
    found = judge.search(pages["review"]["id"], {})["items"][0]["record"]
    assert (found["external_id"], found["metadata"]["why"]) == ("a", "disagreement")
    assert made.decides == "annotator-3"
    again = annotator(running, tmp_path / "run", classes("yes", "no"), examples, **given)
    again.pull()
    assert judge.queue(pages["review"]["id"]) == [record]  # asked once
    judge.answer(record, label="yes")
    assert Answer("a", "yes", "annotator-3", "submitted") in again.pull()


@pytest.mark.parametrize("adjudicator", [None, "annotator-1"])
def test_who_is_asked_again_is_asked_alone_and_the_second_answer_holds(running, tmp_path, capsys, adjudicator):
    examples, task = [Example(name, name, 1) for name in "abc"], classes("yes", "no")
    made = annotator(running, tmp_path / "run", task, examples, adjudicator=adjudicator)
    made.push(asked(examples, suggestion="yes", agent="m"))
    _, _, records = published(running, tmp_path / "run")
    ann, bob = running.api("annotator-1"), running.api("annotator-2")
    for record in records:
        ann.answer(record["id"], label="yes")
    before = made.pull()
    made.ask_again([], "annotator-1")
    capsys.readouterr()
    doubts = [Question(example, 0, at, why="doubt", place=at) for at, example in enumerate(examples[:2])]
    made.ask_again(doubts, "annotator-1")
    assert capsys.readouterr().out.startswith("2 questions wait for annotator-1 at http://")
    pages = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]
    assert set(pages) == {"main", "review" if adjudicator else "review-annotator-1"}
    page = next(kept["id"] for kind, kept in pages.items() if kind != "main")
    with pytest.raises(httpx.HTTPStatusError):
        bob.queue(page)
    first, second = ann.queue(page)
    shown = {item["record"]["id"]: item["record"] for item in ann.search(page, {}, include="suggestions")["items"]}
    assert [shown[one]["external_id"] for one in (first, second)] == ["a", "b"]
    assert all(one["metadata"] == {"round": 0, "rank": at, "why": "doubt"} for at, one in enumerate(shown.values()))
    assert not any(one.get("suggestions") for one in shown.values())  # nobody is drawn anywhere

    again = annotator(running, tmp_path / "run", task, examples, adjudicator=adjudicator)  # the run goes on
    assert again.pull() == before
    ann.answer(first, status="draft", label="no")
    assert again.pull() == before  # the answer holds until there is another
    ann.answer(second, label="no")
    said = {answer.id: answer.label for answer in again.pull()}
    assert said == {"a": "yes", "b": "no", "c": "yes"}
    again.ask_again([replace(doubts[1], place=0), Question(examples[2], 0, 1, why="doubt")], "annotator-1")
    assert len(list(running.api().records(page))) == 3
    again.ask_again(doubts, "annotator-1")
    assert capsys.readouterr().out.endswith("\nNothing new.\n")
    with pytest.raises(UserError, match=r"^There is no user 'eve' to be asked again; the users are .*annotator-1"):
        again.ask_again([], "eve")


def test_what_was_asked_again_is_carried_over_to_other_labels(running, tmp_path):
    example = Example("a", "a", 1)
    made = annotator(running, tmp_path / "run", classes("yes", "no"), [example])
    made.push(asked([example]))
    made.ask_again([Question(example, 0, 0, why="doubt")], "annotator-2")
    ident = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]["review-annotator-2"]["id"]
    running.api("annotator-2").answer(running.api("annotator-2").queue(ident)[0], label="no")
    again = annotator(running, tmp_path / "run", classes("yes", "never"), [example], renamed={"no": "never"})
    assert again.pull() == [Answer("a", "never", "annotator-2", "submitted")]


def test_an_adjudicator_who_is_not_there(running, tmp_path):
    example = Example("a", "one", 1)
    with pytest.raises(UserError, match=r"^annotator\.adjudicator is 'eve'; the users are .*annotator-1"):
        annotator(running, tmp_path / "run", classes("yes", "no"), [example], adjudicator="eve")


def test_notes_and_replies(running, tmp_path):
    chat = Example("a", {"context": ["Hi"], "candidates": ["Bye", "No"]}, 3)
    task = make_task("response-selection", {"none_of_these": "None of these."})
    made = annotator(running, tmp_path / "run", task, [chat], notes=True, replies=True)
    made.push(asked([chat]))
    _, dataset, (record,) = published(running, tmp_path / "run")
    required = {name: one["required"] for name, one in dataset["questions"].items()}
    assert required == {"label": True, "note": False, "reply": False}
    running.api("annotator-1").answer(record["id"], label="none", reply="Hello!", note="Odd.")
    assert made.pull() == [Answer("a", "none", "annotator-1", "submitted", note="Odd.", reply="Hello!")]
    text = Example("b", "one", 1)
    with pytest.raises(UserError, match=r"^annotator\.replies is for response selection alone"):
        annotator(running, tmp_path / "other", classes("a", "b"), [text], replies=True)


def test_two_copies_of_a_run(running, two, tmp_path, monkeypatch):
    _, examples, _ = two
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    with pytest.raises(RunError, match=r"^Another run works on this data set: \S+/run\. Two copies of a run can't"):
        annotator(running, tmp_path / "copy", classes("yes", "no"), examples).pull()
    annotator(running, tmp_path / "run", classes("yes", "no"), examples).pull()  # the same folder is the same run
    monkeypatch.setattr("nlp_al.annotation.connection.Connection.now", lambda _: time.time() + LEASE + 5)
    taken = annotator(running, tmp_path / "copy", classes("yes", "no"), examples)
    assert taken.pull() == []  # the first one has been silent for long enough
    with pytest.raises(RunError, match=r"^Another run works on this data set: \S+/copy\. "):
        annotator(running, tmp_path / "run", classes("yes", "no"), examples).pull()


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, UserError, r"^Argilla refuses the key: annotator\.api_key"),
        (403, UserError, r"^The user of annotator\.api_key may not do this"),
        (404, RunError, r"^The data set of this run is gone from Argilla; all answers that came are in labels\.jsonl"),
        (422, RunError, r"^Argilla refused it \(422\): it says why"),
        (500, RunError, r"^Argilla has not answered for "),
        (503, RunError, r"^Argilla has not answered for "),
    ],
)
@pytest.mark.parametrize("at", ["push", "pull"])
def test_what_a_server_says(running, two, monkeypatch, status, kind, told, at):
    made, examples, _ = two
    monkeypatch.setattr("nlp_al.annotation.connection.WAIT", 0.01)
    monkeypatch.setattr("nlp_al.annotation.connection.PATIENCE", 0.05)
    more = asked([*examples, Example("c", "three", 1)])

    def request(method: str, path: str, **_: Any) -> httpx.Response:
        return httpx.Response(status, text="it says why", request=httpx.Request(method, f"http://argilla{path}"))

    with monkeypatch.context() as patched:
        patched.setattr(made._server._http, "request", request)
        with pytest.raises(kind, match=told):
            made.push(more) if at == "push" else made.pull()
    made.push(more)  # nothing is lost or written twice
    assert made.pull() == []
    assert [one["external_id"] for one in running.api().records(made._sets._pages["main"].id)] == ["a", "b", "c"]


@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_server_that_is_killed_while_a_batch_is_pushed(tmp_path, monkeypatch, lost):
    """Twice; it is up again soon, and each record is there once."""
    monkeypatch.setattr("nlp_al.annotation.pages.BULK", 3)
    monkeypatch.setattr("nlp_al.annotation.connection.WAIT", 0.1)
    examples = [Example(str(at), f"text {at}", 2) for at in range(10)]
    with server(tmp_path / "data", annotators=1) as own:
        made = annotator(own, tmp_path / "run", classes("yes", "no"), examples)
        real, bulks = made._server._http.request, itertools.count()

        def request(method: str, path: str, **more: Any) -> httpx.Response:
            if path.endswith("records/bulk") and next(bulks) in (1, 3):
                if lost == "reply":
                    real(method, path, **more)
                own.kill()
                threading.Thread(target=own.up, daemon=True).start()
                raise httpx.ReadError("the connection is gone")
            return real(method, path, **more)

        monkeypatch.setattr(made._server._http, "request", request)
        made.push(asked(examples))
        ident = json.loads((tmp_path / "run" / "argilla.json").read_text())["pages"]["main"]["id"]
        assert [one["external_id"] for one in own.api().records(ident)] == [example.id for example in examples]
        assert next(bulks) >= 6


def test_another_server_than_the_one_it_was_published_at(running, two, tmp_path):
    _, examples, _ = two
    note = tmp_path / "run" / "argilla.json"
    known = json.loads(note.read_text())
    note.write_text(json.dumps({**known, "url": "http://127.0.0.1:1"}))
    with pytest.raises(UserError, match=r"^This run was published at http://127\.0\.0\.1:1, not at "):
        annotator(running, tmp_path / "run", classes("yes", "no"), examples)


def test_a_process_that_ended_while_it_published(running, tmp_path):
    """Whatever was there when it ended, a named note, a draft, or the whole of it, there is one data set afterwards."""
    example = Example("a", "one", 1)
    task = classes("yes", "no")
    owner = running.api()
    workspace = owner.ask("GET", "me/workspaces")["items"][0]["id"]
    for made in ("nothing", "draft"):
        folder = tmp_path / made
        folder.mkdir()
        note = {"url": f"http://127.0.0.1:{running.port}", "pages": {"main": {"name": f"{made}-123456"}}}
        (folder / "argilla.json").write_text(json.dumps(note))
        if made == "draft":
            owner.ask("POST", "datasets", {"name": "draft-123456", "workspace_id": workspace})
        annotator(running, folder, task, [example]).push(asked([example]))
        names = [item["name"] for item in owner.ask("GET", "me/datasets")["items"]]
        assert len([name for name in names if name.startswith(f"{made}-")]) == 1
    # The whole of it, but not the id in the note.
    note_path = tmp_path / "draft" / "argilla.json"
    known = json.loads(note_path.read_text())
    note_path.write_text(json.dumps({**known, "pages": {"main": {"name": known["pages"]["main"]["name"]}}}))
    annotator(running, tmp_path / "draft", task, [example]).push(asked([example]))
    assert json.loads(note_path.read_text()) == known


def test_a_server_that_is_away_for_a_while(running, two, tmp_path, monkeypatch, capsys):
    made, _, (first, _) = two
    monkeypatch.setattr("nlp_al.annotation.connection.WAIT", 0.2)
    answers = iter([httpx.ConnectError("gone"), httpx.ReadTimeout("slow"), None])
    real = made._server._http.request

    def request(*arguments: Any, **named: Any) -> Any:
        trouble = next(answers, None)
        if trouble is not None:
            raise trouble
        return real(*arguments, **named)

    monkeypatch.setattr(made._server._http, "request", request)
    running.api("annotator-1").answer(first["id"], label="yes")
    assert made.pull() == [Answer("a", "yes", "annotator-1", "submitted")]
    assert capsys.readouterr().out.count("Argilla does not answer") == 2


def test_a_server_that_stays_away(running, two, monkeypatch):
    made, _, _ = two
    monkeypatch.setattr("nlp_al.annotation.connection.WAIT", 0.01)
    monkeypatch.setattr("nlp_al.annotation.connection.PATIENCE", 0.1)

    def request(*_: Any, **__: Any) -> Any:
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(made._server._http, "request", request)
    with pytest.raises(RunError, match=r"^Argilla has not answered for "):
        made.pull()
