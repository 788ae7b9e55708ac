"""Windows in time zones, where clocks are set."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from llm_metering.meters import window_bounds


@pytest.mark.parametrize(
    ("zone", "window", "moment", "start", "end"),
    [
        pytest.param(
            *(
                "Europe/Berlin",
                "DAY",
                "2026-03-29T12:00Z",
                "2026-03-28T23:00Z",
                "2026-03-29T22:00Z",
            ),
            id="a day of 23 hours",
        ),
        pytest.param(
            *(
                "Europe/Berlin",
                "DAY",
                "2026-10-25T12:00Z",
                "2026-10-24T22:00Z",
                "2026-10-25T23:00Z",
            ),
            id="a day of 25 hours",
        ),
        pytest.param(
            *(
                "Europe/Berlin",
                "HOUR",
                "2026-10-25T00:30Z",
                "2026-10-25T00:00Z",
                "2026-10-25T01:00Z",
            ),
            id="an hour that comes again",
        ),
        pytest.param(
            *(
                "Europe/Berlin",
                "MONTH",
                "2026-10-25T12:00Z",
                "2026-09-30T22:00Z",
                "2026-10-31T23:00Z",
            ),
            id="a month of 745 hours",
        ),
        pytest.param(
            *(
                "Asia/Kathmandu",
                "HOUR",
                "2026-01-01T00:20Z",
                "2026-01-01T00:15Z",
                "2026-01-01T01:15Z",
            ),
            id="45 minutes apart",
        ),
        pytest.param(
            *(
                "America/Santiago",
                "DAY",
                "2026-09-06T12:00Z",
                "2026-09-06T04:00Z",
                "2026-09-07T03:00Z",
            ),
            id="a day without midnight",
        ),
        pytest.param(
            *("Pacific/Apia", "DAY", "2011-12-30T09:00Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
            id="before a day that never was",
        ),
        pytest.param(
            *("Pacific/Apia", "DAY", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
            id="after a day that never was",
        ),
        pytest.param(
            *(
                "America/St_Johns",
                "DAY",
                "2010-11-07T02:30Z",
                "2010-11-07T02:30Z",
                "2010-11-08T03:30Z",
            ),
            id="a day that has begun",
        ),
        pytest.param(
            *(
                "America/St_Johns",
                "DAY",
                "2010-11-07T02:45Z",
                "2010-11-07T02:30Z",
                "2010-11-08T03:30Z",
            ),
            id="the evening before, shown again after the day has begun",
        ),
    ],
)
def test_windows_follow_the_clocks_of_a_zone(zone, window, moment, start, end):
    """Each moment is in one window, which holds it, and windows have no gaps between them."""
    moment, *bounds = map(datetime.fromisoformat, (moment, start, end))

    assert window_bounds(moment, window, ZoneInfo(zone)) == tuple(bounds)
    assert window_bounds(bounds[1], window, ZoneInfo(zone))[0] == bounds[1]
    last = bounds[1] - timedelta(microseconds=1)
    assert window_bounds(last, window, ZoneInfo(zone))[1] == bounds[1]
