"""One run at a time works on a data set: who holds it is written in the data set itself."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from nlp_al.annotation.connection import Connection
from nlp_al.errors import RunError

KEY = "nlp_al"

LEASE = 120.0
"""Seconds after which a holder that has said nothing may be followed by another."""


class Holder:
    """A run's hold on a data set, named by the run's folder: the same folder again is the same holder.

    Two copies of a run directory would publish into the same data set; the second one is told of the first.
    """

    def __init__(self, server: Connection, path: str, run_dir: Path) -> None:
        self._server, self._path = server, path
        self._name = f"{socket.gethostname()}:{run_dir.resolve()}"
        self._due = 0.0

    def renew(self) -> None:
        """Says that this run still holds the data set; RunError where another one does."""
        if time.monotonic() < self._due:
            return
        known = self._server.get(self._path)["metadata"] or {}
        now, held = self._server.now(), known.get(KEY) or {}
        if held.get("holder", self._name) != self._name and held["until"] > now:
            raise RunError(
                f"Another run works on this data set: {held['holder']}. Two copies of a run can't share one; end the "
                f"other, or wait {LEASE / 60:.0f} minutes where it is gone already."
            )
        mine = {KEY: {"holder": self._name, "until": now + LEASE}}
        for metadata in (None, {**known, **mine}):  # Argilla forgets a change of what is there, but not a new beginning
            self._server.send("PATCH", self._path, {"metadata": metadata})
        self._due = time.monotonic() + LEASE / 4
