"""What every sink promises to the shipper: the contract that third parties test theirs by, and ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llm_metering.ledger import Ledger
from llm_metering.sinks import open_sink
from llm_metering.sinks.jsonl import read_events
from llm_metering.sinks.shapes import SHAPES
from llm_metering.testing import OpenMeterServer, RemoteSinkContract, SinkBench, SinkContract
from tests.sinks import lago_server, stripe_server
from tests.sinks.contracts import LooksInside, Ours
from tests.sinks.lago_server import LagoServer
from tests.sinks.stripe_server import StripeServer
from tests.sinks.webhook_receiver import WebhookReceiver

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


class TestMemory(SinkContract, Ours, LooksInside):
    @pytest.fixture
    def bench(self) -> SinkBench:
        sink = open_sink("memory:", source="tests")
        return SinkBench(sink=sink, arrived=lambda: [event.id for event in sink.events])


class TestLedger(SinkContract, Ours, LooksInside):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[SinkBench]:
        with closing(Ledger(tmp_path / "ledger.db")) as sink:
            yield SinkBench(
                sink=sink,
                arrived=lambda: [each for each, _ in sink.moments(None, None, source="contract")],
            )


class TestJSONLines(RemoteSinkContract, Ours, LooksInside):
    """A file, which is away while there is a file in the place of its folder."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[SinkBench]:
        folder, aside = tmp_path / "usage", tmp_path / "aside"
        path = folder / "usage.jsonl"

        def go_away() -> None:
            if folder.exists():
                folder.rename(aside)
            folder.touch()

        def come_back() -> None:
            folder.unlink()
            if aside.exists():
                aside.rename(folder)

        with closing(open_sink(f"jsonl://{path}", source="tests")) as sink:
            yield SinkBench(
                sink=sink,
                arrived=lambda: [event.id for event in read_events(path, dedupe=False)],
                go_away=go_away,
                come_back=come_back,
            )


class TestCloudEvents(RemoteSinkContract, Ours, LooksInside):
    """A receiver that verifies; it keeps what comes twice once, as its reader must."""

    @pytest.fixture
    def bench(self) -> Iterator[SinkBench]:
        with (
            WebhookReceiver(SECRET) as receiver,
            closing(open_sink(receiver.url, source="tests", webhook_secret=SECRET)) as sink,
        ):
            yield SinkBench(
                sink=sink,
                arrived=lambda: [event_id for _, event_id in receiver.ledger],
                go_away=receiver.down,
                come_back=receiver.up,
            )


class TestOpenMeter(RemoteSinkContract, Ours):
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


class TestStripe(RemoteSinkContract, Ours, LooksInside):
    """Both ways to send; subjects of any kind are customers by the file."""

    @pytest.fixture(params=["v2", "v1"])
    def bench(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SinkBench]:
        path = tmp_path / "customers.toml"
        subjects = ("customer-42", "株式会社/営業 «é» \U0001f680", "x" * 2000)
        lines = [f'"{subject}" = "cus_{n}"' for n, subject in enumerate(subjects)]
        path.write_text("\n".join(["[stripe_customers]", *lines]), encoding="utf-8")
        with StripeServer("llm_tokens", "llm_output") as server:
            url = (
                f"{server.base}?meter=llm_tokens:total_tokens&meter=llm_output:output_tokens"
                f"&customers={path}&api={request.param}"
            )
            key = stripe_server.KEY
            with closing(open_sink(url, source="contract", stripe_api_key=key)) as sink:
                yield SinkBench(
                    sink=sink,
                    arrived=lambda: [
                        event["identifier"].removesuffix(":llm_output")
                        for event in server.counted
                        if event["event_name"] == "llm_output"
                    ],
                    go_away=server.down,
                    come_back=server.up,
                )
            assert {code for _, code in server.dropped} <= {"duplicate"}
            assert len(server.values("llm_tokens")) == len(server.values("llm_output"))


class TestLago(RemoteSinkContract, Ours, LooksInside):
    """With either store of Lago's, and for one metric or two."""

    @pytest.fixture(params=["postgres", "clickhouse", "two metrics"])
    def bench(self, request: pytest.FixtureRequest) -> Iterator[SinkBench]:
        with LagoServer(clickhouse=request.param == "clickhouse") as server:
            two = "?code=llm_tokens&code=llm_calls" if request.param == "two metrics" else ""
            key = lago_server.KEY
            with closing(
                open_sink(f"{server.base}{two}", source="contract", lago_api_key=key)
            ) as sink:
                yield SinkBench(
                    sink=sink,
                    arrived=lambda: [
                        event["transaction_id"].partition(":")[0]
                        for event in server.events.values()
                        if event["code"] == "llm_tokens"
                    ],
                    go_away=server.down,
                    come_back=server.up,
                )
            assert server.violations == []
