"""Where to go on in a partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.ingest.partition import PartitionReading
from llm_metering.ingest.positions import Start, Watermarks, digest_of, start_of
from llm_metering.ingest.seen import End, Record
from llm_metering.ledger.intake_values import Bookmark

MARK = Bookmark(4, digest_of(b"key", b"value 4", 1000))


@pytest.mark.parametrize(
    ("position", "bookmark", "marks", "start"),
    [
        pytest.param(None, None, (0, 9), (0, None, None), id="never read"),
        pytest.param(None, None, (3, 9), (3, None, None), id="never read, and cut"),
        pytest.param(5, None, (0, 9), (5, None, None), id="in the middle"),
        pytest.param(9, None, (0, 9), (9, None, None), id="at the end"),
        pytest.param(5, MARK, (0, 9), (4, None, MARK), id="with a record to look at again"),
        pytest.param(5, MARK, (5, 9), (5, None, None), id="which was deleted"),
        pytest.param(5, MARK, (7, 9), (7, ("lost", 5, 7, 2), None), id="deleted unread"),
        pytest.param(5, MARK, (9, 9), (9, ("lost", 5, 9, 4), None), id="all deleted unread"),
        pytest.param(5, MARK, (0, 4), (0, ("anew", 5, None, None), None), id="beyond the end"),
        pytest.param(5, MARK, (0, 0), (0, ("anew", 5, None, None), None), id="empty now"),
    ],
)
def test_where_to_begin(position, bookmark, marks, start):
    """And what cannot be read any more."""
    found = start_of(position, bookmark, Watermarks(*marks))

    omitted = found.omission and (
        *(found.omission.kind, found.omission.first, found.omission.end, found.omission.records),
    )
    assert (found.offset, omitted, found.check) == start


def record(offset: int, value: bytes | None = None, timestamp: int = 1000) -> Record:
    """A record of the partition."""
    value = b"value %d" % offset if value is None else value
    return Record(0, offset, b"key", value, (), timestamp)


def reading_from_5() -> PartitionReading:
    """A partition of which the ledger has the records 0 to 4."""
    reading = PartitionReading(0)
    reading.begin(5, MARK, Start(offset=4, check=MARK))
    return reading


def test_a_record_that_is_known_again_is_not_taken_again():
    """It is neither an event nor refused."""
    reading = reading_from_5()
    for offset in (4, 5, 6):
        reading.see(record(offset))

    stretch = reading.stretch()

    assert not reading.is_another
    assert (stretch.expected, stretch.next_offset) == (5, 7)
    assert [offset for offset, _ in stretch.events] == [5, 6]
    assert stretch.bookmark == Bookmark(6, digest_of(b"key", b"value 6", 1000))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(record(4, b"another"), id="another value"),
        pytest.param(record(4, timestamp=2000), id="another time"),
        pytest.param(record(3), id="another offset"),
    ],
)
def test_another_record_is_another_partition(other):
    """Nothing that follows it is taken before somebody has looked."""
    reading = reading_from_5()
    for each in (other, record(5), End(0, 6)):
        reading.see(each)

    assert reading.is_another
    assert not reading.has_moved


def test_a_record_that_comes_again_is_passed_over():
    """Whatever a client hands out twice, each offset is taken once."""
    reading = reading_from_5()
    for each in (record(4), record(5), record(4), record(5)):
        reading.see(each)

    assert not reading.is_another
    assert [offset for offset, _ in reading.stretch().events] == [5]


def test_a_record_that_is_gone_proves_nothing():
    """Compaction takes records away, and nothing else is to be read for it."""
    reading = reading_from_5()
    reading.see(record(5))

    assert not reading.is_another
    assert [offset for offset, _ in reading.stretch().events] == [5]


def test_the_marks_of_a_transaction_are_passed():
    """Behind the last record there may be offsets that no reader sees."""
    reading = reading_from_5()
    for each in (record(4), record(5), End(0, 8)):
        reading.see(each)

    stretch = reading.stretch()

    assert stretch.next_offset == 8
    assert stretch.bookmark == Bookmark(5, digest_of(b"key", b"value 5", 1000))


def test_the_end_of_a_partition_is_not_that_of_a_ledger_that_has_less():
    """It was removed or replaced meanwhile, and everything has to be read again."""
    reading = reading_from_5()
    reading.see(End(0, 5))
    reading.settle()
    assert reading.has_reached(9)

    reading.begin(None, None, Start(offset=0))

    assert not reading.has_reached(9)


@given(
    *(st.none() | st.binary(max_size=4) for _ in range(4)),
    *(st.integers(-1, 3) for _ in range(2)),
)
def test_a_digest_tells_records_apart(key, other_key, value, other_value, time, other_time):
    """Wherever key, value and time of it begin and end."""
    is_same = (key, value, time) == (other_key, other_value, other_time)

    found = digest_of(key, value, time) == digest_of(other_key, other_value, other_time)

    assert found == is_same
