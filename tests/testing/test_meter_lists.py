"""The lists of meters, as OpenMeter's documents have them."""

from __future__ import annotations

from typing import Any

import pytest

from llm_metering.testing import OpenMeterServer
from tests.openmeter_spec import openmeter_schema, spec_path, validator

TOKENS = {
    "slug": "tokens_total",
    "eventType": "llm.usage",
    "aggregation": "SUM",
    "valueProperty": "$.total_tokens",
    "groupBy": {"model": "$.model"},
}
CALLS = {"slug": "calls", "eventType": "llm.usage", "aggregation": "COUNT"}


@pytest.fixture
def server():
    """A server with two meters."""
    with OpenMeterServer(meters=[TOKENS, CALLS]) as server:
        yield server


@pytest.fixture
def ask(server, client):
    """Asks for a list; its status and its document."""

    def ask(path: str, **parameters: Any) -> tuple[int, Any]:
        answer = client.get(f"{server.url}{path}", params=parameters)
        return answer.status_code, answer.json()

    return ask


def test_v1_lists_meters_in_its_words(ask):
    """As they were given, with an id and times, in an array."""
    status, document = ask("/api/v1/meters", pageSize=1000)

    assert status == 200
    assert [meter["slug"] for meter in document] == ["tokens_total", "calls"]
    assert document[0].items() >= TOKENS.items()


def test_v3_lists_meters_in_its_words(ask):
    """The same meters under v3's names, with the page they are on."""
    status, document = ask("/api/v3/openmeter/meters", **{"page[size]": 1, "page[number]": 1})

    assert status == 200
    [meter] = document["data"]
    assert meter["key"] == "tokens_total"
    assert meter["event_type"] == "llm.usage"
    assert meter["aggregation"] == "sum"
    assert meter["value_property"] == "$.total_tokens"
    assert meter["dimensions"] == {"model": "$.model"}
    assert document["meta"] == {"page": {"number": 1, "size": 1, "total": 2}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"slug": "tokens_total"}, 409, id="there"),
        pytest.param({"slug": "No Slug"}, 400, id="slug"),
        pytest.param({"aggregation": "TOTAL"}, 400, id="aggregation"),
        pytest.param({"aggregation": "COUNT"}, 400, id="property of a count"),
        pytest.param({"valueProperty": "tokens"}, 400, id="path"),
        pytest.param({"groupBy": {"model": "model"}}, 400, id="path of a key"),
        pytest.param({"colour": "red"}, 200, id="unknown"),
        pytest.param({}, 200, id="right"),
    ],
)
def test_a_meter_can_be_created(server, client, body, status):
    """What OpenMeter refuses is refused, and adds none."""
    answer = client.post(f"{server.url}/api/v1/meters", json={**TOKENS, "slug": "new", **body})

    assert answer.status_code == status
    slugs = [each["slug"] for each in client.get(f"{server.url}/api/v1/meters").json()]
    assert slugs == ["tokens_total", "calls", *(["new"] if status == 200 else [])]


def test_v3_creates_meters_in_its_words(server, client):
    """The names and the small letters of v3, and no others."""
    url = f"{server.url}/api/v3/openmeter/meters"
    right = {"key": "new", "name": "New", "event_type": "t", "aggregation": "count"}

    wrong = [{**right, "aggregation": "COUNT"}, {**right, "slug": "x"}, {"key": "new"}]
    statuses = [client.post(url, json=body).status_code for body in (*wrong, right, right)]

    assert statuses == [400, 400, 400, 201, 409]
    assert client.get(f"{url}/new").json()["name"] == "New"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param("", "/api/v1/meters", id="v1"),
        pytest.param("openapi.v3.yaml", "/api/v3/openmeter/meters", id="v3"),
    ],
)
def test_a_listed_meter_is_valid(ask, name, path):
    """Against OpenMeter's own schema of a meter, wherever it is known."""
    document = spec_path(name)
    if document is None:
        pytest.skip("OpenMeter's API document is not here (LLM_METERING_OPENMETER_SPEC)")
    _, listed = ask(path)

    for meter in listed if isinstance(listed, list) else listed["data"]:
        validator(openmeter_schema(document, "Meter")).validate(meter)


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        pytest.param({"page": 0}, 400, id="no such page"),
        pytest.param({"pageSize": 1001}, 400, id="too many"),
        pytest.param({"orderBy": "slug"}, 501, id="a parameter we do not know"),
    ],
)
def test_what_the_list_does_not_take(ask, parameters, status):
    """It is refused, so that nobody takes it for applied."""
    assert ask("/api/v1/meters", **parameters)[0] == status


def test_meters_are_behind_the_token(client):
    """Without it, 401."""
    with OpenMeterServer(token="hush") as server:
        assert client.get(f"{server.url}/api/v1/meters").status_code == 401


@pytest.mark.parametrize(
    "meter",
    [
        pytest.param({"slug": "x", "eventType": "y"}, id="nothing to do"),
        pytest.param({**TOKENS, "aggregation": "sum"}, id="v3's word"),
        pytest.param({**CALLS, "aggregation": "SUM"}, id="nothing to sum"),
        pytest.param({**TOKENS, "event_type": "y"}, id="another name"),
    ],
)
def test_a_meter_that_openmeter_would_refuse(meter):
    """A server cannot be made with it."""
    with pytest.raises(ValueError, match=r"meter|aggregation"):
        OpenMeterServer(meters=[meter])
