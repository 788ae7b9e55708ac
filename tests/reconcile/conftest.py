"""A home whose meter has delivered to a fake server, and the comparison of the two."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.events import UsageEvent, encode, new_event_id
from llm_metering.ledger import Ledger
from llm_metering.reconcile import Reconciler
from llm_metering.sinks import open_sink
from llm_metering.sinks.base import Envelope
from llm_metering.sinks.openmeter import OpenMeterSink
from llm_metering.testing import OpenMeterServer
from llm_metering.transport.journal import Journal
from llm_metering.transport.retention import Retention
from llm_metering.transport.spool import Spool, debt_of

SOURCE = "shop"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
START, END = NOON - timedelta(hours=1), NOON + timedelta(hours=12)
METERS = (
    {
        "slug": "tokens",
        "eventType": "llm.usage",
        "aggregation": "SUM",
        "valueProperty": "$.total_tokens",
    },
    {
        "slug": "reasoning",
        "eventType": "llm.usage",
        "aggregation": "SUM",
        "valueProperty": "$.reasoning_output_tokens",
    },
    *(
        {
            "slug": f"credits_{number}",
            "eventType": event_type,
            "aggregation": "SUM",
            "valueProperty": "$.credits",
        }
        for number, event_type in enumerate(("llm.usage", "prompt"))
    ),
    {
        "slug": "requests",
        "eventType": "llm.usage",
        "aggregation": "COUNT",
    },
    {
        "slug": "kinds",
        "eventType": "prompt",
        "aggregation": "SUM",
        "valueProperty": "$.tokens",
    },
    {
        "slug": "example",
        "eventType": "openai",
        "aggregation": "SUM",
        "valueProperty": "$.total_tokens",
    },
)


class Shop:
    """An application that recorded usage at noon and after it, and its server.

    Args:
        home: Its home.
        server: A fake server.
        parameters: Of the sink's URL.
        source: Its CloudEvents source.
    """

    def __init__(self, home, server, parameters="", source=SOURCE):
        self.home = home
        self.server = server
        self.source = source
        self.url = f"{server.sink_url}?{parameters}" if parameters else server.sink_url

    def sink(self, **credentials):
        sink = open_sink(self.url, source=self.source, **credentials)
        assert isinstance(sink, OpenMeterSink)
        return sink

    def record(self, number, *, first=0, dimensions=None):
        """Record so many calls, one a second, of three subjects; their ids."""
        with Meter(home=self.home, sinks=[self.url], source=self.source) as meter:
            return self.record_with(meter, number, first=first, dimensions=dimensions)

    @staticmethod
    def record_with(meter, number, *, first=0, dimensions=None):
        """Record them with a meter that goes on living."""
        ids = [
            meter.record(
                TokenUsage(input_tokens=100 + each, output_tokens=7, cache_read_input_tokens=64),
                f"customer-{each % 3}",
                model="tiny",
                time=NOON + timedelta(seconds=each, milliseconds=250),
                dimensions=dimensions,
            ).id
            for each in range(first, first + number)
        ]
        assert meter.flush(60)
        return ids

    def leave(self, number):
        """Have so many events in ledger and journal, as a process leaves them that dies; their ids."""
        sink, ledger = self.sink(), Ledger(self.home / "ledger.db")
        spool = Spool(self.home)
        spool.make()
        journal = Journal(spool, source=self.source, debts=[debt_of(sink)])
        events = [
            UsageEvent(
                id=new_event_id(),
                source=self.source,
                subject="customer-0",
                time=NOON,
                model="tiny",
                provenance="reported",
                status="completed",
                usage=TokenUsage(input_tokens=100, output_tokens=each),
            )
            for each in range(number)
        ]
        for event in events:
            journal.record(event.id, encode(event))
        journal.close()
        ledger.deliver([Envelope(event.id, encode(event)) for event in events])
        ledger.close()
        sink.close()
        return [event.id for event in events]

    @contextlib.contextmanager
    def reconciling(self, *, lag=0.0, settle=0.0, sink=None, start=START, **options):
        """A reconciliation of all of it."""
        ledger = Ledger(self.home / "ledger.db")
        sink = sink or self.sink()
        try:
            with Reconciler(
                self.home,
                sink=sink,
                ledger=ledger,
                source=self.source,
                start=start,
                end=END,
                retention=Retention(),
                settle=settle,
                lag=lag,
                **options,
            ) as reconciler:
                yield reconciler
        finally:
            sink.close()
            ledger.close()

    def compare(self, **options):
        """What is found: ids by kind."""
        with self.reconciling(**options) as reconciler:
            reconciler.compare()
            return by_kind(reconciler)


def by_kind(reconciler):
    """The ids on the wire, by what is said of them."""
    found = {}
    for wire_id, finding in reconciler.findings.items():
        found.setdefault(finding.kind, set()).add(wire_id)
    return found


@pytest.fixture
def server():
    """OpenMeter, which deduplicates and has meters."""
    with OpenMeterServer(meters=METERS, customers=[f"customer-{each}" for each in range(3)]) as it:
        yield it


@pytest.fixture
def shop(tmp_path, server):
    """An application that sends what it records as it is."""
    return Shop(tmp_path / "home", server)
