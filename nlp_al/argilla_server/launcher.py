"""Starting, stopping and asking after the server of a folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing

from nlp_al.argilla_server import accounts
from nlp_al.argilla_server.accounts import Account
from nlp_al.argilla_server.create import check_version, create
from nlp_al.argilla_server.home import Home, Running
from nlp_al.errors import RunError, UserError

START = 90.0
"""Seconds that a server may take to answer."""

STOP = 15.0
"""Seconds that it may take to stop before it is killed; every answer that it has acknowledged is on the disk."""


def prepare(home: Home, annotators: int) -> list[Account]:
    """The folder and its database, and the accounts that are missing; who is new."""
    home.make()
    if home.made:
        check_version(home)
        return accounts.add_missing(home, annotators)
    with home.held():
        return create(home, annotators)


def ensure(home: Home, host: str, port: int, annotators: int) -> tuple[Running, list[Account]]:
    """The server of a folder, started where it is not up, and who is new in it."""
    running = home.running() if home.folder.is_dir() else None
    if running is None:
        check_port(host, port)
    new = prepare(home, annotators)
    return running or start(home, host, port), new


def check_port(host: str, port: int) -> None:
    """RunError where another program answers there; UserError where the address is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise UserError(f"--host {host} is no address of this machine.") from error
    except PermissionError as error:
        raise RunError(f"Port {port} is for the system alone; choose one above 1023 with --port.") from error
    except OSError as error:
        if error.errno == 99 or "assign" in str(error.strerror):
            raise UserError(f"--host {host} is no address of this machine.") from error
        raise RunError(f"Port {port} on {host} is taken by another program; choose another with --port.") from error


def command(home: Home, host: str, port: int) -> Sequence[str]:
    """What runs the server."""
    return [sys.executable, "-m", "nlp_al.argilla_server.service", str(home.folder), host, str(port)]


def start(home: Home, host: str, port: int) -> Running:
    """Starts the server in the background; returns when its page answers.

    Raises:
        RunError: it stopped or did not answer in time; the last line of its log is told.
    """
    descriptor = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as log:
        process = subprocess.Popen(
            command(home, host, port), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RunError(f"The server stopped while it was starting: {_last_line(home)} (all of it: {home.log})")
        running = home.running()
        if running and answers(running):
            return running
        time.sleep(0.1)
    process.kill()
    raise RunError(f"The server did not answer within {START:.0f} s: {_last_line(home)} (all of it: {home.log})")


def answers(running: Running) -> bool:
    """Whether the page is there."""
    try:
        with urllib.request.urlopen(f"{running.url}/api/v1/version", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def stop(home: Home) -> bool:
    """Stops the server of a folder; False where none runs."""
    running = home.running()
    if running is None:
        return False
    os.kill(running.pid, signal.SIGTERM)
    end = time.monotonic() + STOP
    while home.running() and time.monotonic() < end:
        time.sleep(0.1)
    if home.running():
        os.kill(running.pid, signal.SIGKILL)
    return True


def _last_line(home: Home) -> str:
    lines = home.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip().removeprefix("error: ") if lines else "it said nothing"
