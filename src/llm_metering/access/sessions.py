"""`Sessions`: who has signed in to the pages of a server with a key.

A browser keeps what it is given in its files, and so it is given no key: a text of its own, which is worth
nothing elsewhere, ends by itself and with its key, and is forgotten by whoever signs out.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ..errors import ApiKeyError
from .file import FILE, microseconds, moment_of, open_file

__all__ = ["LIFE", "Session", "Sessions"]

LIFE: Final = timedelta(hours=12)
"""A day's work; who comes tomorrow shows the key again."""

_SECRET_BYTES: Final = 32
_is_session: Final = re.compile(r"lms_[\w-]{43}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Somebody who has signed in.

    Attributes:
        key: The id of the API key that was shown.
        expires_at: The first moment at which it no longer holds, in UTC.
    """

    key: str
    expires_at: datetime


class Sessions:
    """The sessions of a home. One that ends in one process holds in no other.

    Args:
        home: The home; the file is made when somebody signs in.
        clock: Seconds since 1970.
    """

    def __init__(self, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = home / FILE
        self._clock = clock
        self._file = open_file(home)

    def __repr__(self) -> str:
        return f"<Sessions {self._path}>"

    def begin(self, key: str) -> tuple[Session, str]:
        """Begin one.

        Args:
            key: The id of the key that was shown.

        Returns:
            The session, and the text by which it is recognised.

        Raises:
            AccessStoreError: If sessions cannot be kept now.
        """
        text = f"lms_{secrets.token_urlsafe(_SECRET_BYTES)}"
        now = self._now()
        session = Session(key=key, expires_at=now + LIFE)
        with self._file.lent() as connection:
            connection.execute("DELETE FROM sessions WHERE expires_at <= ?", (microseconds(now),))
            connection.execute(
                "INSERT INTO sessions (digest, key, expires_at) VALUES (?, ?, ?)",
                (_digest(text), key, microseconds(session.expires_at)),
            )
        return session, text

    def recognise(self, text: str) -> Session:
        """The session of a text, if it holds now; whether its key still does, the keys know.

        Raises:
            ApiKeyError: If it is `malformed`, `unknown` (as one is that was ended) or has `expired`.
            AccessStoreError: If sessions cannot be read now.
        """
        if not _is_session(text):
            raise ApiKeyError("malformed")
        row = None
        if self._path.exists():
            with self._file.lent() as connection:
                row = connection.execute(
                    "SELECT key, expires_at FROM sessions WHERE digest = ?", (_digest(text),)
                ).fetchone()
        if row is None:
            raise ApiKeyError("unknown")
        session = Session(key=row[0], expires_at=moment_of(row[1]))
        if self._now() >= session.expires_at:
            raise ApiKeyError("expired", id=session.key)
        return session

    def end(self, text: str) -> None:
        """End the session of a text, if there is one.

        Raises:
            AccessStoreError: If sessions cannot be kept now.
        """
        if self._path.exists():
            with self._file.lent() as connection:
                connection.execute("DELETE FROM sessions WHERE digest = ?", (_digest(text),))

    def close(self) -> None:
        """Let go of the file; whoever asks next opens it again."""
        self._file.close()

    def _now(self) -> datetime:
        return moment_of(self._clock() * 1_000_000)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
