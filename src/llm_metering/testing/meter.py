"""A meter that shows what it recorded, and a way to make one the process's own for a while."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..default_meter import put_in_place
from ..events import CloudEvent
from ..meter import FLUSH_TIMEOUT, Meter
from ..sinks.base import Sink
from ..sinks.memory import MemorySink

__all__ = ["RecordedMeter", "as_default"]

MeterT = TypeVar("MeterT", bound=Meter)


class RecordedMeter(Meter):
    """A `Meter` for tests: what it records is in `events`.

    The sinks that the environment or `llm-metering.toml` name are not used; what else they say
    holds, unless it is given here.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home, RecordedMeter(home) as meter:
    ...     event = meter.record(quantity=3, unit="images", subject="customer-42")
    ...     [(each.subject, each.data["quantity"]) for each in meter.events]
    [('customer-42', 3)]

    Args:
        home: A folder for this test alone.
        sinks: Where usage goes besides the ledger and `events`.
        source: The application's name.
        subject: Who pays where nothing else says so.
        **settings: What else `Meter` takes.
    """

    def __init__(
        self,
        home: str | Path,
        sinks: Iterable[str | Sink] = (),
        source: str = "tests",
        subject: str | None = None,
        **settings: Any,
    ) -> None:
        self._memory = MemorySink("recorded")
        also = [sinks] if isinstance(sinks, str) else sinks
        super().__init__(home, [*also, self._memory], source, subject, **settings)

    @property
    def events(self) -> list[CloudEvent]:
        """What was recorded so far, in that order; calls in flight are not in it yet.

        Raises:
            TimeoutError: If counting or shipping does not come to an end.
        """
        if not self._closed:
            deadline = time.monotonic() + FLUSH_TIMEOUT
            counted = self._counting.wait(deadline)
            # Not `flush`: another sink may be down, which is what the test is about.
            if not (self._transport.drain(self._memory, deadline=deadline) and counted):
                raise TimeoutError(f"{self!r} is not done after {FLUSH_TIMEOUT} seconds")
        return self._memory.events


@contextmanager
def as_default(meter: MeterT) -> Iterator[MeterT]:
    """Make a meter the process-wide default for as long as the block lasts.

    `llm_metering.record`, handlers without a meter of their own and `install()` then use it. The
    one there was before is left as it is and comes back; the new one is not closed.

    >>> import llm_metering, tempfile
    >>> with tempfile.TemporaryDirectory() as home, RecordedMeter(home) as meter:
    ...     with as_default(meter):
    ...         llm_metering.get_meter() is meter
    True

    Args:
        meter: Which one.
    """
    before = put_in_place(meter)
    try:
        yield meter
    finally:
        left = put_in_place(before)
        if left is not None and left is not meter:
            left.close()  # made in the block, by `configure()`
