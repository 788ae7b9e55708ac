"""The Kafka sink against brokers: what a record is, and how a URL names a topic."""

from __future__ import annotations

import json
import sys
import time

import pytest

from llm_metering.errors import MissingExtraError, SinkURLError
from llm_metering.sinks import open_sink
from llm_metering.sinks.kafka.sink import FIXED
from llm_metering.sinks.kafka.topic import topic_of
from llm_metering.sinks.reasons import shorten
from tests.factories import batch_of, envelope_of, make_event
from tests.sinks.kafka_bench import murmur2, sink_to

PASSWORD = "hunter2"


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


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_no_broker_has_is_refused(port):
    """It would be an outage without an end."""
    with pytest.raises(SinkURLError, match="a number from 1 to 65535"):
        open_sink(f"kafka://broker:{port}/usage", source="tests")


def test_a_secret_that_begins_with_another_is_not_shown():
    """Of the password `bill-hunter2` the user `bill` leaves nothing to be read."""
    topic = topic_of(
        "kafka://broker/usage",
        {"kafka_username": "bill", "kafka_password": f"bill-{PASSWORD}"},
        parameters=(),
        fixed=(),
    )

    assert shorten(f"no bill-{PASSWORD} of bill", topic.secrets) == "no *** of ***"


@pytest.mark.parametrize("password", [PASSWORD, "kafka"])
def test_a_user_called_as_the_brokers_are_does_not_hide_them(password):
    """Which broker refuses can be read in `status`; a password is hidden whatever it is."""
    topic = topic_of(
        "kafka://kafka-1.example.com/usage",
        {"kafka_username": "kafka", "kafka_password": password},
        parameters=(),
        fixed=(),
    )

    assert topic.secrets == (password,)
