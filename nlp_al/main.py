"""The frame of every command: errors as one sentence on stderr, and the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from nlp_al.errors import RunError, UserError


def run_command(command: Callable[[], None]) -> int:
    """Runs a command. 0: done; 2: bad usage, config or data; 1: any other failure; 130: interrupted."""
    try:
        command()
        sys.stdout.flush()
    except UserError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, 1)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # the disk, or the rights on it; a mistake in a file's content was told as a UserError
        place = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}.", 1)
    except KeyboardInterrupt:
        return _fail("Interrupted; the same command goes on from here.", 130)
    return 0


def _fail(told: object, status: int) -> int:
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {' '.join(str(told).split())}", file=sys.stderr)
    return status
