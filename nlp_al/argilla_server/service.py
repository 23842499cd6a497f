"""The server process: Argilla's own application, with what it wants of other daemons inside the process.

`nlp-al server up` starts it as `python -m nlp_al.argilla_server.service FOLDER HOST PORT`. Argilla reads its settings
from the environment while it is imported, so nothing of it is imported before they are set.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from nlp_al.argilla_server.home import Home
from nlp_al.main import run_command

PATIENCE = 5
"""Seconds: for the folder to be given free, and for open requests when the server is told to stop."""

CONNECTIONS = 64
"""To the database. An answer takes two at a time, so fewer would let many annotators wait for each other."""


def run(folder: Path, host: str, port: int) -> None:
    """Serves until it is told to stop."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it has stopped in order
    home = Home(folder)
    with home.held(PATIENCE):
        shutil.rmtree(home.scratch, ignore_errors=True)  # of a server that was killed
        home.scratch.mkdir()
        os.environ.update(home.environment())
        os.chdir(folder)
        with home.announced(host, port, datetime.now(UTC).isoformat(timespec="seconds")):
            serve(home, host, port)
        shutil.rmtree(home.scratch, ignore_errors=True)


def serve(home: Home, host: str, port: int) -> None:
    """Runs Argilla on the database of `home`, which `held` keeps others off."""
    settle(home.database)
    _redis_inside()
    _many_connections()
    import uvicorn
    from argilla_server import app

    from nlp_al.argilla_server import lean
    from nlp_al.argilla_server.engine import DatabaseEngine

    engine = DatabaseEngine.of_process()
    lean.keep_validators()
    lean.keep_memberships()
    lean.compress_faster(app)
    lean.skip_events_for_nobody(engine.has_listeners)
    _work_off_jobs()
    engine.warm()
    quiet = {"log_level": "warning", "access_log": False}
    uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=PATIENCE, **quiet)


def settle(database: Path) -> None:
    """Brings the status of every record in line with its answers: a crash between the two leaves it behind."""
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        connection.execute("DELETE FROM nlp_al_vector_changes")  # the arrays are read anew
        connection.execute("""
            UPDATE records SET status = wanted.status FROM (
                SELECT r.id, iif(
                    (SELECT count(*) FROM responses AS p WHERE p.record_id = r.id AND p.status = 'submitted')
                        >= json_extract(d.distribution, '$.min_submitted'),
                    'completed', 'pending') AS status
                FROM records AS r JOIN datasets AS d ON d.id = r.dataset_id
            ) AS wanted
            WHERE records.id = wanted.id AND records.status <> wanted.status""")


def _redis_inside() -> None:
    """Argilla keeps its jobs (webhooks, a new `min_submitted`) in Redis; one that lives in this process will do."""
    import fakeredis
    import redis

    shared = fakeredis.FakeServer()
    redis.from_url = partial(_connected, shared)


def _connected(shared: Any, *_: Any, **__: Any) -> Any:
    import fakeredis

    return fakeredis.FakeRedis(server=shared)


def _many_connections() -> None:
    """A setting of SQLAlchemy that Argilla offers for PostgreSQL alone."""
    import sqlalchemy.ext.asyncio as sqlalchemy

    sqlalchemy.create_async_engine = partial(sqlalchemy.create_async_engine, pool_size=CONNECTIONS)


def _work_off_jobs() -> None:
    """A thread in place of Argilla's worker process."""
    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq import SimpleWorker
    from rq.timeouts import TimerDeathPenalty

    class Worker(SimpleWorker):  # type: ignore[misc]  # rq carries no types
        death_penalty_class = TimerDeathPenalty

        def _install_signal_handlers(self) -> None:
            """Signals are the main thread's, and the server's."""

    worker = Worker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION)
    threading.Thread(target=partial(worker.work, logging_level="WARNING"), daemon=True, name="jobs").start()


if __name__ == "__main__":
    sys.exit(run_command(lambda: run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
