"""Argilla's filters and orders as SQL over `nlp_al_queue AS q`, `records AS r` and what belongs to a record.

A condition on something of which a record has several (labels of an answer, answers of several people) holds where it
holds for one of them. What has no value comes last in both directions. SQLite keeps ids as hexadecimal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from argilla_server.enums import ResponseStatusFilter
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    FilterScope,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)

COLUMNS = {
    "id": "r.id",
    "external_id": "r.external_id",
    "inserted_at": "r.inserted_at",
    "updated_at": "r.updated_at",
    "status": "q.status",
}


@dataclass
class Statement:
    """Which records of a dataset, in which order: conditions and orders with the values of their parameters."""

    dataset_id: str
    conditions: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    reads_text: bool = False

    def __post_init__(self) -> None:
        self.values["dataset"] = self.dataset_id

    def value(self, value: Any) -> str:
        """A parameter with this value."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def keep(self, wanted: Filter) -> None:
        """Narrows to the records that a filter lets through."""
        if isinstance(wanted, AndFilter):
            for each in wanted.filters:
                self.keep(each)
        elif isinstance(wanted.scope, ResponseFilterScope) and wanted.scope.question is None:
            self.conditions.append(self._answered(wanted))
        else:
            self.conditions.append(self._one_of(wanted))

    def sort(self, order: Order) -> None:
        """Orders by a value; several calls order by the first, then the second, and so on."""
        descending = str(order.order) == "desc"
        value, rows = self._values_of(order.scope)
        if isinstance(
            order.scope, ResponseFilterScope
        ):  # of several people's ratings the mean, as elsewhere in Argilla
            pick = f"iif(min(typeof({value})) IN ('integer', 'real'), avg({value}), min({value}))"
        else:
            pick = f"{'max' if descending else 'min'}({value})"
        shown = f"(SELECT {pick} FROM {rows})" if rows else value
        self.orders.append(f"{shown} {'DESC' if descending else 'ASC'} NULLS LAST")

    def tables(self) -> str:
        """FROM; only what the conditions and orders speak of, since a record's line may be long."""
        text = "nlp_al_text CROSS JOIN nlp_al_queue AS q ON q.key = nlp_al_text.rowid"
        tables = text if self.reads_text else "nlp_al_queue AS q"
        speaks = any("r." in part for part in (*self.conditions, *self.orders))
        return f"{tables} JOIN records AS r ON r.id = q.record_id" if speaks else tables

    def where(self) -> str:
        """WHERE."""
        return " AND ".join(["q.dataset_id = :dataset", *self.conditions])

    def among(self, records: list[str], no: str = "") -> Statement:
        """This one, of these records alone."""
        place = self.value(json.dumps(records))
        condition = f"q.record_id {no} IN (SELECT value FROM json_each({place}))"
        return replace(self, conditions=[*self.conditions, condition])

    def without(self, records: list[str]) -> Statement:
        """This one without these records."""
        return self.among(records, "NOT") if records else self

    def short_of(self, count: int) -> Statement:
        """This one, of records with fewer submitted answers: a record is completed a moment after the last of them."""
        given = "SELECT count(*) FROM responses AS a WHERE a.record_id = q.record_id AND a.status = 'submitted'"
        return replace(self, conditions=[*self.conditions, f"({given}) < {self.value(count)}"])

    def backwards(self) -> Statement:
        """This one with the least wanted first."""
        return replace(self, orders=["q.rank DESC", "q.key DESC"])

    def _one_of(self, wanted: TermsFilter | RangeFilter) -> str:
        value, rows = self._values_of(wanted.scope)
        if isinstance(wanted, TermsFilter):
            terms = [_kept(wanted.scope, term) for term in wanted.values]
            shown = f"CAST({value} AS TEXT)" if rows else value
            holds = f"{shown} IN ({', '.join(map(self.value, terms))})"
        else:
            ends = [(end, sign) for end, sign in ((wanted.ge, ">="), (wanted.le, "<=")) if end is not None]
            holds = " AND ".join(f"{value} {sign} {self.value(_end(wanted.scope, end))}" for end, sign in ends)
        if not rows:
            return f"({holds})"
        separate = " AND " if " WHERE " in rows else " WHERE "
        return f"EXISTS (SELECT 1 FROM {rows}{separate}{holds})"

    def _answered(self, wanted: Filter) -> str:
        """By the state of somebody's answer, or of anybody's; `pending` is to have none."""
        if wanted.scope.property != "status" or not isinstance(wanted, TermsFilter):
            raise UnprocessableEntityError(f"Answers can't be filtered by {wanted.scope}.")
        statuses = [str(value) for value in wanted.values]
        by = f" AND user_id = {self.value(wanted.scope.user.id.hex)}" if wanted.scope.user else ""
        given = [self.value(status) for status in statuses if status != ResponseStatusFilter.pending]
        answered = "q.record_id {} IN (SELECT record_id FROM responses WHERE {}" + by + ")"
        ways = [answered.format("", f"status IN ({', '.join(given)})")] if given else []
        if ResponseStatusFilter.pending in statuses:
            ways.append(answered.format("NOT", "true"))
        return f"({' OR '.join(ways)})"

    def _values_of(self, scope: FilterScope) -> tuple[str, str]:
        """An expression, and the rows of a record over which it runs (none: the record's own line)."""
        if isinstance(scope, RecordFilterScope):
            return COLUMNS[str(scope.property)], ""
        if isinstance(scope, MetadataFilterScope):
            return "j.value", f"json_each(r.metadata, {self.value(_path(scope.metadata_property))}) AS j"
        if isinstance(scope, ResponseFilterScope):
            by = f" AND p.user_id = {self.value(scope.user.id.hex)}" if scope.user else ""
            path = self.value(f"{_path(scope.question)}.value")
            return "j.value", f'responses AS p, json_each(p."values", {path}) AS j WHERE p.record_id = q.record_id{by}'
        if isinstance(scope, SuggestionFilterScope):
            name = self.value(scope.question)
            question = f"(SELECT id FROM questions WHERE dataset_id = q.dataset_id AND name = {name})"
            where = f"WHERE s.record_id = q.record_id AND s.question_id = {question}"
            column = str(scope.property)
            if column in ("agent", "type"):
                return f"s.{column}", f"suggestions AS s {where}"
            if column in ("value", "score"):
                return "j.value", f"suggestions AS s, json_each(s.{column}) AS j {where}"
        raise UnprocessableEntityError(f"Records can't be filtered by {scope}.")


def is_queue(wanted: Filter | None) -> bool:
    """Whether a filter lets through what somebody has not answered yet, and nothing else by its answers."""
    parts = wanted.filters if isinstance(wanted, AndFilter) else [wanted]
    states = [part.values for part in parts if part is not None and isinstance(part.scope, ResponseFilterScope)]
    return states == [[ResponseStatusFilter.pending]]


def _path(name: str | None) -> str:
    return f'$."{name}"'


def _kept(scope: FilterScope, value: Any) -> Any:
    """A value of a filter as the column keeps it; UnprocessableEntityError where it can't be one."""
    column = str(scope.property) if isinstance(scope, RecordFilterScope) else ""
    try:
        if column == "id":
            return UUID(str(value)).hex
        if column in ("inserted_at", "updated_at"):
            moment = datetime.fromisoformat(str(value))
            return (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M:%S.%f")
    except ValueError as error:
        raise UnprocessableEntityError(f"{value!r} is no {'id' if column == 'id' else 'time'} of a record.") from error
    return value


def _end(scope: FilterScope, value: Any) -> Any:
    """An end of a range: a number where it can be read as one."""
    if isinstance(scope, RecordFilterScope):
        return _kept(scope, value)
    try:
        return float(value)
    except ValueError:
        return value
