"""The Argilla page in a real browser on a server of ours: what people do there is what the server holds afterwards.

`make test-page` runs it; it needs chromium. NLP_AL_PICTURES=docs/images has it take the pictures of docs/server.md too.
"""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from browser import Person, drag, needs_page, picture, visitors

from nlp_al.argilla_server.home import OWNER, Home

pytestmark = needs_page

ANN, BOB = "annotator-1", "annotator-2"
TOPICS = {"delivery": "Delivery", "payment": "Payment", "account": "Account", "product": "Product"}
# In the order in which people are to be asked, with what a model would suggest and how sure it is.
TICKETS = [
    ("The courier says the parcel was handed over on Tuesday, but nobody in the house has seen it.", "delivery", 0.52),
    ("You took the money for order 20417 twice. Please send one of the two payments back.", "payment", 0.55),
    ("Since the update I can't log in, and the mail with the new password never comes.", "account", 0.58),
    ("The lamp flickers as soon as I dim it below half. Is that normal?", "product", 0.61),
    ("Can you bring the table on Saturday instead? Nobody is at home during the week.", "delivery", 0.63),
    ("My voucher was not taken off the bill, although the shop said that it was valid.", "payment", 0.66),
    ("Please close my account and delete all addresses that are stored in it.", "account", 0.70),
    ("One of the four chairs is missing a screw, so it can't be put together.", "product", 0.74),
    ("The tracking number you sent me is unknown to the carrier.", "delivery", 0.78),
    ("Do you also take bank transfers? I have no credit card.", "payment", 0.81),
    ("I ordered as a guest. How do I get the order into my account?", "account", 0.84),
    ("The kettle switches itself off before the water boils.", "product", 0.88),
    ("The parcel lay open in the hallway, but nothing is missing.", "delivery", 0.92),
    ("When will the money for the returned lamp be on my card again?", "payment", 0.97),
]
TEXTS = [text for text, _, _ in TICKETS]


@dataclass(frozen=True)
class Server:
    """A server that runs, and the passwords that it has shown."""

    home: Home
    port: int
    passwords: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self, name: str, *arguments: str) -> str:
        """`nlp-al server NAME --data FOLDER ...`; what it said."""
        command = [sys.executable, "-m", "nlp_al.cli", "server", name, "--data", str(self.home.folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self) -> None:
        said = self.command("up", "--port", str(self.port), "--annotators", "2")
        self.passwords.update(re.findall(r"^  (\S+) +(\S+)  (?:owner|annotator)$", said, re.MULTILINE))

    def ask(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        """A request as the owner."""
        key = {"X-Argilla-Api-Key": self.home.api_key(OWNER)}
        reply = httpx.request(method, f"{self.url}/api/v1/{path}", json=body, params=params, headers=key, timeout=30)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

    def dataset(
        self,
        name: str,
        fields: Mapping[str, dict[str, Any]],
        questions: Mapping[str, dict[str, Any]],
        metadata: Mapping[str, str] | None = None,
        vectors: Mapping[str, int] | None = None,
        guidelines: str | None = None,
    ) -> str:
        """The id of a new dataset, published; one answer completes a record."""
        (workspace,) = self.ask("GET", "me/workspaces")["items"]
        made = self.ask("POST", "datasets", {"name": name, "workspace_id": workspace["id"], "guidelines": guidelines})
        parts = {
            "fields": {name: {"settings": kind, "required": True} for name, kind in fields.items()},
            "questions": {name: {"settings": kind, "required": True} for name, kind in questions.items()},
            "metadata-properties": {name: {"settings": {"type": kind}} for name, kind in (metadata or {}).items()},
            "vectors-settings": {name: {"dimensions": size} for name, size in (vectors or {}).items()},
        }
        for part, named in parts.items():
            for name, more in named.items():
                self.ask("POST", f"datasets/{made['id']}/{part}", {"name": name, "title": name.capitalize(), **more})
        self.ask("PUT", f"datasets/{made['id']}/publish")
        return str(made["id"])

    def push(self, dataset: str, records: Sequence[dict[str, Any]]) -> None:
        """Writes records; suggestions by the name of their question."""
        ids = {each["name"]: each["id"] for each in self.ask("GET", f"datasets/{dataset}/questions")["items"]}
        items = [
            {
                **record,
                "suggestions": [
                    {"question_id": ids[name], "agent": "round-1", **said}
                    for name, said in record.get("suggestions", {}).items()
                ],
            }
            for record in records
        ]
        self.ask("POST", f"datasets/{dataset}/records/bulk", {"items": items})

    def tickets(self, name: str) -> str:
        """A dataset of support tickets with suggestions; pushed in another order than that of their ranks."""
        dataset = self.dataset(
            name,
            {"text": {"type": "text"}},
            {"topic": one_of(TOPICS)},
            {"rank": "integer", "channel": "terms"},
            {"meaning": 5},
            "What is the message about? Choose what the customer wants to have solved.",
        )
        records = []
        for rank, (text, topic, score) in enumerate(TICKETS):
            near = [1.0 if topic == other else 0.2 for other in TOPICS]
            record = {
                "fields": {"text": text},
                "metadata": {"rank": rank, "channel": "phone" if rank % 3 else "mail"},
                "suggestions": {"topic": {"value": topic, "score": score}},
                "vectors": {"meaning": [*near, rank / 10]},
            }
            records.append(record)
        self.push(dataset, records[1::2] + records[::2])
        return dataset

    def answers(self, dataset: str) -> dict[tuple[str, str], tuple[str, Any]]:
        """By person and text, the status and the values that the server holds."""
        names = {user["id"]: user["username"] for user in self.ask("GET", "users")["items"]}
        found = self.ask("GET", f"datasets/{dataset}/records", include="responses", limit=1000)["items"]
        return {
            (names[answer["user_id"]], text): (
                answer["status"],
                {name: each["value"] for name, each in (answer["values"] or {}).items()},
            )
            for record in found
            for text in record["fields"].values()
            if isinstance(text, str)
            for answer in record["responses"]
        }


def one_of(options: Mapping[str, str]) -> dict[str, Any]:
    return {"type": "label_selection", "options": [{"value": value, "text": text} for value, text in options.items()]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    one = Server(Home(tmp_path_factory.mktemp("page") / "argilla"), port, {})
    try:
        one.up()
        yield one
    finally:
        if one.home.made:
            one.command("down")


@pytest.fixture(scope="module")
def logins() -> dict[str, Any]:
    """What a browser keeps of those who have logged in already."""
    return {}


@pytest.fixture
def stranger(server: Server, browser: Any) -> Iterator[Callable[..., Person]]:
    """Opens a browser profile that has never logged in. Fails a test where something went wrong on a page."""
    with visitors(browser, server.url) as come:
        yield come


@pytest.fixture
def person(server: Server, stranger: Callable[..., Person], logins: dict[str, Any]) -> Callable[[str], Person]:
    """Somebody who is logged in."""

    def come(name: str) -> Person:
        if name in logins:
            return stranger(name, logins[name])
        somebody = stranger(name)
        somebody.log_in(server.passwords[name])
        somebody.page.get_by_text("Your datasets").wait_for()
        logins[name] = somebody.page.context.storage_state()
        return somebody

    return come


def test_the_password_shown_logs_in_and_another_does_not(server, stranger):
    ann = stranger(ANN)
    ann.expected = {("/token", 401)}
    ann.log_in("not-the-one-shown")
    ann.page.get_by_text("Wrong username or password").wait_for()
    assert "sign-in" in ann.page.url
    assert ann.login() in (None, "false")

    ann.expected = set()
    with ann.page.expect_response(lambda reply: reply.url.endswith("/api/v1/me")) as caught:
        ann.log_in(server.passwords[ANN])
    assert caught.value.json()["username"] == ANN
    ann.page.get_by_text("Your datasets").wait_for()
    assert ann.login().startswith("Bearer")


def test_the_most_wanted_record_comes_first_and_two_people_get_different_ones(server, person):
    dataset = server.tickets("support tickets")
    ann, bob = person(ANN), person(BOB)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    assert ann.count() == len(TEXTS)
    assert ann.chosen() == ["Delivery"]
    picture(ann, "server-queue")
    bob.open(dataset)
    bob.sees(TEXTS[10])  # the page has ten on Ann's screen

    ann.submits()
    ann.sees(TEXTS[1])
    ann.page.reload()
    ann.sees(TEXTS[1])
    assert server.answers(dataset) == {(ANN, TEXTS[0]): ("submitted", {"topic": "delivery"})}


def test_answers_by_mouse(server, person):
    dataset = server.tickets("by mouse")
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    ann.label("Payment").click()
    ann.submits()
    ann.sees(TEXTS[1])
    ann.sends(ann.page.locator(".button--discard").click)
    ann.sees(TEXTS[2])
    ann.label("Product").click()
    ann.sends(ann.page.locator(".button--draft").click)
    assert server.answers(dataset) == {
        (ANN, TEXTS[0]): ("submitted", {"topic": "payment"}),
        (ANN, TEXTS[1]): ("discarded", {"topic": "payment"}),
        (ANN, TEXTS[2]): ("draft", {"topic": "product"}),
    }
    ann.view("draft")
    ann.sees(TEXTS[2])
    assert ann.chosen() == ["Product"]


def test_answers_by_keyboard(server, person):
    dataset = server.tickets("by keyboard")
    ann = person(ANN)
    press = ann.page.keyboard.press
    ann.open(dataset)
    ann.sees(TEXTS[0])
    ann.sends(lambda: press("Enter"))  # what is suggested
    ann.sees(TEXTS[1])
    ann.sends(lambda: press("3"))  # where there is one question, a number is an answer
    ann.sees(TEXTS[2])
    ann.sends(lambda: press("Backspace"))
    ann.sees(TEXTS[3])
    ann.sends(lambda: press("Control+s"))
    assert server.answers(dataset) == {
        (ANN, TEXTS[0]): ("submitted", {"topic": "delivery"}),
        (ANN, TEXTS[1]): ("submitted", {"topic": "account"}),
        (ANN, TEXTS[2]): ("discarded", {"topic": "account"}),
        (ANN, TEXTS[3]): ("draft", {"topic": "product"}),
    }


def test_two_questions_are_answered_by_numbers_and_enter(server, person):
    questions = {"topic": one_of(TOPICS), "urgent": one_of({"no": "No", "yes": "Yes"})}
    dataset = server.dataset("two questions", {"text": {"type": "text"}}, questions)
    server.push(dataset, [{"fields": {"text": text}, "metadata": {"rank": at}} for at, text in enumerate(TEXTS)])
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    ann.page.keyboard.press("1")
    ann.page.locator("[aria-label='Question: urgent'] input:focus").wait_for()
    ann.page.keyboard.press("2")
    assert server.answers(dataset) == {}
    ann.sends(lambda: ann.page.keyboard.press("Enter"))
    ann.sees(TEXTS[1])
    assert server.answers(dataset) == {(ANN, TEXTS[0]): ("submitted", {"topic": "delivery", "urgent": "yes"})}


def test_an_answer_is_changed_in_the_view_of_what_was_submitted(server, person):
    dataset = server.tickets("changed")
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    first = ann.submits()
    ann.sees(TEXTS[1])
    ann.view("submitted")
    ann.sees(TEXTS[0])
    assert (ann.count(), ann.chosen()) == (1, ["Delivery"])
    ann.label("Account").click()
    assert ann.submits()["id"] == first["id"]
    assert server.answers(dataset) == {(ANN, TEXTS[0]): ("submitted", {"topic": "account"})}

    ann.view("pending")
    ann.sees(TEXTS[1])
    assert ann.count() == len(TEXTS) - 1


def test_many_are_answered_at_once_in_the_list(server, person):
    dataset = server.tickets("list")
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    ann.finds(ann.page.get_by_label("Switch to Bulk Mode").click)
    boxes = ann.page.locator(".record--bulk .fields__checkbox")
    boxes.nth(9).wait_for()
    boxes.nth(0).click()
    boxes.nth(2).click()
    ann.label("Product").click()
    ann.submits()
    boxes.nth(0).click()  # those that are answered stay in the list
    boxes.nth(2).click()
    ann.sends(ann.page.locator(".button--discard").click)
    boxes.nth(1).click()
    ann.finds(ann.page.get_by_label("Next (→)").click)
    ann.sees(TEXTS[10])
    boxes.nth(0).click()
    ann.label("Account").click()
    ann.submits()
    assert server.answers(dataset) == {
        (ANN, TEXTS[0]): ("discarded", {"topic": "product"}),
        (ANN, TEXTS[2]): ("discarded", {"topic": "product"}),
        (ANN, TEXTS[10]): ("submitted", {"topic": "account"}),
    }


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("parcel", [0, 12]),
        ('"log in"', [2]),
        ("lamp -card", [3]),
        ("kettle | voucher", [5, 11]),
        ("deliver* | transf*", [9]),
    ],
)
def test_search_by_text(server, person, typed, found):
    dataset = server.tickets(f"search for {typed}")
    ann = person(ANN)
    ann.open(dataset)
    ann.page.locator(".search-area__icon.--search").click()
    ann.page.locator(".search-area__input").fill(typed)
    ann.finds(lambda: ann.page.locator(".search-area__input").press("Enter"))
    for left in range(len(found), 0, -1):
        ann.page.locator(".wrapper__records__header", has_text=f"of {len(found)}").wait_for()
        text = next(text for text in TEXTS if text in ann.text.inner_text())
        ann.submits()
        if left > 1:
            ann.text.filter(has_not_text=text).wait_for()
    assert {text for _, text in server.answers(dataset)} == {TEXTS[at] for at in found}


def test_filter_and_sort_by_metadata(server, person):
    dataset = server.tickets("metadata")
    ann = person(ANN)
    page = ann.page
    ann.open(dataset)
    page.locator(".filters__filter-button").click()
    page.locator(".metadata-filter .dropdown__header").click()
    page.locator(".metadata-filter .category__item", has_text="Channel").click()
    ann.finds(page.locator(".metadata-filter__content label", has_text="phone").click)
    phone = [text for at, text in enumerate(TEXTS) if at % 3]
    page.locator(".wrapper__records__header", has_text=f"of {len(phone)}").wait_for()
    ann.text.click()
    ann.sees(phone[0])
    ann.finds(page.locator(".filters__reset-button").click)

    page.locator(".sort-filter .dropdown__header").first.click()
    ann.finds(page.locator(".sort-categories__item", has_text="Rank").click)
    asked = ann.finds(page.locator(".sort-selector-item__direction").click)
    assert asked["sort"] == [{"scope": {"entity": "metadata", "metadata_property": "rank"}, "order": "desc"}]
    ann.sees(TEXTS[-1])
    ann.text.click()
    ann.submits()
    assert server.answers(dataset) == {(ANN, TEXTS[-1]): ("submitted", {"topic": "payment"})}


def test_filter_by_what_is_suggested(server, person):
    dataset = server.tickets("suggested")
    ann = person(ANN)
    page = ann.page
    ann.open(dataset)
    page.locator(".filters__filter-button").click()
    page.locator(".suggestion-filter .dropdown__header").click()
    page.locator(".suggestion-filter .category__item", has_text="topic").click()
    page.locator(".suggestion-filter .category__item", has_text="Suggestion values").click()
    ann.finds(page.locator(".suggestion-filter label", has_text="payment").click)
    payment = [text for text, topic, _ in TICKETS if topic == "payment"]
    page.locator(".wrapper__records__header", has_text=f"of {len(payment)}").wait_for()
    page.mouse.click(640, 700)
    for text in payment:
        ann.sees(text)
        ann.submits()
    assert server.answers(dataset) == {(ANN, text): ("submitted", {"topic": "payment"}) for text in payment}


def test_records_like_this_one(server, person):
    dataset = server.tickets("more tickets")
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    asked = ann.finds(ann.page.get_by_role("button", name="Find similar").click)
    assert asked["query"]["vector"]["name"] == "meaning"
    ann.page.get_by_text("Similar to").wait_for()
    ann.sees(TEXTS[4])
    assert ann.page.locator(".similarity__progress").is_visible()
    picture(ann, "server-similar")
    delivery = [text for text, topic, _ in TICKETS if topic == "delivery"]
    for text in delivery[1:]:
        ann.sees(text)
        ann.submits()
    assert {text for _, text in server.answers(dataset)} == set(delivery[1:])


SENTENCE = "Clara Jensen of Northwind Tools flew from Oslo to Porto to sign the contract."
KINDS = {"person": "Person", "organisation": "Organisation", "place": "Place"}


def test_spans_by_mouse(server, person):
    spans = {**one_of(KINDS), "type": "span", "field": "text"}
    dataset = server.dataset("entities", {"text": {"type": "text"}}, {"entities": spans})
    name = {"start": 0, "end": 12, "label": "person", "score": 0.93}
    wrong = {"start": SENTENCE.index("Porto"), "end": SENTENCE.index("Porto") + 5, "label": "person", "score": 0.41}
    server.push(dataset, [{"fields": {"text": SENTENCE}, "suggestions": {"entities": {"value": [name, wrong]}}}])
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(SENTENCE)
    shown = ann.page.locator(".span-entity__text")
    shown.first.wait_for()
    assert shown.all_inner_texts() == ["PERSON", "PERSON"]

    ann.label("Organisation").click()
    drag(ann.page, SENTENCE.index("Northwind"), SENTENCE.index(" flew"))
    ann.label("Place").click()
    at = SENTENCE.index("Oslo")
    drag(ann.page, at, at + 4)
    ann.page.mouse.move(640, 600)
    porto = ann.page.locator(".span-entity__container").filter(has_text="Person").last
    porto.hover()
    porto.locator(".span-entity__close-button").click()
    at = SENTENCE.index("Porto")
    drag(ann.page, at, at + 5)
    assert sorted(shown.all_inner_texts()) == ["ORGANISATION", "PERSON", "PLACE", "PLACE"]
    picture(ann, "server-entities")
    ann.submits()
    ((status, values),) = server.answers(dataset).values()
    assert status == "submitted"
    assert [(SENTENCE[each["start"] : each["end"]], each["label"]) for each in values["entities"]] == [
        ("Clara Jensen", "person"),
        ("Northwind Tools", "organisation"),
        ("Oslo", "place"),
        ("Porto", "place"),
    ]


TURNS = [
    ("user", "Hello, my order was to come yesterday."),
    ("assistant", "Sorry to hear that. What is the number of the order?"),
    ("user", "It is 20417, and I leave for the holidays on Friday."),
]
CANDIDATES = [
    "Our shop opens at nine.",
    "It is in your town and comes tomorrow. Shall a neighbour take it if you are out?",
    "You can pay by card or by bank transfer.",
]


def test_a_candidate_for_a_dialogue(server, person):
    options = {"1": "1", "2": "2", "3": "3", "none": "None of these is right."}
    dataset = server.dataset(
        "dialogues", {"context": {"type": "chat"}, "candidates": {"type": "text"}}, {"label": one_of(options)}
    )
    turns = [{"role": role, "content": content} for role, content in TURNS]
    numbered = "\n".join(f"{at}. {text}" for at, text in enumerate(CANDIDATES, 1))
    server.push(dataset, [{"fields": {"context": turns, "candidates": numbered}}])
    ann = person(ANN)
    ann.open(dataset)
    ann.sees(CANDIDATES[2])
    shown = ann.page.locator(".chat__bubble").all_inner_texts()
    assert [text.strip() for text in shown] == [content for _, content in TURNS]
    ann.label("2").first.click()
    assert ann.chosen() == ["2"]
    picture(ann, "server-dialogue")
    ann.submits()
    assert server.answers(dataset) == {(ANN, numbered): ("submitted", {"label": "2"})}


def test_a_login_and_a_page_in_use_outlive_a_restart(server, person):
    dataset = server.tickets("restart")
    ann = person(ANN)
    ann.open(dataset)
    for text in TEXTS[:4]:
        ann.sees(text)
        ann.submits()
    server.command("down")
    server.up()
    for text in TEXTS[4:]:  # more than the page had fetched
        ann.sees(text)
        ann.submits()
    ann.page.locator(".wrapper--empty").wait_for()
    assert server.answers(dataset) == {(ANN, text): ("submitted", {"topic": topic}) for text, topic, _ in TICKETS}
    ann.page.goto(server.url)
    ann.page.get_by_text("Your datasets").wait_for()


def test_two_people_finish_a_queue_and_few_records_are_answered_twice(server, person):
    count = 30
    dataset = server.dataset("to the end", {"text": {"type": "text"}}, {"topic": one_of(TOPICS)})
    texts = [f"message {at:02d}" for at in range(count)]
    server.push(dataset, [{"fields": {"text": text}, "metadata": {"rank": at}} for at, text in enumerate(texts)])
    people = [person(ANN), person(BOB)]
    for each in people:
        each.open(dataset)
    seen: dict[str, list[str]] = {ANN: [], BOB: []}
    at_work = list(people)
    while at_work:
        for each in list(at_work):
            if each.page.locator(".wrapper--empty").is_visible():
                at_work.remove(each)
                continue
            text = re.search(r"message \d\d", each.text.inner_text())[0]
            seen[each.name].append(text)
            each.sends(lambda each=each: each.page.keyboard.press("1"))
            each.page.locator(".wrapper--empty").or_(each.text.filter(has_not_text=text)).first.wait_for()
    answers = server.answers(dataset)
    assert {text for _, text in answers} == set(texts)
    assert len(answers) == sum(map(len, seen.values())) <= count + 5
    assert seen[ANN][:10] == texts[:10]
    assert seen[BOB][:10] == texts[10:20]


def test_a_page_that_is_loaded_again_leaves_nothing_out(server, person):
    dataset = server.tickets("reload")
    ann = person(ANN)
    ann.open(dataset)
    for at in range(len(TEXTS)):
        if at in (4, 11):
            ann.page.reload()
            ann.page.locator(".record__content, .wrapper--empty").first.wait_for()
        text = next(text for text in TEXTS if text in ann.text.inner_text())
        ann.submits()
        if at < len(TEXTS) - 1:
            ann.text.filter(has_not_text=text).wait_for()
    assert {text for _, text in server.answers(dataset)} == set(TEXTS)


def test_the_owner_sees_how_far_the_team_is_and_what_a_dataset_is_made_of(server, person):
    dataset = server.tickets("owner")
    ann, owner = person(ANN), person(OWNER)
    ann.open(dataset)
    ann.sees(TEXTS[0])
    ann.submits()
    page = owner.page
    owner.open(dataset)
    page.locator(".annotation-progress").click()
    page.get_by_text(f"1 of {len(TEXTS)}", exact=True).wait_for()

    page.goto(f"{server.url}/dataset/{dataset}/settings")
    for part in ("Fields", "Questions", "Metadata", "Vectors", "General"):
        page.get_by_role("button", name=part).first.click()
        page.get_by_role("button", name="Update").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.locator("input[type=number]").fill("2")  # answers that complete a record
    with page.expect_response(lambda reply: reply.request.method == "PATCH") as caught:
        page.get_by_role("button", name="Update").first.click()
    assert caught.value.json()["distribution"]["min_submitted"] == 2
    page.get_by_text("See your dataset").click()
    page.locator(".wrapper__records__header", has_text=f"of {len(TEXTS)}").wait_for()  # the record is open again
    assert server.ask("GET", f"datasets/{dataset}/progress")["completed"] == 0
