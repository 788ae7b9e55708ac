"""`llm-metering doctor`: exit codes, formats, and that it changes nothing."""

from __future__ import annotations

import json

import pytest

from llm_metering.sinks.memory import MemorySink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse
from tests.cli.conftest import make_event, record

KEY = "om_hunter2"
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
    """Each finding has its line, what is not well two more; the last line counts."""
    server.down()

    lines = run("doctor").stdout.splitlines()

    at = next(n for n, line in enumerate(lines) if line.startswith("failure"))
    assert lines[at].startswith("failure  sink.reachable openmeter: it refuses connections")
    assert lines[at + 1].strip().startswith("it means: nothing is delivered")
    assert lines[at + 2].strip().startswith("to do: ")
    assert lines[-1].startswith("ok: ")
    assert lines[-1].endswith(", failure: 1")
