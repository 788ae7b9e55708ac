"""Months that begin within a day of UTC, where that day is the ledger's first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query
from tests.factories import batch_of, make_event


def test_a_month_that_begins_before_the_first_event_of_its_day(tmp_path, monkeypatch):
    """March begins on Chatham at 10:15 of 28 February; what is recorded behind that is March's."""
    monkeypatch.setattr("llm_metering.ledger._folding.FOLD_AT", 10)
    ledger = Ledger(tmp_path / "ledger.db")
    begin = datetime(2026, 2, 28, 21, 30, tzinfo=UTC)
    for number in range(4):
        times = [begin + timedelta(hours=number, minutes=minute) for minute in range(10)]
        ledger.deliver(batch_of(make_event(time=time) for time in times))

    report = ledger.query(
        usage_query("calls_total", window="MONTH", time_zone="Pacific/Chatham", group_by="model")
    )

    assert [(row.window_start.isoformat(), row.value) for row in report] == [
        ("2026-02-28T10:15:00+00:00", 40)
    ]
    ledger.close()
