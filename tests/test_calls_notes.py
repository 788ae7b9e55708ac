"""The open notes of calls are written from kept pieces; each is what the event would be, encoded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.calls import CallStart, interrupted_event
from llm_metering.calls.notes import OpenNotes
from llm_metering.errors import SubjectError
from llm_metering.events import DATA_KEYS, encode, is_unicode
from llm_metering.subjects import Attribution, Rank

SOURCE = 'a "shop",\n"time":"'
NOW = datetime(2026, 11, 21, 20, 19, 0, 123_456, UTC)

names = st.text(min_size=1).filter(is_unicode) | st.sampled_from(
    ['","time":"', '"}}', "\\", "é\u2028", '"id":"', "x" * 500]
)
attributions = st.builds(
    Attribution,
    subject=names,
    rank=st.just(Rank.METADATA),
    dimensions=st.dictionaries(names.filter(lambda name: name not in DATA_KEYS), names, max_size=3),
    flags=st.lists(names, max_size=2).map(tuple),
)
asked = st.none() | names
starts = st.builds(
    CallStart,
    attribution=attributions,
    framework=asked,
    operation=asked,
    provider=asked,
    request_model=asked | st.just(""),
    service_tier=st.sampled_from([None, None, "batch"]),
    run_id=st.none() | st.uuids().map(str) | names | st.just(""),
)
# None before the first moment of UTC, which no event can have.
times = st.datetimes(
    datetime(1, 1, 2), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
)


@given(
    st.lists(st.tuples(st.uuids().map(str), starts, attributions, times), min_size=1, max_size=4)
)
def test_a_note_is_the_encoded_event(calls):
    """Byte for byte the event of an interrupted call, whatever stands in it, the first time its form
    is used and again."""
    notes = OpenNotes(SOURCE)

    for event_id, start, attribution, now in [*calls, *calls]:
        event = interrupted_event(event_id, SOURCE, start, attribution, now)
        assert notes.write(event_id, start, attribution, now) == encode(event)


def test_a_form_is_used_for_other_payers_too():
    """What is kept of one call says nothing of another one: not its payer, not what it is grouped
    by, not its run."""
    notes = OpenNotes("shop")
    first = Attribution(
        subject="one", rank=Rank.HANDLER, dimensions={"team": "a"}, flags=("subject_conflict",)
    )
    second = Attribution(subject="two", rank=Rank.HANDLER)
    written = [
        notes.write(
            event_id, CallStart(attribution=payer, operation="chat", run_id=run_id), payer, NOW
        )
        for event_id, payer, run_id in (("id-1", first, "run-1"), ("id-2", second, "run-2"))
    ]

    for ours in (b"one", b"team", b"subject_conflict", b"run-1", b"id-1"):
        assert ours in written[0]
        assert ours not in written[1]


def test_a_dimension_that_no_event_can_have_makes_no_note():
    """As the event itself would refuse it: a note under a key of ours could not be told from it."""
    payer = Attribution(subject="one", rank=Rank.HANDLER, dimensions={"total_tokens": "7"})
    with pytest.raises(SubjectError, match="total_tokens"):
        OpenNotes("shop").write("id", CallStart(attribution=payer, run_id="run"), payer, NOW)


def test_so_many_forms_are_kept():
    """An application that makes a model's name anew for each call does not fill the memory."""
    notes = OpenNotes("shop")
    payer = Attribution(subject="one", rank=Rank.HANDLER)
    for number in range(1_000):
        start = CallStart(attribution=payer, request_model=f"model-{number}", run_id="run")
        event = interrupted_event("id", "shop", start, payer, NOW)
        assert notes.write("id", start, payer, NOW) == encode(event)

    assert len(notes._forms) <= 256
