"""People at the Argilla page in chromium: what they do there, and what went wrong meanwhile."""

import importlib.util
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = ("playwright", "argilla_server", "fakeredis")
needs_page = pytest.mark.skipif(
    CHROMIUM is None or not all(map(importlib.util.find_spec, NEEDED)),
    reason="chromium, nlp-al[server] and nlp-al[page] are needed",
)

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZE = {"width": 1280, "height": 800}
PATIENCE = 10_000
"""Milliseconds that anything on the page may take."""

FONTS = "fonts.googleapis.com"
"""The one other host that the page asks for something."""


@dataclass
class Person:
    """Somebody at the page, in a browser profile of their own, and what went wrong there."""

    name: str
    page: Any
    url: str
    faults: list[str] = field(default_factory=list)
    expected: set[tuple[str, int]] = field(default_factory=set)
    """Ends of paths, and statuses that they may answer with."""

    def watch(self) -> None:
        """Notes answers of 400 and above, errors of scripts, and hosts that the page has no business with."""

        def answered(response: Any) -> None:
            path = urlsplit(response.url).path
            if response.status >= 400 and not any(
                path.endswith(end) and response.status == status for end, status in self.expected
            ):
                self.faults.append(f"{response.request.method} {path}: {response.status}")

        def said(message: Any) -> None:
            if message.type == "error" and not message.text.startswith("Failed to load resource"):
                self.faults.append(f"console: {message.text}")

        def failed(request: Any) -> None:
            if request.failure != "net::ERR_ABORTED":  # the page that asked was left
                self.faults.append(f"{request.method} {request.url}: {request.failure}")

        self.page.on("response", answered)
        self.page.on("console", said)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("requestfailed", failed)

    def outside(self, route: Any) -> None:
        """Answers for the rest of the world, which has nothing to say."""
        if urlsplit(route.request.url).hostname != FONTS:
            self.faults.append(f"asked {route.request.url}")
        route.fulfill(status=200, content_type="text/css", body="")

    def log_in(self, password: str) -> None:
        """From the front page, as far as the button."""
        self.page.goto(self.url)
        self.sign_in(password)

    def sign_in(self, password: str) -> None:
        """Where the page asks who somebody is, as far as the button."""
        self.page.locator("input[type=text]").fill(self.name)
        self.page.locator("input[type=password]").fill(password)
        self.page.locator("button[type=submit]").click()

    def login(self) -> str | None:
        """What the browser keeps of a login."""
        return self.page.evaluate("() => localStorage.getItem('auth._token.local')")

    def open(self, dataset: str) -> None:
        """The dataset's records, until one is shown, or that there is none."""
        self.page.goto(f"{self.url}/dataset/{dataset}/annotation-mode")
        self.page.locator(".record__content, .wrapper--empty").first.wait_for()

    @property
    def text(self) -> Any:
        """Where the text of the record is."""
        return self.page.locator(".record__content").first

    def sees(self, text: str) -> None:
        """Waits until a record with this text is before the person."""
        self.text.filter(has_text=text).wait_for()

    def label(self, text: str) -> Any:
        return self.page.locator(".questions-form label", has_text=text)

    def chosen(self) -> list[str]:
        """The labels that are chosen."""
        return [text.split("\n")[0] for text in self.page.locator(".label-active .label-text__text").all_inner_texts()]

    def sends(self, act: Callable[[], Any]) -> Any:
        """Does something that sends an answer; what the server made of it."""
        with self.page.expect_response(lambda reply: is_answer(reply.request)) as caught:
            act()
        assert caught.value.ok, caught.value.text()
        return caught.value.json()

    def finds(self, act: Callable[[], Any]) -> dict[str, Any]:
        """Does something that asks for records; what was asked."""
        with self.page.expect_response(re.compile("/records/search")) as caught:
            act()
        assert caught.value.ok, caught.value.text()
        return dict(caught.value.request.post_data_json)

    def submits(self) -> Any:
        return self.sends(self.page.locator(".button--submit").click)

    def view(self, status: str) -> None:
        """Goes over to records with answers of one status."""
        self.page.locator(".filter-status .selected-option").click()
        self.finds(self.page.locator(f".filter-status .option.{status} label").first.click)

    def count(self) -> int:
        """How many records there are in the view."""
        text = self.page.locator(".wrapper__records__header").inner_text()
        return int(re.search(r"of\s+(\d+)", text)[1])


def is_answer(request: Any) -> bool:
    return request.method in ("POST", "PUT") and re.search(r"/responses(/|$)", urlsplit(request.url).path) is not None


@contextmanager
def visitors(browser: Any, url: str) -> Iterator[Callable[..., Person]]:
    """Opens browser profiles, which know of nobody or of `known`. Fails where something went wrong on a page."""
    with ExitStack() as opened:
        people = []

        def come(name: str, known: Any = None) -> Person:
            context = browser.new_context(viewport=SIZE, storage_state=known, locale="en-US")
            opened.callback(context.close)
            context.set_default_timeout(PATIENCE)
            person = Person(name, context.new_page(), url)
            context.route(lambda asked: not asked.startswith(url), person.outside)
            person.watch()
            people.append(person)
            return person

        yield come
        assert [(person.name, fault) for person in people for fault in person.faults] == []


def picture(person: Person, name: str) -> None:
    """A small PNG of what is before somebody, where pictures were asked for."""
    if folder := os.environ.get("NLP_AL_PICTURES"):
        from PIL import Image

        person.page.mouse.move(640, 740)
        person.page.wait_for_timeout(500)  # for what is fading in
        image = Image.open(io.BytesIO(person.page.screenshot())).convert("RGB")
        image.quantize(128, dither=Image.Dither.NONE).save(Path(folder) / f"{name}.png", optimize=True)


def drag(page: Any, start: int, end: int) -> None:
    """Marks characters of the text with the mouse."""
    left, right, middle = page.evaluate(
        """([start, end]) => {
            const range = document.createRange(), text = document.querySelector(".span-annotation__field").firstChild;
            range.setStart(text, start);
            range.setEnd(text, end);
            const box = range.getBoundingClientRect();
            return [box.left, box.right, (box.top + box.bottom) / 2];
        }""",
        [start, end],
    )
    page.mouse.move(left + 2, middle)
    page.mouse.down()
    page.mouse.move((left + right) / 2, middle, steps=5)
    page.mouse.move(right - 2, middle, steps=5)
    page.mouse.up()
