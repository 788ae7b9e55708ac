"""The application: it records numbered events with one client, and notes those whose call returned.

    python -m benchmarks.losses.application versions
    python -m benchmarks.losses.application record CLIENT URL FOLDER COUNT RATE END FLUSH_TIMEOUT
    python -m benchmarks.losses.application next CLIENT URL FOLDER FLUSH_TIMEOUT

`record` makes COUNT events, RATE a second (0 is as fast as it goes), then ends as END has it:
`flush` flushes first, `exit` just ends, `go on` records until it is killed. `next` is its next
start: it records nothing, says that it has started, lives until its standard input ends, flushes
and ends.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .clients import CLIENTS, Running, Setup

__all__ = ["main"]

NOTES = "recorded.txt"


def versions() -> dict[str, str | None]:
    """The installed version of each client; `None` if there is none."""
    found: dict[str, str | None] = {}
    for name, client in CLIENTS.items():
        try:
            found[name] = version(client.distribution) if client.distribution else ""
        except PackageNotFoundError:
            found[name] = None
    return found


def make(name: str, url: str, folder: str, flush_timeout: str) -> Running:
    """Start the client."""
    setup = Setup(url=url, home=Path(folder) / "home", flush_timeout=float(flush_timeout))
    return CLIENTS[name].make(setup)


def record(client: Running, notes: Path, *, count: int | None, rate: float) -> None:
    """Record `count` events, or events without end."""
    file = os.open(notes, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    begun = time.monotonic()
    for number in itertools.count() if count is None else range(count):
        if rate and (early := begun + number / rate - time.monotonic()) > 0:
            time.sleep(early)
        name = client.record(number)
        # One write, so that a kill leaves no half of a line behind a whole one.
        os.write(file, f"{number} {name or '-'}\n".encode())
    os.close(file)


def main(mode: str, *arguments: str) -> None:
    """Do as the command line says."""
    if mode == "versions":
        print(json.dumps(versions()))
    elif mode == "record":
        name, url, folder, count, rate, end, flush_timeout = arguments
        client = make(name, url, folder, flush_timeout)
        goes_on = end == "go on"
        notes = Path(folder) / NOTES
        record(client, notes, count=None if goes_on else int(count), rate=float(rate))
        if end == "flush":
            client.flush()
    elif mode == "next":
        client = make(*arguments)
        print("started", flush=True)
        sys.stdin.read()
        client.flush()
    else:
        raise ValueError(f"no such mode: {mode!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
