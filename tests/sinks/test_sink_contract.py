"""What every sink promises to the shipper: the contract that third parties test theirs by, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llm_metering.ledger import Ledger
from llm_metering.sinks import open_sink
from llm_metering.sinks.shapes import SHAPES
from llm_metering.testing import OpenMeterServer, SinkBench
from tests.sinks.contracts import Contract, LooksInside


class TestMemory(Contract, LooksInside):
    @pytest.fixture
    def bench(self) -> SinkBench:
        sink = open_sink("memory:", source="tests")
        return SinkBench(sink=sink, arrived=lambda: [event.id for event in sink.events])


class TestLedger(Contract, LooksInside):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[SinkBench]:
        with closing(Ledger(tmp_path / "ledger.db")) as sink:
            yield SinkBench(
                sink=sink,
                arrived=lambda: [each for each, _ in sink.moments(None, None, source="contract")],
            )


class TestOpenMeter(Contract):
    """Every API and every shape; an event of several counts by the first part of their ids."""

    @pytest.fixture(
        params=[f"api={api}&shape={shape}" for api in ("v1", "v3") for shape in SHAPES],
    )
    def bench(self, request: pytest.FixtureRequest) -> Iterator[SinkBench]:
        with (
            OpenMeterServer() as server,
            closing(open_sink(f"{server.sink_url}?{request.param}", source="tests")) as sink,
        ):
            yield SinkBench(
                sink=sink,
                arrived=lambda: [
                    event["id"].removesuffix(":input")
                    for event in server.events
                    if not event["id"].endswith(":output")
                ],
                go_away=server.down,
                come_back=server.up,
            )
            assert server.violations == []
