"""`nlp-al server`: the real Argilla server and page, from pip alone."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nlp_al.argilla_server import accounts
from nlp_al.argilla_server.accounts import Account
from nlp_al.argilla_server.home import Home, Running, require_extra
from nlp_al.errors import RunError, UserError

LOCAL = ("127.0.0.1", "localhost", "::1")


def add_to(commands: Any) -> None:
    """Adds `server` and what it can do to the command line."""
    server = commands.add_parser("server", help="run an Argilla server for people to annotate in")
    parts = server.add_subparsers(required=True, metavar="COMMAND")

    started = _part(parts, "up", "start the server; returns when its page answers", up)
    started.add_argument("--port", type=int, default=6900, help="the port it answers on [6900]")
    started.add_argument(
        "--host", default="127.0.0.1", help="the address it answers on [127.0.0.1, this machine alone]"
    )
    started.add_argument(
        "--annotators", type=int, default=0, metavar="N", help="have accounts annotator-1 to annotator-N"
    )
    started.add_argument(
        "--foreground", action="store_true", help="stay until it is stopped, as a service manager wants"
    )

    _part(parts, "down", "stop the server", down)
    _part(parts, "status", "say whether it runs, where, and what is in it", status)

    people = parts.add_parser("user", help="who may log in")
    who = people.add_subparsers(required=True, metavar="COMMAND")
    _part(who, "add", "a new annotator, with a password that is shown once", add).add_argument("name", metavar="NAME")
    _part(who, "reset", "a new password and API key for somebody", reset).add_argument("name", metavar="NAME")
    _part(who, "list", "the names, roles and how much each has answered", people_of)

    kept = _part(parts, "backup", "copy all records, answers and accounts, while it runs or not", backup)
    kept.add_argument("file", type=Path, metavar="FILE", help="the copy; argilla.db of a new folder when it is needed")


def _part(parts: Any, name: str, about: str, run: Any) -> Any:
    part = parts.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    part.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that everything is kept in")
    part.set_defaults(run=run)
    return part


def up(arguments: argparse.Namespace) -> None:
    """Starts the server, and makes it first where there is none."""
    require_extra()
    if not 1 <= arguments.port <= 65535:
        raise UserError(f"--port is {arguments.port}; it must be from 1 to 65535.")
    if arguments.annotators < 0:
        raise UserError(f"--annotators is {arguments.annotators}; it must be 0 or more.")

    from nlp_al.argilla_server import launcher

    home = _home(arguments)
    running = home.running() if home.folder.is_dir() else None
    if running is None:
        launcher.check_port(arguments.host, arguments.port)
    new = launcher.prepare(home, arguments.annotators)
    _tell_passwords(new)
    if running:
        if (running.host, running.port) != (arguments.host, arguments.port):
            stop = f"nlp-al server down --data {home.folder}"
            raise RunError(f"The server of {home.folder} is up at {running.url} already; first {stop}.")
        print(f"Argilla is up already at {running.url}")
        return
    if arguments.host not in LOCAL:
        print(
            f"warning: on {arguments.host} everybody who reaches this machine reaches the log-in page, and passwords "
            "travel unencrypted; docs/server.md shows two safer ways."
        )
    if arguments.foreground:
        print(f"Argilla starts at {Running(arguments.host, arguments.port, os.getpid(), '').url}", flush=True)
        command = launcher.command(home, arguments.host, arguments.port)
        os.execv(command[0], list(command))
    print(f"Argilla is up at {launcher.start(home, arguments.host, arguments.port).url}")


def down(arguments: argparse.Namespace) -> None:
    """Stops the server."""
    from nlp_al.argilla_server import launcher

    home = _made(arguments)
    print("Argilla is down." if launcher.stop(home) else "Argilla was not up.")


def status(arguments: argparse.Namespace) -> None:
    """Where it runs, and what is in it."""
    home = _made(arguments)
    running = home.running()
    print(f"up at {running.url}, process {running.pid}, since {running.since}" if running else "down")
    counted = [
        home.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("users", "datasets", "records", "responses")
    ]
    print("{} users, {} data sets, {} records, {} answers".format(*counted))


def add(arguments: argparse.Namespace) -> None:
    """A new annotator."""
    require_extra()
    _tell_passwords([accounts.add(_made(arguments), arguments.name)])


def reset(arguments: argparse.Namespace) -> None:
    """A new password."""
    require_extra()
    print(accounts.told([accounts.reset(_made(arguments), arguments.name)], "A new password and a new API key"))


def people_of(arguments: argparse.Namespace) -> None:
    """Who may log in."""
    query = (
        "SELECT username, role, (SELECT count(*) FROM responses WHERE user_id = users.id AND status = 'submitted')"
        " FROM users ORDER BY inserted_at, username"
    )
    rows = _made(arguments).rows(query)
    width = max(len(name) for name, _, _ in rows)
    for name, role, answers in rows:
        print(f"{name:<{width}}  {role:<9}  {answers} answers")


def backup(arguments: argparse.Namespace) -> None:
    """A copy of the database."""
    _made(arguments).backup(arguments.file)
    print(f"{arguments.file} holds all records, answers and accounts.")


def _home(arguments: argparse.Namespace) -> Home:
    return Home(arguments.data.expanduser().resolve())


def _made(arguments: argparse.Namespace) -> Home:
    home = _home(arguments)
    home.require()
    return home


def _tell_passwords(new: Sequence[Account]) -> None:
    if new:
        print(accounts.told(new), flush=True)
