"""Whom a billing system bills for a subject, and what it is told of an event.

A billing system has payers of its own: customers, subscriptions. Either a subject is the name of
one, or a file says whose it is:

    [stripe_customers]
    acme = "cus_Qd2yR8"

The file is read again when it changes, so that a new customer needs no restart.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ..cloud_events import CloudEvent
from ..errors import ConfigurationError, MeteringError, SinkURLError
from .reasons import shorten

__all__ = ["Payers", "PayersError", "checked_key", "identity_of", "payers_file"]

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_MOST_BYTES: Final = 64 << 20


class PayersError(MeteringError):
    """The file that says whose subjects are whose cannot be used; the message says where."""


class Payers:
    """Who pays for a subject, as a file has it now.

    Args:
        path: The file, or `None`: there is none.
        table: The table of it that counts.
    """

    def __init__(self, path: Path | None, table: str) -> None:
        self.path = path
        self.table = table
        self._read: tuple[int, ...] | None = None
        self._payers: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"<Payers {self.path} {len(self._payers)}>"

    def current(self) -> Mapping[str, str]:
        """The payers by subject; read again if the file is another one than last time.

        Raises:
            PayersError: If it cannot be read, or says something that is no payer.
        """
        if self.path is None:
            return self._payers
        try:
            status = os.stat(self.path)
            found = status.st_mtime_ns, status.st_size, status.st_ino
            if found != self._read:
                if status.st_size > _MOST_BYTES:
                    raise PayersError(f"{self.path} is larger than {_MOST_BYTES >> 20} MiB")
                self._payers = self._parsed(self.path.read_bytes())
                self._read = found
        except OSError as error:
            self._read = None
            raise PayersError(f"{self.path} cannot be read: {error.strerror}") from None
        return self._payers

    def _parsed(self, content: bytes) -> Mapping[str, str]:
        try:
            text = content.decode("utf-8-sig")
            table = tomllib.loads(text).get(self.table)
        except UnicodeDecodeError:
            raise PayersError(f"{self.path} is not in UTF-8") from None
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise PayersError(f"{self.path} is no TOML: {shorten(str(error))}") from None
        if not isinstance(table, dict):
            raise PayersError(f"{self.path} has no table [{self.table}]")
        for subject, payer in table.items():
            if not (isinstance(payer, str) and payer.strip() and payer.isprintable()):
                place = f"{self.path}:{_line_of(subject, text, self.table)}"
                name = shorten(repr(subject))
                raise PayersError(f"{place}: {name} wants a name in quotes that is not empty")
        return table


def _line_of(key: str, text: str, table: str) -> int:
    """Where a key stands: behind the table's header, as it is or in quotes."""
    lines = text.splitlines()
    header = next((n for n, line in enumerate(lines) if line.strip() == f"[{table}]"), 0)
    wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]|\s*\[.*{re.escape(key)}")
    here = (n for n, line in enumerate(lines) if n >= header and wanted.match(line))
    return next(here, header) + 1


def payers_file(parameter: str, value: str | None) -> Path | None:
    """The file that a parameter of a URL names.

    Raises:
        SinkURLError: If it is no absolute path.
    """
    if value is None:
        return None
    path = Path(value).expanduser() if value.startswith("~/") else Path(value)
    if not path.is_absolute() or "\0" in value:
        # A relative one is another file wherever the process starts, and so another bill.
        raise SinkURLError(f"{parameter} must be an absolute path, got {value!r}")
    return path


def identity_of(event: CloudEvent) -> str:
    """Under which name a billing system has an event, of 36 characters at most.

    Such a system has one space of names for all of an account, and no `source`. Ids that are
    minted here are unique without one; any other id is joined with it.
    """
    if _UUID.fullmatch(event.id):
        return event.id
    joined = f"{len(event.source)}:{event.source}{event.id}".encode(errors="surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:32]


def checked_key(setting: str, key: str | None) -> str | None:
    """A key as a header may carry it.

    Raises:
        ConfigurationError: If it cannot; the message does not hold it.
    """
    key = (key or "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable()) or " " in key:
        # httpx would quote the whole header in its error.
        raise ConfigurationError(setting, "holds characters no HTTP header can carry")
    return key
