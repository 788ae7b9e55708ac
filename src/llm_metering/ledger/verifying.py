"""Whether anybody has tampered with a signed ledger: see `_links` for what is signed, and how.

Who can write the file but has no key can only remove signatures from the end of it, together with what
they signed. That is found by comparison with a head that was kept elsewhere.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from ..errors import LedgerError
from ._chain import is_behind, read_seals
from ._files import UnavailableError, check_version
from ._handle import Handle
from ._links import CONTENT, Seal, Signer, digest_of
from .recounting import Difference, has_rollups, wrong_lists, wrong_rollups
from .verification import Head, Tampering, TamperingKind, Verification

__all__ = ["Head", "Tampering", "TamperingKind", "Verification", "verify_ledger"]

_MOST: Final = (1 << 63) - 1

_DAMAGE: Final = (UnavailableError, sqlite3.DatabaseError, UnicodeDecodeError)
"""What may be raised of a damaged file; the last where SQLite's message quotes some of it."""
_IN_THE_FILE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}

_Row = tuple[int, str, Any, int, bytes | None, bytes | None]

_ROWS: Final = f"""
    SELECT events.rowid, {CONTENT}, payload, time, mac, body
    FROM events LEFT JOIN links ON place = events.rowid
    WHERE events.rowid > ? AND events.rowid <= ? ORDER BY events.rowid
    """
_LINK_OF: Final = "SELECT mac FROM links WHERE place = ?"
_NEXT: Final = "SELECT min(rowid) FROM events WHERE rowid > ? AND rowid <= ?"
_LEFT: Final = (
    "SELECT place FROM links WHERE place NOT IN (SELECT rowid FROM events) ORDER BY place"
)


@dataclass(slots=True)
class _Found:
    """What is found on the way; what lies side by side is one."""

    most: int
    all: list[Tampering] = field(default_factory=list)
    more: int = 0

    def add(self, kind: TamperingKind, first: int, last: int) -> None:
        before = self.all[-1] if self.all else None
        if before is not None and before.kind == kind and before.last == first - 1:
            self.all[-1] = Tampering(kind=kind, first=before.first, last=last)
        elif len(self.all) < self.most:
            self.all.append(Tampering(kind=kind, first=first, last=last))
        else:
            self.more += 1


def verify_ledger(
    path: Path, keys: Iterable[bytes], *, head: Head | None = None, most: int = 100
) -> Verification:
    """Look at every event and every seal of a ledger, and count again all that was ever added up.

    It reads all of the ledger as it is at one moment; nobody who writes or reads waits for it.

    Args:
        path: The ledger's file.
        keys: The secrets that it was ever signed with; none if it never was.
        head: Its end at an earlier time, which was kept elsewhere.
        most: How much of what is found is named.

    Raises:
        LedgerError: If it is signed with a key that is not among these, a newer library wrote it, or it
            cannot be read now.
    """
    keys = tuple(keys)
    try:
        with _read(path) as connection:
            # At once: to count all that was added up takes longer.
            if connection is not None:
                _signers(_seals(connection), keys)
    except _DAMAGE as error:
        return Verification(damage=_damage(error))
    # Sums on another thread and with another connection: SQLite counts while Python works out signatures.
    with ThreadPoolExecutor(1) as threads:
        rollups = threads.submit(_recounted, path, wrong_rollups, most)
        found = Verification()
        try:
            with _read(path) as connection:
                found = (
                    _nothing(head)
                    if connection is None
                    else _verify_chain(connection, keys, head=head, most=most)
                )
            lists = _recounted(path, wrong_lists, most)
            sums = rollups.result()
        except _DAMAGE as error:
            return replace(found, damage=_damage(error))
    return replace(found, wrong_sums=None if sums is None else (*sums, *(lists or ())))


def _damage(error: UnavailableError | sqlite3.DatabaseError | UnicodeDecodeError) -> str:
    """What is wrong with the file.

    Raises:
        UnavailableError: If it is not the file, such as that it is locked.
    """
    if isinstance(error, UnavailableError):
        code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code not in _IN_THE_FILE:
            raise error
        return str(error.__cause__)
    return str(error)


def _nothing(head: Head | None) -> Verification:
    if head is None or head.place == 0:
        return Verification()
    gone = Tampering(kind="truncated", first=1, last=head.place)
    return Verification(tampering=(gone,))


@contextlib.contextmanager
def _read(path: Path) -> Iterator[sqlite3.Connection | None]:
    # By a handle, which has a fork wait for it.
    with Handle(path).reading() as connection:
        if connection is None:
            yield None
            return
        connection.execute("BEGIN")
        yield connection if check_version(connection) else None


def _recounted(
    path: Path, count: Callable[[sqlite3.Connection, int], list[Difference]], most: int
) -> list[Difference] | None:
    with _read(path) as connection:
        if connection is None:
            return []
        connection.text_factory = _shown
        return count(connection, most) if has_rollups(connection) else None


def _shown(text: bytes) -> str:
    """A text of the file, which somebody may have put other bytes in."""
    return text.decode(errors="backslashreplace")


def _verify_chain(
    connection: sqlite3.Connection, keys: Iterable[bytes], *, head: Head | None, most: int
) -> Verification:
    """Look at every event and every seal.

    Args:
        connection: In a transaction, so that all is read as it was at one moment.
        keys: The secrets that it was ever signed with.
        head: Its end at an earlier time.
        most: How much of what is found is named.

    Raises:
        LedgerError: If it is signed with a key that is not among these.
        sqlite3.Error: If it cannot be read.
    """
    found = _Found(most)
    seals = _seals(connection)
    signers = _signers(seals, keys)
    if not seals:
        (events,) = connection.execute("SELECT count(*) FROM events").fetchone()
        if (events and signers) or head is not None:
            found.add("unsigned", 1, max(events, 1))
        return Verification(events=events, tampering=tuple(found.all))
    _look_at_seals(seals, signers, found)
    counted, last = _look_at_events(connection, seals, signers, found)
    for (place,) in connection.execute(_LEFT):
        found.add("removed", place, place)
    if head is not None:
        _look_at_head(connection, seals, head, found)
    return Verification(
        events=counted[0],
        signed=counted[1],
        pruned=counted[2],
        tampering=tuple(found.all),
        more=found.more,
        head=Head(
            place=last[0],
            link=last[1].hex(),
            seal=seals[-1].number,
            seal_mac=seals[-1].mac.hex(),
            key_id=seals[-1].key_id,
        ),
    )


def _seals(connection: sqlite3.Connection) -> list[Seal]:
    # One of an older schema has none.
    there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'seals'").fetchone()
    return read_seals(connection) if there else []


def _signers(seals: list[Seal], keys: Iterable[bytes]) -> dict[str, Signer]:
    signers = {signer.id: signer for signer in map(Signer, keys)}
    for seal in seals:
        if seal.key_id not in signers:
            raise LedgerError(
                f"the ledger was signed with a key ({seal.key_id}) that ledger_keys does not have"
            )
    return signers


def _look_at_seals(seals: list[Seal], signers: dict[str, Signer], found: _Found) -> None:
    before: Seal | None = None
    used: set[str] = set()
    for number, seal in enumerate(seals, 1):
        # A key is never gone back to: who has got hold of an old one could go on with it.
        is_new = seal.kind != "begin" or seal.key_id not in used
        is_of = seal.kind == "begin" or (before is not None and seal.key_id == before.key_id)
        signed = signers[seal.key_id].seal(before, seal)
        if signed != seal or seal.number != number or not (is_new and is_of):
            found.add("seal", seal.number, seal.number)
        used.add(seal.key_id)
        before = seal


def _look_at_events(
    connection: sqlite3.Connection, seals: list[Seal], signers: dict[str, Signer], found: _Found
) -> tuple[tuple[int, int, int], tuple[int, bytes]]:
    """Returns how many events there are, are signed and are pruned; and the last place and link."""
    prunes = [(seal.place, seal.before or 0) for seal in seals if seal.kind == "prune"]
    events = signed = pruned = 0
    seen, last, link = 0, 0, seals[0].mac
    unsigned = seals[0].place if is_behind(seals) else 0
    for behind, end, key_id in _turns(seals):
        link_of = signers[key_id].link
        for place, content, body, time, mac, digest in _rows(connection, behind, end):
            events += 1
            if mac is None:
                found.add("unsigned" if place <= unsigned else "inserted", place, place)
                seen = place
                continue
            if body or digest is None:
                digest = digest_of(body)
            else:
                pruned += 1
                if not any(place <= through and time < before for through, before in prunes):
                    found.add("body_removed", place, place)
            if last != place - 1:
                # Of an event that was removed the signature may be there still.
                left = connection.execute(_LINK_OF, (place - 1,)).fetchone()
                link = link if left is None else left[0]
            if link_of(link, content, digest) == mac:
                signed += 1
            elif place > seen + 1:
                found.add("removed", seen + 1, place - 1)
            else:
                found.add("changed", place, place)
            seen = last = place
            link = mac
    return (events, signed, pruned), (last, link)


def _turns(seals: list[Seal]) -> Iterator[tuple[int, int, str]]:
    """Behind which place and up to which each key has signed."""
    behind = 0
    begins = [seal for seal in seals if seal.kind == "begin"]
    for seal, successor in pairwise(begins):
        yield behind, successor.place, seal.key_id
        behind = successor.place
    yield behind, _MOST, (begins or seals)[-1].key_id


def _rows(connection: sqlite3.Connection, behind: int, through: int) -> Iterator[_Row]:
    place: int | None = behind
    while place is not None:
        try:
            for row in connection.execute(_ROWS, (place, through)):
                place = row[0]
                yield row
        except sqlite3.OperationalError as error:
            if not _is_about_content(error):
                raise
        else:
            return
        [place] = connection.execute(_NEXT, (place, through)).fetchone()
        if place is not None:
            yield _single(connection, place)


def _single(connection: sqlite3.Connection, place: int) -> _Row:
    """One event; nothing but its place and its link, if it is of nothing that was ever signed."""
    row: _Row | None = None
    try:
        row = connection.execute(_ROWS, (place - 1, place)).fetchone()
    except sqlite3.OperationalError as error:
        if not _is_about_content(error):
            raise
    if row is None:
        link = connection.execute(_LINK_OF, (place,)).fetchone()
        row = (place, "", "", 0, link[0] if link else None, None)
    return row


def _is_about_content(error: sqlite3.OperationalError) -> bool:
    """Whether a row holds bytes that are no text, or blobs where text should be."""
    # The first is found out by Python, without a code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR


def _look_at_head(
    connection: sqlite3.Connection, seals: list[Seal], head: Head, found: _Found
) -> None:
    (last,) = connection.execute("SELECT ifnull(max(place), 0) FROM links").fetchone()
    if head.place > last:
        found.add("truncated", last + 1, head.place)
    else:
        row = connection.execute(_LINK_OF, (head.place,)).fetchone()
        link = seals[0].mac if head.place == 0 else row[0] if row else b""
        if link.hex() != head.link:
            found.add("replaced", max(head.place, 1), max(head.place, 1))
    seal = next((each for each in seals if each.number == head.seal), None)
    if seal is None or seal.mac.hex() != head.seal_mac:
        found.add("seal", head.seal, head.seal)
