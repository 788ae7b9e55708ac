"""The sink in memory."""

from __future__ import annotations

from llm_metering.events import encode, parse
from llm_metering.sinks import open_sink
from tests.factories import batch_of, make_event


def test_it_keeps_each_event_once_in_order():
    """As it first came; the same id of another source is another event."""
    sink = open_sink("memory:", source="tests")
    first, second = make_event(), make_event()
    changed = make_event(id=first.id, subject="somebody else")
    foreign = make_event(id=first.id, source="another")

    sink.deliver(batch_of([first]))
    sink.deliver(batch_of([second, changed]))
    sink.deliver(batch_of([foreign]))
    sink.close()

    assert sink.events == [parse(encode(event)) for event in (first, second, foreign)]
    assert repr(sink) == "<MemorySink memory events=3>"
