"""`llm-metering late`: what was reported for calls that had their event already."""

from __future__ import annotations

import json

from llm_metering.ledger import Ledger
from llm_metering.transport.journal import Journal
from llm_metering.transport.spool import Spool, debt_of

USAGE = {
    "id": "0198-the-event",
    "subject": "acme",
    "run_id": "the-run",
    "model": "gpt-5-mini",
    "time": "2026-11-21T12:00:00.000Z",
    "input_tokens": 1000,
    "output_tokens": 20,
}


def leave(home, *usages):
    """Leave late usage in a home, as a process does that has ended."""
    spool = Spool(home)
    spool.make()
    journal = Journal(spool, source="shop", debts=[debt_of(Ledger(home / "ledger.db"))])
    for usage in usages:
        journal.note_late(usage)
    journal.close()


def test_nothing_came_too_late(home, run):
    """And nothing is made by asking."""
    done = run("late")

    assert (done.exit_code, done.stdout) == (0, "No usage came too late\n")
    assert list(home.iterdir()) == []


def test_who_used_how_much_and_in_which_calls(home, run):
    """The sums by subject, then each call; control characters in names do no harm."""
    leave(home, USAGE, {**USAGE, "id": "0199", "subject": "evil\x1b[2J", "output_tokens": 1})
    leave(home, {"id": "0200", "subject": "acme", "time": USAGE["time"]})

    done = run("late")

    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert done.exit_code == 0
    assert ["acme", "2", "1,000", "20"] in lines
    assert [r"evil\x1b[2J", "1", "1,000", "1"] in lines
    assert [
        "2026-11-21T12:00:00.000Z",
        "0198-the-event",
        "the-run",
        "acme",
        "gpt-5-mini",
        "1,000",
        "20",
    ] in lines
    assert ["2026-11-21T12:00:00.000Z", "0200", "-", "acme", "-", "-", "-"] in lines


def test_for_programs(home, run):
    """All that is known, as numbers; nobody's answer is in it."""
    leave(home, USAGE)

    assert json.loads(run("late", "--format", "json").stdout) == {
        "home": str(home),
        "subjects": [
            {"subject": "acme", "calls": 1, "input_tokens": 1000, "output_tokens": 20},
        ],
        "calls": [USAGE],
    }


def test_status_shows_that_there_is_some(home, run):
    """Where there is none, it says so."""
    leave(home, USAGE)

    assert "late usage" in run("status").stdout
    assert "calls 1, input_tokens 1,000, output_tokens 20" in run("status").stdout
