"""`ApiKeys`: the keys of a home, made, shown, taken back and recognised.

A secret has 256 bits from the system's generator. So a plain SHA-256 keeps it: what makes guessing slow,
such as scrypt, is for secrets that people think of, and would be paid at each request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ..errors import ApiKeyError, InvalidArgumentError
from .api_key import SCOPES, ApiKey, Scope
from .file import FILE, microseconds, moment_of, open_file

__all__ = ["PREFIX", "ApiKeys"]

PREFIX: Final = "lmk_"
"""What every key begins with, by which secret scanners know one."""

_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_MOST_NAMES: Final = 1000
_is_key: Final = re.compile(r"lmk_([0-9a-f]{12})_([\w-]{43})", re.ASCII).fullmatch
_NOTHING: Final = bytes(32)

_COLUMNS: Final = (
    "id, name, scopes, sources, subjects, signed_subjects, requests_per_minute, created_at, expires_at, "
    "revoked_at, successor"
)
_ALL: Final = f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at, id"
_ONE: Final = f"SELECT {_COLUMNS} FROM api_keys WHERE id = ?"
_KNOWN: Final = f"SELECT digest, {_COLUMNS} FROM api_keys WHERE id = ?"
_INSERT: Final = f"INSERT INTO api_keys (digest, {_COLUMNS}) VALUES ({', '.join('?' * 12)})"
_REVOKE: Final = "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
_REPLACE: Final = """
    UPDATE api_keys SET successor = :new, expires_at = min(ifnull(expires_at, :ends), :ends)
    WHERE id = :old
    """


class ApiKeys:
    """The keys of a home. What one process changes holds for all others at once.

    Args:
        home: The home; the file is made when the first key is.
        clock: Seconds since 1970.
    """

    def __init__(self, home: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = home / FILE
        self._clock = clock
        self._file = open_file(home)

    def __repr__(self) -> str:
        return f"<ApiKeys {self._path}>"

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        sources: Iterable[str] | None = None,
        subjects: Iterable[str] | None = None,
        signed_subjects: bool = False,
        requests_per_minute: int | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            name: What it is for.
            scopes: What it may do.
            sources: The CloudEvents sources that it may send events of; any, if left out.
            subjects: Whose usage it may send and see; everybody's, if left out.
            signed_subjects: Whether it names who pays by a token of `sign_subject` alone; such a key may
                `ingest` and nothing else.
            requests_per_minute: How fast it may go; as the server says, if left out.
            expires_at: When it ends; never, if left out.

        Returns:
            The key, and its text, which nobody can ask for again.

        Raises:
            InvalidArgumentError: If such a key would be none, or would do more than it says.
            AccessStoreError: If keys cannot be kept now.
        """
        key = ApiKey(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            scopes=frozenset(scopes),
            sources=_names("sources", sources),
            subjects=_names("subjects", subjects),
            signed_subjects=signed_subjects,
            requests_per_minute=requests_per_minute,
            created_at=self._now(),
            expires_at=expires_at,
        )
        _check(key)
        with self._file.lent() as connection:
            return key, _insert(connection, key)

    def rotate(self, id: str, *, overlap: timedelta = timedelta(0)) -> tuple[ApiKey, str]:
        """Make a key in the place of another one, with the same rights.

        Args:
            id: Of the one that it replaces.
            overlap: How long both hold, for those that have the old one still.

        Returns:
            The new key, and its text. It ends when the old one was to end.

        Raises:
            ApiKeyError: If there is no such key, or it holds no more, or was replaced before.
            InvalidArgumentError: If the overlap is negative.
            AccessStoreError: If keys cannot be kept now.
        """
        if overlap < timedelta(0):
            raise InvalidArgumentError(f"overlap: it cannot be negative, got {overlap}")
        with self._file.lent() as connection:
            connection.execute("BEGIN IMMEDIATE")
            old = self._held(connection, id)
            if old.successor is not None:
                raise ApiKeyError("replaced", id=id)
            now = self._now()
            new = ApiKey(
                id=secrets.token_hex(_ID_BYTES),
                name=old.name,
                scopes=old.scopes,
                sources=old.sources,
                subjects=old.subjects,
                signed_subjects=old.signed_subjects,
                requests_per_minute=old.requests_per_minute,
                created_at=now,
                expires_at=old.expires_at,
            )
            text = _insert(connection, new)
            ends = microseconds(now + overlap)
            connection.execute(_REPLACE, {"new": new.id, "ends": ends, "old": id})
            connection.execute("COMMIT")
        return new, text

    def revoke(self, id: str) -> bool:
        """Take a key back; it holds no more, from now on and everywhere.

        Returns:
            Whether it had not been taken back before.

        Raises:
            ApiKeyError: If there is no such key.
            AccessStoreError: If keys cannot be kept now.
        """
        with self._file.lent() as connection:
            done = connection.execute(_REVOKE, (microseconds(self._now()), id)).rowcount
            if not done and connection.execute(_ONE, (id,)).fetchone() is None:
                raise ApiKeyError("unknown", id=id)
            return bool(done)

    def all(self) -> list[ApiKey]:
        """All keys, the oldest first; also those that hold no more.

        Raises:
            AccessStoreError: If they cannot be read now.
        """
        if not self._path.exists():
            return []
        with self._file.lent() as connection:
            return [_read(row) for row in connection.execute(_ALL)]

    def recognise(self, text: str) -> ApiKey:
        """The key of a text, if it holds now.

        Raises:
            ApiKeyError: If it is `malformed`, `unknown`, has the `wrong_secret`, was `revoked` or has
                `expired`. Which of these is for our own log: whoever shows a key is told nothing.
            AccessStoreError: If keys cannot be read now.
        """
        found = _is_key(text)
        if found is None:
            raise ApiKeyError("malformed")
        row = None
        if self._path.exists():
            with self._file.lent() as connection:
                row = connection.execute(_KNOWN, (found[1],)).fetchone()
        # Also where there is no such key, so that the time it takes does not tell.
        is_right = hmac.compare_digest(_digest(found[2]), row[0] if row else _NOTHING)
        if row is None:
            raise ApiKeyError("unknown", id=found[1])
        if not is_right:
            raise ApiKeyError("wrong_secret", id=found[1])
        return self._holding(_read(row[1:]))

    def find(self, id: str) -> ApiKey:
        """The key of an id, if it holds now.

        Raises:
            ApiKeyError: If it is `unknown`, was `revoked` or has `expired`.
            AccessStoreError: If keys cannot be read now.
        """
        if not self._path.exists():
            raise ApiKeyError("unknown", id=id)
        with self._file.lent() as connection:
            row = connection.execute(_ONE, (id,)).fetchone()
        # Outside: who lends a connection closes it after an error.
        if row is None:
            raise ApiKeyError("unknown", id=id)
        return self._holding(_read(row))

    def close(self) -> None:
        """Let go of the file; whoever asks next opens it again."""
        self._file.close()

    def _held(self, connection: sqlite3.Connection, id: str) -> ApiKey:
        row = connection.execute(_ONE, (id,)).fetchone()
        if row is None:
            raise ApiKeyError("unknown", id=id)
        return self._holding(_read(row))

    def _holding(self, key: ApiKey) -> ApiKey:
        if key.revoked_at is not None:
            raise ApiKeyError("revoked", id=key.id)
        if key.expires_at is not None and self._now() >= key.expires_at:
            raise ApiKeyError("expired", id=key.id)
        return key

    def _now(self) -> datetime:
        return moment_of(self._clock() * 1_000_000)


def _insert(connection: sqlite3.Connection, key: ApiKey) -> str:
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    connection.execute(
        _INSERT,
        (
            _digest(secret),
            key.id,
            key.name,
            json.dumps(sorted(key.scopes)),
            None if key.sources is None else json.dumps(sorted(key.sources)),
            None if key.subjects is None else json.dumps(sorted(key.subjects)),
            key.signed_subjects,
            key.requests_per_minute,
            microseconds(key.created_at),
            None if key.expires_at is None else microseconds(key.expires_at),
            None,
            None,
        ),
    )
    return f"{PREFIX}{key.id}_{secret}"


def _check(key: ApiKey) -> None:
    if not key.name.strip() or len(key.name) > 100 or not key.name.isprintable():
        raise InvalidArgumentError("name: a name of at most 100 printable characters is wanted")
    if not key.scopes or not key.scopes <= set(SCOPES):
        raise InvalidArgumentError(f"scopes: one at least of {', '.join(SCOPES)} is wanted")
    if "admin" in key.scopes and (key.sources is not None or key.subjects is not None):
        # It could make itself a key that is bound to nothing.
        raise InvalidArgumentError("scopes: admin cannot be bound to sources or subjects")
    if key.signed_subjects and key.scopes != {"ingest"}:
        raise InvalidArgumentError("signed_subjects: a key with it may ingest, and nothing else")
    if key.requests_per_minute is not None and key.requests_per_minute < 1:
        raise InvalidArgumentError("requests_per_minute: it is at least 1")
    if key.expires_at is not None:
        if key.expires_at.tzinfo is None:
            raise InvalidArgumentError("expires_at: it needs a time zone")
        if key.expires_at <= key.created_at:
            raise InvalidArgumentError("expires_at: it is over already")


def _names(what: str, given: Iterable[str] | None) -> frozenset[str] | None:
    if given is None:
        return None
    names = frozenset(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        # To be bound to nothing, because a list was empty, is what nobody means.
        raise InvalidArgumentError(f"{what}: non-empty names are wanted, or none of this at all")
    if len(names) > _MOST_NAMES:
        raise InvalidArgumentError(f"{what}: at most {_MOST_NAMES} can be named")
    return names


def _read(row: tuple[Any, ...]) -> ApiKey:
    id, name, scopes, sources, subjects, signed, rate, created, expires, revoked, successor = row
    return ApiKey(
        id=id,
        name=name,
        scopes=frozenset(json.loads(scopes)),
        sources=None if sources is None else frozenset(json.loads(sources)),
        subjects=None if subjects is None else frozenset(json.loads(subjects)),
        signed_subjects=bool(signed),
        requests_per_minute=rate,
        created_at=moment_of(created),
        expires_at=None if expires is None else moment_of(expires),
        revoked_at=None if revoked is None else moment_of(revoked),
        successor=successor,
    )


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
