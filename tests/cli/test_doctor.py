"""`llm-metering doctor`: exit codes, formats, and that it changes nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading

import pytest

from llm_metering.checkup.deduplication import EVENT_TYPE
from llm_metering.sinks.memory import MemorySink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse
from tests.cli.conftest import make_event, record
from tests.sinks.webhook_receiver import WebhookReceiver

KEY = "om_hunter2"
LONG = 20.0
"""Seconds that nothing here takes."""
TOKENS = {
    "slug": "tokens_total",
    "eventType": "llm.usage",
    "aggregation": "SUM",
    "valueProperty": "$.total_tokens",
}


@pytest.fixture
def server(monkeypatch):
    """A server that is ready, and configured."""
    with OpenMeterServer(token=KEY, meters=[TOKENS]) as server:
        monkeypatch.setenv("LLM_METERING_SINKS", server.sink_url)
        monkeypatch.setenv("OPENMETER_API_KEY", KEY)
        yield server


def examined(done, code=0):
    """The report of a run that ended with this exit code: levels by check, worst of each."""
    assert done.exit_code == code, done.output
    report = json.loads(done.stdout)
    assert KEY not in done.output
    found: dict[str, str] = {}
    order = ("ok", "warning", "failure")
    for each in report["findings"]:
        found[each["check"]] = max(found.get(each["check"], "ok"), each["level"], key=order.index)
    assert report["worst"] == max(found.values(), key=order.index)
    return found


def test_a_deployment_that_is_well(run, home, server):
    """Exit code 0, whatever the machine warns of; each group of checks has spoken."""
    found = examined(run("doctor", "--send", "--wait", "0.4", "--format", "json"))

    assert {check.partition(".")[0] for check in found} == {
        *("settings", "machine", "home", "journal", "ledger", "sink")
    }
    assert found["sink.deduplication"] == "ok"
    assert list(home.iterdir()) == []


def test_a_home_that_is_not_there_stays_so(run, home):
    """Nothing is made by looking."""
    home.rmdir()

    examined(run("doctor", "--format", "json"))

    assert not home.exists()


def test_what_waits_is_named_without_the_sink(run, home):
    """Its events are owed, and no setting here has it."""
    record(home, make_event(), sinks=[MemorySink()])

    assert examined(run("doctor", "--format", "json"))["journal.debts"] == "warning"


@pytest.mark.parametrize(
    ("trouble", "arguments", "check"),
    [
        pytest.param(lambda server: server.down(), [], "sink.reachable", id="away"),
        pytest.param(
            lambda server: server.order(Refuse(401), times=None, to="list"),
            [],
            "sink.reachable",
            id="wrong key",
        ),
        pytest.param(
            lambda server: setattr(server, "dedupe", False),
            ["--send", "--wait", "0.4"],
            "sink.deduplication",
            id="no deduplication",
        ),
    ],
)
def test_a_failure_is_exit_code_1(run, server, trouble, arguments, check):
    """So that a deployment's script stops."""
    trouble(server)

    found = examined(run("doctor", *arguments, "--format", "json"), code=1)

    assert found[check] == "failure"


@pytest.mark.parametrize(
    "sinks",
    [pytest.param("nowhere://x", id="scheme"), pytest.param("openmeter+http://", id="host")],
)
def test_a_sink_that_cannot_be_opened_is_a_failure(run, monkeypatch, sinks):
    """And all else is looked at all the same."""
    monkeypatch.setenv("LLM_METERING_SINKS", sinks)

    found = examined(run("doctor", "--format", "json"), code=1)

    assert found["settings.sinks"] == "failure"
    assert "home.writable" in found


def test_settings_that_lead_nowhere_are_a_failure(run, monkeypatch):
    """No ledger and no sink."""
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")

    assert examined(run("doctor", "--format", "json"), code=1)["settings.sinks"] == "failure"


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        pytest.param("LLM_METERING_SINK", "x", "settings.variables", id="misspelt"),
        pytest.param("OPENMETER_API_KEY", KEY, "settings.openmeter_token", id="key without a sink"),
        pytest.param(
            "LLM_METERING_SUBJECT_TOKEN_SECRETS",
            "k" * 32,
            "settings.subject_from_metadata",
            id="secrets that nothing needs",
        ),
    ],
)
def test_what_was_meant_and_does_not_hold_is_said(run, monkeypatch, name, value, check):
    """A warning, and exit code 0."""
    monkeypatch.setenv(name, value)

    assert examined(run("doctor", "--format", "json"))[check] == "warning"


def test_every_sink_is_looked_at_in_its_own_way(run, monkeypatch, tmp_path, server):
    """A receiver is asked, a file tried, and what cannot be asked is said to be so."""
    with WebhookReceiver() as receiver:
        urls = [receiver.url, f"jsonl://{tmp_path}/usage.jsonl", server.sink_url, "memory:"]
        monkeypatch.setenv("LLM_METERING_SINKS", " ".join(urls))
        done = run("doctor", "--format", "json")

    examined(done)
    found = {(each["sink"], each["check"]) for each in json.loads(done.stdout)["findings"]}
    assert {
        ("cloudevents", "sink.reachable"),
        ("jsonl", "sink.writable"),
        ("jsonl", "sink.space"),
        ("openmeter", "sink.meters"),
        ("memory", "sink.reachable"),
    } <= found
    assert not [sink for sink, _ in found if sink == "ledger"]
    assert [request.method for request in receiver.received] == ["OPTIONS"]
    assert not (tmp_path / "usage.jsonl").exists()


SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"


@pytest.mark.parametrize(
    ("url", "secret", "token", "checks"),
    [
        pytest.param("http://x.invalid", None, None, {"webhook_secret"}, id="open and unsigned"),
        pytest.param("http://x.invalid", SECRET, KEY, {"webhook_token"}, id="open token"),
        pytest.param("http://x.invalid", SECRET, None, set(), id="open and signed"),
        pytest.param("https://x.invalid", None, None, {"webhook_secret"}, id="unsigned"),
        pytest.param("https://x.invalid", None, KEY, set(), id="a token"),
        pytest.param("https://x.invalid", SECRET, KEY, set(), id="both"),
        pytest.param("http://127.0.0.1:9", None, KEY, set(), id="loopback"),
        pytest.param(None, SECRET, KEY, {"webhook_secret", "webhook_token"}, id="no receiver"),
    ],
)
def test_a_receiver_that_cannot_tell_who_posts_is_said(
    run, monkeypatch, url, secret, token, checks
):
    """Without a signature anybody can post usage; in the clear anybody can read the token."""
    monkeypatch.setenv("LLM_METERING_SINKS", f"cloudevents+{url}/" if url else "")
    monkeypatch.setenv("LLM_METERING_WEBHOOK_SECRET", secret or "")
    monkeypatch.setenv("LLM_METERING_WEBHOOK_TOKEN", token or "")

    done = run("doctor", "--format", "json")

    found = examined(done, code=1 if url else 0)
    assert {name.partition(".")[2] for name in found if "webhook" in name} == checks
    assert SECRET not in done.output


def in_a_terminal(*arguments, types=""):
    """What the doctor showed in a terminal, where somebody types."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "llm_metering", "doctor", "--wait", "0.4", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        # A question that nobody answers would be waited for without end.
        end = threading.Timer(LONG, process.kill)
        end.start()
        os.write(ours, types.encode())
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # EIO: the other side is closed
                piece = b""
            if not piece:
                break
            shown += piece
        end.cancel()
    os.close(ours)
    return process.returncode, shown.decode()


@pytest.mark.parametrize(
    ("types", "arguments", "asks", "sends"),
    [
        pytest.param("y\n", [], True, 2, id="yes"),
        pytest.param("n\n", [], True, 0, id="no"),
        pytest.param("\n", [], True, 0, id="neither"),
        pytest.param("", ["--send"], False, 2, id="send"),
        pytest.param("", ["--no-send"], False, 0, id="no send"),
        pytest.param("", ["--format", "json"], False, 0, id="JSON"),
    ],
)
def test_in_a_terminal_it_asks_before_it_sends(server, home, types, arguments, asks, sends):
    """Only a yes sends; who said so already is not asked, and neither is a program."""
    code, shown = in_a_terminal("--home", home, *arguments, types=types)

    assert code == 0
    assert ("Send one test event twice to the OpenMeter server" in shown) == asks
    posted = [request for request in server.received if request.method == "POST"]
    assert len(posted) == sends
    assert all(EVENT_TYPE.encode() in request.body for request in posted)


@pytest.mark.parametrize(
    ("types", "posted"),
    [pytest.param("y\n", [b"[]"], id="yes"), pytest.param("n\n", [], id="no")],
)
def test_in_a_terminal_it_asks_before_it_posts_to_a_receiver(home, monkeypatch, types, posted):
    """A signature is tried where somebody wants that, with a batch that nobody can bill."""
    with WebhookReceiver() as receiver:
        monkeypatch.setenv("LLM_METERING_SINKS", receiver.url)
        code, shown = in_a_terminal("--home", home, types=types)

    assert code == 0
    assert "Send a batch without events to each cloudevents sink" in shown
    assert [each.body for each in receiver.received if each.method == "POST"] == posted


def test_in_a_terminal_without_openmeter_nothing_is_asked(home, tmp_path, monkeypatch):
    """There would be nothing to send."""
    monkeypatch.setenv("LLM_METERING_SINKS", f"jsonl://{tmp_path}/usage.jsonl")

    code, shown = in_a_terminal("--home", home)

    assert code == 0
    assert "Send one test event" not in shown


def test_a_sink_that_cannot_be_closed_ends_no_look(run, monkeypatch):
    """What was found out about everything else is told; a foreign error is told by its type alone."""

    def close(_sink):
        raise RuntimeError("hunter2")

    monkeypatch.setenv("LLM_METERING_SINKS", "memory:")
    monkeypatch.setattr(MemorySink, "close", close)

    done = run("doctor")

    assert "closing it failed: RuntimeError" in done.output
    assert "hunter2" not in done.output


def test_without_a_terminal_it_never_asks(run, server):
    """A script gets its answer, and nothing is sent that nobody asked for."""
    done = run("doctor")

    assert "Send one test event" not in done.output
    assert "POST" not in {request.method for request in server.received}


def test_a_key_without_encryption_is_said(run, monkeypatch):
    """It does not leave this machine in the test: the name is none."""
    monkeypatch.setenv("LLM_METERING_SINKS", "openmeter+http://openmeter.invalid")
    monkeypatch.setenv("OPENMETER_API_KEY", KEY)

    found = examined(run("doctor", "--format", "json"), code=1)

    assert found["settings.openmeter_token"] == "warning"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--wait", "-1"], id="negative"),
        pytest.param(["--wait", "soon"], id="no number"),
        pytest.param(["--fix"], id="no such option"),
    ],
)
def test_wrong_options_are_refused(run, arguments):
    """Exit code 2, as everywhere."""
    assert run("doctor", *arguments).exit_code == 2


def test_a_setting_that_cannot_be_used_is_refused(run, monkeypatch):
    """One line says which: there is nothing to look at without a home and a source."""
    monkeypatch.setenv("LLM_METERING_SOURCE", "my_app:1")
    done = run("doctor")

    assert done.exit_code == 2
    assert "its first ':'" in done.stderr


def test_people_see_what_to_do(run, server):
    """Each finding has its line, what is not well two more and its place at the end; the last line counts."""
    server.down()

    lines = run("doctor").stdout.splitlines()

    words = [line.split()[0] for line in lines[:-1] if line and not line.startswith(" ")]
    assert words == sorted(words, key=["ok", "warning", "failure"].index)

    at = next(n for n, line in enumerate(lines) if line.startswith("failure"))
    assert lines[at].startswith("failure  sink.reachable openmeter: it refuses connections")
    assert lines[at + 1].strip().startswith("it means: nothing is delivered")
    assert lines[at + 2].strip().startswith("to do: ")
    assert lines[-1].startswith("ok: ")
    assert lines[-1].endswith(", failure: 1")
