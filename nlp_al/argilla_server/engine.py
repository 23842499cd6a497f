"""Argilla's search engine, answered from the server's own database: there is no index that could be out of step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import Dataset, MetadataProperty, Record, Response, User, VectorSettings
from argilla_server.search_engine.base import (
    Filter,
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    Order,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)
from argilla_server.settings import settings
from sqlalchemy import make_url

from nlp_al.argilla_server.search import Search

T = TypeVar("T")
THREADS = 2
"""Statements that run at the same time; more would only wait for the same cores."""


@SearchEngine.register("nlp-al")
class DatabaseEngine(SearchEngine):  # type: ignore[misc]  # Argilla carries no types
    """Every question goes to the database; every notice of a change is passed over, since triggers have seen it."""

    _one: DatabaseEngine | None = None

    def __init__(self, database: Path) -> None:
        self._search = Search(database)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="search")

    @classmethod
    async def new_instance(cls) -> DatabaseEngine:
        """The one of this process: Argilla asks for another at each request."""
        return cls.of_process()

    @classmethod
    def of_process(cls) -> DatabaseEngine:
        """The one of this process."""
        if cls._one is None:
            cls._one = cls(Path(str(make_url(settings.database_url).database)))
        return cls._one

    def warm(self) -> None:
        """Reads the vectors in the background."""
        self._threads.submit(self._search.warm)

    def has_listeners(self) -> bool:
        """Whether any webhook is to be told of events."""
        return self._search.has_listeners()

    async def close(self) -> None:
        """Argilla says so after each request."""

    async def ping(self) -> bool:
        """As long as there is a process, there is a database."""
        return True

    async def info(self) -> dict[str, Any]:
        """What the page shows of a search engine."""
        return {"name": "nlp-al", "version": {"number": "sqlite"}}

    async def get_dataset_progress(self, dataset: Dataset) -> dict[str, int]:
        """total, and records by status."""
        return {} if dataset.is_draft else _with_total(await self._ask(self._search.progress, dataset.id.hex))

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict[str, int]:
        """total, and one person's answers by status."""
        if dataset.is_draft:
            return {}
        return _with_total(await self._ask(self._search.user_progress, dataset.id.hex, user.id.hex))

    async def search(
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        sort: list[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | None = None,
    ) -> SearchResponses:
        """A page of records; see `Search.records`."""
        found, total = await self._ask(
            self._search.records,
            dataset.id.hex,
            text=_typed(query),
            keep=filter,
            sort=sort or (),
            offset=offset,
            limit=limit,
            user_id=user_id.hex if user_id else None,
            min_submitted=dataset.distribution["min_submitted"],
        )
        return _responses(found, total)

    async def similarity_search(
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """The records most alike a vector, or a record's; see `Search.similar`."""
        vector = value or (record.vector_value_by_vector_settings(vector_settings) if record else None)
        if not vector:
            raise ValueError("There is no vector to compare with.")
        if order == SimilarityOrder.least_similar:
            vector = [-number for number in vector]
        found = await self._ask(
            self._search.similar,
            dataset.id.hex,
            vector_settings.id.hex,
            vector,
            without=record.id.hex if record else None,
            text=_typed(query),
            keep=filter,
            most=max_results,
        )
        near = [(record_id, score) for record_id, score in found if threshold is None or score >= threshold]
        return _responses(near, len(near))

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        """What a filter on a metadata property can offer."""
        where = (metadata_property.dataset_id.hex, metadata_property.name)
        if metadata_property.type == MetadataPropertyType.terms:
            counted = await self._ask(self._search.terms, *where)
            values = [TermsMetrics.TermCount(term=term, count=count) for term, count in counted]
            return TermsMetrics(total=sum(count for _, count in counted), values=values)
        whole = metadata_property.type == MetadataPropertyType.integer
        least, most = await self._ask(self._search.ends, *where)
        return (IntegerMetadataMetrics if whole else FloatMetadataMetrics)(min=least, max=most)

    async def update_record_response(self, response: Response) -> None:
        """The database knows of the answer; who gave it is at work still."""
        await self._ask(self._search.renew, response.user_id.hex)

    async def _ask(self, question: Callable[..., T], *arguments: Any, **named: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: question(*arguments, **named))

    async def _passed_over(self, *_: Any, **__: Any) -> None:
        """Triggers of the database have seen it."""

    create_index = delete_index = configure_metadata_property = configure_index_vectors = _passed_over
    index_records = partial_record_update = delete_records = _passed_over
    delete_record_response = _passed_over
    update_record_suggestion = delete_record_suggestion = _passed_over


def _with_total(counts: dict[str, int]) -> dict[str, int]:
    return {"total": sum(counts.values()), **counts}


def _typed(query: TextQuery | str | None) -> tuple[str, str | None] | None:
    if query is None:
        return None
    return (query, None) if isinstance(query, str) else (query.q, query.field)


def _responses(found: list[Any], total: int) -> SearchResponses:
    items = [SearchResponseItem(record_id=UUID(record_id), score=score) for record_id, score in found]
    return SearchResponses(items=items, total=total)
