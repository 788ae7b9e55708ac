"""The whole line at once: a real call, metered, durable, delivered, visible; whatever breaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from langchain_openai import ChatOpenAI

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Reset
from tests.unruly_provider import UnrulyProvider

APPLICATION = """
    import os, signal, sys
    from langchain_openai import ChatOpenAI
    from llm_metering.langchain import MeteringHandler

    end, url, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    llm = ChatOpenAI(model="tiny", base_url=url, api_key="x", max_tokens=8, max_retries=0)
    handler = MeteringHandler("customer-42", feature="first-light")
    for number in range(calls):
        answer = llm.invoke("x" * (1 + number), {"callbacks": [handler]})
        print(answer.usage_metadata["total_tokens"], flush=True)
    if end == "kills itself":
        os.kill(os.getpid(), signal.SIGKILL)
    elif end == "exits at once":
        os._exit(0)
    elif end == "is killed":
        signal.pause()
    """


@pytest.fixture
def environment(home):
    """The environment of an application and of the command line beside it."""
    return {**os.environ, "LLM_METERING_HOME": str(home), "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def run(environment):
    """Run the application to its end, which may be violent; say how many tokens it used."""

    def run(end, url, calls=1, **variables):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(APPLICATION), end, url, str(calls)],
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            text=True,
        ) as application:
            assert application.stdout is not None
            used = [int(application.stdout.readline()) for _ in range(calls)]
            if end == "is killed":
                application.send_signal(signal.SIGKILL)
        killed = end in ("is killed", "kills itself")
        assert application.returncode == (-signal.SIGKILL if killed else 0)
        return sum(used)

    return run


@pytest.fixture
def command(environment):
    """Run a command of `llm-metering` in a new process; its JSON."""

    def command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "llm_metering", *arguments, "--format", "json"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return command


@pytest.mark.parametrize("end", ["is killed", "kills itself", "exits at once", "ends"])
def test_a_call_is_shown_once_however_its_process_ended(end, run, command, model_server):
    """As soon as `invoke` has returned the call is safe; `usage` shows it, and shows it once."""
    before = model_server.wait_until_idle()
    used = run(end, model_server.openai_url)
    counted = model_server.wait_until_idle() - before

    shown = [
        command("usage"),
        command("usage", "--meter", "calls_total"),
        command("usage"),
        command("usage", "--meter", "calls_total"),
    ]

    assert used == counted.prompt + counted.predicted
    assert [[row["value"] for row in report["data"]] for report in shown] == [[used], [1]] * 2
    status = command("status")
    assert (status["recorded"], status["open_calls"], status["failures"]) == (1, 0, 0)
    (ledger,) = status["sinks"]
    assert (ledger["acked"], ledger["pending"], ledger["dead"]) == (1, 0, 0)


def test_a_call_whose_process_died_in_the_middle_is_shown(environment, command):
    """It may have been paid for and nobody saw it end: an event that says so, once."""
    with UnrulyProvider() as provider:
        arguments = ["ends", provider.url("silent"), "1"]
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(APPLICATION), *arguments], env=environment
        ) as application:
            assert provider.arrived.wait(20)
            application.send_signal(signal.SIGKILL)

    for _ in range(2):
        report = command(
            *("usage", "--meter", "calls_total"),
            *("--group-by", "subject", "--group-by", "status", "--group-by", "provenance"),
        )
        (row,) = report["data"]
        assert (row["value"], row["subject"]) == (1, "customer-42")
        assert row["groupBy"] == {"status": "interrupted", "provenance": "missing"}
    assert sum(row["value"] for row in command("usage")["data"]) == 0


@pytest.fixture
def server():
    """OpenMeter, which is away at first, and deduplicates."""
    with OpenMeterServer() as server:
        server.down()
        yield server


def sent(events):
    """The events as the server must have them."""
    return {
        (event.source, event.id): {
            "specversion": "1.0",
            "id": event.id,
            "source": event.source,
            "type": event.type,
            "subject": event.subject,
            "time": event.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": event.data,
        }
        for event in events
    }


def counted(server):
    """What the server counts, by source and id."""
    return {(event["source"], event["id"]): event for event in server.events}


def test_what_was_used_while_openmeter_was_away_arrives(home, server, model_server, monkeypatch):
    """Every event, under its one id, as it was recorded; each request is one OpenMeter takes."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    memory = MemorySink()
    llm = ChatOpenAI(
        model="tiny",
        base_url=model_server.openai_url,
        api_key="x",
        max_tokens=4,
        stream_usage=True,
    )
    with Meter(home=home, sinks=[server.sink_url, memory], source="shop") as meter:
        for number in range(5):
            handler = MeteringHandler(f"customer-{number}", meter=meter)
            llm.invoke("x", {"callbacks": [handler]})
            list(llm.stream("y", {"callbacks": [handler]}))
        assert not meter.flush(0.3)
        rows = {row["name"]: row for row in meter.statistics()["sinks"]}
        assert (rows["openmeter"]["pending"], rows["openmeter"]["acked"]) == (10, 0)
        assert (rows["ledger"]["acked"], rows["memory"]["acked"]) == (10, 10)

        server.up()
        assert meter.flush()

        assert server.violations == []
        assert counted(server) == sent(memory.events)
        assert sum(len(batch) for batch in server.batches) == 10
        (row,) = (row for row in meter.statistics()["sinks"] if row["name"] == "openmeter")
    assert (row["recorded"], row["acked"], row["pending"], row["dead"]) == (10, 10, 0, 0)


def test_an_answer_that_got_lost_changes_no_id(home, server, model_server):
    """What is sent again is the same event: a server that deduplicates counts it once."""
    memory = MemorySink()
    llm = ChatOpenAI(
        model="tiny", base_url=model_server.openai_url, api_key="x", max_tokens=4, max_retries=0
    )
    server.up()
    server.order(Reset("after"))
    with Meter(home=home, sinks=[server.sink_url, memory]) as meter:
        for _ in range(3):
            llm.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]})
        assert meter.flush()

        assert sum(len(batch) for batch in server.batches) > 3
        assert counted(server) == sent(memory.events)
        assert server.violations == []


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_a_process_that_ends_while_openmeter_is_away(end, home, run, server, model_server, command):
    """It leaves its events to the next process of that home and source, which sends them once."""
    used = run(end, model_server.openai_url, calls=3, LLM_METERING_SINKS=server.sink_url)
    assert server.events == []

    server.up()
    with Meter(home=home, sinks=[server.sink_url]) as meter:
        meter.start()
        assert server.wait_for(3)

    assert server.violations == []
    assert sum(len(batch) for batch in server.batches) == len(server.events) == 3
    assert sum(event["data"]["total_tokens"] for event in server.events) == used
    assert {event["subject"] for event in server.events} == {"customer-42"}
    assert [row["value"] for row in command("usage")["data"]] == [used]
