"""The scenarios: what goes wrong, and how the application ends."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

__all__ = ["PATIENCE", "SCENARIOS", "Scenario", "quick"]

PATIENCE: Final = 90.0
"""Seconds that an application may take to end; an orchestrator gives 30, mostly."""

FLUSH_TIMEOUT: Final = 10.0
"""Seconds; for clients that take a time-out, the default of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A column of the table.

    Attributes:
        title: Its heading.
        count: Events; where a signal ends the application, about as many.
        rate: Events a second; 0 is as fast as it goes.
        end: How the application ends: `flush` as documented, `exit` without, `go on` until the
            signal.
        signal: What ends it, once `count` events were recorded.
        fault: What the server does to the first requests that bring events.
        times: To how many.
        down: Seconds from the first event during which there is no server; `None` is as long as
            the application lives.
        patience: See `PATIENCE`.
        flush_timeout: See `FLUSH_TIMEOUT`.
    """

    title: str
    count: int = 10_000
    rate: float = 2_000
    end: Literal["flush", "exit", "go on"] = "flush"
    signal: signal.Signals | None = None
    fault: Literal["none", "refuse", "drop"] = "none"
    times: int = 0
    down: float | None = 0.0
    patience: float = PATIENCE
    flush_timeout: float = FLUSH_TIMEOUT


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "tight": Scenario(title="tight loop, flush", rate=0),
    "exit": Scenario(title="exit without flush", end="exit"),
    "exit-tight": Scenario(title="tight loop, exit without flush", rate=0, end="exit"),
    "kill": Scenario(title="kill -9", end="go on", signal=signal.SIGKILL),
    "sigterm": Scenario(title="SIGTERM, no handler", end="go on", signal=signal.SIGTERM),
    "500": Scenario(title="500 three times", fault="refuse", times=3),
    "dropped": Scenario(title="taken, connection dropped three times", fault="drop", times=3),
    "down-10": Scenario(title="server down 10 s", down=10.0),
    "down-20": Scenario(title="server down 20 s, 30,000 events", count=30_000, down=20.0),
    "down-exit": Scenario(
        title="server down, flush and exit, 2,000 events", count=2_000, down=None
    ),
}
"""Every column, in the order of the table."""


def quick(scenario: Scenario) -> Scenario:
    """The same with fewer events and shorter outages: the same things go wrong."""
    return replace(
        scenario,
        count=scenario.count // 10,
        down=None if scenario.down is None else scenario.down / 10,
        patience=10.0,
        flush_timeout=1.0,
    )
