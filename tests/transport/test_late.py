"""Usage that came too late: counted by subject for as long as the home is there, listed while it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_metering.transport.late import LateCall, late_by_subject, late_calls
from llm_metering.transport.retention import Retention
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

from .harness import ScriptedSink, empty, journal_for, let_go, record, shipper_for

USAGE = {
    "id": "0198",
    "subject": "acme",
    "run_id": "run",
    "model": "gpt-5-mini",
    "time": "2026-11-21T12:00:00.000Z",
    "input_tokens": 100,
    "output_tokens": 20,
}
LISTED = LateCall(**USAGE)
SUMS = {"calls": 1, "input_tokens": 100, "output_tokens": 20}


def fold(home: Path, *, retention: Retention | None = None) -> Spool:
    """Ship and fold everything that is in the journal."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    empty(shipper, adopt=True)
    let_go(journal, shipper)
    return Spool(home, retention=retention or Retention())


def test_it_is_counted_and_listed_at_once(home):
    """From the files alone, while its process lives."""
    journal = journal_for(home, ScriptedSink())
    journal.note_late(USAGE)
    journal.note_late({**USAGE, "id": "0199", "subject": "zen", "input_tokens": 7})
    journal.note_late({"id": "0200", "subject": "zen", "time": USAGE["time"], "output_tokens": 1})

    assert home_status(home)["late_usage"] == {
        "calls": 3,
        "input_tokens": 107,
        "output_tokens": 41,
    }
    spool = Spool(home)
    assert late_by_subject(spool) == [
        {"subject": "acme", **SUMS},
        {"subject": "zen", "calls": 2, "input_tokens": 7, "output_tokens": 21},
    ]
    first, _, third = late_calls(spool)
    assert first == LISTED
    assert (third.run_id, third.model, third.input_tokens) == (None, None, None)
    journal.close()


def test_no_event_is_made_of_it(home):
    """The call has its event; nothing of this goes to a sink."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    journal.note_late(USAGE)
    (event_id,) = record(journal)
    shipper = shipper_for(journal, sink)
    empty(shipper)

    assert sink.taken == [event_id]
    assert home_status(home)["recorded"] == 1
    let_go(journal, shipper)


def test_it_outlives_its_process_and_its_segment(home):
    """Folded, it is in the sums, and listed for as long as the segment is kept."""
    journal = journal_for(home, ScriptedSink())
    journal.note_late(USAGE)
    record(journal)
    journal.close()
    spool = fold(home)

    assert home_status(home)["late_usage"] == SUMS
    assert late_by_subject(spool) == [{"subject": "acme", **SUMS}]
    assert late_calls(spool) == [LISTED]
    for path in spool.kept_folder.glob("*.seg"):
        path.unlink()
    assert late_by_subject(spool) == [{"subject": "acme", **SUMS}]
    assert late_calls(spool) == []


@pytest.mark.parametrize("durability", ["process", "memory"])
def test_without_a_disk_it_is_counted_in_memory(durability, home):
    """As every count is, until the disk takes it; in a meter that wants no disk, for good."""
    from llm_metering import Meter

    with Meter(home=home, sinks=["memory:"], durability=durability, ledger=False) as meter:
        meter._journal.note_late(USAGE)

        assert meter.statistics()["late_usage"] == SUMS


def test_a_note_that_only_looks_like_one_is_passed_over(home):
    """Another counter may have a key of that name; and what is damaged is read over."""
    journal = journal_for(home, ScriptedSink())
    journal.count("failures", "late_usage")
    journal.note_late(USAGE)
    journal.close()
    spool = Spool(home)

    assert late_calls(spool) == [LISTED]
    assert late_by_subject(Spool(home / "elsewhere")) == []
