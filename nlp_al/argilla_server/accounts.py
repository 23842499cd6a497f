"""The people of a server, in its own tables; beside a server that runs, or while none does."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from nlp_al.argilla_server.home import OWNER, WORKSPACE, Home
from nlp_al.errors import UserError

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Letters and digits that nobody takes for one another."""

LONGEST = 60


@dataclass(frozen=True)
class Account:
    """Somebody who can log in; the password is known here only while it is new."""

    name: str
    role: str
    password: str


def add(home: Home, name: str) -> Account:
    """A new annotator; UserError where the name is taken or no name."""
    _check(name)
    with writing(home.database) as database:
        if _exists(database, name):
            raise UserError(f"There is a user {name!r} already; nlp-al server user reset makes a new password.")
        return _insert(database, name, "annotator")


def add_missing(home: Home, count: int) -> list[Account]:
    """Makes those of annotator-1 ... annotator-`count` that are not there."""
    with writing(home.database) as database:
        names = [name for name in annotator_names(count) if not _exists(database, name)]
        return [_insert(database, name, "annotator") for name in names]


def reset(home: Home, name: str) -> Account:
    """A new password, and a new API key, for somebody; UserError where there is nobody of that name."""
    with writing(home.database) as database:
        found = database.execute("SELECT role FROM users WHERE username = ?", [name]).fetchone()
        if found is None:
            known = ", ".join(row[0] for row in database.execute("SELECT username FROM users ORDER BY inserted_at"))
            raise UserError(f"There is no user {name!r}; the users are {known}.")
        account = Account(name, found[0], new_password())
        database.execute(
            "UPDATE users SET password_hash = ?, api_key = ?, updated_at = ? WHERE username = ?",
            [_hashed(account.password), new_key(), _now(), name],
        )
        return account


def first_accounts(database: sqlite3.Connection, count: int) -> list[Account]:
    """The workspace, its owner and `count` annotators, in a database that has nobody yet."""
    values = [uuid4().hex, WORKSPACE, _now(), _now()]
    database.execute("INSERT INTO workspaces (id, name, inserted_at, updated_at) VALUES (?, ?, ?, ?)", values)
    people = [(OWNER, "owner"), *((name, "annotator") for name in annotator_names(count))]
    return [_insert(database, name, role) for name, role in people]


def told(new: Sequence[Account], what: str = "New accounts") -> str:
    """Accounts with their new passwords, for the screen."""
    width = max(len(account.name) for account in new)
    lines = [f"  {account.name:<{width}}  {account.password}  {account.role}" for account in new]
    return "\n".join([f"{what}; each password is shown this once:", *lines])


def annotator_names(count: int) -> Sequence[str]:
    """annotator-1, annotator-2, ..."""
    return [f"annotator-{at}" for at in range(1, count + 1)]


def new_password() -> str:
    """16 characters in four groups: 80 bits."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(4))


def new_key() -> str:
    """An API key."""
    return secrets.token_urlsafe(48)


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction, beside those of a server."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level="IMMEDIATE")) as database, database:
        database.execute("BEGIN IMMEDIATE")
        yield database


def _insert(database: sqlite3.Connection, name: str, role: str) -> Account:
    account = Account(name, role, new_password())
    ident = uuid4().hex
    database.execute(
        "INSERT INTO users (id, first_name, username, role, api_key, password_hash, inserted_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [ident, name, name, role, new_key(), _hashed(account.password), _now(), _now()],
    )
    database.execute(
        "INSERT INTO workspaces_users (id, workspace_id, user_id, inserted_at, updated_at)"
        " SELECT ?, id, ?, ?, ? FROM workspaces WHERE name = ?",
        [uuid4().hex, ident, _now(), _now(), WORKSPACE],
    )
    return account


def _exists(database: sqlite3.Connection, name: str) -> bool:
    return database.execute("SELECT 1 FROM users WHERE username = ?", [name]).fetchone() is not None


def _check(name: str) -> None:
    if not name.strip() or name != name.strip() or len(name) > LONGEST or not name.isprintable():
        raise UserError(f"{name!r} can't be a user's name: 1 to {LONGEST} characters, no spaces at the ends.")


def _hashed(password: str) -> str:
    import bcrypt

    return str(bcrypt.hashpw(password.encode(), bcrypt.gensalt()).decode())


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
