"""An event of a clock that is years off stands where it says, and costs the others nothing."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from llm_metering.ledger import Ledger, _windows
from llm_metering.meters import usage_query, window_bounds
from tests.factories import batch_of, make_event

ZONE = "Europe/Berlin"
TIMES = [
    datetime(1970, 1, 1, 0, 30, tzinfo=UTC),
    # Hours that clocks show twice, and the last of a month.
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    datetime(2026, 10, 31, 23, 30, tzinfo=UTC),
    datetime(9998, 7, 31, 22, 30, tzinfo=UTC),
]


@pytest.mark.parametrize("fold_at", [1, 1000], ids=["folded", "recent"])
@pytest.mark.parametrize("window", ["HOUR", "DAY", "MONTH"])
def test_far_away_events(tmp_path, monkeypatch, window, fold_at):
    """Each is in its window, and a zone's clocks are looked at around events alone."""
    monkeypatch.setattr("llm_metering.ledger._folding.FOLD_AT", fold_at)
    looked_at = []
    offsets = _windows._offsets.__wrapped__

    def count(name, first, last):
        looked_at.append((last - first) / _windows.DAY)
        return offsets(name, first, last)

    monkeypatch.setattr(_windows, "_offsets", count)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch_of(make_event(time=time) for time in TIMES))
        report = ledger.query(usage_query("calls_total", window=window, time_zone=ZONE))

    expected: dict[tuple[datetime, datetime], int] = {}
    for time in TIMES:
        bounds = window_bounds(time, window, ZoneInfo(ZONE))
        expected[bounds] = expected.get(bounds, 0) + 1
    assert {(row.window_start, row.window_end): row.value for row in report} == expected
    assert sum(looked_at) < 30
