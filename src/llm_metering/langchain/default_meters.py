"""The default meters that calls were begun with.

`configure()` and `close()` put another one in place while calls are in flight; the end of a call
belongs where its start went, or the new meter would bill it a second time.
"""

from __future__ import annotations

from typing import Final

from ..calls import Key
from ..meter import Meter

__all__ = ["calls_in_flight", "latest_meter", "meter_that_knows", "remember_meter"]

_MOST: Final = 8

_meters: tuple[Meter, ...] = ()
"""The present one last."""


def remember_meter(meter: Meter) -> None:
    """A call is begun with a default meter."""
    global _meters
    if all(each is not meter for each in _meters):
        _meters = (*_meters, meter)[-_MOST:]


def meter_that_knows(key: Key) -> Meter | None:
    """The one that a call was begun with; `None` if none of them knows it."""
    for meter in reversed(_meters):
        if meter.calls.knows(key):
            return meter
    return None


def latest_meter() -> Meter | None:
    """The last one that a call was begun with."""
    return _meters[-1] if _meters else None


def calls_in_flight() -> bool:
    """Whether calls are in flight with the default meter, or with one that was."""
    return any(len(meter.calls) for meter in _meters)
