"""What every sink promises to the shipper, as tests to subclass: `SinkContract`.

`RemoteSinkContract` is that of a sink whose system can be away.
It needs pytest; the plugin of this library has its assertions explained.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from ..events import UsageEvent, encode, new_event_id
from ..sinks.base import Delivery, Envelope, Sink, SinkLimits
from ..token_usage import TokenUsage

__all__ = ["RemoteSinkContract", "SinkBench", "SinkContract"]


def _never() -> None:
    raise NotImplementedError("a RemoteSinkContract needs go_away and come_back")


@dataclass(frozen=True, kw_only=True)
class SinkBench:
    """A sink with what a test can see of the system behind it.

    Attributes:
        sink: What is tested.
        arrived: The ids of the events that the system holds now, each as often as it would count
            it. What was accepted is there when `deliver` returns, or comes within `patience`.
        go_away: Makes the system unreachable.
        come_back: Undoes that.
        patience: Seconds that an accepted event may take to be seen.
    """

    sink: Sink
    arrived: Callable[[], Sequence[str]]
    go_away: Callable[[], object] = _never
    come_back: Callable[[], object] = _never
    patience: float = 0.0

    def wait_for(self, batches: Sequence[Sequence[Envelope]]) -> Counter[str]:
        """What has arrived as soon as all of these have; what has, when patience ends."""
        wanted = {envelope.id for batch in batches for envelope in batch}
        clock = threading.Event()
        for _ in range(max(int(self.patience * 20), 1)):
            found = Counter(self.arrived())
            if wanted <= found.keys():
                break
            clock.wait(0.05)
        return Counter(self.arrived())


class SinkContract:
    """The contract; a subclass called `Test…` gives it the fixture `bench`.

    >>> class TestMine(SinkContract):
    ...     @pytest.fixture
    ...     def bench(self) -> SinkBench: ...
    """

    @pytest.fixture
    def bench(self) -> SinkBench:
        """The sink under test; each test has one of its own, with nothing in it."""
        raise NotImplementedError("override the fixture `bench`")

    def test_what_is_accepted_has_arrived(self, bench: SinkBench) -> None:
        """A batch is accepted under its ids, and is there: once each."""
        batch = events(3)

        assert bench.sink.deliver(batch) == Delivery.all_accepted(batch)
        assert bench.wait_for([batch]) == Counter(envelope.id for envelope in batch)

    def test_redelivery_is_accepted(self, bench: SinkBench) -> None:
        """Offering an event again is no error; where `dedupe` says `always`, it counts once."""
        batch = events(2)

        first, second = bench.sink.deliver(batch), bench.sink.deliver(batch)

        assert first == second == Delivery.all_accepted(batch)
        if bench.sink.limits.dedupe == "always":
            assert set(bench.wait_for([batch]).values()) == {1}

    def test_partial_overlap_is_accepted(self, bench: SinkBench) -> None:
        """A batch of old and new events is accepted as a whole."""
        old, new = events(2)

        bench.sink.deliver([old])

        assert bench.sink.deliver([old, new]) == Delivery.all_accepted([old, new])
        assert {old.id, new.id} <= bench.wait_for([[old, new]]).keys()

    def test_a_batch_is_not_to_be_changed(self, bench: SinkBench) -> None:
        """It comes as a tuple, as from a shipper, which goes by it when the sink has answered."""
        batch = tuple(events(2))

        assert bench.sink.deliver(batch) == Delivery.all_accepted(batch)
        assert bench.wait_for([batch]).keys() == {envelope.id for envelope in batch}

    def test_an_empty_batch_is_nothing(self, bench: SinkBench) -> None:
        """No events, no outcome."""
        assert bench.sink.deliver([]) == Delivery()

    def test_the_largest_batch_is_taken(self, bench: SinkBench) -> None:
        """As many events as `limits` names go in one batch."""
        batch = events(bench.sink.limits.max_events)
        size = sum(len(envelope.payload) for envelope in batch)
        if size > bench.sink.limits.max_bytes:
            batch = batch[: len(batch) * bench.sink.limits.max_bytes // size]

        assert bench.sink.deliver(batch) == Delivery.all_accepted(batch)
        assert len(bench.wait_for([batch])) == len(batch)

    def test_every_text_arrives(self, bench: SinkBench) -> None:
        """Subjects and models of any script are taken, and so is one of two kilobytes."""
        batch = [
            event(subject="株式会社/営業 «é» \U0001f680"),
            event(subject="x" * 2000),
            event(model='"quoted", \\ and\nbroken'),
        ]

        assert bench.sink.deliver(batch) == Delivery.all_accepted(batch)
        assert bench.wait_for([batch]).keys() == {envelope.id for envelope in batch}

    def test_a_closed_sink_opens_again(self, bench: SinkBench) -> None:
        """`close` lets go of connections only; it may be called twice, and before any use."""
        batches = [events(1), events(1)]

        bench.sink.close()
        bench.sink.close()
        first = bench.sink.deliver(batches[0])
        bench.sink.close()
        second = bench.sink.deliver(batches[1])

        assert [first, second] == [Delivery.all_accepted(batch) for batch in batches]
        assert len(bench.wait_for(batches)) == len(batches)

    def test_threads_may_take_turns(self, bench: SinkBench) -> None:
        """A batch may come from another thread than the one before."""
        deliveries: list[Delivery] = []
        batches = [events(1) for _ in range(3)]

        for batch in batches:
            thread = threading.Thread(
                target=lambda each=batch: deliveries.append(bench.sink.deliver(each))
            )
            thread.start()
            thread.join()

        assert deliveries == [Delivery.all_accepted(batch) for batch in batches]
        assert len(bench.wait_for(batches)) == len(batches)

    def test_it_has_an_identity_that_debts_can_be_kept_under(self, bench: SinkBench) -> None:
        """Name, URL and account are there before anything is delivered, and stay the same."""
        sink = bench.sink
        before = sink.name, sink.url, sink.account

        sink.deliver(events(1))

        assert before == (sink.name, sink.url, sink.account)
        assert all(isinstance(each, str) for each in before)
        assert sink.name
        assert sink.url.isprintable()
        assert isinstance(sink.limits, SinkLimits)
        assert sink.limits.max_events > 0
        assert sink.limits.max_bytes > 0


class RemoteSinkContract(SinkContract):
    """The contract of a sink whose system may be away; its bench has `go_away` and `come_back`."""

    def test_a_system_that_is_away_keeps_nothing(self, bench: SinkBench) -> None:
        """An outage raises nothing and rejects nothing; all of it is taken once it is over."""
        before, during = events(2), events(3)
        bench.sink.deliver(before)

        bench.go_away()
        away = bench.sink.deliver(during)
        bench.come_back()
        back = deliver_until_taken(bench.sink, during)

        ids = {envelope.id for envelope in during}
        assert away.retryable == ids
        assert not away.accepted
        assert not away.rejected
        assert away.reason
        assert back == Delivery.all_accepted(during)
        assert bench.wait_for([before, during]).keys() >= ids

    def test_a_system_that_was_never_there_is_no_error(self, bench: SinkBench) -> None:
        """The first delivery may meet an outage, too."""
        batch = events(2)

        bench.go_away()
        away = bench.sink.deliver(batch)
        bench.come_back()

        assert away.retryable == {envelope.id for envelope in batch}
        assert deliver_until_taken(bench.sink, batch) == Delivery.all_accepted(batch)
        assert len(bench.wait_for([batch])) == len(batch)


def deliver_until_taken(sink: Sink, batch: Sequence[Envelope], *, tries: int = 100) -> Delivery:
    """Offer a batch again and again, as a shipper does; the last answer."""
    clock = threading.Event()
    delivery = sink.deliver(batch)
    while delivery.retryable and tries:
        clock.wait(0.1)
        tries -= 1
        delivery = sink.deliver(batch)
    return delivery


def events(count: int) -> list[Envelope]:
    """A batch of so many new events."""
    return [event() for _ in range(count)]


def event(*, subject: str = "customer-42", model: str = "gpt-5-mini") -> Envelope:
    """A new event as a shipper hands it over."""
    usage = UsageEvent(
        id=new_event_id(),
        source="contract",
        subject=subject,
        time=datetime.now(UTC),
        usage=TokenUsage(input_tokens=100, output_tokens=20),
        operation="chat",
        provider="openai",
        model=model,
        provenance="reported",
        status="completed",
    )
    return Envelope(id=usage.id, payload=encode(usage))
