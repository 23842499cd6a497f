"""What people type into the search box, against SQLite's own full-text search."""

import random
import sqlite3
from collections.abc import Iterator

import pytest

from nlp_al.argilla_server.text_query import match_expression

COLUMNS = ", ".join(f"f{at}" for at in range(12))
DOCUMENTS = {
    1: ("a", "The invoice was paid twice", "from Lyon"),
    2: ("a", "Refund of the second invoice, please", ""),
    3: ("a", "I can't log in: password refused", "café au lait"),
    4: ("a", "Invoices for May", "refund"),
    5: ("b", "invoice of another data set", ""),
}


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(":memory:") as connection:
        connection.execute(
            f'CREATE VIRTUAL TABLE t USING fts5 (dataset, {COLUMNS}, tokenize = "unicode61 remove_diacritics 2")'
        )
        for key, (dataset, text, note) in DOCUMENTS.items():
            connection.execute("INSERT INTO t (rowid, dataset, f0, f1) VALUES (?, ?, ?, ?)", [key, dataset, text, note])
        yield connection


def found(database: sqlite3.Connection, typed: str, column: int | None = None) -> list[int]:
    expression = match_expression(typed, "a", column)
    if expression is None:
        return []
    return [row for (row,) in database.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rowid", [expression])]


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("invoice", [1, 2]),
        ("INVOICE", [1, 2]),
        ("invoice*", [1, 2, 4]),
        ("invoice paid", [1]),
        ("paid invoice", [1]),
        ('"paid invoice"', []),
        ('"second invoice"', [2]),
        ('"second invoice', [2]),
        ("invoice -paid", [2]),
        ("invoice -paid -refund", []),
        ('invoice* -"second invoice"', [1, 4]),
        ("paid | password", [1, 3]),
        ("invoice paid | refund", [1, 2, 4]),
        ("cafe", [3]),
        ("can't", [3]),
        ("lyon invoice", [1]),
        ("second-invoice", [2]),
        ("-invoice", []),
        ("", []),
        ("  |  ", []),
        ('"', []),
        ("...", []),
        ("NOT invoice", []),
        ("dataset", []),
        ("a", []),
    ],
)
def test_what_is_found(database, typed, wanted):
    assert found(database, typed) == wanted


def test_one_field(database):
    assert found(database, "refund", 0) == [2]
    assert found(database, "refund", 1) == [4]
    assert found(database, "refund | invoice", 1) == [4]


def test_nothing_that_is_typed_is_an_error(database):
    draw = random.Random(0)
    signs = "ab \"*-|():^+{}~'\\;.,_#é\0\u200b😀NOT AND OR NEAR"
    for _ in range(3000):
        typed = "".join(draw.choice(signs) for _ in range(draw.randint(0, 12)))
        assert set(found(database, typed, draw.choice([None, 0, 11]))) <= {1, 2, 3, 4}, typed
