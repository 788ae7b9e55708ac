"""Meters for a server that is sent another shape say what the meters of the ledger say."""

from __future__ import annotations

from contextlib import closing

import httpx
import jsonschema
import pytest

from llm_metering.meters import ESTIMATES, METERS, MeterDefinition
from llm_metering.sinks import open_sink
from llm_metering.sinks.shaped_meters import create_body, meter_in_shape
from llm_metering.sinks.shapes import SHAPES
from llm_metering.testing import OpenMeterServer
from llm_metering.token_usage import TokenUsage
from tests.factories import batch_of, make_event
from tests.openmeter_spec import openmeter_schema, spec_path

IMAGES = MeterDefinition(
    slug="images_total", value_property="$.quantity", group_by={"unit": "$.unit"}, estimates=False
)
DOLLARS = MeterDefinition(
    slug="dollars",
    value_property="$.reported_cost",
    group_by={"model": "$.model", "team": "$.team", "run": "$.run_id"},
)
DEAREST = MeterDefinition(
    slug="dearest", aggregation="MAX", value_property="$['reported_cost']", group_by={}
)
REPORTED_TOKENS = MeterDefinition(
    slug="reported_tokens", value_property="$.total_tokens", estimates=False
)
LONGEST = MeterDefinition(slug="longest", aggregation="MAX", value_property="$.total_tokens")
EVENTS = MeterDefinition(slug="events", aggregation="COUNT")
MODELS = MeterDefinition(slug="models", aggregation="UNIQUE_COUNT", value_property="$.model")
NESTED = MeterDefinition(slug="nested", value_property="$.total_tokens.nested")
OTHERS = MeterDefinition(slug="others", value_property="$.n", event_type="com.example.others")
OWN = (IMAGES, DOLLARS, DEAREST, REPORTED_TOKENS, LONGEST, EVENTS, MODELS, NESTED, OTHERS)
ALL = {**METERS, **{meter.slug: meter for meter in OWN}}

CACHED = TokenUsage(
    input_tokens=1000,
    output_tokens=200,
    cache_read_input_tokens=64,
    cache_creation_input_tokens=8,
    reasoning_output_tokens=7,
)
USED = [
    make_event(usage=CACHED, measures={"reported_cost": 0.5}, dimensions={"team": "red"}),
    make_event(usage=CACHED, provenance="estimated", model="llama", measures={"reported_cost": 2}),
    make_event(usage=TokenUsage(input_tokens=3, output_tokens=0), provenance="partial"),
    make_event(usage=None, status="failed", model=None),
    make_event(usage=None, quantity=3, unit="images", provenance="reported", model=None),
    make_event(usage=None, quantity=2, unit="images", provenance="estimated", model=None),
    make_event(quantity=1.5, unit="gpu_seconds", measures={"reported_cost": 1}),
]


def value_of(meter):
    """What a meter says of the events as they were recorded."""
    counted = [
        event.data()
        for event in USED
        if event.type == meter.event_type and (meter.estimates or event.provenance not in ESTIMATES)
    ]
    if meter.aggregation == "COUNT":
        return len(counted)
    name = meter.value_property.removeprefix("$").strip(".[]'")
    values = [data[name] for data in counted if name in data]
    return max(values) if meter.aggregation == "MAX" else sum(values)


@pytest.mark.parametrize(
    ("shape", "unsaid"),
    [
        pytest.param("call", set(), id="call"),
        pytest.param(
            "kind",
            {"tokens_input", "tokens_output", "tokens_cached", "tokens_reasoning", "longest"},
            id="kind",
        ),
        pytest.param(
            "openai",
            {"tokens_cached", "tokens_reasoning", "dollars", "dearest", "reported_tokens"},
            id="openai",
        ),
        pytest.param(
            "litellm", {"tokens_cached", "tokens_reasoning", "reported_tokens"}, id="litellm"
        ),
    ],
)
@pytest.mark.parametrize("override", [None, "ai-usage"], ids=["own type", "another type"])
def test_a_server_says_the_same(shape, unsaid, override):
    """What is sent, and asked of the meters made for it, has the values of what was recorded."""
    if shape != "call":
        unsaid = unsaid | {"events", "models", "nested"}
    if shape in ("openai", "litellm") and override:
        unsaid = unsaid | {"calls_total"}
    shaped = {slug: meter_in_shape(each, shape, event_type=override) for slug, each in ALL.items()}
    meters = {slug: meter for slug, meter in shaped.items() if meter is not None}

    with OpenMeterServer(meters=[create_body(meter) for meter in meters.values()]) as server:
        suffix = f"&event_type={override}" if override else ""
        with closing(open_sink(f"{server.sink_url}?shape={shape}{suffix}", source="tests")) as sink:
            delivery = sink.deliver(batch_of(USED))
        assert len(delivery.accepted) == len(USED)
        values = {}
        for slug, meter in meters.items():
            left_out = {"provenance": {"$nin": list(ESTIMATES)}}
            answer = httpx.post(
                f"{server.url}/api/v1/meters/{slug}/query",
                json={} if meter.estimates else {"advancedMeterGroupByFilters": left_out},
                trust_env=False,
            ).raise_for_status()
            values[slug] = sum(row["value"] for row in answer.json()["data"])

    assert set(shaped) - set(meters) == unsaid
    known = set(values) - {"nested", "models", "others"}
    assert {slug: values[slug] for slug in known} == {slug: value_of(ALL[slug]) for slug in known}
    assert values["others"] == 0


def test_what_is_not_sent_is_no_key():
    """A key that a shape has no word for is left out; kinds of token are told apart."""
    in_kinds = meter_in_shape(DOLLARS, "kind")
    by_kind = meter_in_shape(METERS["tokens_total"], "kind")

    assert in_kinds.group_by == {"model": "$.model", "team": "$.team"}
    assert by_kind.group_by == {**METERS["tokens_total"].group_by, "type": "$.type"}
    assert meter_in_shape(METERS["tokens_total"], "openai").group_by == {"model": "$.model"}


@pytest.mark.parametrize(
    ("api", "document", "schema"),
    [
        pytest.param("v1", "openapi.yaml", "MeterCreate", id="v1"),
        pytest.param("v3", "openapi.v3.yaml", "CreateMeterRequest", id="v3"),
    ],
)
def test_openmeter_takes_the_bodies(api, document, schema):
    """Every meter of every shape is as OpenMeter's own documents have what creates one."""
    bodies = [
        create_body(shaped, api)
        for shape in SHAPES
        for meter in ALL.values()
        if (shaped := meter_in_shape(meter, shape))
    ]
    path = spec_path(document)
    assert len(bodies) > len(ALL)
    if path is None:
        # The names alone, where the documents are not there.
        names = ("slug", "eventType") if api == "v1" else ("key", "event_type", "name")
        assert all(set(names) <= set(body) for body in bodies)
        return

    for body in bodies:
        jsonschema.validate(body, openmeter_schema(path, schema))


def test_v3_has_names_of_its_own():
    """The same meter in the words of either API; `provenance` leaves estimates out."""
    assert create_body(IMAGES, "v1") == {
        "slug": "images_total",
        "description": "",
        "eventType": "llm.usage",
        "aggregation": "SUM",
        "valueProperty": "$.quantity",
        "groupBy": {"unit": "$.unit", "provenance": "$.provenance"},
    }
    assert create_body(IMAGES, "v3") == {
        "key": "images_total",
        "name": "images_total",
        "description": "",
        "event_type": "llm.usage",
        "aggregation": "sum",
        "value_property": "$.quantity",
        "dimensions": {"unit": "$.unit", "provenance": "$.provenance"},
    }
