"""What an outage of brokers costs: no event, and no duplicate while the process lives."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from llm_metering import Meter
from llm_metering.sinks import Delivery, open_sink
from llm_metering.sinks.kafka.producer import NO_REPORT
from llm_metering.testing.contract import deliver_until_taken
from tests.factories import batch_of, make_event
from tests.forking import in_child
from tests.kafka_brokers import (
    PRODUCE,
    BrokerProcess,
    free_port,
)
from tests.sinks.kafka_bench import books, ids_in, ids_of, record, sink_to

OUT_OF_ORDER = 45


def test_what_is_in_flight_is_not_written_again(brokers):
    """An outage makes no duplicates: what librdkafka has is waited for, not given to it again."""
    batch = batch_of([make_event() for _ in range(50)])

    with sink_to(brokers) as sink:
        sink.deliver(batch_of([make_event()]))
        brokers.down()
        away = [sink.deliver(batch) for _ in range(2)]
        brokers.up()
        back = deliver_until_taken(sink, batch)

    assert all(each.retryable == ids_of(batch) and each.ambiguous for each in away)
    assert back == Delivery.all_accepted(batch)
    found = ids_in(brokers)
    assert {found[event_id] for event_id in ids_of(batch)} == {1}


def test_a_report_is_kept_until_its_event_is_offered_again(brokers):
    """What was written while the transport waited is accepted without another record."""
    first, second = batch_of([make_event() for _ in range(3)]), batch_of([make_event()])

    with sink_to(brokers) as sink:
        sink.deliver(batch_of([make_event()]))
        brokers.down()
        sink.deliver(first)
        brokers.up()
        deliver_until_taken(sink, second)
        taken = sink.deliver(first)

    assert taken == Delivery.all_accepted(first)
    found = ids_in(brokers)
    assert {found[event_id] for event_id in ids_of(first)} == {1}


def test_a_fatal_error_costs_the_producer_and_no_event(brokers):
    """A broker that lost its log ends idempotence; a new producer writes what is not known to be."""
    before, during = batch_of([make_event()]), batch_of([make_event() for _ in range(3)])

    with sink_to(brokers) as sink:
        sink.deliver(before)
        brokers.fail(PRODUCE, [OUT_OF_ORDER])
        failed = sink.deliver(during)
        again = sink.deliver(during)

    assert failed.retryable == ids_of(during)
    assert failed.ambiguous
    assert not failed.hold
    assert "OUT_OF_ORDER_SEQUENCE_NUMBER" in (failed.reason or "")
    assert again == Delivery.all_accepted(during)
    assert ids_in(brokers).keys() == ids_of(before) | ids_of(during)


def test_a_full_queue_is_waited_for(brokers):
    """With room for ten records in librdkafka, a hundred are written all the same."""
    batch = batch_of([make_event() for _ in range(100)])

    with sink_to(brokers, "queue.buffering.max.messages=10") as sink:
        assert sink.deliver(batch) == Delivery.all_accepted(batch)

    assert len(ids_in(brokers)) == 100


def test_no_address_is_no_error_of_ours():
    """A host that does not exist is an outage, and its name is told."""
    batch = batch_of([make_event()])

    with closing(open_sink("kafka://no-such-host.invalid/usage", source="tests")) as sink:
        delivery = sink.deliver(batch)

    assert delivery.retryable == ids_of(batch)
    assert not delivery.hold
    assert "no-such-host.invalid" in (delivery.reason or "")


def test_a_process_ends_though_its_broker_hangs(tmp_path):
    """Connections are taken and nothing is answered: `close` and the end of the process are bounded."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"kafka://127.0.0.1:{silent.getsockname()[1]}/usage"
        code = f"""
import time
from llm_metering import Meter, TokenUsage
meter = Meter(home={str(tmp_path)!r}, sinks=[{url!r}], source="shop", ledger=False)
meter.record(TokenUsage(input_tokens=1), "customer", provider="openai", model="gpt")
time.sleep(1.5)
print("closed", meter.close(1.0))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )

    assert done.stdout == "closed False\n"
    assert done.stderr.count("Traceback") == 0
    with Meter(home=tmp_path, sinks=[url], source="shop", ledger=False) as meter:
        assert books(meter)["pending"] == 1
        meter.close(0.1)


def test_a_child_leaves_what_its_parent_has_in_flight(brokers):
    """A fork in an outage: the child writes its own, the parent its own, nobody the other's."""
    parents, childs = batch_of([make_event() for _ in range(3)]), batch_of([make_event()])

    with sink_to(brokers) as sink:
        sink.deliver(batch_of([make_event()]))
        brokers.down()
        sink.deliver(parents)
        brokers.up()
        assert in_child(lambda: deliver_until_taken(sink, childs) == Delivery.all_accepted(childs))
        assert deliver_until_taken(sink, parents) == Delivery.all_accepted(parents)

    found = ids_in(brokers)
    assert {found[event_id] for event_id in ids_of(parents) | ids_of(childs)} == {1}


def test_a_child_may_end_without_a_word(brokers):
    """The interpreter of a child drops all it has, and waits for no thread of its parent's."""
    code = """
import os, sys
from llm_metering.sinks import Envelope, open_sink
from tests.factories import batch_of, make_event
sink = open_sink(sys.argv[1], source="tests")
sink.deliver(batch_of([make_event()]))
child = os.fork()
if child == 0:
    sys.exit(0)
print(os.waitpid(child, 0)[1], len(sink.deliver(batch_of([make_event()])).accepted))
sink.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, brokers.url("usage")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout == "0 1\n"


def test_a_child_never_destroys_its_parents_producer(brokers):
    """It lets go of it, and one reference remains that nobody has."""

    def is_let_go() -> bool:
        # Beside the closure's and the argument's own.
        return sink._line._producer is None and sys.getrefcount(producer) == 3

    with sink_to(brokers) as sink:
        sink.deliver(batch_of([make_event()]))
        producer = sink._line._producer
        assert in_child(is_let_go)


@pytest.mark.timeout(60)
def test_brokers_that_are_plainly_away_are_not_waited_for(monkeypatch):
    """However long it is waited for reports where there may be one."""
    monkeypatch.setattr("llm_metering.sinks.kafka.sink.PATIENCE", 3600.0)
    batch = batch_of([make_event()])

    with closing(open_sink(f"kafka://127.0.0.1:{free_port()}/usage", source="tests")) as sink:
        assert sink.deliver(batch).retryable == ids_of(batch)


@pytest.mark.timeout(60)
def test_a_broker_that_hangs_is_waited_for_no_longer_than_it_may(monkeypatch):
    """Nothing says that it is away; the reason is that nothing was reported."""
    monkeypatch.setattr("llm_metering.sinks.kafka.sink.PATIENCE", 0.5)
    batch = batch_of([make_event()])

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(
            open_sink(f"kafka://127.0.0.1:{silent.getsockname()[1]}/usage", source="tests")
        ) as sink,
    ):
        delivery = sink.deliver(batch)

    assert delivery == Delivery.try_later(batch, NO_REPORT, ambiguous=True)


def test_what_is_not_sent_is_not_written_while_the_sink_is_closed(brokers, monkeypatch):
    """Nobody would hear of it, and it is sent again: what waits for company is taken back."""
    before, during = batch_of([make_event()]), batch_of([make_event() for _ in range(3)])

    with sink_to(brokers, "linger.ms=500") as sink:
        sink.deliver(before)
        monkeypatch.setattr("llm_metering.sinks.kafka.sink.PATIENCE", 0.1)
        assert sink.deliver(during).retryable == ids_of(during)

    assert ids_in(brokers).keys() == ids_of(before)


def test_other_greenlets_go_on_while_a_delivery_waits():
    """librdkafka waits inside C, where gevent cannot switch: it is asked for no time at all."""
    code = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from llm_metering.sinks import open_sink
from tests.factories import batch_of, make_event
ticks = []
def tick():
    while True:
        ticks.append(None)
        gevent.sleep(0.01)
gevent.spawn(tick)
sink = open_sink(sys.argv[1], source="tests")
print(len(sink.deliver(batch_of([make_event()])).retryable), len(ticks) > 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, f"kafka://127.0.0.1:{free_port()}/usage"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout == "1 True\n"


def test_closing_while_brokers_are_away_leaves_nothing_behind(brokers):
    """What is not sent when the sink is closed is not written behind our back later."""
    before, during = batch_of([make_event()]), batch_of([make_event() for _ in range(3)])

    with sink_to(brokers) as sink:
        sink.deliver(before)
        brokers.down()
        sink.deliver(during)
        sink.close()
        brokers.up()
        assert ids_in(brokers).keys() == ids_of(before)
        assert deliver_until_taken(sink, during) == Delivery.all_accepted(during)

    assert ids_in(brokers) == dict.fromkeys(ids_of(before) | ids_of(during), 1)


def test_every_event_arrives_once_though_the_broker_was_killed(home, tmp_path):
    """2,000 events through a meter, half of them while there is no broker: each is there, once."""
    with BrokerProcess(tmp_path / "broker") as broker:
        broker.create("usage", 4)
        with Meter(home=home, sinks=[broker.url("usage")], source="shop", ledger=False) as meter:
            record(meter, 1000)
            assert meter.flush(20)
            broker.wait_until_saved("usage")
            broker.kill()
            record(meter, 1000, first=1000)
            assert not meter.flush(0.5)
            away = books(meter)
            broker.start()
            assert meter.flush(30)
            back = books(meter)
        found = ids_in(broker)

    assert (away["acked"], away["pending"]) == (1000, 1000)
    assert (back["acked"], back["pending"], back["dead"], back["dropped"]) == (2000, 0, 0, 0)
    assert len(found) == 2000
    assert set(found.values()) == {1}


def test_every_event_arrives_once_though_the_broker_hung(home, tmp_path):
    """It stands still in the middle of requests, which time out and are sent again: once each."""
    with BrokerProcess(tmp_path / "broker") as broker:
        broker.create("usage", 2)
        url = broker.url("usage", "socket.timeout.ms=500&request.timeout.ms=400")
        with Meter(home=home, sinks=[url], source="shop", ledger=False) as meter:
            record(meter, 200)
            assert meter.flush(20)
            broker.freeze()
            record(meter, 500, first=200)
            meter.flush(1.5)
            during = books(meter)
            broker.thaw()
            assert meter.flush(30)
            after = books(meter)
        found = ids_in(broker)

    assert (during["acked"], during["pending"]) == (200, 500)
    assert (after["acked"], after["pending"]) == (700, 0)
    assert len(found) == 700
    assert set(found.values()) == {1}


def test_what_a_killed_process_left_is_shipped_by_the_next(home, tmp_path):
    """Killed in an outage, with records in librdkafka: another process writes every event."""
    code = """
import sys, time
from llm_metering import Meter
from tests.sinks.kafka_bench import record
meter = Meter(home=sys.argv[1], sinks=[sys.argv[2]], source="shop", ledger=False)
record(meter, 300)
meter.flush(0.5)
print("recorded", flush=True)
time.sleep(60)
"""
    with BrokerProcess(tmp_path / "broker", free_port()) as broker:
        broker.create("usage", 2)
        broker.wait_until_saved("usage")
        broker.kill()
        url = broker.url("usage")
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(home), url],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == "recorded\n"
            child.kill()
        broker.start()
        broker.create("usage2", 1)
        with Meter(home=home, sinks=[url], source="shop", ledger=False) as meter:
            record(meter, 10, first=300)
            deadline = time.monotonic() + 30
            while books(meter)["pending"] and time.monotonic() < deadline:
                meter.flush(1)
                time.sleep(0.05)
            found = books(meter)

        assert (found["acked"], found["pending"]) == (310, 0)
        assert len(ids_in(broker)) == 310
