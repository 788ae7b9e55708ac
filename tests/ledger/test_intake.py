"""The ledger as those see it who read a broker: events and positions are one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.events import encode
from llm_metering.ledger import Ledger, _files
from llm_metering.ledger.intake import Intake, PositionMovedError, UnavailableError
from llm_metering.ledger.intake_values import Bookmark, Omission, Stretch, Taken
from llm_metering.meters import usage_query
from tests.factories import batch_of, make_event

TOPIC = ("cluster", "usage")
SEEN = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
EVENTS = [encode(make_event(id=f"event-{number}", subject=f"s{number % 3}")) for number in range(8)]
GARBAGE = b"no event"


@pytest.fixture
def intake(tmp_path) -> Iterator[Intake]:
    with closing(Intake(tmp_path / "home" / "ledger.db")) as intake:
        yield intake


def stretch_of(log, start, end, *, expected, partition=0) -> Stretch:
    """What a reader of `log` has from one offset to another."""
    return Stretch(
        partition=partition,
        expected=expected,
        next_offset=end,
        bookmark=Bookmark(end - 1, b"digest"),
        events=[(offset, log[offset]) for offset in range(start, end)],
    )


def total(path: Path) -> int:
    """Events by the rollups."""
    with closing(Ledger(path)) as ledger:
        return ledger.query(usage_query("calls_total")).total


def position(intake: Intake, partition: int = 0) -> int | None:
    """Where the ledger is."""
    books = intake.positions(*TOPIC).get(partition)
    return books.next_offset if books else None


def test_events_and_position_are_there_together(intake):
    """With the books of what became of the records."""
    log = [EVENTS[0], EVENTS[1], EVENTS[0], GARBAGE]

    done = intake.commit(*TOPIC, [stretch_of(log, 0, 4, expected=None)], now=SEEN)

    assert done == {0: Taken(new=2, repeated=1, refused=1)}
    [books] = intake.books()
    assert (books.next_offset, books.bookmark) == (4, Bookmark(3, b"digest"))
    assert books.taken == Taken(new=2, repeated=1, refused=1)
    assert total(intake.path) == 2


def test_what_another_took_meanwhile_is_not_taken_again(intake):
    """Neither the events nor the position, of no partition, if one of them has moved."""
    other = stretch_of(EVENTS, 0, 2, expected=None, partition=1)
    intake.commit(*TOPIC, [stretch_of(EVENTS, 0, 2, expected=None)], now=SEEN)

    for expected in (None, 1):
        late = stretch_of(EVENTS, 0, 8, expected=expected)
        with pytest.raises(PositionMovedError, match="partition 0 of usage"):
            intake.commit(*TOPIC, [other, late], now=SEEN)

    assert (position(intake), position(intake, 1), total(intake.path)) == (2, None, 2)
    intake.commit(*TOPIC, [stretch_of(EVENTS, 2, 8, expected=2)], now=SEEN)
    assert total(intake.path) == 8


@pytest.mark.parametrize(
    ("positions", "reason"),
    [
        pytest.param([], "knows nothing of partition 0 of usage any more", id="another file"),
        pytest.param(
            [2], "is at offset 2 of partition 0 of usage, and was at 5", id="an older one"
        ),
        pytest.param([8], "partition 0 of usage was read into it by somebody else", id="a rival"),
    ],
)
def test_it_says_how_the_ledger_is_elsewhere(intake, positions, reason):
    """A file that was removed or replaced is not taken for a second reader."""
    for each in positions:
        intake.commit(*TOPIC, [stretch_of(EVENTS, 0, each, expected=None)], now=SEEN)

    with pytest.raises(PositionMovedError, match=reason):
        intake.commit(*TOPIC, [stretch_of(EVENTS, 5, 6, expected=5)], now=SEEN)


def test_topics_and_clusters_have_positions_of_their_own(intake):
    """The events are the same everywhere."""
    for topic in (("cluster", "usage"), ("cluster", "more"), ("another", "usage")):
        intake.commit(*topic, [stretch_of(EVENTS, 0, 8, expected=None)], now=SEEN)

    assert [each.taken.new for each in intake.books()] == [0, 0, 8]
    assert total(intake.path) == 8


def test_what_was_delivered_here_is_repeated(intake):
    """An application of this machine writes to the same ledger, and to the broker as well."""
    event = make_event()
    with closing(Ledger(intake.path)) as ledger:
        ledger.deliver(batch_of([event]))

    done = intake.commit(
        *TOPIC, [stretch_of([encode(event), EVENTS[0]], 0, 2, expected=None)], now=SEEN
    )

    assert done[0] == Taken(new=1, repeated=1)


@pytest.mark.parametrize(
    "hinder",
    [
        pytest.param("PRAGMA max_page_count = {pages}", id="full disk"),
        pytest.param("DROP TABLE ingest_omissions", id="a statement that fails at last"),
    ],
)
def test_it_is_all_or_nothing(intake, hinder):
    """Whatever stops a transaction, a reader that tries again finds what it expects."""
    intake.commit(*TOPIC, [stretch_of(EVENTS, 0, 1, expected=None)], now=SEEN)
    with intake._handle.writing() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(hinder.format(pages=pages))
    big = encode(make_event(dimensions={"size": "x" * 100_000}))
    log = [EVENTS[0], EVENTS[1], big, GARBAGE]

    with pytest.raises((UnavailableError, sqlite3.Error)):
        intake.commit(*TOPIC, [stretch_of(log, 1, 4, expected=1)], now=SEEN)

    assert (position(intake), total(intake.path)) == (1, 1)


def test_a_locked_ledger_says_so(intake, monkeypatch):
    """And takes it later."""
    monkeypatch.setattr(_files, "BUSY_TIMEOUT", 0.01)
    intake.commit(*TOPIC, [stretch_of(EVENTS, 0, 1, expected=None)], now=SEEN)
    intake.close()
    stretch = stretch_of(EVENTS, 1, 2, expected=1)

    with closing(sqlite3.connect(intake.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked") as caught:
            intake.commit(*TOPIC, [stretch], now=SEEN)

    assert not caught.value.hold
    assert intake.commit(*TOPIC, [stretch], now=SEEN) == {0: Taken(new=1)}


def test_a_run_of_refused_records_is_one_row(intake):
    """Across transactions too, so that a topic of something else does not fill the ledger."""
    log = [GARBAGE] * 600 + [EVENTS[0]] + [GARBAGE] * 2

    for start in range(0, 600, 100):
        stretch = stretch_of(log, start, start + 100, expected=start or None)
        intake.commit(*TOPIC, [stretch], now=SEEN)
    intake.commit(*TOPIC, [stretch_of(log, 600, 603, expected=600)], now=SEEN)

    reason = "no CloudEvent: JSON is malformed: invalid character (byte 4)"
    assert intake.omissions(9) == [
        (*TOPIC, 0, Omission(kind="refused", first=601, end=603, records=2, reason=reason), SEEN),
        (*TOPIC, 0, Omission(kind="refused", first=0, end=600, records=600, reason=reason), SEEN),
    ]
    [books] = intake.books()
    assert books.taken == Taken(new=1, refused=602)


def test_what_is_lost_is_kept_with_its_reason(intake):
    """Nobody knows how many records a topic had that was made anew."""
    gone = Omission(kind="lost", first=0, end=50, records=50, reason="deleted before it was read")
    anew = Omission(kind="anew", first=60, end=None, records=None, reason="made anew")
    intake.commit(
        *TOPIC, [Stretch(partition=0, expected=None, next_offset=50, omissions=[gone])], now=SEEN
    )
    intake.commit(
        *TOPIC, [Stretch(partition=0, expected=50, next_offset=0, omissions=[anew])], now=SEEN
    )

    assert [each[3] for each in intake.omissions(9)] == [anew, gone]
    [books] = intake.books()
    assert (books.next_offset, books.bookmark, books.taken) == (0, None, Taken(lost=50))


@pytest.mark.parametrize("make", [False, True], ids=["no ledger", "a ledger of schema 1"])
def test_looking_makes_nothing(tmp_path, make):
    """A ledger that nothing was ever read into has no books, and is not changed to have some."""
    path = tmp_path / "ledger.db"
    if make:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript((Path(__file__).parent / "schema_1.sql").read_text("utf-8"))

    with closing(Intake(path)) as intake:
        assert (intake.books(), intake.omissions(9)) == ([], [])

    assert path.exists() == make


@given(
    log=st.lists(st.sampled_from([*EVENTS, GARBAGE]), max_size=30),
    steps=st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["commit", "crash", "stale", "again"])),
        max_size=20,
    ),
)
def test_the_books_are_exact_whatever_crashes(tmp_path_factory, log, steps):
    """Readers that die before a commit, come late, or did not hear that it was done: the events of
    the log up to the position are there, each once, and no other.
    """
    path = tmp_path_factory.mktemp("home") / "ledger.db"
    at: int | None = None
    for size, fate in steps:
        start = at or 0
        end = min(start + size, len(log))
        stretch = stretch_of(log, start, end, expected=at)
        with closing(Intake(path)) as reader:
            if fate == "crash":
                with reader._handle.writing() as connection:
                    # Nothing is forgotten when the connection goes, as that of a process does.
                    connection.execute("BEGIN IMMEDIATE")
                    connection.execute("DELETE FROM events")
                    connection.execute("DELETE FROM ingest_positions")
                continue
            reader.commit(*TOPIC, [stretch], now=SEEN)
            if fate == "stale" and at != end:
                with pytest.raises(PositionMovedError):
                    reader.commit(*TOPIC, [stretch], now=SEEN)
            at = end
            if fate == "again":
                again = stretch_of(log, 0, end, expected=end)
                reader.commit(*TOPIC, [again], now=SEEN)

    seen = log[: at or 0]
    with closing(Intake(path)) as reader:
        books = {each.partition: each for each in reader.books()}
        assert (books[0].next_offset if books else None) == at
        with closing(sqlite3.connect(path)) as connection:
            held = connection.execute("SELECT payload FROM events").fetchall() if books else []
            sums = (
                connection.execute(
                    "SELECT subject, sum(events) FROM rollups WHERE grain = 900 GROUP BY subject"
                ).fetchall()
                if books
                else []
            )
    assert sorted(text.encode() for (text,) in held) == sorted({*seen} - {GARBAGE})
    expected = {f"s{number}": 0 for number in range(3)}
    for each in {*seen} - {GARBAGE}:
        expected[f"s{EVENTS.index(each) % 3}"] += 1
    assert dict(sums) == {subject: count for subject, count in expected.items() if count}
