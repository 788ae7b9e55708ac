"""`--backend`: the same question to the ledger and to an OpenMeter server."""

import pytest

from llm_metering.meters import METERS
from llm_metering.sinks import open_sink
from llm_metering.testing import OpenMeterServer
from tests.factories import batch_of

from .conftest import NOON, make_event, record
from .test_usage_options import table_of

EVENTS = [
    make_event(),
    make_event(subject="zoo", provenance="estimated", model="other"),
    make_event(subject="unattributed", model=None),
    make_event(time=NOON.replace(hour=3), model="other"),
]


@pytest.fixture
def slugs():
    """The meters that the server has."""
    return tuple(METERS)


@pytest.fixture
def server(home, monkeypatch, slugs):
    """A server that has been sent what the home's ledger has."""
    with OpenMeterServer(meters=[METERS[slug].to_dict() for slug in slugs]) as server:
        url = f"openmeter+{server.url}"
        monkeypatch.setenv("LLM_METERING_SINKS", url)
        sink = open_sink(url, source="shop")
        assert len(sink.deliver(batch_of(EVENTS)).accepted) == len(EVENTS)
        sink.close()
        record(home, *EVENTS)
        yield server


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("usage", id="table"),
        pytest.param("usage --window hour --group-by model --time-zone Asia/Tokyo", id="windows"),
        pytest.param(
            "usage --window hour --sparkline --from 2026-11-21 --to 2026-11-22", id="bars"
        ),
        pytest.param("usage --subject acme --filter model=other", id="chosen"),
        pytest.param("top model --from 2026-11-21 --to 2026-11-22", id="top"),
        pytest.param("usage --format json --group-by subject --from 2026-11-21", id="json"),
        pytest.param("top --format json --from 2026-11-21 --to 2026-11-22", id="top as json"),
    ],
)
def test_both_say_the_same(command, run, monkeypatch):
    """Numbers, names and notes are the same, whoever is asked."""
    ledger = run(*command.split(), "--backend", "ledger")
    remote = run(*command.split(), "--backend", "openmeter")

    assert (remote.exit_code, remote.stderr) == (0, "")
    assert remote.stdout == ledger.stdout
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")
    assert run(*command.split()).stdout == remote.stdout


@pytest.mark.parametrize("slugs", [["tokens_total", "tokens_input"]])
@pytest.mark.usefixtures("server")
def test_a_server_without_some_meters(run):
    """Columns that a server knows nothing of are unknown, and a note says why."""
    done = run("usage", "--backend", "openmeter")

    assert table_of(done)[1] == ["acme", "gpt-5-mini", "1,000", "-", "-", "-", "1,200", "-"]
    assert "note: calls_total is not known here: " in done.stdout
    refused = run("usage", "--backend", "openmeter", "--meter", "calls_total")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "tokens_input" in refused.stderr


def test_what_is_owed_to_the_server_is_said(run, home, server):
    """Events that the server was not sent yet are named below the table."""
    sink = open_sink(f"openmeter+{server.url}", source="shop")
    record(home, make_event(), sinks=[sink])

    done = run("usage", "--backend", "openmeter")

    assert "note: 1 event recorded and not in the server of sink openmeter yet; " in done.stdout
    assert len(server.events) == len(EVENTS)


@pytest.mark.usefixtures("server")
def test_who_cannot_be_asked(run, monkeypatch):
    """An unknown back end, a ledger that is off, a server that is away: one line that says so."""
    unknown = run("usage", "--backend", "openmetre")
    assert unknown.exit_code == 2
    assert unknown.stderr == (
        "llm-metering: --backend 'openmetre' cannot be asked for usage; there are: ledger, openmeter\n"
    )
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")
    off = run("top", "--backend", "ledger")
    assert off.exit_code == 2
    assert "there are: openmeter" in off.stderr
    monkeypatch.setenv("LLM_METERING_SINKS", "openmeter+http://127.0.0.1:9")
    away = run("usage", "--format", "json")
    assert (away.exit_code, away.stdout) == (2, "")
    assert away.stderr.count("\n") == 1
