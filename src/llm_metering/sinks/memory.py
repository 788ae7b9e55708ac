"""A sink in memory, for tests and for a first look."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import SinkURLError
from ..events import CloudEvent
from ._payload import UnusableEventError, read_event
from .base import Delivery, Envelope, SinkContext, SinkLimits
from .urls import split_url

__all__ = ["MemorySink", "from_url"]


class MemorySink:
    """Keeps events in this process, each once.

    What was delivered is gone with the process: the journal counts it as acknowledged.

    >>> MemorySink().events
    []

    Args:
        name: How `status` calls it.
    """

    url = "memory:"
    account = ""
    limits = SinkLimits(dedupe="always")

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self._events: dict[tuple[str, str], CloudEvent] = {}

    def __repr__(self) -> str:
        return f"<MemorySink {self.name} events={len(self._events)}>"

    @property
    def events(self) -> list[CloudEvent]:
        """The events in the order they first came."""
        return list(self._events.values())

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        accepted: set[str] = set()
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                event = read_event(envelope.payload)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
            else:
                self._events.setdefault((event.source, event.id), event)
                accepted.add(envelope.id)
        return Delivery(accepted=frozenset(accepted), rejected=frozenset(rejected))

    def close(self) -> None:
        """Nothing to let go of: the events stay readable."""


def from_url(url: str, _context: SinkContext, /) -> MemorySink:
    """Make the sink that `memory:` names.

    Raises:
        SinkURLError: If anything follows the scheme.
    """
    if split_url(url, "a memory")._replace(scheme="").geturl():
        raise SinkURLError("the sink in memory is written memory: and takes nothing more")
    return MemorySink()
