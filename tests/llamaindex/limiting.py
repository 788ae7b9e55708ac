"""What tests of calls that are held to balances share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager

import llm_metering
from llm_metering import Meter
from llm_metering.events import CloudEvent
from llm_metering.llamaindex import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.provider.client import Provider

__all__ = ["configured", "is_clean", "limited", "manager", "tokens", "used"]


@pytest.fixture
def configured(home: Path, sink: MemorySink) -> Iterator[Callable[..., Meter]]:
    """Makes the default meter, with balances."""

    def configured(**more: Any) -> Meter:
        # No notice of a threshold among the events.
        given = {"limits": "on", "request_stream_usage": True, "balance_thresholds": []}
        given |= {"limit_deadline": 30}  # a busy machine may be late
        return llm_metering.configure(home=home, sinks=[sink], **{**given, **more})

    yield configured
    llm_metering.uninstall()
    llm_metering.close()


@pytest.fixture
def limited(configured: Callable[..., Meter]) -> Meter:
    """The default meter, with balances."""
    return configured()


def is_clean(meter: Meter, *, refused: int, unchecked: int = 0) -> None:
    """Nothing is open, nothing is reserved, nothing failed, and refusals were counted."""
    meter.flush()
    assert meter.gate is not None
    meter.gate.close()  # what is given back is given back by a thread
    seen = meter.statistics()
    assert (len(meter.calls), seen["open_calls"], seen["failures"]) == (0, 0, 0)
    assert (seen["refused_calls"], seen["unchecked_calls"]) == (refused, unchecked)
    assert meter.limits.reservations() == []
    assert len(meter.gate.leases) == 0


def manager(subject: str | None, **more: Any) -> CallbackManager:
    """With a handler that enforces, unless it is told not to."""
    return CallbackManager([MeteringHandler(subject, **{"enforce": True, **more})])


def tokens(events: Iterable[CloudEvent]) -> int:
    """What was billed."""
    return sum(event.data["total_tokens"] for event in events)


def used(provider: Provider) -> int:
    """The tokens of all that the provider answered."""
    return sum(entry.input + entry.output for entry in provider.entries)
