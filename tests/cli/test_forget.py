"""`llm-metering forget` beside real processes that were killed, or live."""

from __future__ import annotations

import os
import pty

import pytest

from llm_metering.testing import OpenMeterServer

from .operating import Site


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


def segments(site):
    """The segments on disk."""
    return list((site.home / "journal" / "v1").glob("*.seg"))


@pytest.mark.parametrize("by", ["name", "url", "id"])
def test_a_debt_is_given_up(site, server, by):
    """It counts as dropped, with its reason; once the others have theirs, the segments go."""
    site.crash(3)
    names = {
        "name": "openmeter",
        "url": f"openmeter+{server.url}",
        "id": rows_of(site.ask("drain", "--timeout", "0", code=3))["openmeter"]["id"],
    }

    report = site.ask("forget", "--sink", names[by], "--yes", LLM_METERING_SINKS="")

    assert (report["name"], report["forgotten"], report["pending"]) == ("openmeter", 3, 0)
    assert site.counts() == {"dropped": 3}
    assert site.ask("status")["dropped"]["forgotten"] == 3
    assert site.ask("drain", LLM_METERING_SINKS="")["complete"]
    assert site.counts("ledger") == {"acked": 3}
    assert segments(site) == []
    server.up()
    assert site.ask("drain")["complete"]
    assert server.events == []
    assert site.counts() == {"dropped": 3}


def rows_of(report):
    """The sinks of a report by name."""
    return {sink["name"]: sink for sink in report["sinks"]}


def test_again_nothing_is_left_to_forget(site):
    """A second time gives up nothing, and counts nothing."""
    site.crash(3)
    site.ask("forget", "--sink", "openmeter", "--yes")

    assert site.ask("forget", "--sink", "openmeter", "--yes")["forgotten"] == 0

    assert site.ask("status")["dropped"]["forgotten"] == 3


def test_without_a_terminal_it_must_be_said(site):
    """Nobody can be asked, so nothing is given up; the line says how many it would be."""
    site.crash(3)

    error = site.refused("forget", "--sink", "openmeter")

    assert "3 events will never be delivered to openmeter" in error
    assert "--yes" in error
    assert site.counts() == {"pending": 3}


@pytest.mark.parametrize(
    ("answer", "code", "counts"),
    [
        pytest.param(b"y\n", 0, {"dropped": 3}, id="yes"),
        pytest.param(b"n\n", 1, {"pending": 3}, id="no"),
    ],
)
def test_in_a_terminal_it_asks(site, answer, code, counts):
    """And does what the answer says."""
    site.crash(3)
    ours, theirs = pty.openpty()
    os.write(ours, answer)

    done = site.run("forget", "--sink", "openmeter", stdin=theirs)

    os.close(ours)
    os.close(theirs)
    assert done.returncode == code
    assert "3 events will never be delivered to openmeter" in done.stderr
    assert site.counts() == counts


def test_a_sink_nobody_knows(site):
    """The line names those that the home knows."""
    site.crash(1)

    error = site.refused("forget", "--sink", "elsewhere", "--yes")

    assert "nothing was ever owed to 'elsewhere' here; the home knows ledger, openmeter" in error


def test_a_home_that_is_not_there(site):
    """There is nothing to forget, and nothing is made."""
    site.home.rmdir()

    site.refused("forget", "--sink", "openmeter", "--yes")

    assert not site.home.exists()


def test_what_living_processes_have_is_theirs(site):
    """It is refused while they live, or leaves them theirs; afterwards all of it can go."""
    with site.application(4) as living:
        site.crash(2)
        error = site.refused("forget", "--sink", "openmeter", "--yes")
        assert f"process {living.pid} on " in error
        assert site.counts() == {"pending": 6}

    with site.application(5) as living:
        report = site.ask("forget", "--sink", "openmeter", "--yes", "--leave-living", code=3)
        left = [(each["pid"], each["events"]) for each in report["living"]]
        assert left == [(living.pid, 5)]
        held = report["pending"] - 5
        # The living process may have adopted the dead ones' meanwhile, and tries to deliver them.
        assert report["forgotten"] + held == 6

    assert site.ask("forget", "--sink", "openmeter", "--yes")["pending"] == 0
    assert site.counts() == {"dropped": 11}
