"""Argilla without what nobody listens to: it describes each record and answer for webhooks that may not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any


class NoEvent:
    """Stands in for an event while no webhook is enabled."""

    async def notify(self, _: Any) -> list[Any]:
        """Nobody to tell."""
        return []


def skip_events_for_nobody(anybody: Callable[[], bool]) -> None:
    """Has events of records and answers described only while `anybody` listens; three in four parts of their cost."""
    import argilla_server.webhooks.v1.records as records
    import argilla_server.webhooks.v1.responses as responses

    _only_if(anybody, records, "build_record_event")
    _only_if(anybody, responses, "build_response_event")


def _only_if(anybody: Callable[[], bool], module: ModuleType, name: str) -> None:
    describe: Callable[..., Awaitable[Any]] = getattr(module, name)

    async def described(*arguments: Any) -> Any:
        return await describe(*arguments) if anybody() else NoEvent()

    setattr(module, name, described)
