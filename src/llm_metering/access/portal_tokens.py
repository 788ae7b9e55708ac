"""`PortalTokens`: the portal tokens of a home, made, shown, taken back and recognised.

Links do not carry tokens, which end up in histories and logs: they carry a code, which is exchanged for
its token once and soon.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ..errors import InvalidArgumentError, PortalTokenError
from ..subjects import check_subject
from ..ulids import new_ulid
from .file import FILE, microseconds, moment_of, open_file
from .portal_token import PortalToken, SignedText, text_of

__all__ = ["CODE_LIFE", "DEFAULT_LIFE", "MAX_LIFE", "PortalTokens"]

DEFAULT_LIFE: Final = timedelta(hours=1)
MAX_LIFE: Final = timedelta(days=366)
CODE_LIFE: Final = timedelta(minutes=5)
KEPT_FOR: Final = timedelta(days=30)
"""How long a token that is over is still listed."""

_MOST_METERS: Final = 100
_is_slug: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*").fullmatch

_COLUMNS: Final = "id, subject, meters, created_at, expires_at, revoked_at"
_SECRET: Final = "SELECT secret FROM portal_secrets ORDER BY id DESC LIMIT 1"
_INSERT: Final = f"INSERT INTO portal_tokens ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, NULL)"
_ONE: Final = f"SELECT {_COLUMNS} FROM portal_tokens WHERE id = ?"
_ALL: Final = f"""
    SELECT {_COLUMNS} FROM portal_tokens WHERE :subject IS NULL OR subject = :subject
    ORDER BY created_at DESC, id LIMIT :most
    """
_REVOKE: Final = """
    UPDATE portal_tokens SET revoked_at = :now
    WHERE revoked_at IS NULL AND (id = :id OR subject = :subject)
    """


class PortalTokens:
    """The portal tokens of a home. What one process takes back holds nowhere any more.

    Args:
        home: The home; the file is made when the first token is.
        clock: Seconds since 1970.
    """

    def __init__(self, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = home / FILE
        self._clock = clock
        self._file = open_file(home)

    def __repr__(self) -> str:
        return f"<PortalTokens {self._path}>"

    def create(
        self,
        subject: str,
        *,
        meters: Iterable[str] | None = None,
        life: timedelta = DEFAULT_LIFE,
    ) -> tuple[PortalToken, str]:
        """Make a token.

        Args:
            subject: Whose usage it shows.
            meters: The slugs of the meters that it shows; all of them, if left out.
            life: How long it holds, to the second.

        Returns:
            The token, and its text.

        Raises:
            SubjectError: If the subject cannot be one.
            InvalidArgumentError: If it would show nothing, or holds for no time or too long.
            AccessStoreError: If tokens cannot be kept now.
        """
        check_subject(subject)
        if not timedelta(seconds=1) <= life <= MAX_LIFE:
            raise InvalidArgumentError(f"life: from a second to {MAX_LIFE.days} days, got {life}")
        now = self._clock()
        token = PortalToken(
            id=new_ulid(),
            subject=subject,
            meters=_slugs(meters),
            created_at=moment_of(now * 1_000_000),
            expires_at=moment_of(int(now + life.total_seconds()) * 1_000_000),
        )
        with self._file.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            kept = microseconds(token.created_at - KEPT_FOR)
            connection.execute("DELETE FROM portal_tokens WHERE expires_at < ?", (kept,))
            connection.execute(
                _INSERT,
                (
                    token.id,
                    token.subject,
                    None if token.meters is None else json.dumps(sorted(token.meters)),
                    microseconds(token.created_at),
                    microseconds(token.expires_at),
                ),
            )
            text = text_of(token, _secret(connection))
            connection.execute("COMMIT")
        return token, text

    def recognise(self, text: str) -> PortalToken:
        """The token of a text, if it holds now.

        Raises:
            PortalTokenError: If it is `malformed`, has the `wrong_signature`, was `revoked`, has
                `expired`, or is `unknown`: over for so long that it is no longer listed.
            AccessStoreError: If tokens cannot be read now.
        """
        signed = SignedText(text)
        if not self._path.exists():
            raise PortalTokenError("wrong_signature")
        with self._file.lent() as connection:
            secret = connection.execute(_SECRET).fetchone()
        # Outside: who lends a connection closes it after an error, and opening one takes a while.
        id = signed.id(secret[0] if secret else None)
        with self._file.lent() as connection:
            row = connection.execute(_ONE, (id,)).fetchone()
        if row is None:
            raise PortalTokenError("unknown", id=id)
        return self._holding(_read(row))

    def revoke(self, *, id: str | None = None, subject: str | None = None) -> int:
        """Take back a token, or all of a subject.

        Returns:
            How many.

        Raises:
            InvalidArgumentError: If neither is given.
            AccessStoreError: If tokens cannot be kept now.
        """
        if id is None and subject is None:
            raise InvalidArgumentError("an id or a subject is wanted")
        if not self._path.exists():
            return 0
        asked = {"now": microseconds(self._now()), "id": id, "subject": subject}
        with self._file.lent() as connection:
            return connection.execute(_REVOKE, asked).rowcount

    def all(self, *, subject: str | None = None, most: int = 100) -> list[PortalToken]:
        """Tokens, the latest first; also those that hold no more.

        Args:
            subject: Of this one alone.
            most: How many.

        Raises:
            AccessStoreError: If they cannot be read now.
        """
        if not self._path.exists():
            return []
        with self._file.lent() as connection:
            rows = connection.execute(_ALL, {"subject": subject, "most": most})
            return [_read(row) for row in rows]

    def code_for(self, id: str) -> str:
        """A code for a link, which is exchanged for the token once, within five minutes.

        Raises:
            PortalTokenError: If there is no such token, or it holds no more.
            AccessStoreError: If codes cannot be kept now.
        """
        code = secrets.token_urlsafe(32)
        with self._file.lent() as connection:
            row = connection.execute(_ONE, (id,)).fetchone()
            if row is None:
                raise PortalTokenError("unknown", id=id)
            self._holding(_read(row))
            now = self._now()
            connection.execute(
                "DELETE FROM portal_codes WHERE expires_at <= ?", (microseconds(now),)
            )
            connection.execute(
                "INSERT INTO portal_codes (digest, token, expires_at) VALUES (?, ?, ?)",
                (_digest(code), id, microseconds(now + CODE_LIFE)),
            )
        return code

    def exchange(self, code: str) -> tuple[PortalToken, str]:
        """The token that a code is for, and its text; whoever comes with the code again gets nothing.

        Raises:
            PortalTokenError: If the code is `unknown`, which it is as well once it was used or is over,
                or its token holds no more.
            AccessStoreError: If codes cannot be read now.
        """
        if not self._path.exists():
            raise PortalTokenError("unknown")
        with self._file.lent() as connection:
            # One statement: of two who come at once, one finds it.
            found = connection.execute(
                "DELETE FROM portal_codes WHERE digest = ? RETURNING token, expires_at",
                (_digest(code),),
            ).fetchall()
            if not found or found[0][1] <= microseconds(self._now()):
                raise PortalTokenError("unknown")
            row = connection.execute(_ONE, (found[0][0],)).fetchone()
            if row is None:
                raise PortalTokenError("unknown")
            token = self._holding(_read(row))
            return token, text_of(token, _secret(connection))

    def close(self) -> None:
        """Let go of the file; whoever asks next opens it again."""
        self._file.close()

    def _holding(self, token: PortalToken) -> PortalToken:
        if token.revoked_at is not None:
            raise PortalTokenError("revoked", id=token.id)
        if self._now() >= token.expires_at:
            raise PortalTokenError("expired", id=token.id)
        return token

    def _now(self) -> datetime:
        return moment_of(self._clock() * 1_000_000)


def _secret(connection: sqlite3.Connection) -> bytes:
    found: tuple[bytes] | None = connection.execute(_SECRET).fetchone()
    if found is not None:
        return found[0]
    secret = secrets.token_bytes(32)
    connection.execute("INSERT INTO portal_secrets (secret) VALUES (?)", (secret,))
    return secret


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()


def _slugs(given: Iterable[str] | None) -> frozenset[str] | None:
    if given is None:
        return None
    slugs = frozenset(given)
    if not slugs or len(slugs) > _MOST_METERS:
        raise InvalidArgumentError(
            f"meters: from one slug to {_MOST_METERS} are wanted, or none of this at all"
        )
    if not all(isinstance(slug, str) and _is_slug(slug) for slug in slugs):
        raise InvalidArgumentError("meters: slugs of meters are wanted, such as tokens_total")
    return slugs


def _read(row: tuple[Any, ...]) -> PortalToken:
    id, subject, meters, created, expires, revoked = row
    return PortalToken(
        id=id,
        subject=subject,
        meters=None if meters is None else frozenset(json.loads(meters)),
        created_at=moment_of(created),
        expires_at=moment_of(expires),
        revoked_at=None if revoked is None else moment_of(revoked),
    )
