"""`llm-metering reconcile` against a real server, with real homes and processes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from llm_metering.cli import reconcile as command
from llm_metering.reconcile import LAG, SETTLE
from llm_metering.sinks import open_sink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import ClaimBeforeWrite, LostAfterAccept, Refuse

from .conftest import NOON, make_event, record
from .operating import Site
from .test_cli import in_terminal

SPAN = ("--since", "2026-11-21", "--until", "2026-11-22")
NOW = ("--settle", "0", "--lag", "0")
METERS = (
    {
        "slug": "tokens",
        "eventType": "llm.usage",
        "aggregation": "SUM",
        "valueProperty": "$.total_tokens",
    },
)
TOKENS = 1200


@pytest.fixture
def server():
    """OpenMeter, which deduplicates."""
    with OpenMeterServer(meters=METERS, customers=["acme", "zoo"]) as server:
        yield server


@pytest.fixture
def site(home, server, monkeypatch):
    """A home of the application `shop` that sends to the server."""
    monkeypatch.setenv("LLM_METERING_SOURCE", "shop")
    return Site(home, server.sink_url)


def deliver(site, home, server, *events):
    """Have events recorded and delivered, to the server and the ledger."""
    sink = open_sink(server.sink_url, source="shop")
    record(home, *events, sinks=[sink])
    sink.close()
    assert site.ask("drain")["complete"]
    server.clear()


def calls(number, **changes):
    return [
        make_event(time=NOON + timedelta(seconds=second), **changes) for second in range(number)
    ]


def test_all_is_accounted_for(site, home, server):
    """Nothing to say, exit code 0, and totals as they were recorded."""
    deliver(site, home, server, *calls(120), *calls(3, subject="zoo"))

    report = site.ask("reconcile", *SPAN, *NOW)
    shown = site.run("reconcile", *SPAN, *NOW)

    assert (report["verdict"], report["records"], report["well"]) == ("well", 123, 123)
    assert report["findings"] == []
    assert report["tokens"] == {
        "recorded": 123 * TOKENS,
        "off": 0,
        "by_kind": {},
        "by_subject": [],
    }
    (meter,) = report["meters"]
    assert (meter["slug"], meter["explained"]) == ("tokens", True)
    assert [each["counted"] for each in meter["subjects"]] == [120 * TOKENS, 3 * TOKENS]
    assert report["notes"] == []
    assert shown.returncode == 0
    assert "123 of 123 are listed as they were sent; all are accounted for" in shown.stdout
    assert shown.stderr == ""


def test_the_bill_is_off(site, home, server):
    """Exit code 1; how many tokens, for whom, which events, and what to do."""
    events = [*calls(60), *calls(3, subject="zoo")]
    lost = [events[7], events[8], events[61]]
    server.order(LostAfterAccept(id=[each.id for each in lost]), times=None)
    deliver(site, home, server, *events)
    server.preload(server.events[:1])

    report = site.ask("reconcile", *SPAN, *NOW, code=1)
    shown = site.run("reconcile", *SPAN, *NOW)

    assert report["verdict"] == "faults"
    assert report["counts"] | {"missing": 3, "doubled": 1} == report["counts"]
    assert report["tokens"]["off"] == -2 * TOKENS
    assert report["tokens"]["by_kind"] == {"missing": -3 * TOKENS, "doubled": TOKENS}
    assert {each["subject"]: each["off"] for each in report["tokens"]["by_subject"]} == {
        "acme": -TOKENS,
        "zoo": -TOKENS,
    }
    missing = [each for each in report["findings"] if each["kind"] == "missing"]
    assert {each["id"] for each in missing} == {each.id for each in lost}
    assert missing[0] == {
        "kind": "missing",
        "id": lost[2].id,
        "event": lost[2].id,
        "type": "llm.usage",
        "subject": "zoo",
        "time": "2026-11-21T12:00:01Z",
        "tokens": TOKENS,
        "listed": 0,
        "tokens_off": -TOKENS,
        "is_fault": True,
        "reason": None,
        "differs": [],
        "attempts": 0,
    }
    assert shown.returncode == 1
    assert "the bill is off by -2,400 tokens" in shown.stdout
    assert (
        "missing: 3 (delivered, says our journal, and the server does not have it)" in shown.stdout
    )
    assert "to do: --resend sends it again under the same id" in shown.stdout
    assert all(each.id in shown.stdout for each in lost)
    assert "doubled: 1 (counted more than once)" in shown.stdout


def test_what_is_missing_is_sent_again(site, home, server):
    """With `--resend`; afterwards all is accounted for, and the exit code says so."""
    events = calls(30)
    server.order(LostAfterAccept(id=[events[7].id]), times=None)
    deliver(site, home, server, *events)

    report = site.ask("reconcile", *SPAN, *NOW, "--resend", "--yes")

    assert report["verdict"] == "well"
    assert report["resent"] == {"events": 1, "taken": 1, "refused": 0, "reason": None}
    assert [each["kind"] for each in report["findings"]] == ["recovered"]
    assert report["meters"][0]["explained"]
    assert server.total("$.total_tokens") == 30 * TOKENS
    assert site.ask("reconcile", *SPAN, *NOW)["findings"] == []


def test_what_the_server_will_never_take(site, home, server):
    """It is told that an id is claimed, and what an operator can do; no run sends it again."""
    events = calls(30)
    server.order(ClaimBeforeWrite(id=[events[7].id]), times=None)
    deliver(site, home, server, *events)

    first = site.ask("reconcile", *SPAN, *NOW, "--resend", "--yes", code=1)
    sent = len(server.batches)
    shown = site.run("reconcile", *SPAN, *NOW, "--resend", "--yes")

    assert [each["kind"] for each in first["findings"]] == ["claimed"]
    assert shown.returncode == 1
    assert "openmeter#5118" in shown.stdout
    assert "remove it from the server's Redis, then --resend --force" in shown.stdout
    assert "sent again 1 times" in shown.stdout
    assert len(server.batches) == sent
    assert server.forget_claims() == 1
    assert site.ask("reconcile", *SPAN, *NOW, "--resend", "--yes", "--force")["verdict"] == "well"


def test_what_is_not_sure_yet(site, home, server):
    """Within the lag nothing is called missing or sent, and exit code 3 says to look again."""
    events = calls(5)
    server.order(LostAfterAccept(id=[events[2].id]), times=None)
    deliver(site, home, server, *events)
    sent = len(server.batches)

    report = site.ask("reconcile", *SPAN, "--settle", "0", "--resend", "--yes", code=3)
    shown = site.run("reconcile", *SPAN, "--settle", "0")

    assert (report["verdict"], report["lag"]) == ("unsettled", 3600.0)
    assert [each["kind"] for each in report["findings"]] == ["unsettled"]
    assert report["resent"] is None
    assert shown.returncode == 3
    assert "of 1 it is not sure yet" in shown.stdout
    assert len(server.batches) == sent


def test_a_reason_that_all_have_stands_above_them(site, home, server):
    """Once, so that the ids and times of the table have its room."""
    events = calls(5)
    server.order(LostAfterAccept(id=[events[1].id, events[2].id]), times=None)
    deliver(site, home, server, *events)

    lines = site.run("reconcile", *SPAN, "--settle", "0").stdout.splitlines()

    reason = "the server may have been given it less than 3600 s ago"
    assert [line for line in lines if reason in line] == [f"  why: {reason}"]
    (titles,) = [line.split() for line in lines if line.startswith("id ")]
    assert titles == ["id", "subject", "time", "tokens", "listed", "off", "by"]


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_is_asked(site, home, server, answer):
    """Before anything is sent to a server that may count it twice."""
    events = calls(5)
    server.order(LostAfterAccept(id=[events[2].id]), times=None)
    deliver(site, home, server, *events)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "llm_metering", "reconcile", *SPAN, *NOW, "--resend"],
        env=site.environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        output, errors = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)

    assert "Send it 1 events again that it does not list?" in errors
    assert len(server.events) == (5 if answer == "y" else 4)
    # Whoever says no has come for the report.
    assert ("recovered: 1" if answer == "y" else "missing: 1") in output
    assert process.returncode == (0 if answer == "y" else 1)


def test_other_events_are_others_unless_the_ledger_is_complete(site, home, server):
    """A thousand processes have a ledger each: what others send is told, and no fault."""
    deliver(site, home, server, *calls(5))
    (first, *_) = server.events
    server.preload([{**first, "id": "theirs", "source": "another"}])

    report = site.ask("reconcile", *SPAN, *NOW)
    strict = site.ask("reconcile", *SPAN, *NOW, "--complete", code=1)

    (subject,) = report["meters"][0]["subjects"]
    assert (subject["others"], subject["unexplained"]) == (TOKENS, 0)
    assert strict["verdict"] == "faults"
    shown = site.run("reconcile", *SPAN, *NOW, "--complete").stdout
    assert "the totals are not those of this ledger" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("--sink", "kafka"), "no OpenMeter sink 'kafka' is configured", id="no sink"),
        pytest.param(
            ("--since", "2026-11-22", "--until", "2026-11-21"), "must be before", id="no span"
        ),
        pytest.param(("--since", "yesterday"), "no ISO 8601 time", id="no time"),
        pytest.param(("--resend",), "--resend needs --yes", id="nobody to ask"),
    ],
)
def test_what_makes_no_sense(site, home, server, arguments, said):
    """One line, exit code 2."""
    deliver(site, home, server, *calls(1))

    assert said in site.refused("reconcile", *arguments)


def test_without_a_ledger(site, home, server):
    """There is nothing to compare with."""
    assert "the ledger is switched off" in site.refused("reconcile", LLM_METERING_LEDGER="off")


def test_several_servers(site, home, server):
    """The one that is meant has to be named."""
    deliver(site, home, server, *calls(1))
    site.environment["LLM_METERING_SINKS"] = f"{server.sink_url} {server.sink_url}/b?name=second"

    assert "openmeter, second; name one" in site.refused("reconcile")
    assert site.ask("reconcile", *SPAN, *NOW, "--sink", "openmeter")["verdict"] == "well"


def test_a_wrong_key(site, home):
    """It is said in one line, without the key."""
    with OpenMeterServer(token="right") as guarded:
        site.environment["LLM_METERING_SINKS"] = guarded.sink_url
        record(home, *calls(1))
        site.ask("drain")
        said = site.refused("reconcile", *SPAN, *NOW, OPENMETER_API_KEY="wrong-key")
        without = site.refused("reconcile", *SPAN, *NOW)

    assert "refuses with the key to list events (401 Unauthorized)" in said
    assert "refuses without a key" in without
    assert "wrong-key" not in said


def test_a_server_that_lists_nothing(site, home, server):
    """An address that is another's is said to be one."""
    deliver(site, home, server, *calls(1))
    server.order(Refuse(404), times=None, to="list")

    assert "has no list of events (404 Not Found)" in site.refused("reconcile", *SPAN, *NOW)


def test_it_can_be_interrupted(site, home, server):
    """Ctrl-C ends it with a line, and nothing was sent."""
    events = calls(5)
    server.order(LostAfterAccept(id=[events[2].id]), times=None)
    deliver(site, home, server, *events)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "llm_metering", "reconcile", *SPAN),
            *("--settle", "600", "--lag", "0", "--resend", "--yes"),
        ],
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert server.wait_until(
            lambda: any(each.path == "/api/v2/events" and each.status for each in server.received),
            30,
        )
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)

    assert (process.returncode, output) == (3, "")
    assert errors == "llm-metering: interrupted; nothing was sent again\n"
    assert len(server.events) == 4


def test_it_can_be_interrupted_from_the_first_request_on(site, home, server):
    """While it waits for a server that asked it to, before it has looked at anything."""
    deliver(site, home, server, *calls(5))
    server.order(Refuse(429, retry_after=50), to="list", times=None)
    asked = len(server.received)
    with subprocess.Popen(
        [sys.executable, "-m", "llm_metering", "reconcile", *SPAN],
        env=site.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert server.wait_until(lambda: len(server.received) > asked, 30)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)

    assert (process.returncode, output) == (3, "")
    assert errors == "llm-metering: interrupted; nothing was sent again\n"


def test_a_bar_while_it_looks(site, home, server):
    """In a terminal, it is shown how far it is."""
    deliver(site, home, server, *calls(5))
    shown = in_terminal(
        home,
        *("reconcile", *SPAN, *NOW),
        LLM_METERING_SINKS=server.sink_url,
        LLM_METERING_SOURCE="shop",
    )

    assert "looking" in shown


def test_a_home_that_is_not_there(site, home):
    """There is nothing to compare, and nothing is made."""
    home.rmdir()

    report = site.ask("reconcile", *SPAN, *NOW)

    assert (report["verdict"], report["records"]) == ("well", 0)
    assert [note for note in report["notes"] if "nothing was recorded" in note and "shop" in note]
    assert not home.exists()


def test_what_this_server_was_never_owed(site, home, server):
    """It is no fault, and nobody reads that all is on the bill."""
    record(home, *calls(2))
    deliver(site, home, server, *calls(3))

    shown = site.run("reconcile", *SPAN, *NOW)

    assert shown.returncode == 0
    assert "3 of 5 are listed as they were sent; the others are accounted for" in shown.stdout
    assert "not_owed: 2" in shown.stdout


def test_a_span_without_events(site, home, server):
    """It says that nothing was compared, not that all is accounted for."""
    deliver(site, home, server, *calls(1))

    shown = site.run("reconcile", "--since", "2026-11-01", "--until", "2026-11-02", *NOW)

    assert shown.returncode == 0
    assert "nothing was compared" in shown.stdout
    assert "note: nothing was recorded in this span" in shown.stdout
    assert "accounted for" not in shown.stdout


def test_settings_of_another_application(site, home, server, monkeypatch):
    """A source that the home has never heard of is an error: a job without the settings proves nothing."""
    deliver(site, home, server, *calls(1))
    site.environment["LLM_METERING_SOURCE"] = "shpo"

    shown = site.run("reconcile", *SPAN, *NOW)

    assert (shown.returncode, shown.stdout) == (2, "")
    assert "nothing was ever recorded as 'shpo'" in shown.stderr
    assert "but as 'shop'; LLM_METERING_SOURCE" in shown.stderr


def test_the_span(site, home, server):
    """Whole minutes: the last 24 hours until this minute, unless said otherwise."""
    deliver(site, home, server, *calls(1))

    report = site.ask(
        "reconcile", *NOW, "--since", "2026-11-21T11:59:30Z", "--until", "2026-11-21T12:00:01Z"
    )

    assert (report["since"], report["until"]) == ("2026-11-21T11:59:00Z", "2026-11-21T12:01:00Z")
    assert report["records"] == 1
    assert site.ask("reconcile", *NOW)["since"][:2] == "20"


def test_json_is_json_whatever_is_in_it(site, home, server):
    """Subjects of any letters, in a terminal without a control character of theirs."""
    event = make_event(subject="a\x1b[31mcme")
    server.order(LostAfterAccept(), times=None)
    deliver(site, home, server, event)

    shown = site.run("reconcile", *SPAN, *NOW)
    report = json.loads(site.run("reconcile", *SPAN, *NOW, "--format", "json").stdout)

    assert "\x1b[31m" not in shown.stdout
    assert report["findings"][0]["subject"] == "a\x1b[31mcme"


def test_the_defaults_are_those_of_the_library():
    """What `--help` says is what holds, though nothing is imported for it."""
    assert (command._SETTLE, command._LAG) == (SETTLE, LAG)
