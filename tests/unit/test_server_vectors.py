"""Similarity against a brute-force twin, while vectors are written, changed and deleted."""

import json
import sqlite3
from importlib.resources import files

import numpy as np
import pytest

from nlp_al.argilla_server.vectors import Vectors, parsed

DIMENSIONS = 5


@pytest.fixture
def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(
        "CREATE TABLE vectors (id TEXT PRIMARY KEY, value TEXT, record_id TEXT, vector_settings_id TEXT)"
    )
    connection.execute("CREATE TABLE vectors_settings (id TEXT PRIMARY KEY, dimensions INTEGER)")
    connection.execute("INSERT INTO vectors_settings VALUES ('s', ?)", [DIMENSIONS])
    ours = files("nlp_al.argilla_server").joinpath("search.sql").read_text(encoding="utf-8")
    connection.executescript(ours[ours.index("CREATE TABLE nlp_al_vector_changes") :])
    return connection


def write(database, record, vector, settings="s"):
    database.execute(
        "INSERT INTO vectors VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET value = excluded.value",
        [f"{settings}-{record}", json.dumps(list(vector)), record, settings],
    )


def twin(database, vector, count, allowed=None, without=None):
    rows = database.execute("SELECT rowid, value FROM vectors WHERE vector_settings_id = 's'").fetchall()
    scored = []
    for key, value in rows:
        if key == without or (allowed is not None and key not in allowed):
            continue
        other = np.array(json.loads(value))
        lengths = np.linalg.norm(vector) * np.linalg.norm(other)
        scored.append((-(np.dot(vector, other) / lengths if lengths else 0.0), key))
    scored.sort()
    return [key for _, key in scored[:count]], [-score for score, _ in scored[:count]]


def test_by_hand(database):
    write(database, "a", [1, 0, 0, 0, 0])
    write(database, "b", [3, 4, 0, 0, 0])
    write(database, "c", [-2, 0, 0, 0, 0])
    write(database, "d", [0, 0, 0, 0, 0])
    keys, cosines = Vectors().nearest(database, "s", [2.0, 0, 0, 0, 0], 10)
    assert keys.tolist() == [1, 2, 4, 3]
    assert cosines.tolist() == pytest.approx([1.0, 0.6, 0.0, -1.0])


def test_in_step_with_the_database_whatever_is_written(database):
    draw = np.random.default_rng(0)
    vectors = Vectors()
    for step in range(300):
        record = f"r{draw.integers(40)}"
        if draw.random() < 0.3:
            database.execute("DELETE FROM vectors WHERE record_id = ? AND vector_settings_id = 's'", [record])
        else:
            write(database, record, draw.normal(size=DIMENSIONS))
            write(database, record, draw.normal(size=3), settings="other")
        if step % 3:
            continue
        asked = draw.normal(size=DIMENSIONS)
        count = int(draw.integers(1, 50))
        rows = [key for (key,) in database.execute("SELECT rowid FROM vectors WHERE vector_settings_id = 's'")]
        allowed = draw.permutation(rows)[: len(rows) // 2] if draw.random() < 0.5 else None
        without = int(draw.choice(rows)) if rows and draw.random() < 0.5 else None
        keys, cosines = vectors.nearest(database, "s", asked.tolist(), count, allowed, without)
        wanted_keys, wanted_cosines = twin(database, asked, count, allowed, without)
        assert keys.tolist() == wanted_keys, step
        assert cosines.tolist() == pytest.approx(wanted_cosines, abs=1e-5)


def test_ties_go_to_the_first_written(database):
    for record in range(20):
        write(database, f"r{record}", [1, 0, 0, 0, 0])
    keys, _ = Vectors().nearest(database, "s", [1.0, 0, 0, 0, 0], 3)
    assert keys.tolist() == [1, 2, 3]


def test_many_more_than_one_block(database):
    draw = np.random.default_rng(1)
    whole = draw.normal(size=(10_000, DIMENSIONS))
    with database:
        database.executemany(
            "INSERT INTO vectors VALUES (?, ?, ?, 's')",
            [(str(at), json.dumps(row.tolist()), str(at)) for at, row in enumerate(whole)],
        )
    vectors = Vectors()
    vectors.load(database)
    keys, _ = vectors.nearest(database, "s", whole[7777].tolist(), 1)
    assert keys.tolist() == [7778]


def test_json_as_it_is_written():
    assert parsed(["[1, -2.5]", "[1e-3,4]"]) == pytest.approx(np.array([[1, -2.5], [0.001, 4]]))
    assert parsed([]).shape == (0, 0)
