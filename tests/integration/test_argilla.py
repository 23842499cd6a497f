"""The Argilla annotator against a real server. What was published is read back through the server's plain REST."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("argilla_server")
pytest.importorskip("argilla")

import httpx
from servers import Api, Server, server

from nlp_al.annotation.argilla import Argilla
from nlp_al.annotation.base import Question, Setting
from nlp_al.annotation.payload import PLACEHOLDER
from nlp_al.errors import RunError, UserError
from nlp_al.pool import Answer, Example
from nlp_al.tasks import make_task


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("server") / "data", annotators=2) as made:
        yield made


def annotator(running: Server, run_dir, task, examples, guidelines=None, **parameters: Any) -> Argilla:
    url = f"http://127.0.0.1:{running.port}"
    made = Argilla(**{"api_url": url, "api_key": running.home.api_key(), **parameters})
    run_dir.mkdir(exist_ok=True)
    made.start(Setting(task, task.guidelines(guidelines or {}), run_dir, {}, examples))
    return made


def published(running: Server, run_dir) -> tuple[Api, dict[str, Any], list[dict[str, Any]]]:
    """The data set of a run and its records, as the server has them."""
    api = running.api()
    ident = json.loads((run_dir / "argilla.json").read_text())["id"]
    parts = {
        part: {item["name"]: item for item in api.ask("GET", f"datasets/{ident}/{part}")["items"]}
        for part in ("fields", "questions", "vectors-settings")
    }
    return api, {"id": ident, **api.ask("GET", f"datasets/{ident}"), **parts}, list(api.records(ident))


def classes(*labels: str, **options: Any) -> Any:
    return make_task("text-classification", options).with_labels(labels)


def test_one_label_a_text(running, tmp_path):
    task = classes("billing", "login")
    examples = [Example("a", "I was charged twice", 4), Example("b", "Password 😀 lost", 3)]
    made = annotator(running, tmp_path / "run", task, examples, {"billing": "invoices, refunds"})
    made.push(
        [
            Question(examples[1], 3, 0, -0.25, "margin", "uncertainty", "login", 0.75, "model-of-round-2", [0.5, 1.0]),
            Question(examples[0], 3, 1, None, "holdout", "holdout", vector=[1.0, 0.0]),
        ]
    )
    _, dataset, records = published(running, tmp_path / "run")
    assert dataset["name"].startswith("run-")
    assert dataset["status"] == "ready"
    assert "- **billing**: invoices, refunds\n- **login**" in dataset["guidelines"]
    assert dataset["fields"]["text"]["settings"] == {"type": "text", "use_markdown": False}
    question = dataset["questions"]["label"]
    assert (question["settings"]["type"], question["required"]) == ("label_selection", True)
    assert [option["value"] for option in question["settings"]["options"]] == ["billing", "login"]
    assert dataset["vectors-settings"]["embedding"]["dimensions"] == 2
    assert [record["external_id"] for record in records] == ["b", "a"]
    first, second = records
    assert first["fields"] == {"text": "Password 😀 lost"}
    assert first["metadata"] == {
        "round": 3,
        "rank": 0,
        "score": -0.25,
        "strategy": "margin",
        "why": "uncertainty",
    }
    (guess,) = first["suggestions"]
    assert [guess[name] for name in ("value", "score", "agent")] == ["login", 0.75, "model-of-round-2"]
    assert first["vectors"] == {"embedding": [0.5, 1.0]}
    assert second["suggestions"] == []
    assert "score" not in second["metadata"]


def test_pairs(running, tmp_path):
    example = Example("a", ["It rains.", "It is wet."], 5)
    made = annotator(running, tmp_path / "run", classes("yes", "no"), [example])
    made.push([Question(example, 0, 0)])
    _, _, (record,) = published(running, tmp_path / "run")
    assert record["fields"] == {"text_1": "It rains.", "text_2": "It is wet."}


def test_several_labels_a_text(running, tmp_path):
    example = Example("a", "late and broken", 3)
    task = classes("late", "broken", "rude", multi_label=True)
    made = annotator(running, tmp_path / "run", task, [example])
    made.push([Question(example, 1, 0, suggestion=["late", "broken"], confidence=[0.75, 0.5], agent="m")])
    _, dataset, (record,) = published(running, tmp_path / "run")
    question = dataset["questions"]["label"]
    assert (question["settings"]["type"], question["required"]) == ("multi_label_selection", True)
    (guess,) = record["suggestions"]
    assert (guess["value"], guess["score"]) == (["late", "broken"], [0.75, 0.5])
    running.api("annotator-1").answer(record["id"], label=["rude", "late"])
    assert made.pull() == [Answer("a", ["rude", "late"], "annotator-1", "submitted")]
    assert [option["value"] for option in question["settings"]["options"]] == ["late", "broken", "rude", "(none)"]
    running.api("annotator-2").answer(record["id"], label=["(none)"])
    assert Answer("a", [], "annotator-2", "submitted") in made.pull()  # none of the labels applies


def test_entities_with_characters_that_utf16_writes_as_two(running, tmp_path):
    words = ["😀😀", "Ada", "Lovelace", "lives", "in", "𝓛ondon"]
    examples = [Example("a", words, 6), Example("b", ["Nobody", "here"], 2)]
    task = make_task("token-classification", {}).with_labels(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    made = annotator(running, tmp_path / "run", task, examples, {"PER": "people"})
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
    made.push([Question(example, 0, at) for at, example in enumerate(examples)])
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
    again.push([Question(example, 0, at) for at, example in enumerate(examples)])
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
        made.push([Question(example, 0, 0)])


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
        made.push([Question(example, 0, 0)])


def test_a_data_set_that_somebody_renamed_or_deleted(running, two, tmp_path):
    _, examples, _ = two
    ident = json.loads((tmp_path / "run" / "argilla.json").read_text())["id"]
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


def test_labels_that_came_after_it_was_published(running, two, tmp_path):
    _, examples, _ = two
    with pytest.raises(UserError, match=r"^labels has 'maybe', which the data set at \S+ was published without, and "):
        annotator(running, tmp_path / "run", classes("yes", "no", "maybe"), examples)


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
        note = {"url": f"http://127.0.0.1:{running.port}", "dataset": f"{made}-123456"}
        (folder / "argilla.json").write_text(json.dumps(note))
        if made == "draft":
            owner.ask("POST", "datasets", {"name": "draft-123456", "workspace_id": workspace})
        annotator(running, folder, task, [example]).push([Question(example, 0, 0)])
        names = [item["name"] for item in owner.ask("GET", "me/datasets")["items"]]
        assert len([name for name in names if name.startswith(f"{made}-")]) == 1
    # The whole of it, but not the id in the note.
    note_path = tmp_path / "draft" / "argilla.json"
    known = json.loads(note_path.read_text())
    note_path.write_text(json.dumps({name: known[name] for name in ("url", "dataset")}))
    annotator(running, tmp_path / "draft", task, [example]).push([Question(example, 0, 0)])
    assert json.loads(note_path.read_text()) == known


def test_a_server_that_is_away_for_a_while(running, two, tmp_path, monkeypatch, capsys):
    made, _, (first, _) = two
    monkeypatch.setattr("nlp_al.annotation.argilla.WAIT", 0.2)
    answers = iter([httpx.ConnectError("gone"), httpx.ReadTimeout("slow"), None])
    real = made._client.http_client.get

    def get(*arguments: Any, **named: Any) -> Any:
        trouble = next(answers, None)
        if trouble is not None:
            raise trouble
        return real(*arguments, **named)

    monkeypatch.setattr(made._client.http_client, "get", get)
    running.api("annotator-1").answer(first["id"], label="yes")
    assert made.pull() == [Answer("a", "yes", "annotator-1", "submitted")]
    assert capsys.readouterr().out.count("Argilla does not answer") == 2


def test_a_server_that_stays_away(running, two, monkeypatch):
    made, _, _ = two
    monkeypatch.setattr("nlp_al.annotation.argilla.WAIT", 0.01)
    monkeypatch.setattr("nlp_al.annotation.argilla.PATIENCE", 0.1)

    def get(*_: Any, **__: Any) -> Any:
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(made._client.http_client, "get", get)
    with pytest.raises(RunError, match=r"^Argilla has not answered for "):
        made.pull()
