"""Whoever changes a signed ledger without its key is found out."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from llm_metering.errors import LedgerError
from llm_metering.ledger import Head, Ledger
from llm_metering.ledger._rows import ALL_COLUMNS
from tests.factories import batch_of, make_event

KEY = b"k" * 32
OLD = datetime(2026, 1, 1, tzinfo=UTC)
OTHERWISE = ", ".join("'new'" if each == "id" else each for each in ALL_COLUMNS)


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A signed ledger of twenty events, half of them old; it is copied."""
    path = tmp_path_factory.mktemp("signed") / "ledger.db"
    with closing(Ledger(path, keys=[KEY])) as ledger:
        for number in range(20):
            time = OLD + timedelta(days=number * 20)
            event = make_event(time=time, subject=f"customer-{number % 3}")
            assert ledger.deliver(batch_of([event])).accepted
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def path(template, tmp_path) -> Path:
    return Path(shutil.copy(template, tmp_path / "ledger.db"))


def change(path: Path, *statements: str) -> None:
    """What somebody does who may write the file."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount
        connection.commit()


def verify(path: Path, head: Head | None = None, **more: int):
    with closing(Ledger(path, keys=[KEY])) as ledger:
        return ledger.verify(head=head, **more)


def found(path: Path, head: Head | None = None) -> list[tuple[str, int, int]]:
    return [(each.kind, each.first, each.last) for each in verify(path, head).tampering]


def test_a_ledger_that_nobody_has_touched_is_intact(path):
    """Also beside its own head, and one of before."""
    before = verify(path).head
    with closing(Ledger(path, keys=[KEY])) as ledger:
        ledger.deliver(batch_of([make_event()]))

    after = verify(path, before)

    assert (after.is_intact, after.signed, after.wrong_sums) == (True, 21, ())
    assert (before.place, after.head.place) == (20, 21)
    assert verify(path, after.head).is_intact


@pytest.mark.parametrize("column", ALL_COLUMNS)
@pytest.mark.parametrize("kind", ["changed", "null", "another type", "no text"])
def test_a_changed_column_is_found(path, column, kind):
    """Any of an event, whatever it is changed to, and nothing else is."""
    [(value,)] = read(path, f"SELECT {column} FROM events WHERE rowid = 7")
    is_text = isinstance(value, str)
    new = {
        "changed": "'x' || id" if is_text or value is None else str(value + 1),
        "null": "NULL" if value is not None else "''",
        "another type": f"CAST({column} AS BLOB)" if value is not None else "x''",
        "no text": "CAST(x'ff00fe' AS TEXT)",
    }[kind]
    strict = read(path, "SELECT sql FROM sqlite_master WHERE name = 'events'")[0][0]
    if kind == "null" and f"{column} TEXT NOT NULL" in strict.replace("INTEGER", "TEXT"):
        # SQLite would refuse it; who edits the file is not asked.
        loose = strict.replace(" NOT NULL", "").replace("'", "''")
        change_schema(path, f"UPDATE sqlite_master SET sql = '{loose}' WHERE name = 'events'")
    change(path, f"UPDATE events SET {column} = {new} WHERE rowid = 7")

    assert found(path) == [("changed", 7, 7)]


def read(path: Path, question: str):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def change_schema(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(statement)
        connection.commit()


def test_one_changed_byte_is_found(path):
    """Wherever it is in the file: if any event reads otherwise, or cannot be read, it is found."""
    random = Random(11)
    whole = path.read_bytes()
    before = rows_of(path)
    reads_otherwise = 0
    for _ in range(1500):
        place = random.randrange(100, len(whole))
        bits = random.randrange(1, 256)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :])
        if rows_of(path) == before:
            continue
        reads_otherwise += 1
        assert not is_intact(path), (place, bits)
    assert reads_otherwise > 20


def is_intact(path: Path) -> bool:
    """Whether it is said to be; a file that is taken for somebody else's is not."""
    try:
        return verify(path).is_intact
    except LedgerError:
        return False


def rows_of(path: Path) -> object:
    """All that events say, byte by byte; or that nobody can say."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        types = ", ".join(f"typeof({each})" for each in ALL_COLUMNS)
        try:
            return connection.execute(
                f"SELECT rowid, {', '.join(ALL_COLUMNS)}, {types} FROM events ORDER BY rowid"
            ).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            return str(error)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param(
            ["DELETE FROM events WHERE rowid IN (5, 6)"], [("removed", 5, 6)], id="removed"
        ),
        pytest.param(
            ["DELETE FROM events WHERE rowid = 5", "DELETE FROM links WHERE place = 5"],
            [("removed", 5, 5)],
            id="removed with its signature",
        ),
        pytest.param(
            [f"INSERT INTO events SELECT {OTHERWISE} FROM events WHERE rowid = 3"],
            [("inserted", 21, 21)],
            id="inserted",
        ),
        pytest.param(
            ["DELETE FROM links WHERE place IN (8, 9)"],
            [("inserted", 8, 9), ("changed", 10, 10)],
            id="signatures removed",
        ),
        pytest.param(
            ["UPDATE links SET mac = x'00' WHERE place = 20"], [("changed", 20, 20)], id="signature"
        ),
        pytest.param(
            [
                "UPDATE events SET rowid = 30 WHERE rowid = 1",
                "UPDATE events SET rowid = 1 WHERE rowid = 2",
                "UPDATE events SET rowid = 2 WHERE rowid = 30",
            ],
            [("changed", 1, 2)],
            id="exchanged",
        ),
        pytest.param(
            [
                "UPDATE links SET body = x'00' WHERE place = 4",
                "UPDATE events SET payload = '' WHERE rowid = 4",
            ],
            [("body_removed", 4, 4), ("changed", 4, 4)],
            id="body removed",
        ),
        pytest.param(["DELETE FROM seals"], [("unsigned", 1, 20)], id="all signatures disowned"),
        pytest.param(["UPDATE seals SET time = 1"], [("seal", 1, 1)], id="seal changed"),
        pytest.param(
            ["UPDATE events SET subject = 'me' WHERE rowid IN (3, 9, 10)"],
            [("changed", 3, 3), ("changed", 9, 10)],
            id="several",
        ),
    ],
)
def test_each_kind_of_tampering_has_its_name(path, statements, expected):
    """And is found where it is, once."""
    change(path, *statements)

    assert found(path) == expected


def test_a_cut_tail_is_found_by_a_head(path):
    """Without one it looks as if the rest had never been; a writer that goes on does not hide it."""
    head = verify(path).head
    cut = [
        f"DELETE FROM {table} WHERE {place} > 15"
        for table, place in (("events", "rowid"), ("links", "place"), ("recent", "place"))
    ]
    change(path, *cut)
    assert (found(path), found(path, head)) == ([], [("truncated", 16, 20)])

    with closing(Ledger(path, keys=[KEY])) as ledger:
        for _ in range(6):
            ledger.deliver(batch_of([make_event()]))
    assert (found(path), found(path, head)) == ([], [("replaced", 20, 20)])


def test_a_head_finds_a_ledger_that_was_replaced(path, tmp_path):
    """By another one, signed anew by whoever has the key, an unsigned one, or none."""
    head = verify(path).head
    other = tmp_path / "other.db"
    with closing(Ledger(other, keys=[KEY])) as ledger:
        ledger.deliver(batch_of([make_event()]))
    assert found(other, head) == [("truncated", 2, 20), ("seal", 1, 1)]
    assert found(tmp_path / "none.db", head) == [("truncated", 1, 20)]
    change(path, "DELETE FROM seals")
    with closing(Ledger(path, keys=())) as ledger:
        assert [each.kind for each in ledger.verify(head=head).tampering] == ["unsigned"]


def test_who_cut_the_tail_is_told_by_the_next_writer(path):
    """Where signatures are left of what is gone, nothing is put in its place."""
    change(path, "DELETE FROM events WHERE rowid > 15")

    with closing(Ledger(path, keys=[KEY])) as ledger:
        delivery = ledger.deliver(batch_of([make_event()]))

    assert delivery.hold
    assert "removed from the ledger's end" in delivery.reason
    assert found(path) == [("removed", 16, 20)]


def test_pruning_is_signed(path):
    """What was pruned is known to have been; a body that goes later, or a column that changes, is found."""
    with closing(Ledger(path, keys=[KEY])) as ledger:
        assert ledger.prune(OLD + timedelta(days=100)).events == 5
        ledger.deliver(batch_of([make_event(time=OLD)]))
    intact = verify(path)
    assert (intact.is_intact, intact.signed, intact.pruned) == (True, 21, 5)

    digest = "UPDATE links SET body = x'00' WHERE place = 21"
    change(path, digest, "UPDATE events SET payload = '' WHERE rowid = 21")
    change(path, "UPDATE events SET total_tokens = 1 WHERE rowid = 2")
    assert ("body_removed", 21, 21) in found(path)
    assert ("changed", 2, 2) in found(path)


def test_pruning_washes_nothing(path):
    """What was changed before is found after its body is gone."""
    change(path, "UPDATE events SET payload = replace(payload, '120', '100') WHERE rowid = 2")
    with closing(Ledger(path, keys=[KEY])) as ledger:
        ledger.prune(OLD + timedelta(days=100))

    assert found(path) == [("changed", 2, 2)]


def test_without_the_seal_nothing_was_pruned(path):
    """It is part of what is signed."""
    with closing(Ledger(path, keys=[KEY])) as ledger:
        ledger.prune(OLD + timedelta(days=50))
    change(path, "DELETE FROM seals WHERE number = 2")

    assert found(path) == [("body_removed", 1, 3)]


def test_sums_are_counted_anew(path):
    """A rollup that was changed is found, though it is not signed."""
    change(path, "UPDATE recent SET total_tokens = 1 WHERE place = 4")

    looked = verify(path)

    assert looked.tampering == ()
    assert [(each.table, each.key) for each in looked.wrong_sums] == [("recent", (4,))]
    assert not looked.is_intact


def test_a_file_that_cannot_be_read_is_not_intact(path):
    """What is wrong is said, not raised."""
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 8)

    looked = verify(path)

    assert looked.damage is not None
    assert not looked.is_intact


def test_a_ledger_that_cannot_be_read_now_is_not_damaged(path):
    """Somebody holds it, or it is not ours to read: that is an error, and no finding."""
    path.unlink()
    path.mkdir()

    with pytest.raises(LedgerError):
        verify(path)


def test_most_is_named_and_the_rest_counted(path):
    """However much there is."""
    change(path, "UPDATE events SET subject = 'me' WHERE rowid % 2 = 0")

    looked = verify(path, most=4)

    assert ([each.first for each in looked.tampering], looked.more) == ([2, 4, 6, 8], 6)


def test_what_cannot_be_read_hides_nothing_else(path):
    """Bytes that are no text, and blobs, are found where they are."""
    change(path, "UPDATE events SET model = CAST(x'ff' AS TEXT) WHERE rowid IN (3, 4)")
    change(path, "UPDATE events SET model = x'00' WHERE rowid = 12")

    looked = verify(path)

    assert [(each.first, each.last) for each in looked.tampering] == [(3, 4), (12, 12)]
    assert (looked.events, looked.signed) == (20, 17)
