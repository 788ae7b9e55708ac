"""The contract of sinks, for Kafka: with brokers in this process, and with one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llm_metering.sinks import open_sink
from llm_metering.testing import RemoteSinkContract, SinkBench
from tests.kafka_brokers import BrokerProcess, Brokers, MockBrokers
from tests.sinks.contracts import LooksInside, Ours


def ids_in(brokers: Brokers, topic: str) -> list[str]:
    return [dict(record.headers)["ce_id"].decode() for record in brokers.records(topic)]


class TestMockCluster(RemoteSinkContract, Ours, LooksInside):
    """Three brokers; all of them go away and come back with what they had."""

    @pytest.fixture
    def bench(self) -> Iterator[SinkBench]:
        with MockBrokers(3) as brokers:
            brokers.create("usage", 4)
            with closing(open_sink(brokers.url("usage"), source="tests")) as sink:
                yield SinkBench(
                    sink=sink,
                    arrived=lambda: ids_in(brokers, "usage"),
                    go_away=brokers.down,
                    come_back=brokers.up,
                )


class TestBrokerProcess(RemoteSinkContract, Ours):
    """One broker, which is killed and started again with its data."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[SinkBench]:
        with BrokerProcess(tmp_path / "broker") as broker:
            broker.create("usage", 4)

            def go_away() -> None:
                broker.wait_until_saved("usage")
                broker.kill()

            with closing(open_sink(broker.url("usage"), source="tests")) as sink:
                yield SinkBench(
                    sink=sink,
                    arrived=lambda: ids_in(broker, "usage"),
                    go_away=go_away,
                    come_back=broker.start,
                )
