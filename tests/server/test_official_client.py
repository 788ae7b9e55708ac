"""OpenMeter's own client, and our remote usage(), against our server: neither knows the difference."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from corehttp.exceptions import HttpResponseError, ResourceNotFoundError
from openmeter import Client
from openmeter.models import (
    Event,
    FilterString,
    MeterCreate,
    MeterQueryRequest,
    MeterUpdate,
    SubjectUpsert,
    WindowSize,
)

from llm_metering.meter import Meter
from tests.eventually import eventually

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def prompt(number, **data):
    """An event in the shape of OpenMeter's own examples, an hour after the one before."""
    return Event(
        id=f"prompt-{number}",
        source="shop",
        specversion="1.0",
        type="prompt",
        subject="acme" if number % 3 else "globex",
        time=START + number * HOUR,
        data={"tokens": 10 * number, "model": "gpt-5" if number % 2 else "o3"} | data,
    )


@pytest.fixture
def official(serve, keys):
    """The client, with a key that may do everything."""
    _, key = keys.create("everything", ["admin"])
    server = serve()
    with Client(endpoint=server.url, token=key) as client:
        yield client
    assert server.stop() == 0


def test_it_ingests_lists_and_queries(official):
    """One event and many; the latest first; by window, subject and key; as JSON and as CSV."""
    official.meters.create(
        MeterCreate(
            slug="prompt_tokens",
            aggregation="SUM",
            event_type="prompt",
            value_property="$.tokens",
            group_by={"model": "$.model"},
            name="Prompt tokens",
        )
    )
    official.events.ingest_event(prompt(1))
    official.events.ingest_events([prompt(number) for number in range(1, 7)])
    official.events.ingest_events_json([prompt(6)])

    listed = eventually(
        lambda: official.events.list(from_parameter=START), lambda found: len(found) == 6
    )
    assert [each.event.id for each in listed] == [f"prompt-{number}" for number in range(6, 0, -1)]
    assert all(each.ingested_at > START and not each.validation_error for each in listed)
    [third] = official.events.list(subject="globex", limit=1, to=START + 5 * HOUR)
    assert (third.event.id, dict(third.event.data)) == (
        "prompt-3",
        {"tokens": 30, "model": "gpt-5"},
    )
    assert official.events.list(id="prompt-4")[0].event.time == START + 4 * HOUR

    whole = official.meters.query_json("prompt_tokens")
    assert [row.value for row in whole.data] == [210]
    asked = official.meters.query_json(
        "prompt_tokens",
        from_parameter=START,
        to=START + 6 * HOUR,
        window_size=WindowSize.HOUR,
        window_time_zone="Europe/Berlin",
        subject=["acme", "globex"],
        group_by=["model"],
        advanced_meter_group_by_filters={"model": {"$eq": "gpt-5"}},
    )
    rows = [(row.window_start, row.subject, row.group_by["model"], row.value) for row in asked.data]
    assert rows == [
        (START + HOUR, "acme", "gpt-5", 10),
        (START + 3 * HOUR, "globex", "gpt-5", 30),
        (START + 5 * HOUR, "acme", "gpt-5", 50),
    ]
    posted = official.meters.query(
        "prompt_tokens",
        MeterQueryRequest(
            group_by=["subject"],
            advanced_meter_group_by_filters={"model": FilterString(ne="gpt-5")},
        ),
    )
    assert [(row.subject, row.value) for row in posted.data] == [("acme", 60), ("globex", 60)]
    csv = official.meters.query_csv("prompt_tokens", group_by=["model"])
    assert csv.splitlines() == [
        "window_start,window_end,model,value",
        "2026-11-21T13:00:00Z,2026-11-21T17:01:00Z,gpt-5,90",
        "2026-11-21T14:00:00Z,2026-11-21T18:01:00Z,o3,120",
    ]
    assert official.meters.list_subjects("prompt_tokens") == ["acme", "globex"]
    assert official.meters.list_group_by_values("prompt_tokens", "model") == ["gpt-5", "o3"]


def test_it_makes_meters_subjects_and_portal_tokens(official):
    """And changes them, and takes them away again."""
    made = official.meters.create(
        MeterCreate(slug="calls_made", aggregation="COUNT", event_type="prompt")
    )
    assert official.meters.get(made.id).slug == "calls_made"
    assert "calls_made" in {meter.slug for meter in official.meters.list()}
    changed = official.meters.update(
        "calls_made", MeterUpdate(name="Calls", group_by={"m": "$.model"})
    )
    assert (changed.name, dict(changed.group_by)) == ("Calls", {"m": "$.model"})
    official.meters.delete("calls_made")
    with pytest.raises(ResourceNotFoundError):
        official.meters.get("calls_made")
    with pytest.raises(HttpResponseError) as refused:
        official.meters.delete("tokens_total")
    assert refused.value.status_code == 409

    [told] = official.subjects.upsert([SubjectUpsert(key="acme", display_name="Acme Ltd")])
    assert official.subjects.get("acme").display_name == "Acme Ltd"
    assert [each.key for each in official.subjects.list()] == ["acme"]
    assert official.subjects.get(told.id).key == "acme"
    official.subjects.delete("acme")
    assert official.subjects.list() == []

    token = official.portal.portal_tokens.create(
        {"subject": "acme", "allowedMeterSlugs": ["tokens_total"]}
    )
    assert token.token.startswith("lmp1.")
    [listed] = official.portal.portal_tokens.list()
    assert (listed.id, listed.expired, listed.token) == (token.id, False, None)
    assert list(listed.allowed_meter_slugs) == ["tokens_total"]
    official.portal.portal_tokens.invalidate(id=token.id)
    [listed] = official.portal.portal_tokens.list()
    assert listed.expired


def test_a_customer_asks_with_a_portal_token(official):
    """With the same client; of nobody else, whatever is asked for."""
    official.events.ingest_events([prompt(number, total_tokens=1) for number in range(1, 7)])
    official.meters.create(MeterCreate(slug="prompts", aggregation="COUNT", event_type="prompt"))
    eventually(
        lambda: official.meters.query_json("prompts").data, lambda rows: rows and rows[0].value == 6
    )
    token = official.portal.portal_tokens.create({"subject": "globex"})

    with Client(endpoint=official._config.endpoint, token=token.token) as customer:
        own = customer.portal.portal_meters.query_json("prompts", window_size=WindowSize.DAY)
        assert [(row.subject, row.value) for row in own.data] == [("globex", 2)]
        with pytest.raises(HttpResponseError) as refused:
            customer.meters.query_json("prompts")
        assert refused.value.status_code == 403


def test_it_asks_for_entitlements(serve, keys):
    """Of customers, which are subjects here, by both versions of the API."""
    _, key = keys.create("everything", ["admin"])
    server = serve(LLM_METERING_LIMITS="on")
    with Meter(server.home, (), source="operator", limits="on") as meter:
        meter.grant("acme", 100)
    with Client(endpoint=server.url, token=key) as client:
        for asked in (client.customer_entitlement, client.customer_entitlement_v2):
            value = asked.get_customer_entitlement_value("acme", "tokens")
            assert (value.has_access, value.balance, value.usage) == (True, 100, 0)
            with pytest.raises(ResourceNotFoundError):
                asked.get_customer_entitlement_value("acme", "money")
    assert server.stop() == 0


def test_usage_of_another_machine_is_asked_of_the_server(serve, keys, tmp_path):
    """Our own remote usage(): the same report as the ledger of who sent it."""
    _, key = keys.create("shop", ["ingest", "read"], sources=["shop"])
    server = serve()
    sink = f"openmeter+{server.url}"
    with Meter(tmp_path / "shop", [sink], source="shop", openmeter_token=key) as meter:
        for number in range(40):
            meter.record(
                {"input_tokens": number, "output_tokens": 1},
                subject="ab"[number % 2],
                time=START + number * HOUR,
                provider="openai",
            )
        assert meter.flush(30)
        asked = {
            "window": "DAY",
            "group_by": ["subject", "provider", "provenance"],
            "time_zone": "Europe/Berlin",
            "start": START,
            "end": START + 30 * HOUR,
        }
        here = meter.usage("tokens_total", **asked)
        assert len(here) > 3
        there = eventually(
            lambda: meter.usage("tokens_total", **asked, backend="openmeter"),
            lambda report: report.rows == here.rows,
        )
        assert there.to_csv() == here.to_csv()
        filters = {"provider": ["openai", ""]}
        for slug in ("tokens_input", "tokens_cached", "calls_total"):
            assert (
                meter.usage(slug, filters=filters, backend="openmeter").rows
                == meter.usage(slug, filters=filters).rows
            )
    assert server.stop() == 0
