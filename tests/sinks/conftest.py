"""Kafka's brokers for the tests of sinks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka_brokers import (
    BrokerProcess,
    MockBrokers,
)


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
