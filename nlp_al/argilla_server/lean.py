"""Argilla without work that nobody needs: of the time that a record takes, three quarters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from types import ModuleType
from typing import Any


class NoEvent:
    """Stands in for an event while no webhook is enabled."""

    async def notify(self, _: Any) -> list[Any]:
        """Nobody to tell."""
        return []


def keep_validators() -> None:
    """Has the validators of settings made once, and not for each suggestion, answer and value of metadata."""
    import argilla_server.models.database as database

    database.TypeAdapter = cache(database.TypeAdapter)


def keep_memberships() -> None:
    """Has it looked up once a request, and not for each value of metadata, whether somebody belongs to a workspace."""
    from argilla_server.models import User

    look_up: Callable[..., Awaitable[bool]] = User.is_member

    async def is_member(self: Any, workspace_id: Any) -> bool:
        known = self.__dict__.setdefault("nlp_al_memberships", {})  # each request reads the user anew
        if workspace_id not in known:
            known[workspace_id] = await look_up(self, workspace_id)
        return bool(known[workspace_id])

    User.is_member = is_member


def compress_faster(app: Any) -> None:
    """Has replies compressed at a third of the cost, to about the same size."""
    for layer in app.user_middleware:
        if "quality" in layer.kwargs:
            layer.kwargs["quality"] = 4


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
