"""Who was shown what a moment ago, so that two people are not handed the same record while there are others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

MINUTES = 5.0


@dataclass
class Leases:
    """Records on people's screens, and what each page was handed."""

    now: Callable[[], float] = time.monotonic
    file: Path | None = None
    """Where hands are kept: a page stays open while the server is started again."""
    _until: dict[str, dict[str, float]] = field(default_factory=dict)
    _hands: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file and self.file.exists():
            self._hands = json.loads(self.file.read_text(encoding="utf-8"))
        for key, (_, hand) in self._hands.items():
            self.give(key.split()[0], hand)

    def hand(self, user: str, dataset: str) -> tuple[int, list[str]]:
        """How many records somebody's page believes to be in front of its first one, and what it was handed since."""
        return self._hands.get(f"{user} {dataset}", (0, []))

    def deal(self, user: str, dataset: str, begin: int, hand: list[str]) -> None:
        """Notes a hand, all of which is on the screen from now on."""
        self._hands[f"{user} {dataset}"] = begin, hand
        self.give(user, hand)
        if self.file:
            fresh = self.file.with_suffix(".new")
            fresh.write_text(json.dumps(self._hands), encoding="utf-8")
            fresh.replace(self.file)

    def give(self, user: str, records: Iterable[str]) -> None:
        """Notes what somebody is shown."""
        end = self.now() + MINUTES * 60
        for record in records:
            self._until.setdefault(record, {})[user] = end

    def renew(self, user: str) -> None:
        """Somebody has just answered, so the rest of what they were handed is on their screen still."""
        for key, (_, hand) in self._hands.items():
            if key.startswith(f"{user} "):
                self.give(user, [record for record in hand if user in self._until.get(record, {})])

    def records(self) -> list[str]:
        """All that are on somebody's screen."""
        return list(self._until)

    def end(self, record: str, user: str) -> None:
        """Takes a record off somebody's screen."""
        self._until.get(record, {}).pop(user, None)

    def others(self, user: str) -> dict[str, int]:
        """How many other people have each record before them; records that nobody else has are left out."""
        now = self.now()
        counts = {}
        for record, ends in list(self._until.items()):
            for name in [name for name, end in ends.items() if end <= now]:
                del ends[name]
            if not ends:
                del self._until[record]
            elif others := len(ends.keys() - {user}):
                counts[record] = others
        return counts
