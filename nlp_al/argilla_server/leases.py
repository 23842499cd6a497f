"""Who was shown what a moment ago, so that two people are not handed the same record while there are others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MINUTES = 5.0


@dataclass
class Leases:
    """Records on people's screens. Kept in memory alone: after a restart everybody fetches a new page anyway."""

    now: Callable[[], float] = time.monotonic
    _until: dict[str, dict[str, float]] = field(default_factory=dict)

    def give(self, user: str, records: Iterable[str]) -> None:
        """Notes what somebody is shown."""
        end = self.now() + MINUTES * 60
        for record in records:
            self._until.setdefault(record, {})[user] = end

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
