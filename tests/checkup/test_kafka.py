"""Kafka's brokers and a topic as the doctor sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka.admin import PartitionMetadata

from llm_metering.checkup import examine
from llm_metering.checkup.kafka import _judge_partitions, _judge_replicas, check_kafka
from llm_metering.settings import load_settings
from llm_metering.sinks import open_sink
from tests.kafka_brokers import BrokerProcess, MockBrokers, free_port
from tests.kafka_refusing import RefusingBroker

PASSWORD = "hunter2"


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[BrokerProcess]:
    """A broker process that makes no topic unasked."""
    with BrokerProcess(tmp_path_factory.mktemp("broker")) as broker:
        broker.make_no_topics()
        yield broker


def look(url, *, limit=10.0, **credentials):
    """What is found at a sink's URL, by check."""
    with closing(open_sink(url, source="shop", **credentials)) as sink:
        findings = list(check_kafka(sink, limit=limit))
    assert all(each.sink == "kafka" for each in findings)
    assert PASSWORD not in repr(findings)
    return {each.check: each for each in findings}


def levels(found):
    return {check: each.level for check, each in found.items()}


def test_a_topic_of_one_broker_is_looked_at(broker):
    """It answers, and one replica is too few; nothing is written."""
    broker.create("usage", 3)

    found = look(broker.url("usage"))

    assert levels(found) == {
        "sink.reachable": "ok",
        "sink.topic": "ok",
        "sink.replicas": "warning",
        "sink.retention": "ok",
    }
    assert found["sink.topic"].found == "usage has 3 partitions of 1 replicas"
    assert found["sink.replicas"].found == "a partition has one replica"
    assert found["sink.retention"].found == "records are kept for 7 days"
    assert broker.records("usage") == []


@pytest.mark.parametrize(
    ("config", "level", "told"),
    [
        pytest.param({"cleanup_policy": "compact"}, "failure", "compacted", id="compacted"),
        pytest.param(
            {"cleanup_policy": "compact,delete"}, "failure", "compacted", id="compacted as well"
        ),
        pytest.param({"retention_ms": "3600000"}, "warning", "after 1 hours", id="an hour"),
        pytest.param({"retention_bytes": "1000"}, "warning", "1000 bytes", id="some bytes"),
        pytest.param({"retention_ms": "-1"}, "ok", "for ever", id="for ever"),
    ],
)
def test_how_long_a_topic_keeps_records_matters(broker, request, config, level, told):
    """Compaction by the key, which is the subject, would delete usage."""
    topic = f"kept-{request.node.callspec.id.replace(' ', '-')}"
    broker.create(topic, 1, **config)

    found = look(broker.url(topic))["sink.retention"]

    assert found.level == level
    assert told in found.found


def test_a_topic_that_takes_nothing_is_a_failure(broker):
    """More replicas are wanted than there are."""
    broker.create("strict", 1, min_insync_replicas="2")

    found = look(broker.url("strict"))["sink.replicas"]

    assert (found.level, found.found) == ("failure", "min.insync.replicas is 2, and there are 1")


@pytest.mark.parametrize(
    ("least", "level"),
    [
        pytest.param("1", "warning", id="one disk may be all"),
        pytest.param("2", "ok", id="two of three"),
        pytest.param("3", "warning", id="none may be away"),
    ],
)
def test_how_many_of_three_replicas_must_have_a_record(least, level):
    """Neither one alone nor all of them."""
    with closing(open_sink("kafka://b1/usage", source="shop")) as sink:
        found = _judge_replicas(sink, 3, least)

    assert (found.level, found.sink) == (level, "kafka")


def test_a_partition_without_a_leader_is_a_failure():
    """All of its replicas may be away while the topic is there, and other subjects are taken."""
    with MockBrokers(3) as brokers:
        brokers.create("usage", 4, 3)
        assert "sink.partitions" not in look(brokers.url("usage"), limit=1.0)
        brokers.behead("usage", 2)

        found = look(brokers.url("usage"), limit=1.0)["sink.partitions"]

    assert (found.level, found.found) == ("failure", "1 of 4 partitions have no leader")


def test_a_partition_with_too_few_replicas_in_sync_is_a_failure():
    """Two of three brokers are away: nothing is taken, though the topic is made as it should be."""
    partition = PartitionMetadata()
    partition.leader, partition.replicas, partition.isrs = 1, [1, 2, 3], [1]
    with closing(open_sink("kafka://b1/usage", source="shop")) as sink:
        [found] = _judge_partitions(sink, [partition], "2")
        assert not list(_judge_partitions(sink, [partition], "1"))

    assert (found.level, found.check) == ("failure", "sink.partitions")
    assert "fewer replicas in sync than min.insync.replicas, 2" in found.found


def test_a_topic_that_is_not_there_is_a_failure_and_is_not_made(broker):
    """Unless the brokers make it, with their defaults, when it is written to."""
    assert levels(look(broker.url("nowhere"))) == {
        "sink.reachable": "ok",
        "sink.topic": "failure",
    }
    assert levels(look(broker.url("nowhere")))["sink.topic"] == "failure"


def test_a_topic_that_the_brokers_would_make_is_a_warning(tmp_path):
    """It would have their defaults."""
    with BrokerProcess(tmp_path / "broker") as broker:
        assert levels(look(broker.url("usage")))["sink.topic"] == "warning"
        assert levels(look(broker.url("usage")))["sink.topic"] == "warning"


def test_brokers_that_do_not_tell_settings_are_no_failure():
    """The mock cluster has no answer to such a question: it is said what is not known."""
    with MockBrokers(3) as brokers:
        brokers.create("usage", 6, 3)
        found = look(brokers.url("usage"), limit=2.0)

    assert levels(found) == {
        "sink.reachable": "ok",
        "sink.topic": "ok",
        "sink.replicas": "ok",
        "sink.retention": "warning",
    }
    assert "not told" in found["sink.replicas"].found


def test_nobody_there_is_a_failure():
    """A port that refuses is told by its address."""
    port = free_port()

    found = look(f"kafka://127.0.0.1:{port}/usage", limit=1.0)

    assert levels(found) == {"sink.reachable": "failure"}
    assert f"127.0.0.1:{port}" in found["sink.reachable"].found


def test_a_wrong_password_is_told_without_it():
    """The advice is where it is kept."""
    with RefusingBroker(f"no {PASSWORD}") as broker:
        found = look(
            f"kafka://{broker.bootstrap}/usage?security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN",
            limit=1.0,
            kafka_username="user",
            kafka_password=PASSWORD,
        )

    assert levels(found) == {"sink.reachable": "failure"}
    assert "refuse us" in found["sink.reachable"].found
    assert "LLM_METERING_KAFKA_PASSWORD" in (found["sink.reachable"].advice or "")


def test_the_doctor_looks_at_kafka(home, broker, levels):
    """As at any sink that can be asked."""
    broker.create("doctor", 1)
    settings = load_settings(home=home, sinks=[broker.url("doctor")], source="shop")

    found = levels(examine(settings))

    assert found["sink.reachable", "kafka"] == "ok"
    assert found["sink.topic", "kafka"] == "ok"
