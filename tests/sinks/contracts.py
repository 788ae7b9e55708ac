"""What our own sinks are tested by, beside the public contract."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llm_metering.sinks import Delivery, Envelope
from llm_metering.testing.contract import events
from tests.factories import envelope_of, make_event
from tests.forking import in_child

__all__ = ["LooksInside", "Ours"]


class Ours:
    """What only we can test."""

    def test_a_forked_child_delivers_and_so_does_its_parent(self, bench):
        """A connection that was open at the fork is used by neither in the other's place."""
        before, in_the_child, after = (events(1) for _ in range(3))
        bench.sink.deliver(before)

        assert in_child(
            lambda: bench.sink.deliver(in_the_child) == Delivery.all_accepted(in_the_child)
        )
        assert bench.sink.deliver(after) == Delivery.all_accepted(after)

    def test_its_name_is_its_scheme(self, bench):
        """Unless its URL says otherwise."""
        assert bench.sink.name == bench.sink.url.partition(":")[0].partition("+")[0]


class LooksInside:
    """Of a sink that reads the events it takes."""

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            pytest.param(b"{", "no CloudEvent: Input data was truncated", id="cut off"),
            pytest.param(
                b'{"id":"\xff"}', "no CloudEvent: 'utf-8' codec can't decode", id="no UTF-8"
            ),
            pytest.param(
                b'{"id":"1","source":"s","type":"t","subject":"","time":"2026-11-21T00:00:00Z",'
                b'"data":{}}',
                "its subject is empty",
                id="nobody pays",
            ),
            pytest.param(
                b'{"id":"1","source":"s","type":"t","subject":"c","time":"2026-11-21T00:00:00",'
                b'"data":{}}',
                "its time names no zone",
                id="naive time",
            ),
            pytest.param(
                b'{"id":"1","source":"s","type":"t","subject":"c","time":"hunter2","data":{}}',
                "no CloudEvent: Invalid RFC3339 encoded datetime - at `$.time`",
                id="no time",
            ),
            pytest.param(
                b'{"id":"1","source":"s","type":"t","subject":"c","time":"2026-11-21T00:00:00Z",'
                b'"data":{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
                "no CloudEvent: nested too deeply",
                id="nested",
            ),
        ],
    )
    def test_what_is_no_event_is_rejected_alone(self, bench, payload, reason):
        """One unusable payload is rejected with a reason that quotes nothing; the rest is taken."""
        good = envelope_of(make_event(time=datetime.now(UTC)))  # what is old, some refuse

        delivery = bench.sink.deliver([Envelope("bad", payload), good])

        assert delivery.accepted == {good.id}
        [(rejected, why)] = delivery.rejected
        assert rejected == "bad"
        assert why.startswith(reason)
        assert "hunter2" not in why
