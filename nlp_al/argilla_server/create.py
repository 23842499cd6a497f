"""A new server's database: Argilla's tables, ours beside them, the first people. It appears whole or not at all."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from importlib.resources import files

from nlp_al.argilla_server.accounts import Account, first_accounts
from nlp_al.argilla_server.home import Home
from nlp_al.errors import RunError

MIGRATE = "from alembic import command; from alembic.config import Config; import argilla_server.database as d; " + (
    "c = Config(d.ALEMBIC_CONFIG_FILE); "
    "c.set_main_option('script_location', d.ALEMBIC_CONFIG_FILE.removesuffix('.ini')); command.upgrade(c, 'head')"
)


def create(home: Home, annotators: int) -> list[Account]:
    """Makes the database of `home`; the accounts in it."""
    fresh = home.folder / "argilla.db.new"
    for left in home.folder.glob(f"{fresh.name}*"):
        left.unlink()
    url = {"ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{fresh}?check_same_thread=False"}
    command = [sys.executable, "-c", MIGRATE]
    environment = {**os.environ, **home.environment(), **url}
    done = subprocess.run(
        command, env=environment, cwd=home.folder, umask=0o077, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RunError(f"Argilla's tables can't be made in {home.folder}: {done.stderr.strip().splitlines()[-1]}")
    with closing(sqlite3.connect(fresh)) as database:
        database.executescript(files(__package__).joinpath("search.sql").read_text(encoding="utf-8"))
        with database:
            database.execute("INSERT INTO nlp_al_about VALUES (?)", [installed()])
            accounts = first_accounts(database, annotators)
        # All in the one file, so that the rename brings all of it.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fresh.chmod(0o600)
    fresh.replace(home.database)
    return accounts


def check_version(home: Home) -> None:
    """RunError where the database is not one that the installed Argilla can go on with."""
    try:
        made = str(home.rows("SELECT argilla FROM nlp_al_about")[0][0])
    except sqlite3.DatabaseError as error:
        raise RunError(f"{home.database} is no database of nlp-al server ({error}).") from error
    if made != installed():
        raise RunError(
            f"{home.folder} was made with argilla-server {made}, and {installed()} is installed: "
            f'pip install "argilla-server=={made}.*", or take another folder.'
        )


def installed() -> str:
    """The version whose tables these are, as 2.8."""
    return ".".join(version("argilla-server").split(".")[:2])
