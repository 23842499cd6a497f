"""Requests to an Argilla server: tried again while it is away, and its errors told in a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from nlp_al.errors import RunError, UserError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

WAIT = 3.0
"""Seconds between two tries."""

PATIENCE = 600.0
"""Seconds for which a server that does not answer is tried again."""

PAGE = 1000
"""Records that are read at a time, the most that Argilla gives."""


class Connection:
    """A server's REST interface under /api/v1, as one user.

    connect: makes the client, and asks the server whether the key is known. url: without a slash at its end.
    """

    def __init__(self, connect: Callable[[], httpx.Client], url: str) -> None:
        self.url = url
        self._told: set[str] = set()
        self._http = self._patiently(connect, f"There is no Argilla at {url}; look at annotator.api_url.")

    def get(self, path: str, **params: Any) -> Any:
        """What is there."""
        return self.ask("GET", path, params=params).json()

    def all(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """The items of a list that comes in pages."""
        found: list[dict[str, Any]] = []
        size = 0
        while len(found) == size:
            found += self.get(path, limit=PAGE, offset=size, **params)["items"]
            size += PAGE
        return found

    def send(self, method: str, path: str, body: Any = None, known: int = 0) -> Any:
        """What the server says to it; None where it answers with status `known`, which is no error."""
        reply = self.ask(method, path, known, json=body)
        return reply.json() if reply.is_success and reply.content else None

    def now(self) -> float:
        """Seconds of the server's own clock."""
        return parsedate_to_datetime(self.ask("GET", "version").headers["date"]).timestamp()

    def ask(self, method: str, path: str, known: int = 0, **more: Any) -> httpx.Response:
        """The reply, which is a success or has status `known`.

        Raises:
            UserError: the key is refused, or may not do this. RunError: anything else is wrong, or the server has been
            away for `PATIENCE` seconds.
        """
        return self._patiently(lambda: _checked(self._http.request(method, f"/api/v1/{path}", **more), known))

    def _patiently(self, ask: Callable[[], T], gone: str | None = None) -> T:
        """What `ask` returns; while the server is away it is called again. gone: what status 404 means."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return ask()
            except Exception as error:
                told = told_of(error, gone)
                if told is not None:
                    raise told from error
                if time.monotonic() > end:
                    raise RunError(f"Argilla has not answered for {PATIENCE / 60:.0f} minutes ({error}).") from error
                self.tell(f"Argilla does not answer ({type(error).__name__}); trying again.")
            time.sleep(WAIT)

    def tell(self, text: str) -> None:
        """Says something once."""
        if text not in self._told:
            self._told.add(text)
            print(f"      {text}", flush=True)


def _checked(reply: httpx.Response, known: int) -> httpx.Response:
    if reply.status_code != known:
        reply.raise_for_status()
    return reply


def told_of(error: BaseException, gone: str | None = None) -> Exception | None:
    """What the user can do about an error, the error itself where it is none of a server, None where it may pass."""
    import httpx

    deepest, status = error, 0  # the client wraps errors in others, which have a status of their own making
    while True:
        if isinstance(deepest, httpx.TransportError):
            return None
        reply = getattr(deepest, "response", None)
        status = getattr(deepest, "status_code", 0) or getattr(reply, "status_code", status)
        if deepest.__cause__ is None:
            break
        deepest = deepest.__cause__
    if not status:
        return error if isinstance(error, Exception) else None
    if status == 401:
        return UserError("Argilla refuses the key: annotator.api_key, or ARGILLA_API_KEY, is none of this server.")
    if status == 403:
        return UserError("The user of annotator.api_key may not do this; take the key of an owner or admin.")
    if status == 404:
        told = "The data set of this run is gone from Argilla; all answers that came are in labels.jsonl."
        return UserError(gone) if gone is not None else RunError(told)
    if status in (408, 429) or status >= 500:
        return None
    said = " ".join((reply.text if reply is not None else str(deepest)).split())[:300]
    return RunError(f"Argilla refused it ({status}): {said}")
