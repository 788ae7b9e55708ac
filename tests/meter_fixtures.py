"""What tests of a front end get: a meter, its events, an unruly provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import llm_metering
from llm_metering import Meter
from llm_metering.events import CloudEvent
from llm_metering.sinks.memory import MemorySink
from tests.unruly_provider import UnrulyProvider

__all__ = ["default_meter", "events_of", "meter", "sink", "unruly"]


@pytest.fixture
def sink() -> MemorySink:
    """Where the meters of the test send their events."""
    return MemorySink()


@pytest.fixture
def meter(home: Path, sink: MemorySink) -> Iterator[Meter]:
    """A meter of the test's own."""
    with Meter(home=home, sinks=[sink]) as meter:
        yield meter


@pytest.fixture
def default_meter(home: Path, sink: MemorySink) -> Iterator[Meter]:
    """The process-wide meter, in the test's home; nothing of it is left behind."""
    meter = llm_metering.configure(home=home, sinks=[sink])
    yield meter
    llm_metering.uninstall()
    llm_metering.close()


@pytest.fixture
def events_of(sink: MemorySink) -> Callable[[Meter], list[CloudEvent]]:
    """Everything a meter has recorded so far."""

    def events_of(meter: Meter) -> list[CloudEvent]:
        assert meter.flush()
        return sink.events

    return events_of


@pytest.fixture
def unruly() -> Iterator[UnrulyProvider]:
    """A provider on a bad day."""
    with UnrulyProvider() as provider:
        yield provider
