"""One answer: the ledger and an OpenMeter server say the same of months of events.

The server is the query API in DuckDB, which shares no code with the package. By default a few hundred
questions are asked; `USAGE_EXAMPLES=2000` asks tens of thousands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_metering.errors import QueryError
from llm_metering.ledger import Ledger
from llm_metering.meters import UsageQuery
from llm_metering.remote_usage import RemoteUsage
from llm_metering.sinks import open_sink
from llm_metering.sinks.base import Envelope
from llm_metering.testing import OpenMeterServer
from tests.openmeter_in_duckdb import DuckDBEngine, QueryServer
from tests.usage_questions import ALL_METERS, differences, events, questions

EXAMPLES = int(os.environ.get("USAGE_EXAMPLES", "15"))
APIS = ("v1", "v3")
METERS = [meter.to_dict() for meter in {meter.slug: meter for meter in ALL_METERS}.values()]
A_FILE = Path(__file__).parents[1] / "checkup" / "untrusted.pem"

asked_of = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def few_certificates(monkeypatch):
    """Not those of the machine, which take 20 ms to read for each question."""
    monkeypatch.setenv("SSL_CERT_FILE", str(A_FILE))


@pytest.fixture
def early_folds(monkeypatch):
    """Rollups are written after a hundred events."""
    monkeypatch.setattr("llm_metering.ledger._folding.FOLD_AT", 100)


@pytest.fixture(params=[100_000, 1], ids=["SQLite", "DuckDB"])
def bodies(request, monkeypatch):
    """Who reads the events' bodies, where sums do not say what is asked."""
    monkeypatch.setattr("llm_metering.ledger._from_columns.FEWEST", request.param)


@pytest.fixture(scope="module")
def server() -> Iterator[QueryServer]:
    """The query API in DuckDB, with all meters."""
    engine = DuckDBEngine()
    with QueryServer(engine) as server:
        server.meters = METERS
        yield server
    engine.close()


def as_sent(made: list[dict[str, Any]], chance: Random) -> list[dict[str, Any]]:
    """The events as they come: late ones last, and some once more."""
    late = [event for event in made if chance.random() < 0.1]
    sent = [event for event in made if event not in late] + late
    for event in chance.sample(sent, len(sent) // 10):
        # Another event of the same name is the same event, and the first is what counts.
        again = {**event, "subject": "somebody else"}
        sent.insert(chance.randrange(sent.index(event) + 1, len(sent) + 1), again)
    return sent


def deliver(ledger: Ledger, sent: list[dict[str, Any]], chance: Random) -> None:
    """Hand a ledger the events in batches, in none of which an event comes twice."""
    batch: dict[str, Envelope] = {}
    for event in sent:
        if event["id"] in batch or chance.random() < 0.02:
            assert ledger.deliver(list(batch.values())).accepted == batch.keys()
            batch.clear()
        batch[event["id"]] = Envelope(id=event["id"], payload=encoded(event))
    assert ledger.deliver(list(batch.values())).accepted == batch.keys()


def encoded(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


@asked_of
@given(
    number=st.integers(0, 300),
    seed=st.integers(0, 10**6),
    asked=st.lists(questions(), min_size=1, max_size=12),
)
def test_one_answer(server, early_folds, bodies, tmp_path_factory, number, seed, asked):
    """Any question about any months: the whole report is the same, by v1 and by v3."""
    chance = Random(seed)
    sent = as_sent(events(number, seed), chance)
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
    deliver(ledger, sent, chance)
    server.engine.clear()
    server.engine.add(sent)
    check(ledger, server.url, asked)
    ledger.close()


@asked_of
@given(
    number=st.integers(0, 300),
    seed=st.integers(0, 10**6),
    asked=st.lists(questions(), min_size=1, max_size=4),
)
def test_one_answer_of_the_public_server(early_folds, tmp_path_factory, number, seed, asked):
    """`llm_metering.testing.OpenMeterServer` says the same, so that users can test against it."""
    chance = Random(seed)
    sent = as_sent(events(number, seed), chance)
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
    deliver(ledger, sent, chance)
    with OpenMeterServer(meters=METERS) as server:
        # It stores what it is given beforehand, each time.
        server.preload({event["id"]: event for event in sent[::-1]}.values())
        check(ledger, server.url, asked)
    ledger.close()


def check(ledger: Ledger, url: str, asked: list[UsageQuery]) -> None:
    """Ask both the same."""
    remotes = {
        api: RemoteUsage(open_sink(f"openmeter+{url}?api={api}", source="tests")) for api in APIS
    }
    for question in asked:
        for api, remote in remotes.items():
            try:
                report = remote.query(question)
            except QueryError:
                if (api, cannot_be_asked(question)) != ("v3", True):
                    raise
                continue
            # What was asked is what was answered, in whole seconds.
            expected = ledger.query(report.query)
            assert differences(expected, report) is None


def cannot_be_asked(question: UsageQuery) -> bool:
    """Whether v3 would have to make one row of two that do not add up, or whose times it leaves out."""
    mixed = any("" in values and len(values) > 1 for _, values in question.filters)
    is_open = question.window is None and None in (question.start, question.end)
    return mixed and (is_open or question.meter.aggregation in ("AVG", "UNIQUE_COUNT", "LATEST"))


def test_the_server_shares_no_code():
    """Nothing of the package is imported by what it is held against."""
    for file in (Path(__file__).parents[1] / "openmeter_in_duckdb").glob("*.py"):
        assert "llm_metering" not in file.read_text("utf-8")
