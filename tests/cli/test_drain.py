"""`llm-metering drain` beside real processes that were killed, or live, and a real server."""

from __future__ import annotations

import signal

import pytest

from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse

from .operating import Site
from .test_cli import in_terminal


@pytest.fixture
def server():
    """OpenMeter, which is away."""
    with OpenMeterServer() as server:
        server.down()
        yield server


@pytest.fixture
def site(home, server):
    """A home whose application sends to the server."""
    return Site(home, server.sink_url)


def rows(report):
    """The sinks of a report by name."""
    return {sink["name"]: sink for sink in report["sinks"]}


def test_what_killed_processes_left_is_delivered(site, server):
    """Every orphan of every writer, once, to each sink; nothing is left."""
    site.crash(3)
    site.crash(2)
    server.up()

    report = site.ask("drain")

    assert report["complete"]
    assert rows(report)["openmeter"]["delivered"] == 5
    assert (rows(report)["openmeter"]["pending"], rows(report)["ledger"]["pending"]) == (0, 0)
    assert sum(map(len, server.batches)) == len(server.events) == 5
    assert site.counts() == {"acked": 5}
    assert site.counts("ledger") == {"acked": 5}
    assert not list((site.home / "journal" / "v1").glob("*.seg"))


def test_what_cannot_be_delivered_is_kept(site):
    """With the server away the exit code says that something is left; the ledger has its share."""
    site.crash(3)

    report = site.ask("drain", "--timeout", "1", code=3)

    assert not report["complete"]
    left = rows(report)["openmeter"]
    assert (left["delivered"], left["pending"], left["state"]) == (0, 3, "backoff")
    assert "Connect" in left["reason"]
    assert rows(report)["ledger"]["pending"] == 0
    assert site.counts() == {"pending": 3}


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        pytest.param(Refuse(401), "paused", id="paused"),
        pytest.param(Refuse(503, retry_after=600), "backoff", id="backing off"),
    ],
)
def test_a_sink_that_was_not_well_is_tried_at_once(site, server, fault, state):
    """However long its next try was away, the command tries it, and it is delivered."""
    server.up()
    server.order(fault, times=None)
    site.crash(2)
    assert rows(site.ask("drain", "--timeout", "1", code=3))["openmeter"]["state"] == state

    server.clear()
    report = site.ask("drain", "--timeout", "20")

    assert report["complete"]
    assert len(server.events) == 2


def test_living_processes_keep_their_own(site, server):
    """Their events are left to them, counted and named by process; a dead one's are delivered."""
    with site.application(4) as living:
        # It lives, and delivers nothing before we have looked.
        living.send_signal(signal.SIGSTOP)
        site.crash(2)
        server.up()
        report = site.ask("drain", "--timeout", "20", "--sink", "openmeter", code=3)
        shown = site.run("drain", "--timeout", "20", "--sink", "openmeter")

        (sink,) = report["sinks"]
        assert (sink["delivered"], sink["pending"]) == (2, 4)
        assert [(each["pid"], each["events"]) for each in sink["living"]] == [(living.pid, 4)]
        assert shown.returncode == 3
        assert "4 events are left to living processes" in shown.stdout
        assert f"process {living.pid} on " in shown.stdout
        assert len(server.events) == 2

    assert site.ask("drain")["complete"]
    assert len(server.events) == 6


def test_one_sink_alone(site, server):
    """`--sink` ships for that sink, by name or URL, and speaks of no other."""
    site.crash(3)

    report = site.ask("drain", "--sink", "ledger")

    assert list(rows(report)) == ["ledger"]
    server.up()
    assert site.ask("drain", "--sink", f"openmeter+{server.url}")["complete"]
    assert len(server.events) == 3


def test_a_sink_that_is_configured_no_more(site):
    """What it is owed is named, and left; `--sink` with its name is refused."""
    site.crash(3)

    report = site.ask("drain", LLM_METERING_SINKS="", code=3)

    left = rows(report)["openmeter"]
    assert (left["configured"], left["pending"], left["state"]) == (False, 3, None)
    assert rows(report)["ledger"]["pending"] == 0
    error = site.refused("drain", "--sink", "openmeter", LLM_METERING_SINKS="")
    assert error.startswith("llm-metering: sink: no sink 'openmeter' is configured")


def test_nothing_to_drain_makes_nothing(site):
    """A home that is not there stays so, and nothing is left."""
    site.home.rmdir()

    assert site.ask("drain")["complete"]
    assert not site.home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--timeout", "soon"], id="no number"),
        pytest.param(["--timeout", "-1"], id="negative"),
        pytest.param(["--sink", "nowhere"], id="no such sink"),
    ],
)
def test_wrong_options_are_refused(site, arguments):
    """Exit code 2, and a line instead of a traceback."""
    site.refused("drain", *arguments)


def test_a_terminal_sees_progress(site, server):
    """Bars say how many events of how many each sink has taken."""
    site.crash(3)
    server.up()

    seen = in_terminal(
        site.home, "drain", LLM_METERING_SINKS=server.sink_url, NO_PROXY="127.0.0.1", columns=100
    )

    assert "3/3" in seen
    assert "Nothing is left" in seen


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["drain"], id="drain"),
        pytest.param(["dead", "list"], id="dead list"),
        pytest.param(["dead", "retry"], id="dead retry"),
        pytest.param(["dead", "export", "--output", "x.jsonl"], id="dead export"),
        pytest.param(["forget", "--sink", "ledger", "--yes"], id="forget"),
    ],
)
def test_a_home_that_is_none_is_refused(site, command):
    """One line says what is wrong with it."""
    site.home.rmdir()
    site.home.write_text("")

    assert "home: " in site.refused(*command)
