"""`llm-metering replay` against a real server, with real homes and processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from llm_metering.events import encode
from llm_metering.ledger import Ledger
from llm_metering.meters import usage_query
from llm_metering.sinks import open_sink
from llm_metering.sinks.base import Envelope
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Hang, Poison, Refuse
from llm_metering.transport.spool import Spool, debt_of
from llm_metering.transport.status import home_status

from .conftest import NOON, make_event, record
from .operating import Site
from .test_cli import in_terminal

SINCE = ("--since", "2026-11-01")
TOKENS = 1200


@pytest.fixture
def server():
    """OpenMeter, which deduplicates."""
    with OpenMeterServer(dedupe=True) as server:
        yield server


@pytest.fixture
def site(home, server, monkeypatch):
    """A home of the application `shop` that sends to the server."""
    monkeypatch.setenv("LLM_METERING_SOURCE", "shop")
    return Site(home, server.sink_url)


def fill_ledger(home, *events):
    """Put events into the ledger of a home."""
    ledger = Ledger(home / "ledger.db")
    delivery = ledger.deliver([Envelope(each.id, encode(each)) for each in events])
    ledger.close()
    assert len(delivery.accepted) == len(events)


def calls(number, **changes):
    """So many calls, one a minute."""
    return [
        make_event(time=NOON + timedelta(minutes=minute), **changes) for minute in range(number)
    ]


def total(server):
    """What a meter of the server says."""
    return server.total("$.total_tokens")


def deliver(site, home, server, *events):
    """Have events recorded and delivered, to the server and the ledger."""
    sink = open_sink(server.sink_url, source="shop")
    record(home, *events, sinks=[sink])
    sink.close()
    assert site.ask("drain")["complete"]


@pytest.mark.parametrize("origin", ["ledger", "journal"])
def test_a_server_that_has_it_all_counts_it_once(site, home, server, origin):
    """With deduplication on, a replay of everything changes no total."""
    deliver(site, home, server, *calls(120))
    assert total(server) == 120 * TOKENS

    report = site.ask("replay", *SINCE, "--sink", "openmeter", "--from", origin, "--yes")

    assert (report["complete"], report["from"], report["taken"]) == (True, origin, 120)
    assert (total(server), len(server.events)) == (120 * TOKENS, 120)
    assert sum(map(len, server.batches)) == 240


@pytest.mark.parametrize("origin", ["ledger", "journal"])
def test_a_server_that_lost_its_data_gets_it_back(home, monkeypatch, origin):
    """Without deduplication, a server that lost everything has every total again."""
    monkeypatch.setenv("LLM_METERING_SOURCE", "shop")
    with OpenMeterServer(dedupe=False) as lost, OpenMeterServer(dedupe=False) as fresh:
        site = Site(home, lost.sink_url)
        deliver(site, home, lost, *calls(120), *calls(3, subject="zoo"))
        before = lost.total("$.total_tokens", ["subject"])
        # The same address, restored from nothing.
        site.environment["LLM_METERING_SINKS"] = fresh.sink_url

        report = site.ask("replay", *SINCE, "--sink", "openmeter", "--from", origin, "--yes")

        assert report["taken"] == 123
        assert fresh.total("$.total_tokens", ["subject"]) == before
        assert fresh.events == sorted(lost.events, key=lambda each: (each["time"], each["id"]))


def test_a_new_sink_gets_what_was_before_it(site, home, server):
    """Of a home that never knew the sink; its period begins where it is said, and ends there."""
    fill_ledger(home, *calls(30))

    report = site.ask(
        *("replay", "--sink", f"openmeter+{server.url}", "--yes"),
        *("--since", "2026-11-21T13:05:00+01:00", "--until", "2026-11-21T12:25:00Z"),
    )

    assert (report["events"], report["taken"], report["from"]) == (20, 20, "ledger")
    assert (report["since"], report["until"]) == ("2026-11-21T12:05:00Z", "2026-11-21T12:25:00Z")
    assert len(server.events) == 20
    assert min(each["time"] for each in server.events) == "2026-11-21T12:05:00.000Z"
    assert max(each["time"] for each in server.events) == "2026-11-21T12:24:00.000Z"


def test_the_ledger_is_read_unless_there_is_none(site, home, server):
    """Without `--from`: the ledger; the journal where it is off, or not there, or unreadable."""
    deliver(site, home, server, *calls(3))
    ask = ("replay", *SINCE, "--sink", "openmeter", "--yes")

    assert site.ask(*ask)["from"] == "ledger"
    assert site.ask(*ask, LLM_METERING_LEDGER="off")["from"] == "journal"
    (home / "ledger.db").write_bytes(b"no database" * 100)
    unreadable = site.ask(*ask)
    assert (unreadable["from"], unreadable["taken"]) == ("journal", 3)
    (home / "ledger.db").unlink()
    assert site.ask(*ask)["from"] == "journal"


def test_a_lost_ledger_is_filled_from_the_journal(site, home, server):
    """The ledger is a sink like any other, and never asks whether it may count twice."""
    deliver(site, home, server, *calls(5))
    for path in home.glob("ledger.db*"):
        path.unlink()

    report = site.ask("replay", *SINCE, "--sink", "ledger")

    assert (report["from"], report["taken"]) == ("journal", 5)
    data = json.loads(site.run("usage", "--format", "json").stdout)["data"]
    assert [row["value"] for row in data] == [5 * TOKENS]


def test_other_applications_are_left_out(site, home, server):
    """One ledger, two applications: each replays its own."""
    fill_ledger(home, *calls(2), *calls(3, source="other"))

    assert site.ask("replay", *SINCE, "--sink", "openmeter", "--yes")["taken"] == 2
    mine = site.ask("replay", *SINCE, "--sink", "openmeter", "--yes", LLM_METERING_SOURCE="other")
    assert (mine["taken"], len(server.events)) == (3, 5)


def test_no_count_of_status_moves(site, home, server):
    """Not for a sink that took it, nor for one that refused it."""
    deliver(site, home, server, *calls(4))
    before = site.ask("status")

    site.ask("replay", *SINCE, "--sink", "openmeter", "--yes")
    server.order(Refuse(401), times=None)
    site.ask("replay", *SINCE, "--sink", "openmeter", "--yes", code=3)

    assert site.ask("status") == before


def test_a_note_of_the_time_is_left(site, home, server):
    """For `reconcile`: what was just offered may not be listed yet. Nothing is noted of nothing."""
    deliver(site, home, server, *calls(1))
    site.ask("replay", "--since", "2030-01-01", "--sink", "openmeter", "--yes")
    assert list(home.rglob("*.replayed")) == []

    assert site.ask("replay", *SINCE, "--sink", "openmeter", "--yes")["events"] == 1

    (note,) = home.rglob("*.replayed")
    with contextlib.closing(open_sink(server.sink_url, source="shop")) as sink:
        assert note.stem == debt_of(sink).key


def test_what_is_left_is_said_with_where_to_go_on(site, home, server):
    """Exit code 3, and a time from which a second run brings the rest."""
    fill_ledger(home, *calls(250))
    with OpenMeterServer() as half:
        site.environment["LLM_METERING_SINKS"] = half.sink_url
        half.order(
            Poison(matches=lambda event: event["time"] >= "2026-11-21T14:00:00", status=503),
            times=None,
        )
        arguments = ("replay", "--sink", "openmeter", "--timeout", "0.2", "--yes")
        report = site.ask(*arguments, *SINCE, code=3)
        shown = site.run(*arguments, *SINCE)
        assert (report["taken"], report["left"], report["complete"]) == (100, 150, False)
        assert report["next_since"] == "2026-11-21T13:40:00Z"
        assert "503" in report["reason"]
        assert shown.returncode == 3
        assert "go on with --since 2026-11-21T13:40:00Z" in shown.stdout

        half.clear()
        rest = site.ask(*arguments, "--since", report["next_since"])

        assert (rest["taken"], len(half.events)) == (150, 250)


def test_what_is_refused_is_listed(site, home, server):
    """Each with its reason, in the report and not among the dead letters."""
    events = calls(60)
    fill_ledger(home, *events)
    server.order(Poison(id=events[7].id), times=None)

    report = site.ask("replay", *SINCE, "--sink", "openmeter", "--yes", code=3)
    shown = site.run("replay", *SINCE, "--sink", "openmeter", "--yes")

    assert (report["taken"], report["rejected"], report["next_since"]) == (59, 1, None)
    assert [each["id"] for each in report["rejections"]] == [events[7].id]
    assert events[7].id in shown.stdout
    assert "1 are refused for good" in shown.stdout
    assert site.ask("dead", "list")["dead"] == []


def test_ctrl_c_says_where_it_stopped(site, home, server):
    """In the middle of an answer: it is waited for, and the report says from when to go on."""
    fill_ledger(home, *calls(250))
    command = [sys.executable, "-m", "llm_metering", "replay", *SINCE, "--sink", "openmeter"]
    server.order(Hang("after"))
    with subprocess.Popen(
        [*command, "--yes", "--format", "json"],
        env=site.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert server.wait_until(lambda: server._desk.hanging == 1)
        process.send_signal(signal.SIGINT)
        server.release()
        output, errors = process.communicate(timeout=30)

    report = json.loads(output)
    assert (process.returncode, errors) == (3, "")
    assert (report["reason"], report["taken"], report["left"]) == ("interrupted", 100, 150)
    assert report["next_since"] == "2026-11-21T13:40:00Z"


def test_it_asks_before_a_bill_may_grow(site, home, server):
    """A server that may count twice is named; without a terminal only `--yes` goes on."""
    fill_ledger(home, *calls(3))

    error = site.refused("replay", *SINCE, "--sink", "openmeter")

    assert "only if its operator switched that on" in error
    assert "3 events" in error
    assert "--yes" in error
    assert server.events == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_a_person_is_asked(site, home, server, answer, code):
    """In a terminal the answer decides."""
    fill_ledger(home, *calls(3))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "llm_metering", "replay", *SINCE, "--sink", "openmeter"],
        env=site.environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        output, errors = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)

    assert process.returncode == code
    assert "Send it 3 events" in errors
    assert ("openmeter has 3 of 3 events" in output) == (answer == "y")
    assert len(server.events) == (3 if answer == "y" else 0)


def test_nothing_to_offer_is_no_question(site, home):
    """Where the period is empty, or the home is not there, that is all there is to say."""
    assert site.ask("replay", *SINCE, "--sink", "openmeter")["events"] == 0
    home.rmdir()
    assert site.ask("replay", *SINCE, "--sink", "openmeter")["complete"]
    assert not home.exists()


def test_what_the_ledger_lacks_is_noted(site, home, server):
    """Events that have not reached the ledger yet are not replayed from it, and that is said."""
    fill_ledger(home, *calls(2))
    record(home, *calls(3))

    report = site.ask("replay", *SINCE, "--sink", "openmeter", "--yes")
    shown = site.run("replay", *SINCE, "--sink", "openmeter", "--yes")

    assert report["taken"] == 2
    assert report["notes"][0].startswith("3 events recorded and not in the ledger yet")
    assert "note: 3 events recorded" in shown.stdout
    assert home_status(home)["recorded"] == 3


def test_damage_is_noted(site, home, server):
    """What the journal cannot give is said."""
    deliver(site, home, server, *calls(2))
    (Spool(home).folder / "other.000000.seg").write_bytes(b"\xff" * 100)

    report = site.ask("replay", *SINCE, "--sink", "openmeter", "--yes", "--from", "journal")

    assert report["notes"] == ["1 records or segments cannot be read"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--since", "yesterday"], "--since 'yesterday' is no ISO 8601", id="no time"),
        pytest.param(["--since", "2026-11-21T10:00"], "names no time zone", id="no offset"),
        pytest.param(
            ["--since", "2026-11-21", "--until", "2026-11-21"], "must be before", id="no period"
        ),
        pytest.param([*SINCE, "--until", "x"], "--until 'x'", id="no end"),
        pytest.param([*SINCE, "--sink", "nowhere"], "no sink 'nowhere'", id="no such sink"),
        pytest.param([*SINCE, "--from", "memory"], "memory", id="no such place"),
        pytest.param([*SINCE, "--timeout", "-1"], "Invalid value", id="negative time"),
        pytest.param(
            [*SINCE, "--sink", "ledger", "--from", "ledger"], "has what it has", id="into itself"
        ),
    ],
)
def test_wrong_options_are_refused(run, monkeypatch, arguments, message):
    """Exit code 2, and a line that names the option; nothing is sent."""
    monkeypatch.setenv("LLM_METERING_SINKS", "openmeter+http://127.0.0.1:9")

    done = run("replay", "--sink", "openmeter", "--yes", *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_ledger_that_is_off_or_broken_cannot_be_asked(site, home):
    """Who names the ledger gets the ledger, or an error."""
    ask = ("replay", *SINCE, "--sink", "openmeter", "--yes", "--from", "ledger")

    assert "switched off" in site.refused(*ask, LLM_METERING_LEDGER="off")
    (home / "ledger.db").write_bytes(b"no database" * 100)
    assert "ledger" in site.refused(*ask)


def test_a_terminal_sees_progress(site, home, server):
    """A bar says how many events of how many the sink has."""
    fill_ledger(home, *calls(3))

    seen = in_terminal(
        home,
        *("replay", *SINCE, "--sink", "openmeter", "--yes"),
        LLM_METERING_SINKS=server.sink_url,
        NO_PROXY="127.0.0.1",
        columns=100,
    )

    assert "3/3" in seen
    assert "openmeter has 3 of 3 events" in seen


def test_what_has_no_body_any_more_is_counted_and_not_sent(site, home, server):
    """The ledger was pruned: the server gets the others, and no empty event."""
    fill_ledger(home, *calls(30))
    with contextlib.closing(Ledger(home / "ledger.db")) as ledger:
        assert ledger.prune(NOON + timedelta(minutes=12)).events == 12

    report = site.ask("replay", *SINCE, "--sink", "openmeter", "--yes", code=3)

    assert (report["events"], report["taken"], report["gone"], report["left"]) == (30, 18, 12, 0)
    assert [note for note in report["notes"] if "bodies of events" in note] == [
        "bodies of events before 2026-11-21T12:12:00Z were given up: the ledger cannot send these"
    ]
    assert len(server.events) == 18
    assert all(server.events)


def test_a_pruned_ledger_takes_no_body_from_the_journal(site, home, server):
    """What the journal still has of such an event is a repetition: nothing counts twice."""
    deliver(site, home, server, *calls(10))
    with contextlib.closing(Ledger(home / "ledger.db")) as ledger:
        ledger.prune(NOON + timedelta(hours=1))

        report = site.ask("replay", *SINCE, "--sink", "ledger", "--from", "journal", "--yes")

        assert report["taken"] == 10
        assert ledger.query(usage_query()).total == 10 * TOKENS
        assert ledger.recount() == []
