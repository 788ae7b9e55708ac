"""`status`: every event of a home accounted for, from the files alone."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from llm_metering import system
from llm_metering.events import encode
from llm_metering.transport import counters
from llm_metering.transport.kept import kept_segments
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status
from tests.factories import NOON, make_event

from .harness import (
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    reject,
    run_child,
    shipper_for,
)

NOTHING = {
    "recorded": 0,
    "dropped": {"disk_full": 0},
    "open_calls": 0,
    "failures": 0,
    "refused_calls": 0,
    "unchecked_calls": 0,
    "unanswered_entitlements": {},
    "unburnt": {},
    "unfinished_responses": 0,
    "bypassed": 0,
    "ignored_signals": {},
    "late_usage": {"calls": 0, "input_tokens": 0, "output_tokens": 0},
    "damage": {
        "torn_bytes": 0,
        "corrupt_bytes": 0,
        "unreadable_records": 0,
        "unreadable_segments": 0,
        "quarantined_segments": 0,
    },
    "flags": {"subject_conflict": 0, "unattributed": 0},
    "sinks": [],
}


def test_a_home_that_is_not_there_is_empty_and_stays_away(home):
    """Asking how things stand makes no home."""
    assert home_status(home / "none") == {"home": str(home / "none"), **NOTHING}
    assert list(home.iterdir()) == []


def test_asking_changes_nothing(home):
    """Nor does it make a file in a home that is there."""
    journal = journal_for(home)
    record(journal)
    before = sorted(Spool(home).folder.iterdir())

    home_status(home)

    assert sorted(Spool(home).folder.iterdir()) == before
    journal.close()


def test_every_sink_has_its_row(home):
    """What is owed, what was taken, what never will be, what waits and for how long."""
    sinks = [ScriptedSink(name="a"), ScriptedSink(reject, down, name="b", account="shop")]
    journal = journal_for(home, *sinks)
    shippers = [shipper_for(journal, sink) for sink in sinks]
    record(journal, 2)
    for shipper in shippers:
        pump(shipper)
    conflict = make_event(flags=("subject_conflict",))
    journal.record(conflict.id, encode(conflict))
    note_open(journal)
    journal.count("refused_calls", "429", 3)
    for shipper in shippers:
        pump(shipper)

    status = home_status(home, now=NOON + timedelta(seconds=90))
    left = [row.pop("pending_bytes") for row in status["sinks"]]

    assert left[0] == 0
    assert left[1] > len(encode(conflict))  # with the notes behind it
    nothing = dict.fromkeys(("pending", "dead", "dropped", "suspect", "retries"), 0)
    assert status == {
        "home": str(home),
        **NOTHING,
        "recorded": 3,
        "open_calls": 1,
        "refused_calls": 3,
        "unchecked_calls": 0,
        "unanswered_entitlements": {},
        "unburnt": {},
        "unfinished_responses": 0,
        "bypassed": 0,
        "flags": {"subject_conflict": 1, "unattributed": 0},
        "sinks": [
            {
                "name": "a",
                "url": "a:",
                "account": "",
                "state": "ok",
                "reason": None,
                **nothing,
                "recorded": 3,
                "acked": 3,
                "oldest_pending_seconds": None,
            },
            {
                "name": "b",
                "url": "b:",
                "account": "shop",
                "state": "backoff",
                **nothing,
                "reason": "unreachable",
                "recorded": 3,
                "acked": 0,
                "dead": 2,
                "pending": 1,
                "retries": 1,
                "oldest_pending_seconds": 90.0,
            },
        ],
    }
    journal.close()


def test_status_of_a_living_process_is_seen_by_another(home):
    """A second process reads the same numbers while the first one lives and writes."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink)
    record(journal, 2)
    pump(shipper)
    record(journal)
    code = """
    import json, sys
    from datetime import datetime
    from pathlib import Path
    from llm_metering.transport.status import home_status
    now = datetime.fromisoformat(sys.argv[2])
    print(json.dumps(home_status(Path(sys.argv[1]), now=now)))
    """

    stdout, _ = run_child(code, home, NOON.isoformat()).communicate(timeout=60)

    assert json.loads(stdout) == home_status(home, now=NOON)
    assert json.loads(stdout)["sinks"][0]["pending"] == 1
    journal.close()


CRASH_IN_FOLD = """
import os, sys
from pathlib import Path
from tests.transport.harness import *

home, where, countdown = Path(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]
sink = ScriptedSink()
shipper = shipper_for(journal_for(home, sink), sink)
real = {"replace": os.replace, "unlink": Path.unlink}[where]

def die(*arguments, **options):
    if "probe" not in str(arguments[0]) and ".sink" not in str(arguments[0]):
        if countdown[0] == 0:
            os.kill(os.getpid(), 9)
        countdown[0] -= 1
    return real(*arguments, **options)

setattr(*{"replace": (os, "replace", die), "unlink": (Path, "unlink", die)}[where])
empty(shipper, adopt=True)
"""


@pytest.mark.parametrize(
    ("where", "countdown"),
    [
        pytest.param("replace", 0, id="before the sums"),
        pytest.param("replace", 1, id="before the segment goes"),
        pytest.param("unlink", 0, id="before the acknowledgement goes"),
        pytest.param("unlink", 1, id="before the mark goes"),
    ],
)
def test_a_crash_while_a_segment_goes_counts_nothing_twice(home, where, countdown):
    """Killed anywhere between adding a segment to the sums and moving it: each counts once."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 3)
    journal.count("failures", "on_llm_end")
    let_go(journal)
    crashed = run_child(CRASH_IN_FOLD, home, where, countdown)
    crashed.communicate(timeout=60)
    assert crashed.returncode == -9

    def books():
        status = home_status(home)
        (row,) = status["sinks"]
        return status["recorded"], status["failures"], row["recorded"], row["acked"]

    assert books() == (3, 1, 3, 3)
    empty(shipper_for(journal_for(home, sink), sink), adopt=True)
    assert books() == (3, 1, 3, 3)
    assert sink.offered == [], "it was acknowledged before the crash"
    assert Spool(home).segments() == []
    assert len(kept_segments(Spool(home))) == 1
    assert not list(Spool(home).folder.glob("*.ack"))


def test_a_stopped_process_stops_nobody_else(home, monkeypatch):
    """Somebody who was stopped while folding keeps nobody from asking, or from shipping."""
    monkeypatch.setattr(counters, "LOCK_TIMEOUT", 0.01)
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal)
    journal.close()
    stopped = system.lock_file(Spool(home).folder / "counters.lock")
    shipper = shipper_for(journal, sink)

    empty(shipper)
    assert home_status(home)["sinks"][0]["acked"] == 1
    assert len(Spool(home).segments()) == 1

    system.unlock_file(stopped)
    shipper.finish_close()
    assert Spool(home).segments() == []
