"""Several processes on one home: each ships its own, and what the dead among them left."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest

from llm_metering.meter import Meter
from llm_metering.testing.received import Received
from llm_metering.testing.server import OpenMeterServer
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

from .harness import CHILD_TIMEOUT
from .kill_rounds import by_ticket, is_right, ledger, read_diaries, start_worker
from .kill_server import Sent
from .kill_worker import Work

NEVER = 3600.0
ENOUGH = 25
"""Calls that a process has made before anything happens to it."""

KILLED = ("w1", "w2")
SIBLINGS = ("w3", "w4")
TEAM_B = "w5"
ELSEWHERE = "w6"


@pytest.fixture
def servers():
    """The server of the application, and that of another one."""
    with OpenMeterServer(dedupe=False) as ours, OpenMeterServer(dedupe=False) as theirs:
        yield ours, theirs


@pytest.fixture
def processes(home, tmp_path, servers):
    """Six processes on one home, by name: four of one application, two of others."""
    ours, theirs = servers
    diary = tmp_path / "diary"
    diary.mkdir()

    def start(seed: int, url: str, *, waits: float, **more: object):
        """One that sends, and adopts, at once or never."""
        work = Work(
            seed=seed,
            home=str(home),
            server=url,
            diary=str(diary),
            segment_bytes=6000,
            adopt_every=min(waits * 10, NEVER),
            linger=waits,
            leaves=True,
            slowness=4.0,
            **more,
        )
        key = {"OPENMETER_API_KEY": work.name}
        return work.name, start_worker(
            msgspec.json.encode(work).decode(), tmp_path / "stderr", environment=key
        )

    started = dict(
        [
            start(1, ours.sink_url, waits=NEVER),
            start(2, ours.sink_url, waits=NEVER),
            start(3, ours.sink_url, waits=0.01, forks_after=0.1, child_lives=0.2),
            start(4, ours.sink_url, waits=0.01),
            start(5, f"{ours.sink_url}?account=team-b", waits=0.01, source="team-b"),
            start(6, theirs.sink_url, waits=0.01, source="elsewhere"),
        ]
    )
    try:
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def calls_of(tickets: Iterable[str], *names: str) -> set[str]:
    """Those of the calls that processes of these names made, or children they forked."""
    return {ticket for ticket in tickets if ticket.partition(".")[0] in names}


def accepted(server: OpenMeterServer) -> set[str]:
    """The calls whose events it has accepted so far."""
    return {event["data"]["ticket"] for event in server.events}


def sent_to(server: OpenMeterServer) -> list[Sent]:
    return [Sent(each.status, each.events) for each in server.received]


def key_of(request: Received) -> str:
    """Who sent it."""
    return str(request.headers["Authorization"]).removeprefix("Bearer ")


def test_the_living_ship_what_the_dead_left_and_nobody_else_does(
    home, tmp_path, servers, processes
):
    """Of four processes two are killed and one forks: no restart is needed, nothing is lost or doubled."""
    ours, theirs = servers

    def over(name: str) -> set[str]:
        calls = read_diaries(tmp_path / "diary")
        return {each for each in calls_of(calls, name) if calls[each].steps.endswith("R")}

    while any(len(over(name)) < ENOUGH for name in processes):
        assert all(process.poll() is None for process in processes.values())
        time.sleep(0.01)
    assert calls_of(accepted(ours), *KILLED) == set()
    for name in KILLED:
        processes[name].kill()
        processes[name].wait()
    calls = read_diaries(tmp_path / "diary")
    left = {each for each in calls_of(calls, *KILLED) if calls[each].steps != "A"}
    due = {each for each in left if calls[each].status != "refused"}

    assert ours.wait_until(lambda: due <= accepted(ours), CHILD_TIMEOUT)

    in_peace = ours.received
    for name, process in processes.items():
        if name not in KILLED:
            process.send_signal(signal.SIGTERM)
    for name, process in processes.items():
        assert process.wait(CHILD_TIMEOUT) == (-signal.SIGKILL if name in KILLED else 0)
    by_processes = ours.received
    with Meter(home, [ours.sink_url], source="kill") as heir:
        assert heir.drain()
    with Meter(home, [theirs.sink_url], source="elsewhere") as heir:
        assert heir.drain()
    with Meter(home, [f"{ours.sink_url}?account=team-b"], source="team-b") as heir:
        assert heir.drain()

    calls = read_diaries(tmp_path / "diary")
    at_ours, at_theirs = by_ticket(sent_to(ours)), by_ticket(sent_to(theirs))
    events = at_ours | at_theirs
    wrong = [
        f"{t}: {c}, {events.get(t)}" for t, c in calls.items() if not is_right(c, events.get(t))
    ]
    assert not wrong, "\n".join(wrong)
    assert any(".forked." in ticket for ticket in at_ours)
    assert not at_ours.keys() & at_theirs.keys()
    assert ledger(home) == {event["id"]: event for event in events.values()}

    # Each application's server heard of its own calls, and from its own processes.
    assert calls_of(at_ours, ELSEWHERE) == set()
    assert calls_of(at_theirs, ELSEWHERE) == at_theirs.keys()
    for request in by_processes:
        tickets = {event["data"]["ticket"] for event in request.events}
        of_team_b = calls_of(tickets, TEAM_B)
        assert of_team_b == (tickets if key_of(request) == TEAM_B else set())
        if calls_of(tickets, *KILLED):
            assert key_of(request) in SIBLINGS
    # While nobody was being ended in the middle of a delivery, nothing was delivered twice.
    times = Counter(event["data"]["ticket"] for sent in in_peace for event in sent.events)
    assert {t for t, n in times.items() if n > 1 and ".forked." not in t} == set()

    of_team_b = len(calls_of(at_ours, TEAM_B))
    assert {
        (row["name"], row["account"], row["recorded"], row["acked"], row["pending"])
        for row in home_status(home)["sinks"]
    } == {
        ("ledger", "", len(events), len(events), 0),
        ("openmeter", "kill", len(at_ours) - of_team_b, len(at_ours) - of_team_b, 0),
        ("openmeter", "team-b", of_team_b, of_team_b, 0),
        ("openmeter", "elsewhere", len(at_theirs), len(at_theirs), 0),
    }
    assert Spool(home).segments() == []
