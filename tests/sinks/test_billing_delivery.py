"""Billing systems behind the real transport: killed, cut off for a day, poisoned, mended."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import msgspec
import pytest
from typer.testing import CliRunner

from llm_metering import Meter, TokenUsage
from llm_metering.cli.app import app
from llm_metering.events import encode
from llm_metering.sinks import open_sink
from llm_metering.sinks.stripe import StripeSink
from llm_metering.sinks.stripe.meter_events import MeterSource
from llm_metering.transport.spool import Spool
from tests.factories import batch_of, make_event
from tests.sinks import lago_server, stripe_server
from tests.sinks.lago_server import LagoServer
from tests.sinks.stripe_server import StripeServer
from tests.sinks.webhook_receiver import Answer
from tests.transport.harness import (
    FakeClock,
    journal_for,
    pump,
    run_child,
    shipper_for,
    sink_row,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
USAGE = TokenUsage(input_tokens=100, output_tokens=20)

CHILD = """
import sys
from llm_metering import Meter, TokenUsage
home, url, key, setting, subject = sys.argv[1:]
meter = Meter(home, [url], ledger=False, source="tests", **{setting: key})
for _ in range(5):
    meter.record(TokenUsage(input_tokens=100, output_tokens=20), subject)
print("recorded", flush=True)
sys.stdin.readline()
meter.start()
meter.flush(30)
"""


@dataclass(frozen=True)
class Bench:
    """A stub with what a test needs to know of its system."""

    server: StripeServer | LagoServer
    url: str
    setting: str
    key: str
    counted: Callable[[], list[str]]

    def meter(self, home, *, key=None, url=None):
        """A meter with this sink alone."""
        return Meter(
            home,
            [url or self.url],
            ledger=False,
            source="tests",
            **{self.setting: key or self.key},
        )


@pytest.fixture(params=["stripe v2", "stripe v1", "lago"])
def bench(request) -> Iterator[Bench]:
    if request.param == "lago":
        with LagoServer() as server:
            yield Bench(
                server,
                server.base,
                "lago_api_key",
                lago_server.KEY,
                lambda: [each["transaction_id"] for each in server.events.values()],
            )
        return
    with StripeServer() as server:
        api = request.param.partition(" ")[2]
        yield Bench(
            server,
            f"{server.base}?meter=llm_tokens:total_tokens&api={api}",
            "stripe_api_key",
            stripe_server.KEY,
            lambda: [each["identifier"].partition(":")[0] for each in server.counted],
        )


def letters(home):
    """The reasons of the dead letters, by event."""
    found = {}
    for path in (Spool(home).folder / "dead").glob("*.ndjson"):
        for line in map(msgspec.json.decode, path.read_bytes().splitlines()):
            found[line["event"]["id"]] = line["reason"]
    return found


def test_a_process_that_is_killed_before_it_heard_bills_once(home, bench):
    """The system has the batch, nobody noted it, and the next process sends all of it again."""
    child = run_child(CHILD, home, bench.url, bench.key, bench.setting, "cus_acme")
    assert child.stdout.readline() == "recorded\n"
    bench.server.when_stored = child.kill
    child.stdin.write("\n")
    child.stdin.flush()
    child.communicate(timeout=60)
    before = bench.counted()
    bench.server.when_stored = lambda: None
    requests = len(bench.server.received)

    with bench.meter(home) as meter:
        meter.start()
        assert meter.flush(30)
        while sink_row(home)["pending"]:
            meter.flush(1)

    assert child.returncode == -9
    assert before  # it had them when the process died
    assert len(bench.server.received) > requests
    assert sorted(Counter(bench.counted()).values()) == [1] * 5
    assert sink_row(home) == {"recorded": 5, "acked": 5, "pending": 0, "dead": 0, "dropped": 0}


@pytest.mark.parametrize(
    ("hours", "dead"),
    [pytest.param(23, 0, id="23 hours"), pytest.param(25, 2, id="25 hours")],
)
@pytest.mark.parametrize("api", ["v2", "v1"])
def test_an_outage_beyond_the_window_is_not_billed_twice(home, hours, dead, api):
    """What Stripe may have had and forgotten is set aside; within a day it is sent again."""
    clock = FakeClock()
    clock.now = NOW.timestamp()
    meter = MeterSource(event_name="llm_tokens", count="total_tokens")
    with StripeServer() as server:
        server.now = lambda: datetime.fromtimestamp(clock.now, UTC)
        sink = StripeSink(
            [meter],
            account="tests",
            key=stripe_server.KEY,
            api=api,
            base=server.base.removeprefix("stripe+"),
            clock=clock,
        )
        with closing(sink), closing(journal_for(home, sink)) as journal:
            shipper = shipper_for(journal, sink, clock=clock)
            lost = [make_event(subject="cus_acme", time=NOW) for _ in range(2)]
            for event in lost:
                journal.record(event.id, encode(event))
            # The session of the stream is there before the answer to the events is lost.
            sink.deliver(batch_of([make_event(subject="cus_other", time=NOW)]))
            server.orders = [Answer(status=200, stores=True, cuts=True)]
            pump(shipper)
            had = len(server.values("llm_tokens", "cus_acme"))
            server.down()
            for _ in range(3):
                clock.now += hours * 1200
                pump(shipper)
            server.up()
            clock.now += 120
            for _ in range(5):
                pump(shipper)
                clock.now += 60

            assert had == (2 if api == "v2" else 1)
            assert sink_row(home)["dead"] == dead
            assert len(server.values("llm_tokens", "cus_acme")) == (had if dead else 2)
            assert all("may have counted it" in why for why in letters(home).values())
            # The stub does forget: whoever sends them all the same bills twice.
            sink.deliver(batch_of(lost))
            assert (len(server.values("llm_tokens", "cus_acme")) > 2) == bool(dead)


def test_a_poisoned_event_dies_alone(home, bench):
    """One of thirty is refused: it becomes a dead letter, and each of the others is billed once."""
    with bench.meter(home) as meter:
        events = [meter.record(USAGE, "cus_acme") for _ in range(30)]
        bench.server.poison = events[17].id
        meter.start()
        assert meter.flush(30)

    assert letters(home).keys() == {events[17].id}
    assert sorted(bench.counted()) == sorted(each.id for each in events if each is not events[17])
    assert sink_row(home)["dead"] == 1


@pytest.mark.parametrize("bench", ["stripe v2", "lago"], indirect=True)
def test_a_subject_without_a_payer_is_billed_once_it_has_one(home, bench, tmp_path, monkeypatch):
    """It is a dead letter meanwhile, and `dead retry` sends it when the file was mended."""
    path = tmp_path / "who.toml"
    lago = bench.setting == "lago_api_key"
    table, parameter = (
        ("lago_subscriptions", "?subscriptions=") if lago else ("stripe_customers", "&customers=")
    )
    path.write_text(f'[{table}]\nacme = "cus_1"\n')
    url = f"{bench.url}{parameter}{path}"
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    monkeypatch.setenv("LLM_METERING_SINKS", url)
    monkeypatch.setenv("LLM_METERING_SOURCE", "tests")
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")
    monkeypatch.setenv(bench.setting.upper(), bench.key)

    with bench.meter(home, url=url) as meter:
        known, unknown = meter.record(USAGE, "acme"), meter.record(USAGE, "globex")
        meter.start()
        assert meter.flush(30)
    assert bench.counted() == [known.id]
    assert letters(home).keys() == {unknown.id}

    path.write_text(f'[{table}]\nacme = "cus_1"\nglobex = "cus_2"\n')
    retried = CliRunner().invoke(app, ["dead", "retry"])
    drained = CliRunner().invoke(app, ["drain", "--timeout", "20"])

    assert (retried.exit_code, drained.exit_code) == (0, 0), retried.output + drained.output
    assert sorted(bench.counted()) == sorted([known.id, unknown.id])
    assert sink_row(home)["dead"] == 0


def test_a_file_that_is_broken_holds_everything(home, tmp_path):
    """The sink pauses with the file and the line, and goes on when it is mended: nothing dies."""
    path = tmp_path / "who.toml"
    path.write_text("[stripe_customers]\nacme = 7\n")
    with (
        StripeServer() as server,
        Meter(
            home,
            [f"{server.base}?meter=llm_tokens:total_tokens&customers={path}"],
            ledger=False,
            stripe_api_key=stripe_server.KEY,
        ) as meter,
    ):
        meter.record(USAGE, "acme")
        meter.start()
        assert not meter.flush(1)
        [row] = meter.statistics()["sinks"]
        path.write_text('[stripe_customers]\nacme = "cus_1"\n')
        assert meter.flush(30)
        assert server.values("llm_tokens", "cus_1") == [120]

    assert row["state"] == "paused"
    assert row["reason"].startswith(f"{path}:2: 'acme' wants a name")


def test_no_key_is_shown_anywhere(home, bench, caplog):
    """Neither a wrong one nor the right one nor a session's token: not in status, log or letter."""
    caplog.set_level(logging.DEBUG)
    with bench.meter(home, key="sk_wrong_hunter2") as meter:
        meter.record(USAGE, "cus_acme")
        meter.start()
        assert not meter.flush(1)
        shown = json.dumps(meter.statistics()) + repr(meter)
        meter.close(0.1)
    with bench.meter(home) as meter:
        events = [meter.record(USAGE, "cus_acme") for _ in range(9)]
        bench.server.poison = events[4].id
        meter.start()
        assert meter.flush(30)
        shown += json.dumps(meter.statistics()) + repr(meter)

    assert '"paused"' in shown
    assert letters(home).keys() == {events[4].id}
    on_disk = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    for place in (shown, caplog.text, on_disk.decode(errors="replace")):
        assert "hunter2" not in place


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("system", ["stripe v2", "stripe v1", "lago"])
def test_whatever_fails_within_a_day_each_count_is_billed_once(home, system, seed):
    """Refusals, waits, answers that are lost before and after, sessions that end: one bill."""
    chance, clock = Random(seed), FakeClock()
    clock.now = NOW.timestamp()
    faults = [
        Answer(status=503),
        Answer(status=429, headers=(("Retry-After", "1"),)),
        Answer(status=500, stores=True),
        Answer(status=200, stores=True, cuts=True),
        Answer(status=200, cuts=True),
        Answer(status=401),
        Answer(status=413),
        Answer(status=400),
    ]
    with LagoServer() if system == "lago" else StripeServer("tokens", "output") as server:
        if isinstance(server, LagoServer):
            sink = open_sink(
                f"{server.base}?code=tokens&code=output",
                source="tests",
                lago_api_key=lago_server.KEY,
            )
        else:
            server.now = lambda: datetime.fromtimestamp(clock.now, UTC)
            sink = StripeSink(
                [
                    MeterSource(event_name="tokens", count="total_tokens"),
                    MeterSource(event_name="output", count="output_tokens"),
                ],
                account="tests",
                key=stripe_server.KEY,
                api=system.partition(" ")[2],
                base=server.base.removeprefix("stripe+"),
                clock=clock,
            )
        with closing(sink), closing(journal_for(home, sink)) as journal:
            shipper = shipper_for(journal, sink, clock=clock)
            ids = []
            for _ in range(60):
                for _ in range(chance.randrange(4)):
                    event = make_event(subject="cus_acme", time=NOW)
                    journal.record(event.id, encode(event))
                    ids.append(event.id)
                server.orders = chance.choices(faults, k=chance.randrange(3))
                pump(shipper)
                clock.now += chance.choice([1, 70, 900])
            server.orders = []
            for _ in range(60):
                pump(shipper)
                clock.now += 70

        if isinstance(server, LagoServer):
            found = [each["transaction_id"] for each in server.events.values()]
        else:
            found = [each["identifier"] for each in server.counted]
    row = sink_row(home)
    dead = set(letters(home))
    assert (row["pending"], row["acked"] + row["dead"]) == (0, len(ids))
    assert len(dead) == row["dead"] < len(ids) / 4
    assert Counter(found) == Counter(
        f"{each}:{part}" for each in ids if each not in dead for part in ("tokens", "output")
    ) + Counter(each for each in found if each.partition(":")[0] in dead)
    assert max(Counter(found).values()) == 1
