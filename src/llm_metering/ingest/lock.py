"""One process per topic and ledger: a second one would do the same work again, and be refused it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .. import system
from ..errors import HomeError, IngestError

__all__ = ["FOLDER", "alone"]

FOLDER: Final = "ingest"
"""In the home."""

_MOST: Final = 4096


@contextlib.contextmanager
def alone(home: Path, *, topic: str, cluster: str) -> Iterator[None]:
    """Hold the lock of a topic, which ends with this process however it ends.

    Raises:
        IngestError: Naming who has it.
        HomeError: If there can be no lock.
    """
    # Topics of two clusters may have one name; an id may hold what no file's name can.
    suffix = hashlib.blake2b(cluster.encode(), digest_size=6).hexdigest()
    path = home / FOLDER / f"{topic}.{suffix}.lock"
    try:
        system.make_private_folder(path.parent)
        lock = system.lock_file(path)
        if lock is None:
            raise IngestError(f"{_holder(path)}; one process reads a topic into a ledger")
    except OSError as error:
        raise HomeError(f"cannot lock {path}: {error.strerror}") from error
    try:
        _sign(lock)
        yield
    finally:
        system.unlock_file(lock)


def _sign(lock: int) -> None:
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
    # On a full disk it cannot say who has it, and has it all the same.
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
        system.write_at(lock, json.dumps(mine).encode(), 0)


def _holder(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST))
        return (
            f"process {found['pid']} on {found['host']} has read this topic since {found['since']}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        # Whoever has it has not written it yet, could not, or has just gone.
        return "another process reads this topic"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
