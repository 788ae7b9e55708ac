"""The OpenMeter sink in other shapes: its URL, its identity, its requests, and OpenMeter's meters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_metering.errors import ConfigurationError, SinkURLError
from llm_metering.meter import Meter
from llm_metering.sinks import Delivery, Envelope, SinkLimits, open_sink
from llm_metering.sinks.openmeter import LIMITS
from llm_metering.sinks.shapes import SHAPES
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse, Reset
from llm_metering.token_usage import TokenUsage
from llm_metering.transport.spool import debt_of
from tests.factories import batch_of, envelope_of, make_event
from tests.metering import call

EVERY_KIND = TokenUsage(
    input_tokens=100,
    output_tokens=20,
    cache_read_input_tokens=64,
    cache_creation_input_tokens=6,
    reasoning_output_tokens=7,
)


@pytest.fixture
def server() -> Iterator[OpenMeterServer]:
    with OpenMeterServer() as server:
        yield server


def send(server: OpenMeterServer, query: str, events: Iterable[Any], **settings: Any) -> Delivery:
    """Deliver the events as one batch to a sink with those parameters."""
    with closing(open_sink(server.sink_url + query, source="tests", **settings)) as sink:
        return sink.deliver(batch_of(events))


# The URL, the settings, the identity.


@pytest.mark.parametrize(
    ("query", "settings", "sent"),
    [
        pytest.param("", {}, ("0198", "llm.usage"), id="nothing"),
        pytest.param("", {"event_type": "acme"}, ("0198", "acme"), id="type by setting"),
        pytest.param("?event_type=url", {}, ("0198", "url"), id="type by URL"),
        pytest.param("?event_type=url", {"event_type": "acme"}, ("0198", "url"), id="both types"),
        pytest.param("", {"event_id": "response"}, ("resp-1", "llm.usage"), id="id by setting"),
        pytest.param("?event_id=response", {}, ("resp-1", "llm.usage"), id="id by URL"),
        pytest.param(
            "?event_id=call", {"event_id": "response"}, ("0198", "llm.usage"), id="both ids"
        ),
        pytest.param(
            "?shape=openai&event_type=a%2Bb&event_id=response", {}, ("resp-1", "a+b"), id="all"
        ),
    ],
)
def test_a_parameter_of_the_url_wins_over_the_setting(server, query, settings, sent):
    """What a sink's URL says is for that sink; the setting is for those that say nothing."""
    send(server, query, [make_event(id="0198", response_id="resp-1")], **settings)

    assert [(event["id"], event["type"]) for event in server.events] == [sent]
    assert server.violations == []


def test_a_meter_passes_its_settings_on(home, server):
    """`configure(event_type=…, event_id=…)` and their variables reach every OpenMeter sink."""
    settings = {"event_type": "acme", "event_id": "response"}

    with Meter(home, server.sink_url, source="tests", ledger=False, **settings) as meter:
        call(meter)
        assert meter.flush()

    [event] = server.events
    assert event["type"] == "acme"
    assert "no_response_id" in event["data"]["flags"]


def test_settings_of_openmeter_are_no_matter_to_other_sinks():
    """A default for OpenMeter sinks is passed over by the rest."""
    sink = open_sink("memory:", source="tests", event_type="acme", event_id="response")

    batch = batch_of([make_event()])
    assert sink.deliver(batch) == Delivery.all_accepted(batch)
    assert [event.type for event in sink.events] == ["llm.usage"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param("shape=kinds", "one of call, kind, openai, litellm, got 'kinds'", id="shape"),
        pytest.param("shape=", "shape must be one of", id="empty shape"),
        pytest.param("event_id=uuid", "event_id must be one of call, response", id="id"),
        pytest.param("event_type=", "event_type: a CloudEvents type is wanted", id="empty type"),
        pytest.param("event_type=two%20words", "event_type: a CloudEvents type", id="a space"),
        pytest.param("event_type=a%0Ab", "event_type: a CloudEvents type", id="a line break"),
        pytest.param(f"event_type={'x' * 201}", "event_type: a CloudEvents type", id="too long"),
        pytest.param("event_type=a&event_type=b", "each once", id="twice"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(query, message):
    """At configuration, with what is allowed."""
    with pytest.raises(SinkURLError) as caught:
        open_sink(f"openmeter+https://x?{query}", source="tests")

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("query", "url"),
    [
        pytest.param("", "openmeter+https://x/base", id="nothing"),
        pytest.param("?shape=call", "openmeter+https://x/base", id="the default, written out"),
        pytest.param("?shape=kind", "openmeter+https://x/base?shape=kind", id="kind"),
        pytest.param("?shape=openai", "openmeter+https://x/base?shape=openai", id="openai"),
        pytest.param("?event_type=a&event_id=response", "openmeter+https://x/base", id="names"),
    ],
)
def test_a_shape_is_a_book_of_its_own(query, url):
    """Debts are kept by shape; another type or id renames what is owed to the same sink."""
    sink = open_sink(f"openmeter+https://x/base/{query}", source="tests")

    assert sink.url == url
    assert (sink.name, sink.account) == ("openmeter", "tests")


def test_debts_of_shape_call_are_where_they_were():
    """Homes of before this version go on being shipped: their debts have this key."""
    sink = open_sink("openmeter+https://openmeter.cloud", source="shop")

    assert debt_of(sink).key == "c537968bb2bf77bd"


def test_one_server_may_be_sent_two_shapes(home, server):
    """Two sinks with two names, and each event of the journal counts once in either."""
    sinks = [server.sink_url, f"{server.sink_url}?shape=kind&name=kinds"]

    with Meter(home, sinks, source="tests", ledger=False) as meter:
        call(meter, 3)
        assert meter.flush()
        rows = {row["name"]: row for row in meter.statistics()["sinks"]}

    assert [event["type"] for event in server.events].count("llm.usage") == 3
    assert [event["type"] for event in server.events].count("prompt") == 6
    for name in ("openmeter", "kinds"):
        assert (rows[name]["recorded"], rows[name]["acked"]) == (3, 3)


def test_two_sinks_that_differ_in_ids_alone_are_refused(home, server):
    """The server would count each call under either id."""
    sinks = [server.sink_url, f"{server.sink_url}?event_id=response&name=again"]

    with pytest.raises(ConfigurationError, match="'again' delivers where another sink does"):
        Meter(home, sinks, source="tests", ledger=False)


# Requests.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("api", ["v1", "v3"])
def test_openmeter_takes_every_shape(server, api, shape):
    """Calls with and without counts, other units, flags, costs: nothing the server refuses."""
    events = [
        make_event(usage=EVERY_KIND, measures={"reported_cost": 0.5}, dimensions={"Ω": "é"}),
        make_event(usage=None, model=None, flags=("unattributed",)),
        make_event(usage=TokenUsage(output_tokens=3), provenance="partial", status="aborted"),
        make_event(usage=None, provenance="reported", quantity=1.5, unit="seconds"),
        make_event(quantity=3, unit="images"),
    ]

    delivery = send(server, f"?api={api}&shape={shape}&event_id=response", events)

    assert delivery == Delivery.all_accepted(batch_of(events))
    assert server.violations == []
    [batch] = server.batches
    assert len(server.events) == len(batch) >= len(events)


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        pytest.param("", LIMITS, id="call"),
        pytest.param("?event_type=x", SinkLimits(max_events=100, max_bytes=491520), id="renamed"),
        pytest.param("?shape=kind", SinkLimits(max_events=16, max_bytes=81920), id="kind"),
        pytest.param("?shape=openai", SinkLimits(max_events=50, max_bytes=245760), id="openai"),
        pytest.param("?shape=litellm", SinkLimits(max_events=50, max_bytes=245760), id="litellm"),
    ],
)
@pytest.mark.parametrize("ballast", ["", "x" * 4_600], ids=["small", "large"])
def test_a_request_stays_within_the_limits(server, query, limits, ballast):
    """What the sink calls its largest batch makes no more than 100 events and 512 KiB."""
    sink = open_sink(server.sink_url + query, source="tests")
    assert (sink.limits.max_events, sink.limits.max_bytes) == (limits.max_events, limits.max_bytes)
    envelopes: list[Envelope] = []
    while len(envelopes) < limits.max_events:
        event = make_event(
            usage=EVERY_KIND,
            quantity=1,
            unit="images",
            dimensions={"ballast": ballast},
            measures={"reported_cost": 0.123456789},
        )
        envelope = envelope_of(event)
        if sum(len(e.payload) + 1 for e in [*envelopes, envelope]) > limits.max_bytes:
            break
        envelopes.append(envelope)

    with closing(sink):
        assert sink.deliver(envelopes) == Delivery.all_accepted(envelopes)

    [request] = server.received
    assert len(server.events) <= LIMITS.max_events
    assert len(request.body) <= LIMITS.max_bytes


def test_an_event_counts_as_taken_when_all_of_it_is(server):
    """The server refuses the request: none of its events is accepted, and all come again."""
    batch = batch_of([make_event(usage=EVERY_KIND) for _ in range(2)])
    with closing(open_sink(f"{server.sink_url}?shape=kind", source="tests")) as sink:
        server.order(Reset("after"))
        first = sink.deliver(batch)
        second = sink.deliver(batch)

    assert first.retryable == second.accepted == {envelope.id for envelope in batch}
    assert server.batches[0] == server.batches[1] == server.events
    assert len(server.events) == 10


@pytest.mark.parametrize("query", ["?shape=kind", "?event_type=x"])
@pytest.mark.parametrize("status", [None, 503], ids=["taken", "refused"])
def test_what_cannot_be_read_is_rejected_alone(server, query, status):
    """One damaged payload holds up nobody, whatever becomes of the rest."""
    if status is not None:
        server.order(Refuse(status))
    good = envelope_of(make_event())
    with closing(open_sink(server.sink_url + query, source="tests")) as sink:
        delivery = sink.deliver([Envelope("bad", b'{"hunter2'), good])

    assert delivery.rejected == {("bad", "no CloudEvent: Input data was truncated")}
    assert (delivery.accepted if status is None else delivery.retryable) == {good.id}
    assert len(server.received) == 1


def test_a_batch_of_nothing_readable_is_not_sent(server):
    """There is nothing to ask the server, and an empty batch is no outcome either."""
    with closing(open_sink(f"{server.sink_url}?shape=kind", source="tests")) as sink:
        delivery = sink.deliver([Envelope("bad", b"")])
        assert sink.deliver([]) == Delivery()

    assert [event_id for event_id, _ in delivery.rejected] == ["bad"]
    assert not delivery.retryable
    assert server.received == []


# OpenMeter's own meters, as it computes them over what it was sent.

# quickstart/config.yaml at 7812ce70d^, beside the OpenAI example.
OPENAI_METER = {
    "eventType": "openai",
    "aggregation": "SUM",
    "valueProperty": "$.total_tokens",
    "groupBy": {"model": "$.model"},
}
# The same for the payload of tokens and model alone.
TOKENS_METER = OPENAI_METER | {"valueProperty": "$.tokens"}
# quickstart/config.yaml at 7e57a394a.
PROMPT_METER = {
    "eventType": "prompt",
    "aggregation": "SUM",
    "valueProperty": "$.tokens",
    "groupBy": {"model": "$.model", "type": "$.type"},
}
# What LiteLLM's documentation has its users create.
COST_METER = OPENAI_METER | {"eventType": "litellm_tokens", "valueProperty": "$.cost"}


def query(meter: dict[str, Any], events: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """What OpenMeter answers (openmeter/streaming/clickhouse/meter_query.go at 7e57a394a).

    `sum(toFloat64OrNull(JSON_VALUE(data, path)))` by `JSON_VALUE(data, path)` of each group: a
    value that is absent adds nothing, a group that is absent is empty, and a group without any
    value is no row. Its own paths are all `$.key`.
    """
    assert meter["aggregation"] == "SUM"
    rows: dict[tuple[str, ...], float] = {}
    for event in events:
        if event["type"] != meter["eventType"]:
            continue
        data = event["data"]
        value = data.get(meter["valueProperty"].removeprefix("$."))
        if isinstance(value, int | float) and not isinstance(value, bool):
            key = tuple(str(data.get(p.removeprefix("$."), "")) for p in meter["groupBy"].values())
            rows[key] = rows.get(key, 0.0) + value
    return rows


CALLS = [
    make_event(usage=EVERY_KIND, measures={"reported_cost": 0.25}),
    make_event(usage=TokenUsage(input_tokens=10, output_tokens=2)),
    make_event(usage=TokenUsage(input_tokens=5, output_tokens=1), model="claude-x"),
    make_event(usage=None),
    make_event(usage=TokenUsage(output_tokens=3), provenance="partial"),
    make_event(usage=None, provenance="reported", quantity=3, unit="images"),
]


@pytest.mark.parametrize(
    ("shape", "meter", "rows"),
    [
        pytest.param(
            "openai", OPENAI_METER, {("gpt-5-mini",): 132, ("claude-x",): 6}, id="the example"
        ),
        pytest.param(
            "openai", TOKENS_METER, {("gpt-5-mini",): 132, ("claude-x",): 6}, id="tokens alone"
        ),
        pytest.param(
            "kind",
            PROMPT_METER,
            {
                ("gpt-5-mini", "input"): 40,
                ("gpt-5-mini", "cache_read"): 64,
                ("gpt-5-mini", "cache_write"): 6,
                # With the three of the call whose input nobody knows.
                ("gpt-5-mini", "output"): 18,
                ("gpt-5-mini", "reasoning"): 7,
                ("claude-x", "input"): 5,
                ("claude-x", "output"): 1,
            },
            id="the quickstart",
        ),
        pytest.param(
            "kind",
            PROMPT_METER | {"valueProperty": "$.calls", "groupBy": {"model": "$.model"}},
            {("gpt-5-mini",): 4, ("claude-x",): 1},
            id="calls",
        ),
        pytest.param("litellm", COST_METER, {("gpt-5-mini",): 0.25}, id="LiteLLM's cost"),
        pytest.param(
            "openai",
            OPENAI_METER | {"eventType": "llm.usage", "valueProperty": "$.quantity"},
            {("gpt-5-mini",): 3},
            id="a quantity",
        ),
    ],
)
def test_openmeters_own_meters_count_what_was_used(server, shape, meter, rows):
    """The meters of its documentation, set up as they stand there, give the right sums."""
    send(server, f"?shape={shape}", CALLS)

    assert query(meter, server.events) == rows


@pytest.mark.parametrize(
    ("shape", "block", "slug", "rows"),
    [
        pytest.param("call", 0, "llm_calls", {"completed": 5}, id="calls"),
        pytest.param("kind", 1, "llm_calls", {"gpt-5-mini": 4, "claude-x": 1}, id="calls by kind"),
        pytest.param("kind", 2, "images_total", {"images": 3}, id="images"),
    ],
)
def test_the_meters_of_our_documentation_work(server, shape, block, slug, rows):
    """What the page tells people to set up counts what it says it counts."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "openmeter.md"
    blocks = re.findall(r"```yaml\n(meters:.*?)```", page.read_text("utf-8"), re.DOTALL)
    [meter] = [m for m in yaml.safe_load(blocks[block])["meters"] if m["slug"] == slug]
    send(server, f"?shape={shape}", CALLS)

    counted = query(meter, server.events)

    found: dict[str, float] = {}
    for key, value in counted.items():
        found[key[-1]] = found.get(key[-1], 0) + value
    assert found == rows


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "call"])
def test_no_event_of_the_journal_goes_unsent(server, shape):
    """Whatever its counts, it can be found on the server by its id."""
    send(server, f"?shape={shape}", CALLS)

    found = {event["id"].partition(":")[0] for event in server.events}
    assert found == {event.id for event in CALLS}


def test_two_calls_of_one_response_id_are_merged_by_the_server(server):
    """The danger of `event_id=response`: a server that deduplicates keeps the first of them."""
    events = [make_event(response_id="chatcmpl-7") for _ in range(2)]

    delivery = send(server, "?event_id=response", events)

    assert len(delivery.accepted) == 2
    assert [json.loads(request.body)[0]["id"] for request in server.received] == ["chatcmpl-7"]
    assert len(server.events) == 1
