"""Homes with usage in them, and the command line to look at them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from llm_metering.cli.app import app
from llm_metering.events import UsageEvent, encode, new_event_id
from llm_metering.ledger import Ledger
from llm_metering.token_usage import TokenUsage
from llm_metering.transport.journal import Journal
from llm_metering.transport.spool import Spool, debt_of

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REPORTED = TokenUsage(
    input_tokens=1000,
    output_tokens=200,
    cache_read_input_tokens=64,
    reasoning_output_tokens=7,
)


def make_event(**changes):
    """A reported call of acme, except for what the test is about."""
    call = {
        "id": new_event_id(),
        "source": "shop",
        "subject": "acme",
        "time": NOON,
        "model": "gpt-5-mini",
        "provenance": "reported",
        "status": "completed",
        "usage": REPORTED,
    }
    return UsageEvent(**{**call, **changes})


def record(home, *events, sinks=()):
    """Leave events in the journal, as a process does that ends before it has shipped them."""
    spool = Spool(home)
    spool.make()
    debts = [debt_of(sink) for sink in (Ledger(home / "ledger.db"), *sinks)]
    journal = Journal(spool, source="shop", debts=debts)
    for event in events:
        journal.record(event.id, encode(event))
    journal.close()


@pytest.fixture
def run(home, monkeypatch, tmp_path):
    """Run a command on `home` in this process; what it printed has no wrapped lines."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    return run
