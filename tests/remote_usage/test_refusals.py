"""What a server cannot say, or says of something else, is an error that says what to do."""

from __future__ import annotations

import json

import pytest

from llm_metering.errors import QueryError, RemoteUsageError
from llm_metering.meters import METERS, MeterDefinition, usage_query
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Redirect, Refuse, Reset
from tests.openmeter_in_duckdb import DuckDBEngine, QueryServer
from tests.remote_usage.conftest import remote_of, usage_event

TOTAL = METERS["tokens_total"]


def test_a_meter_that_the_server_does_not_have(remote):
    """Its meters are named."""
    own = MeterDefinition(slug="unheard_of", aggregation="COUNT")
    with pytest.raises(QueryError, match=r"no meter 'unheard_of'; there are tokens_total \(SUM"):
        remote.query(usage_query(own))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param(
            {"group_by": "team"}, "no key 'team'.*it has subject, framework, model", id="group"
        ),
        pytest.param({"filters": {"team": "x"}}, "no key 'team'", id="filter"),
        pytest.param({"group_by": "customer_id"}, "customer_id.*ask the ledger", id="customers"),
    ],
)
def test_a_key_that_the_servers_meter_does_not_have(remote, asked, message):
    """Its keys are named."""
    with pytest.raises(QueryError, match=message):
        remote.query(usage_query(**asked))


def test_a_key_that_the_server_takes_from_elsewhere(api, built_in):
    """Its groups would be others."""
    built_in[0]["groupBy"]["model"] = "$.request_model"
    with OpenMeterServer(meters=built_in) as server:
        with pytest.raises(QueryError, match=r"takes model from \$.request_model, and here it is"):
            remote_of(server.url, api).query(usage_query(group_by="model"))
        assert remote_of(server.url, api).query(usage_query(group_by="status")).rows == ()


@pytest.mark.parametrize(
    ("changed", "there"),
    [
        pytest.param({"aggregation": "MAX"}, r"is MAX of \$.total_tokens", id="aggregation"),
        pytest.param({"aggregation": "COUNT"}, "is COUNT in events", id="count"),
        pytest.param({"valueProperty": "$.tokens"}, r"is SUM of \$.tokens", id="property"),
        pytest.param({"eventType": "prompt"}, "in events of type prompt", id="event type"),
    ],
)
def test_a_meter_that_counts_something_else(api, built_in, changed, there):
    """Its number would be another one under the same name."""
    with (
        OpenMeterServer(meters=[{**built_in[0], **changed}]) as server,
        pytest.raises(RemoteUsageError, match=there) as caught,
    ):
        remote_of(server.url, api).query(usage_query())
    assert "SUM of $.total_tokens in events of type llm.usage" in str(caught.value)


def test_the_same_path_in_other_words(api, built_in):
    """`$['total_tokens']` is no other property."""
    meter = {**built_in[0], "valueProperty": "$['total_tokens']"}
    with OpenMeterServer(meters=[meter]) as server:
        server.preload([usage_event("1", total_tokens=7)])
        assert remote_of(server.url, api).query(usage_query()).total == 7


@pytest.mark.parametrize(
    ("sink", "slug", "there", "fits"),
    [
        pytest.param({"shape": "kind"}, "tokens_total", ("prompt", "$.tokens"), True, id="kinds"),
        pytest.param({"shape": "kind"}, "calls_total", ("prompt", "$.calls"), True, id="calls"),
        pytest.param({"shape": "kind"}, "tokens_input", ("prompt", "$.tokens"), False, id="a kind"),
        pytest.param(
            {"shape": "openai"}, "tokens_input", ("openai", "$.prompt_tokens"), True, id="openai"
        ),
        pytest.param(
            {"shape": "openai"}, "tokens_total", ("openai", "$.tokens"), True, id="tokens"
        ),
        pytest.param(
            {"shape": "litellm"},
            "tokens_total",
            ("llm.usage", "$.total_tokens"),
            False,
            id="litellm",
        ),
        pytest.param(
            {"event_type": "our.calls"},
            "tokens_total",
            ("our.calls", "$.total_tokens"),
            True,
            id="type",
        ),
    ],
)
def test_shapes(built_in, sink, slug, there, fits):
    """What the sink sends in place of a call is where the number has to come from."""
    event_type, path = there
    meter = {"slug": slug, "aggregation": "SUM", "eventType": event_type, "valueProperty": path}
    with OpenMeterServer(meters=[meter]) as server:
        server.preload([{**usage_event("1", **{path[2:]: 5}), "type": event_type}])
        remote = remote_of(server.url, sink=sink)
        if fits:
            assert remote.query(usage_query(slug)).total == 5
        else:
            with pytest.raises(RemoteUsageError, match="its answer would be another one"):
                remote.query(usage_query(slug))


def test_what_a_shape_does_not_send(built_in):
    """A key that no event has there would be None for all of them."""
    meter = {**built_in[0], "eventType": "openai"}
    with OpenMeterServer(meters=[meter]) as server:
        remote = remote_of(server.url, sink={"shape": "openai"})
        with pytest.raises(
            QueryError, match=r"shape openai of sink openmeter does not send \$.status"
        ):
            remote.query(usage_query(group_by="status"))
        assert remote.query(usage_query(group_by="model")).rows == ()


def test_a_meter_that_begins_later(api, built_in):
    """The answer for what was before would be short."""
    meter = {**built_in[0], "eventFrom": "2026-11-21T11:00:00Z"}
    with OpenMeterServer(meters=[meter]) as server:
        server.preload([usage_event("1", "2026-11-21T11:00:00Z", total_tokens=7)])
        remote = remote_of(server.url, api)
        for start in (None, "2026-11-21T10:59:59Z"):
            with pytest.raises(QueryError, match="counts from 2026-11-21T11:00:00Z on"):
                remote.query(usage_query(start=start))
        assert remote.query(usage_query(start="2026-11-21T11:00:00Z")).total == 7


def test_estimates_that_the_server_cannot_tell(api, built_in):
    """Its meter has no key for where counts come from."""
    del built_in[0]["groupBy"]["provenance"]
    meter = MeterDefinition(slug="tokens_total", value_property="$.total_tokens", estimates=False)
    with (
        OpenMeterServer(meters=built_in) as server,
        pytest.raises(QueryError, match=r"has no key for \$.provenance"),
    ):
        remote_of(server.url, api).query(usage_query(meter))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(Refuse(401), r"does not take the key \(401\).*OPENMETER_API_KEY", id="401"),
        pytest.param(Refuse(403), r"does not take the key \(403\)", id="403"),
        pytest.param(Refuse(404), r"has no API v[13] at that address \(404\)", id="404"),
        pytest.param(Refuse(429, retry_after=7), r"\(429\); ask again in 7 s", id="429"),
        pytest.param(Refuse(503), r"cannot answer now \(503\); ask again", id="503"),
        pytest.param(Refuse(418, detail="I am\na teapot"), r"\(418: I ama teapot\)", id="418"),
        pytest.param(Redirect("https://example.org/"), r"does not answer \(307\)", id="redirect"),
        pytest.param(Refuse(200, body=b"<html>"), "in no form known here", id="html"),
        pytest.param(Refuse(200, body=b"{}"), "in no form known here", id="another document"),
        pytest.param(Reset("before"), "connection failed", id="cut"),
    ],
)
def test_lists_that_are_not_given(server, remote, fault, message):
    """Each says what happened and what to do, and nothing of the key."""
    server.order(fault, to="list")
    with pytest.raises(RemoteUsageError, match=message) as caught:
        remote.query(usage_query())
    assert "a-secret" not in str(caught.value)
    assert server.url in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        pytest.param(
            Refuse(400, detail="no such zone"), QueryError, "no such zone.*keys", id="400"
        ),
        pytest.param(
            Refuse(400, detail="no a-secret"), QueryError, "question: no … ", id="its key"
        ),
        pytest.param(Refuse(422, body=b""), QueryError, "question: status 422", id="422"),
        pytest.param(Refuse(401), RemoteUsageError, "does not take the key", id="401"),
        pytest.param(
            Refuse(404), QueryError, "has no meter 'tokens_total'", id="deleted meanwhile"
        ),
        pytest.param(Refuse(405), RemoteUsageError, "by POST from OpenMeter v1", id="old"),
        pytest.param(Refuse(500), RemoteUsageError, "cannot answer now", id="500"),
        pytest.param(Refuse(200, body=b'{"data": [{}]}'), RemoteUsageError, "no form", id="rows"),
        pytest.param(Refuse(200, body=b'{"data": {}}'), RemoteUsageError, "no form", id="no rows"),
        pytest.param(Refuse(200, body=b"[]"), RemoteUsageError, "no form", id="a list"),
        pytest.param(Reset("during"), RemoteUsageError, "connection failed", id="half"),
    ],
)
def test_answers_that_are_not_given(server, remote, fault, error, message):
    """Never a short report, nor an empty one."""
    assert remote.query(usage_query()).total == 123
    server.order(fault, to="list")
    with pytest.raises(error, match=message):
        remote.query(usage_query())
    assert remote.query(usage_query()).total == 123


@pytest.mark.parametrize(
    "value",
    [None, "many", True, [], {}, "NaN"],
    ids=["null", "text", "true", "list", "dict", "nan"],
)
def test_values_that_are_none(server, remote, value):
    """A row without a number is no row of nothing."""
    row = {
        "value": value,
        "windowStart": "2026-11-21T10:00:00Z",
        "windowEnd": "2026-11-21T11:00:00Z",
        "subject": None,
        "groupBy": {},
    }
    remote.query(usage_query())
    server.order(Refuse(200, body=json.dumps({"data": [row]}).encode()), to="list")
    with pytest.raises(RemoteUsageError, match="in no form known here"):
        remote.query(usage_query())


def test_a_server_without_a_key_that_wants_one(server, api):
    """It is said where a key belongs."""
    with pytest.raises(RemoteUsageError, match=r"asks for a key.*OPENMETER_API_KEY"):
        remote_of(server.url, api, token=None).query(usage_query())


def test_a_server_that_is_away(server, remote):
    """Nothing is made up from what it said before."""
    remote.query(usage_query())
    server.down()
    with pytest.raises(RemoteUsageError, match="refuses connections"):
        remote.query(usage_query())


def test_an_answer_that_is_too_long(server, remote, monkeypatch):
    """It is not cut."""
    monkeypatch.setattr("llm_metering.remote_usage.asking._MOST_BYTES", 100)
    with pytest.raises(RemoteUsageError, match="longer than 0 MiB; ask for less at once"):
        remote.query(usage_query())


class OldServer(QueryServer):
    """v1 before advanced filters: what it does not know of a question, it passes over."""

    def query(self, path, content_type, body):
        asked = json.loads(body)
        asked.pop("advancedMeterGroupByFilters", None)
        return super().query(path, content_type, json.dumps(asked).encode())


def test_a_server_that_passes_over_conditions():
    """It is found out beforehand: its number would be that of all events."""
    engine = DuckDBEngine()
    engine.add([usage_event("1", total_tokens=5, model="a"), usage_event("2", total_tokens=3)])
    with OldServer(engine) as server:
        server.meters = [TOTAL.to_dict()]
        remote = remote_of(server.url)

        assert remote.query(usage_query(filters={"model": ["a", "b"]})).total == 5
        with pytest.raises(RemoteUsageError, match=r"v1\.0\.0-beta\.225"):
            remote.query(usage_query(filters={"model": ""}))
    engine.close()


def test_conditions_are_tried_once(api):
    """A server that minds them is not asked again whether it does."""
    engine = DuckDBEngine()
    with QueryServer(engine) as server:
        server.meters = [TOTAL.to_dict()]
        remote = remote_of(server.url, api)
        for _ in range(2):
            remote.query(usage_query(filters={"model": ""}))
        # v3 refuses what it does not know.
        assert len(server.asked) == (3 if api == "v1" else 2)
    engine.close()


def test_more_values_than_v3_takes(server):
    """A thousand of one key are asked for, and more are refused."""
    values = [f"model-{number}" for number in range(1000)]
    remote = remote_of(server.url, "v3")
    assert remote.query(usage_query(filters={"model": [*values[:999], "a"]})).total == 100
    with pytest.raises(QueryError, match="model has 1001 values"):
        remote.query(usage_query(filters={"model": [*values, "a"]}))
