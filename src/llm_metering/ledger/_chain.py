"""`Chain`: what is inserted into a ledger is signed, in the transaction that inserts it.

Once a ledger is signed, whoever has no key for it cannot insert: an event without a signature would look
like one that somebody put in. Events that were there before are signed first, in pieces.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ._files import UnavailableError, check_version
from ._links import CONTENT, Seal, SealKind, Signer, digest_of

__all__ = ["Chain", "Tail", "is_behind", "read_seals"]

PIECE: Final = 5_000
"""Events that are signed in one transaction, of those that were there before."""

_OLDEST_WRITER: Final = 5
"""The first schema whose libraries sign."""

_MOST: Final = (1 << 63) - 1

_ROWS: Final = f"""
    SELECT rowid, {CONTENT}, payload FROM events
    WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?
    """
_LINK: Final = "INSERT INTO links (place, mac) VALUES (?, ?)"
_LAST_LINK: Final = "SELECT place, mac FROM links ORDER BY place DESC LIMIT 1"
_LAST_PLACE: Final = "SELECT ifnull(max(rowid), 0) FROM events"
_SEALS: Final = f"SELECT {', '.join(Seal._fields)} FROM seals ORDER BY number"
_SEAL: Final = f"INSERT INTO seals VALUES ({', '.join('?' * len(Seal._fields))})"
_ALONE: Final = """
    INSERT INTO meta (key, value) VALUES ('oldest_writer', ?)
    ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)
    """
_KEEP_DIGESTS: Final = """
    UPDATE links
    SET body = (SELECT llm_metering_sha256(payload) FROM events WHERE events.rowid = links.place)
    WHERE place IN (
        SELECT rowid FROM events
        WHERE rowid BETWEEN :first AND :last AND time < :before AND payload <> ''
    )
    """


class Tail(NamedTuple):
    """Where a chain is gone on with.

    Attributes:
        signer: Who signs.
        place: The last event that there is.
        link: The link that the next one is signed with.
    """

    signer: Signer
    place: int
    link: bytes


class Chain:
    """The signatures of a ledger's events.

    Args:
        keys: Secrets. The first signs, once there is one; with the others it was signed before. None
            leave a ledger unsigned, and cannot insert into a signed one.
    """

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        signers = [Signer(key) for key in keys]
        self._first = signers[0] if signers else None
        self._signers = {signer.id: signer for signer in signers}

    def __repr__(self) -> str:
        return f"<Chain {', '.join(self._signers)}>"

    def catch_up(self, connection: sqlite3.Connection) -> bool:
        """Have signed some of what was there before; call it outside of a transaction.

        Returns:
            Whether there is more of it.

        Raises:
            UnavailableError: If the ledger is signed with a key that is not known here.
            sqlite3.Error: If SQLite cannot.
        """
        if self._first is None or self._is_up_to_date(connection):
            return False
        connection.execute("BEGIN IMMEDIATE")
        check_version(connection)
        seals = self._begun(connection)
        done = 0
        if is_behind(seals):
            signer = self._signers[seals[-1].key_id]
            tail = Tail(signer, *_last_link(connection, seals))
            done = _sign(connection, tail, seals[0].place, PIECE)
            if done < PIECE:
                self._add(connection, seals, "signed", signer)
        connection.execute("COMMIT")
        return done == PIECE

    def tail(self, connection: sqlite3.Connection) -> Tail | None:
        """Where it ends, before something is inserted; `None` of a ledger that nobody signs.

        Call it in the transaction that inserts, behind `catch_up`.

        Raises:
            UnavailableError: If it is signed with a key that is not known here.
        """
        seals = read_seals(connection)
        if not seals:
            return None
        signer = self._signer(seals[-1])
        (last,) = connection.execute(_LAST_PLACE).fetchone()
        place, link = _last_link(connection, seals)
        if place > last:
            raise UnavailableError(
                "events were removed from the ledger's end; `llm-metering verify` says which",
                hold=True,
            )
        return Tail(signer, last, link)

    def extend(self, connection: sqlite3.Connection, tail: Tail | None) -> None:
        """Sign what was inserted behind the tail."""
        if tail is not None:
            _sign(connection, tail, _MOST, -1)

    @contextlib.contextmanager
    def extending(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Sign what is inserted within; as `tail` and `extend`."""
        tail = self.tail(connection)
        yield
        self.extend(connection, tail)

    def allow_pruning(self, connection: sqlite3.Connection, before: int) -> bool:
        """Sign that bodies of before a microsecond may be given up, if the ledger is signed at all.

        Raises:
            UnavailableError: If it is signed with a key that is not known here.
        """
        seals = read_seals(connection)
        if not seals:
            return False
        self._add(connection, seals, "prune", self._signer(seals[-1]), before=before)
        return True

    def keep_digests(self, connection: sqlite3.Connection, asked: dict[str, int]) -> None:
        """Keep what is signed of bodies that are about to be given up.

        Args:
            connection: In the transaction that gives them up.
            asked: `first` and `last` place, and the microsecond `before`.
        """
        connection.create_function("llm_metering_sha256", 1, digest_of, deterministic=True)
        connection.execute(_KEEP_DIGESTS, asked)

    def _is_up_to_date(self, connection: sqlite3.Connection) -> bool:
        assert self._first is not None
        seals = read_seals(connection)
        is_known = any(seal.key_id == self._first.id for seal in seals)
        return is_known and not is_behind(seals)

    def _signer(self, seal: Seal) -> Signer:
        signer = self._signers.get(seal.key_id)
        if signer is None:
            reason = (
                "with a key that ledger_keys has not here"
                if self._signers
                else "and ledger_keys is not set here"
            )
            raise UnavailableError(f"the ledger is signed, {reason}", hold=True)
        return signer

    def _begun(self, connection: sqlite3.Connection) -> list[Seal]:
        """The seals, the first of them made if need be, and one for a key that is new."""
        assert self._first is not None
        seals = read_seals(connection)
        if seals:
            self._signer(seals[-1])
        # A key that was used before is not gone back to: of two processes that know the same keys in
        # another order, each would.
        if all(seal.key_id != self._first.id for seal in seals):
            seals.append(self._add(connection, seals, "begin", self._first))
            connection.execute(_ALONE, (_OLDEST_WRITER,))
        return seals

    def _add(
        self,
        connection: sqlite3.Connection,
        seals: list[Seal],
        kind: SealKind,
        signer: Signer,
        *,
        before: int | None = None,
    ) -> Seal:
        last = connection.execute(_LAST_LINK).fetchone() if seals else None
        if last is None:
            last = (*connection.execute(_LAST_PLACE).fetchone(), None)
        seal = Seal(
            number=len(seals) + 1,
            kind=kind,
            time=time.time_ns() // 1000,
            place=last[0],
            link=last[1],
            before=before,
            key_id=signer.id,
        )
        seal = signer.seal(seals[-1] if seals else None, seal)
        connection.execute(_SEAL, seal)
        return seal


def read_seals(connection: sqlite3.Connection) -> list[Seal]:
    """All seals, in their order; none of a ledger that nobody signs."""
    return [Seal(*row) for row in connection.execute(_SEALS)]


def is_behind(seals: list[Seal]) -> bool:
    """Whether there are events still of which nobody has said yet that they are signed.

    Once that was said, none is signed afterwards: whoever removes signatures must not get new ones.
    """
    return seals[0].place > 0 and all(seal.kind != "signed" for seal in seals)


def _last_link(connection: sqlite3.Connection, seals: list[Seal]) -> tuple[int, bytes]:
    """The place of the last event that is signed, and what the next one is signed with."""
    found: tuple[int, bytes] | None = connection.execute(_LAST_LINK).fetchone()
    return (0, seals[0].mac) if found is None else found


def _sign(connection: sqlite3.Connection, tail: Tail, through: int, most: int) -> int:
    """Sign what stands behind the tail, up to a place, and at most so many; -1 is all of them."""
    rows = connection.execute(_ROWS, (tail.place, through, most))
    return connection.executemany(_LINK, _links(rows, tail)).rowcount


def _links(rows: Iterable[tuple[int, str, str]], tail: Tail) -> Iterator[tuple[int, bytes]]:
    link = tail.link
    for place, content, body in rows:
        link = tail.signer.link(link, content, digest_of(body))
        yield place, link
