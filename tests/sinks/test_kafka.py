"""The Kafka sink against brokers: what a record is, what errors mean, and what an outage costs."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.errors import MissingExtraError, SinkURLError
from llm_metering.sinks import Delivery, open_sink
from llm_metering.sinks.kafka import FIXED
from llm_metering.testing.contract import deliver_until_taken
from tests.factories import batch_of, envelope_of, make_event
from tests.forking import in_child
from tests.kafka_brokers import (
    INIT_PRODUCER_ID,
    PRODUCE,
    BrokerProcess,
    MockBrokers,
    RefusingBroker,
    free_port,
)

TOO_LARGE, NOT_ALLOWED, INVALID_RECORD, OUT_OF_ORDER, NO_TOPIC = 10, 29, 87, 45, 3
CLUSTER_NOT_ALLOWED = 31
PASSWORD = "hunter2"
USER = "user-of-hunter"
SASL = "security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN"


@pytest.fixture
def brokers() -> Iterator[MockBrokers]:
    """One broker in this process, with a topic `usage` of one partition: a batch is one request."""
    with MockBrokers(1) as brokers:
        brokers.create("usage", 1)
        yield brokers


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[BrokerProcess]:
    """A broker process that no test ends; each has a topic of its own."""
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@contextmanager
def sink_to(brokers, query="", topic="usage", **credentials):
    with closing(open_sink(brokers.url(topic, query), source="tests", **credentials)) as sink:
        yield sink


def ids_in(brokers, topic="usage"):
    """How often each event is there."""
    return Counter(dict(each.headers)["ce_id"].decode() for each in brokers.records(topic))


def ids_of(batch):
    return {envelope.id for envelope in batch}


def record(meter, count, *, first=0):
    for number in range(first, first + count):
        usage = TokenUsage(input_tokens=100, output_tokens=20)
        meter.record(usage, f"customer-{number % 50}", provider="openai", model="gpt-5-mini")


def books(meter):
    """How the one sink of a meter stands."""
    [sink] = [each for each in meter.statistics()["sinks"] if each["url"].startswith("kafka")]
    assert sink["recorded"] == sink["acked"] + sink["pending"] + sink["dead"] + sink["dropped"]
    return sink


def test_a_record_is_a_structured_cloud_event(process):
    """Key, value and headers are exactly these; its time is when it was written."""
    event = make_event(subject="Zoë", source="shop/überall")
    process.create("exact", 1)

    with sink_to(process, topic="exact") as sink:
        before = time.time()
        sink.deliver([envelope_of(event)])

    [found] = process.records("exact")
    assert found.key == "Zoë".encode()
    assert found.value == envelope_of(event).payload
    assert found.headers == (
        ("content-type", b"application/cloudevents+json; charset=UTF-8"),
        ("ce_id", event.id.encode()),
        ("ce_source", "shop/überall".encode()),
        ("ce_type", json.loads(found.value)["type"].encode()),
        ("ce_specversion", b"1.0"),
    )
    assert found.timestamp[1] / 1000 == pytest.approx(before, abs=60)


def test_a_subject_stays_in_its_partition(process):
    """Where Java's producers put the key as well: murmur2 of it, modulo the partitions."""
    process.create("parted", 5)
    subjects = [f"customer-{number}" for number in range(40)]

    for _ in range(2):
        with sink_to(process, topic="parted") as sink:
            sink.deliver(batch_of([make_event(subject=subject) for subject in subjects]))

    found = process.records("parted")
    assert len(found) == 2 * len(subjects)
    assert {each.key.decode(): each.partition for each in found} == {
        subject: (murmur2(subject.encode()) & 0x7FFFFFFF) % 5 for subject in subjects
    }
    assert len({(each.key, each.partition) for each in found}) == len(subjects)


def murmur2(data: bytes) -> int:
    """As in Kafka's `Utils.murmur2`, which is Austin Appleby's MurmurHash2 with this seed."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_the_promise_hangs_on_cannot_be_changed(name):
    """Neither by its name nor by another name for it."""
    told = f"{name} cannot be set" if "." in name else "takes the parameters account, name"
    with pytest.raises(SinkURLError, match=told):
        open_sink(f"kafka://b1/usage?{name}=1", source="tests")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("compresion.type=zstd", "compresion.type", id="no such property"),
        pytest.param("security.protocol=hunter2", "security.protocol", id="no such value"),
        pytest.param("linger.ms=hunter2", "queue.buffering.max.ms", id="no number"),
        pytest.param(
            "security.protocol=SSL&ssl.ca.location=/no/such/file", "ssl.ca.location", id="no file"
        ),
        pytest.param("max.in.flight=6", "max.in.flight", id="breaks idempotence"),
    ],
)
def test_a_property_that_makes_no_sense_is_refused_at_once(query, told, capfd):
    """When the sink is made, by its name and not by its value; nothing is printed."""
    with pytest.raises(SinkURLError, match=told) as raised:
        open_sink(f"kafka://b1/usage?{query}", source="tests")

    assert PASSWORD not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    """The extra is named when the sink is made."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'llm-metering\[kafka\]'"):
        open_sink("kafka://b1/usage", source="tests")


def test_its_identity_is_topic_and_application():
    """Brokers in any order are one sink; parameters are no part of it; an account can be named."""
    sinks = [
        open_sink("kafka://b2,B1:9092/usage?linger.ms=1", source="shop"),
        open_sink("kafka://b1,b2/usage?account=books&name=billing", source="shop"),
    ]

    assert [sink.url for sink in sinks] == ["kafka://b1:9092,b2:9092/usage"] * 2
    assert [(sink.name, sink.account) for sink in sinks] == [
        ("kafka", "shop"),
        ("billing", "books"),
    ]


def test_one_event_that_is_too_large_for_us_is_rejected_alone(brokers):
    """What librdkafka does not take for its size is a dead letter; the others are written."""
    small, large = make_event(), make_event(dimensions={"note": "x" * 2000})
    batch = batch_of([small, large])

    with sink_to(brokers, "message.max.bytes=1500") as sink:
        delivery = sink.deliver(batch)

    reason = "larger than message.max.bytes allows"
    assert delivery == Delivery(
        accepted=frozenset([small.id]), rejected=frozenset([(large.id, reason)])
    )
    assert ids_in(brokers) == {small.id: 1}


def test_one_event_that_is_too_large_for_the_broker_is_rejected_alone(process):
    """A broker refuses what comes with it as well; all of that is written."""
    process.create("narrow", 1, max_message_bytes="3000")
    company = [make_event() for _ in range(3)]
    large = make_event(dimensions={"note": "x" * 4000})
    batch = batch_of([company[0], company[1], large, company[2]])

    with sink_to(process, topic="narrow") as sink:
        sink.deliver(batch_of([make_event()]))
        delivery = sink.deliver(batch)
        if delivery.refusal:  # nothing of the one request was taken: a shipper offers parts
            assert delivery.retryable == ids_of(batch)
            assert delivery.refusal == "size"
            delivery = sink.deliver([batch[2]])
            assert (delivery.refusal, delivery.retryable) == ("size", {large.id})
            taken = [envelope for envelope in batch if envelope.id != large.id]
            assert sink.deliver(taken) == Delivery.all_accepted(taken)

    assert ids_in(process, "narrow").keys() >= {event.id for event in company}
    assert large.id not in ids_in(process, "narrow")


def test_who_was_refused_in_company_is_told_apart_at_once(brokers):
    """Of two requests one is refused; what is taken alone afterwards is taken."""
    brokers.create("two", 2)
    batch = batch_of([make_event(subject=f"customer-{number}") for number in range(20)])

    with sink_to(brokers, topic="two") as sink:
        sink.deliver(batch_of([make_event()]))
        brokers.fail_in("two", 0, PRODUCE, [TOO_LARGE])
        delivery = sink.deliver(batch)

    assert delivery == Delivery.all_accepted(batch)
    found = ids_in(brokers, "two")
    assert {found[envelope.id] for envelope in batch} == {1}


def test_who_is_refused_alone_is_rejected_where_others_are_taken(brokers):
    """The search ends with the one that is to blame; the reason quotes nothing of it."""
    brokers.create("two", 2)
    subjects = [f"customer-{number}" for number in range(20)]
    first = [each for each in subjects if (murmur2(each.encode()) & 0x7FFFFFFF) % 2 == 0]
    others = [each for each in subjects if each not in first]
    batch = batch_of([make_event(subject=each) for each in (first[0], *others)])

    with sink_to(brokers, topic="two") as sink:
        sink.deliver(batch_of([make_event()]))
        brokers.fail_in("two", 0, PRODUCE, [INVALID_RECORD] * 2)
        delivery = sink.deliver(batch)

    reason = "INVALID_RECORD: Broker: Broker failed to validate record"
    assert delivery == Delivery(
        accepted=ids_of(batch[1:]), rejected=frozenset([(batch[0].id, reason)])
    )
    assert ids_of(batch[1:]) <= ids_in(brokers, "two").keys()
    assert batch[0].id not in ids_in(brokers, "two")


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        pytest.param(TOO_LARGE, "size", id="size"),
        pytest.param(INVALID_RECORD, "content", id="record"),
    ],
)
def test_a_batch_that_is_refused_whole_is_for_the_shipper_to_divide(brokers, code, refusal):
    """Where nothing is taken, it may be the broker that is to blame: nothing is rejected."""
    batch = batch_of([make_event() for _ in range(4)])

    with sink_to(brokers) as sink:
        brokers.fail(PRODUCE, [code])
        refused = sink.deliver(batch)
        again = sink.deliver(batch)

    assert (refused.refusal, refused.retryable) == (refusal, ids_of(batch))
    assert not refused.rejected
    assert not refused.ambiguous
    assert again == Delivery.all_accepted(batch)
    assert set(ids_in(brokers).values()) == {1}


def test_a_poisonous_event_is_a_dead_letter_and_its_company_is_taken(home, process):
    """Through a meter: the broker's limit is met by one event of many."""
    process.create("poison", 1, max_message_bytes="3000")
    url = process.url("poison", "batch.num.messages=20")

    with Meter(home=home, sinks=[url], source="shop", ledger=False) as meter:
        record(meter, 30)
        usage = TokenUsage(input_tokens=1)
        meter.record(usage, "x" * 190, provider="openai", model="gpt", dimensions={"a": "x" * 4000})
        record(meter, 30, first=30)
        meter.flush(20)
        found = books(meter)

    assert (found["acked"], found["dead"], found["pending"]) == (60, 1, 0)
    assert len(ids_in(process, "poison")) == 60


@pytest.mark.parametrize(
    ("api", "code"),
    [
        pytest.param(PRODUCE, NOT_ALLOWED, id="no right to the topic"),
        pytest.param(INIT_PRODUCER_ID, CLUSTER_NOT_ALLOWED, id="no right to be idempotent"),
    ],
)
def test_what_a_person_must_mend_pauses_the_sink(brokers, api, code):
    """Everything is kept; once the right is given, all of it is taken, once."""
    batch = batch_of([make_event() for _ in range(5)])

    with sink_to(brokers) as sink:
        brokers.fail(api, [code])
        refused = sink.deliver(batch)
        brokers.stop_failing(api)
        mended = sink.deliver(batch)

    assert refused.hold
    assert refused.retryable == ids_of(batch)
    assert "AUTHORIZATION_FAILED" in (refused.reason or "")
    assert mended == Delivery.all_accepted(batch)
    assert set(ids_in(brokers).values()) == {1}


def test_a_topic_that_does_not_exist_pauses_the_sink(tmp_path):
    """Nothing is lost; when somebody makes the topic, the next try writes."""
    batch = batch_of([make_event()])
    with BrokerProcess(tmp_path / "broker") as broker:
        broker.make_no_topics()
        with sink_to(broker, "topic.metadata.propagation.max.ms=500") as sink:
            missing = sink.deliver(batch)
            broker.create("usage")
            there = sink.deliver(batch)

        assert missing.hold
        assert not missing.ambiguous
        assert missing.retryable == ids_of(batch)
        assert "Unknown topic" in (missing.reason or "")
        assert there == Delivery.all_accepted(batch)
        assert ids_in(broker) == dict.fromkeys(ids_of(batch), 1)


def test_a_wrong_password_pauses_the_sink_and_is_never_shown(home, caplog, capfd):
    """Events are kept; neither status, log, reason nor stderr has a secret, even if a broker tells it."""
    caplog.set_level(logging.DEBUG)
    with RefusingBroker(f"no {PASSWORD} for {USER}") as broker:
        url = f"kafka://{broker.bootstrap}/usage?{SASL}"
        secrets = {"kafka_username": USER, "kafka_password": PASSWORD}
        with closing(open_sink(url, source="tests", **secrets)) as sink:
            batch = batch_of([make_event()])
            delivery = sink.deliver(batch)
            shown = [repr(sink), repr(sink.topic), sink.url, sink.account, repr(delivery)]
        with Meter(home=home, sinks=[url], source="shop", ledger=False, **secrets) as meter:
            record(meter, 3)
            meter.flush(1.5)
            found = books(meter)

    assert delivery.hold
    assert not delivery.ambiguous
    assert "_AUTHENTICATION" in (delivery.reason or "")
    assert (found["state"], found["pending"]) == ("paused", 3)
    everything = [*shown, repr(found), caplog.text, *capfd.readouterr()]
    everything += [path.read_text("latin-1") for path in home.rglob("*") if path.is_file()]
    assert "librdkafka" in caplog.text
    assert not [text for text in everything if PASSWORD in text or USER in text]


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
    monkeypatch.setattr("llm_metering.sinks.kafka.PATIENCE", 3600.0)
    batch = batch_of([make_event()])

    with closing(open_sink(f"kafka://127.0.0.1:{free_port()}/usage", source="tests")) as sink:
        assert sink.deliver(batch).retryable == ids_of(batch)


@pytest.mark.timeout(60)
def test_a_broker_that_hangs_is_waited_for_no_longer_than_it_may(monkeypatch):
    """Nothing says that it is away; the reason is that nothing was reported."""
    monkeypatch.setattr("llm_metering.sinks.kafka.PATIENCE", 0.5)
    batch = batch_of([make_event()])

    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        closing(
            open_sink(f"kafka://127.0.0.1:{silent.getsockname()[1]}/usage", source="tests")
        ) as sink,
    ):
        delivery = sink.deliver(batch)

    assert delivery == Delivery.try_later(batch, "no report yet", ambiguous=True)


def test_what_is_not_sent_is_not_written_while_the_sink_is_closed(brokers, monkeypatch):
    """Nobody would hear of it, and it is sent again: what waits for company is taken back."""
    before, during = batch_of([make_event()]), batch_of([make_event() for _ in range(3)])

    with sink_to(brokers, "linger.ms=500") as sink:
        sink.deliver(before)
        monkeypatch.setattr("llm_metering.sinks.kafka.PATIENCE", 0.1)
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
from tests.sinks.test_kafka import record
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
