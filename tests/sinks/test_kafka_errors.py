"""What errors of brokers mean to the Kafka sink: who is rejected, who is kept, who is to mend it."""

from __future__ import annotations

import logging
from contextlib import closing

import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.sinks import Delivery, open_sink
from tests.factories import batch_of, make_event
from tests.kafka_brokers import (
    INIT_PRODUCER_ID,
    PRODUCE,
    BrokerProcess,
)
from tests.kafka_refusing import RefusingBroker
from tests.sinks.kafka_bench import books, ids_in, ids_of, murmur2, record, sink_to

TOO_LARGE = 10
NOT_ALLOWED = 29
CLUSTER_NOT_ALLOWED = 31
INVALID_RECORD = 87
PASSWORD = "hunter2"
USER = "user-of-hunter"
SASL = "security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN"


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
