"""The vectors of the records as arrays, read from the database at the first question and kept in step with it."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Keys = NDArray[np.int64]

BLOCK = 4096
"""Vectors that are read from the database and parsed together."""


@dataclass
class Table:
    """The vectors of one setting as unit rows, their keys (rows of the table `vectors`), and how far it has read."""

    unit: Floats
    keys: Keys
    row_of: dict[int, int] = field(default_factory=dict)
    size: int = 0
    seen: int = 0

    def put(self, key: int, vector: Floats) -> None:
        """Adds a vector, or replaces that of the same key. One of zeros stays: it is like nothing."""
        row = self.row_of.get(key, self.size)
        if row == len(self.keys):
            more = max(BLOCK, len(self.keys))
            self.unit = np.concatenate([self.unit, np.empty((more, self.unit.shape[1]), np.float32)])
            self.keys = np.concatenate([self.keys, np.empty(more, np.int64)])
        if row == self.size:
            self.row_of[key] = row
            self.keys[row] = key
            self.size += 1
        self.unit[row] = unit(vector)

    def drop(self, key: int) -> None:
        """Takes a vector out; the last one takes its place."""
        row = self.row_of.pop(key, None)
        if row is None:
            return
        self.size -= 1
        if row != self.size:
            self.unit[row] = self.unit[self.size]
            self.keys[row] = self.keys[self.size]
            self.row_of[int(self.keys[row])] = row

    def nearest(self, vector: Floats, count: int, allowed: Keys | None, without: int | None) -> tuple[Keys, Floats]:
        """Keys and cosines of the `count` vectors most alike, the most alike first, ties by key.

        allowed: keys to choose from, None for all. without: one that is left out.
        """
        keys = self.keys[: self.size]
        cosines = self.unit[: self.size] @ unit(vector)
        fits = np.ones(self.size, bool) if allowed is None else np.isin(keys, allowed)
        if without is not None:
            fits &= keys != without
        keys, cosines = keys[fits], cosines[fits]
        if 0 < count < len(keys):
            edge = np.partition(cosines, len(cosines) - count)[len(cosines) - count]
            keys, cosines = keys[cosines >= edge], cosines[cosines >= edge]
        order = np.lexsort((keys, -cosines))[:count]
        return keys[order], cosines[order]


def unit(vector: Floats) -> Floats:
    """A vector over its length; zeros as they are."""
    length = float(np.linalg.norm(vector))
    return vector if length == 0 else vector / np.float32(length)


class Vectors:
    """All tables of a database, by the id of the vector setting. Calls may come from several threads."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}
        self._lock = threading.Lock()

    def nearest(
        self,
        database: sqlite3.Connection,
        settings_id: str,
        vector: list[float],
        count: int,
        allowed: Keys | None = None,
        without: int | None = None,
    ) -> tuple[Keys, Floats]:
        """As `Table.nearest`, over what the database holds now."""
        with self._lock:
            table = self._table(database, settings_id, len(vector))
            return table.nearest(np.asarray(vector, np.float32), count, allowed, without)

    def load(self, database: sqlite3.Connection) -> None:
        """Reads all there are, so that the first question need not wait for it."""
        for settings_id, dimensions in database.execute("SELECT id, dimensions FROM vectors_settings").fetchall():
            with self._lock:
                self._table(database, settings_id, dimensions)

    def _table(self, database: sqlite3.Connection, settings_id: str, dimensions: int) -> Table:
        """Up to date. One snapshot of the database gives both the vectors and how far the changes go."""
        database.execute("BEGIN")
        try:
            (newest,) = database.execute("SELECT coalesce(max(number), 0) FROM nlp_al_vector_changes").fetchone()
            table = self._tables.get(settings_id)
            if table is None:
                table = Table(np.empty((0, dimensions), np.float32), np.empty(0, np.int64), seen=newest)
                self._read_all(database, settings_id, table)
                self._tables[settings_id] = table
            elif table.seen < newest:
                self._catch_up(database, settings_id, table)
                table.seen = newest
            return table
        finally:
            database.execute("COMMIT")

    @staticmethod
    def _read_all(database: sqlite3.Connection, settings_id: str, table: Table) -> None:
        found = database.execute("SELECT rowid, value FROM vectors WHERE vector_settings_id = ?", [settings_id])
        while rows := found.fetchmany(BLOCK):
            for (key, _), vector in zip(rows, parsed([text for _, text in rows]), strict=True):
                table.put(key, vector)

    @staticmethod
    def _catch_up(database: sqlite3.Connection, settings_id: str, table: Table) -> None:
        changed = database.execute(
            "SELECT DISTINCT c.vector, v.value FROM nlp_al_vector_changes AS c"
            " LEFT JOIN vectors AS v ON v.rowid = c.vector AND v.vector_settings_id = c.settings_id"
            " WHERE c.settings_id = ? AND c.number > ?",
            [settings_id, table.seen],
        )
        while rows := changed.fetchmany(BLOCK):
            for key in (key for key, value in rows if value is None):
                table.drop(key)
            written = [(key, value) for key, value in rows if value is not None]
            for (key, _), vector in zip(written, parsed([value for _, value in written]), strict=True):
                table.put(key, vector)


def parsed(texts: list[str]) -> Floats:
    """JSON lists of numbers, all of one length, as float32[n, d]."""
    if not texts:
        return np.empty((0, 0), np.float32)
    numbers = np.fromstring(",".join(text.strip("[] ") for text in texts), np.float32, sep=",")
    return numbers.reshape(len(texts), -1)
