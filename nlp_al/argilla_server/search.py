"""Questions about the records of a dataset as statements of SQLite. They block; `engine.py` waits for them."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from argilla_server.search_engine.base import Filter, Order

from nlp_al.argilla_server.filters import Statement, is_queue
from nlp_al.argilla_server.leases import Leases
from nlp_al.argilla_server.text_query import PLACES, UNSPACED, columns, match_expression
from nlp_al.argilla_server.vectors import Vectors

Found = tuple[list[tuple[str, float | None]], int]
"""Hexadecimal ids with scores, a page of them, and how many there are in all."""


class Search:
    """Answers from a database, from any number of threads."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._local = threading.local()
        self._vectors = Vectors()
        self._leases = Leases(file=database.with_name("handed.json"))
        self._handing_out = threading.Lock()

    def warm(self) -> None:
        """Reads the vectors, so that nobody has to wait for it later."""
        self._vectors.load(self._connection)

    def has_listeners(self) -> bool:
        """Whether any webhook is enabled."""
        return bool(self._rows("SELECT EXISTS (SELECT 1 FROM webhooks WHERE enabled)", [])[0][0])

    def renew(self, user_id: str) -> None:
        """Somebody has just answered."""
        with self._handing_out:
            self._leases.renew(user_id)

    def progress(self, dataset_id: str) -> dict[str, int]:
        """Records by status."""
        counted = self._rows("SELECT status, count(*) FROM nlp_al_queue WHERE dataset_id = ? GROUP BY 1", [dataset_id])
        return {str(status): count for status, count in counted}

    def user_progress(self, dataset_id: str, user_id: str) -> dict[str, int]:
        """One person's answers by status."""
        counted = self._rows(
            "SELECT p.status, count(*) FROM responses AS p JOIN nlp_al_queue AS q ON q.record_id = p.record_id"
            " WHERE p.user_id = ? AND q.dataset_id = ? GROUP BY 1",
            [user_id, dataset_id],
        )
        return {str(status): count for status, count in counted}

    def records(
        self,
        dataset_id: str,
        text: tuple[str, str | None] | None = None,
        keep: Filter | None = None,
        sort: Sequence[Order] = (),
        offset: int = 0,
        limit: int = 100,
        user_id: str | None = None,
        min_submitted: int = 1,
    ) -> Found:
        """A page of the records that fit; the most wanted first where nothing else is asked for.

        text: what was typed, and the field it is looked for in, None for all. user_id: who asks; of a page of records
        without an answer of this person, those that others have on their screens come last.
        """
        statement = Statement(dataset_id)
        if keep is not None:
            statement.keep(keep)
        score = "NULL" if text is None else self._match(statement, *text)
        if score is None:
            return [], 0
        for order in sort:
            statement.sort(order)
        if score != "NULL" and not sort:
            statement.orders.append(f"{score} DESC")
        total = self._count(statement)
        if user_id is None or text is not None or sort or not is_queue(keep):
            return self._page(statement, score, offset, limit), total
        with self._handing_out:  # or two who ask at the same moment are handed the same
            return self._handed_out(statement, user_id, min_submitted, offset, limit), total

    def similar(
        self,
        dataset_id: str,
        settings_id: str,
        vector: list[float],
        without: str | None = None,
        text: tuple[str, str | None] | None = None,
        keep: Filter | None = None,
        most: int = 100,
    ) -> list[tuple[str, float]]:
        """The records most alike, with (1 + cosine) / 2. without: the record that the vector is of."""
        allowed = None
        if keep is not None or text is not None:
            statement = Statement(dataset_id)
            if keep is not None:
                statement.keep(keep)
            if text is not None and self._match(statement, *text) is None:
                return []
            settings = statement.value(settings_id)
            rows = self._rows(
                f"SELECT v.rowid FROM {statement.tables()}"
                f" JOIN vectors AS v ON v.record_id = q.record_id AND v.vector_settings_id = {settings}"
                f" WHERE {statement.where()}",
                statement.values,
            )
            allowed = np.array([row for (row,) in rows], np.int64)
        own = None
        if without is not None:
            found = self._rows(
                "SELECT rowid FROM vectors WHERE record_id = ? AND vector_settings_id = ?", [without, settings_id]
            )
            own = found[0][0] if found else None
        keys, cosines = self._vectors.nearest(self._connection, settings_id, vector, most, allowed, own)
        ids = dict(
            self._rows(
                "SELECT rowid, record_id FROM vectors WHERE rowid IN (SELECT value FROM json_each(?))",
                [json.dumps(keys.tolist())],
            )
        )
        pairs = zip(keys.tolist(), cosines.tolist(), strict=True)
        return [(ids[key], min(max((1 + cosine) / 2, 0.0), 1.0)) for key, cosine in pairs if key in ids]

    def terms(self, dataset_id: str, name: str) -> list[tuple[str, int]]:
        """The values of a metadata property, the most frequent first."""
        return [
            (str(term), count)
            for term, count in self._rows(
                "SELECT CAST(j.value AS TEXT), count(*) FROM records AS r, json_each(r.metadata, ?) AS j"
                " WHERE r.dataset_id = ? AND j.value IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1",
                [f'$."{name}"', dataset_id],
            )
        ]

    def ends(self, dataset_id: str, name: str) -> tuple[Any, Any]:
        """The smallest and the largest value of a metadata property, None where no record has one."""
        (found,) = self._rows(
            "SELECT min(j.value), max(j.value) FROM records AS r, json_each(r.metadata, ?) AS j WHERE r.dataset_id = ?",
            [f'$."{name}"', dataset_id],
        )
        return found[0], found[1]

    def _match(self, statement: Statement, typed: str, field: str | None) -> str | None:
        """Narrows to what was typed; how well a record fits it, None where that was nothing to look for."""
        place = None
        if field is not None:
            fields = self._rows(
                "SELECT name FROM fields WHERE dataset_id = ? ORDER BY inserted_at, id", [statement.dataset_id]
            )
            place = min([name for (name,) in fields].index(field), PLACES - 1)
        statement.reads_text = True
        if UNSPACED.search(typed):
            text = " || ' ' || ".join(f"coalesce({column}, '')" for column in columns(place))
            statement.conditions += [f"instr({text}, {statement.value(word)})" for word in typed.split()]
            return "NULL"
        expression = match_expression(typed, statement.dataset_id, place)
        if expression is None:
            return None
        statement.conditions.append(f"nlp_al_text MATCH {statement.value(expression)}")
        return "-bm25(nlp_al_text)"

    def _handed_out(
        self, statement: Statement, user_id: str, min_submitted: int, offset: int, limit: int
    ) -> list[tuple[str, float | None]]:
        """A page of somebody's queue, without what enough others have on their screens while there is anything else.

        Argilla's page fetches some records, and while they are being answered more, from behind those that are not yet.
        If one came twice, or none where it looks, it would show nothing. So all that a person was handed and has not
        answered counts as what is in front, in whatever order it would be now. A page that is loaded again while it
        shows the fifth record asks for the fifth and those behind it; it gets the first, and counts from five.
        """
        begin, handed = self._leases.hand(user_id, statement.dataset_id)
        done = {record for record, user, _ in self._answers(handed) if user == user_id}
        hand = [record for record in handed if record not in done]
        if offset == 0 or offset != begin + len(hand):
            if offset and limit == 1:
                return []  # what was in front of where the page was loaded is behind it now
            begin, hand = offset, []
        fresh = statement.without(hand).short_of(min_submitted)
        page = self._page(fresh.without(self._taken(user_id, min_submitted)), "NULL", 0, limit)
        if not hand and not page:  # all that is left is with others; one at a time, what they come to last
            page = self._page(fresh.backwards(), "NULL", 0, 1)
        self._leases.deal(user_id, statement.dataset_id, begin, [*hand, *(record for record, _ in page)])
        return page

    def _taken(self, user_id: str, min_submitted: int) -> list[str]:
        """The records for which those who have answered and those who are about to are enough, without this person."""
        answers = self._answers(self._leases.records())
        for record, user, _ in answers:
            self._leases.end(record, user)
        submitted = Counter(record for record, _, status in answers if status == "submitted")
        return [
            record
            for record, people in self._leases.others(user_id).items()
            if people + submitted[record] >= min_submitted
        ]

    def _answers(self, records: list[str]) -> list[tuple[str, str, str]]:
        """Record, person and status of all answers to these."""
        return self._rows(
            "SELECT record_id, user_id, status FROM responses WHERE record_id IN (SELECT value FROM json_each(?))",
            [json.dumps(records)],
        )

    def _page(self, statement: Statement, score: str, offset: int, limit: int) -> list[tuple[str, float | None]]:
        orders = ", ".join([*statement.orders, "q.rank", "q.key"])
        return self._rows(
            f"SELECT q.record_id, {score} FROM {statement.tables()} WHERE {statement.where()}"
            f" ORDER BY {orders} LIMIT {int(limit)} OFFSET {int(offset)}",
            statement.values,
        )

    def _count(self, statement: Statement) -> int:
        ((count,),) = self._rows(
            f"SELECT count(*) FROM {statement.tables()} WHERE {statement.where()}", statement.values
        )
        return int(count)

    def _rows(self, query: str, values: Any) -> list[Any]:
        return self._connection.execute(query, values).fetchall()

    @property
    def _connection(self) -> sqlite3.Connection:
        """One a thread; in autocommit, so that each statement sees what is there now."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = self._local.connection = sqlite3.connect(self._database, timeout=30, isolation_level=None)
            found.execute("PRAGMA query_only = ON")
        return found
