"""Meters that a server lacks are created there; what is there stays as it is."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest

from llm_metering.errors import MeteringError
from llm_metering.meters import METERS, MeterDefinition
from llm_metering.sinks import open_sink
from llm_metering.sinks.creating_meters import create_meters
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Hang, Refuse

KEY = "om_hunter2"
IMAGES = MeterDefinition(
    slug="images_total", value_property="$.quantity", group_by={"unit": "$.unit"}, estimates=False
)
EVENTS = MeterDefinition(slug="events", aggregation="COUNT", description="All events")
OWN = [METERS["tokens_total"], IMAGES, EVENTS]
BOTH = pytest.mark.parametrize("api", ["v1", "v3"])


@pytest.fixture
def server():
    """A server that asks for a key and has no meter."""
    with OpenMeterServer(token=KEY) as server:
        yield server


def create(url, meters=OWN, *, token=KEY, limit=20.0):
    """What became of each meter, by its slug."""
    with closing(open_sink(url, source="shop", openmeter_token=token)) as sink:
        made = list(create_meters(sink, meters, limit=limit))
    assert KEY not in repr(made)
    return {each.slug: (each.outcome, each.detail) for each in made}


def meters_of(server):
    """The meters that a server lists, by slug."""
    listed = httpx.get(
        f"{server.url}/api/v1/meters", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    ).json()
    assert server.violations == []
    return {each["slug"]: each for each in listed}


@BOTH
def test_what_is_missing_is_created(server, api):
    """Once: the second time all of it is there."""
    url = f"{server.sink_url}?api={api}"

    first, second = create(url), create(url)

    assert first == dict.fromkeys(("tokens_total", "images_total", "events"), ("created", ""))
    assert second == dict.fromkeys(("tokens_total", "images_total", "events"), ("there", ""))
    listed = meters_of(server)
    assert listed["images_total"].items() >= IMAGES.to_dict().items()
    assert listed["events"].items() >= EVENTS.to_dict().items()
    assert "valueProperty" not in listed["events"]


@BOTH
@pytest.mark.parametrize(
    ("change", "detail"),
    [
        pytest.param({"eventType": "images"}, "event type is images", id="event type"),
        pytest.param({"aggregation": "MAX"}, "aggregation is MAX", id="aggregation"),
        pytest.param({"valueProperty": "$.n"}, "property is $.n", id="property"),
        pytest.param(
            {"groupBy": {"unit": "$.unit"}}, "without the keys provenance", id="no provenance"
        ),
        pytest.param(
            {"groupBy": {"unit": "$.u", "provenance": "$.provenance"}},
            "without the keys unit",
            id="another path",
        ),
        pytest.param(
            {"aggregation": "AVG", "groupBy": {}},
            "aggregation is AVG; without the keys unit, provenance",
            id="both",
        ),
    ],
)
def test_what_is_there_is_never_changed(api, change, detail):
    """A meter of that name that counts something else is named, and the others are created."""
    with OpenMeterServer(token=KEY, meters=[{**IMAGES.to_dict(), **change}]) as server:
        made = create(f"{server.sink_url}?api={api}")
        listed = meters_of(server)

    assert made["images_total"] == ("differs", detail)
    assert made["events"] == ("created", "")
    assert listed["images_total"].items() >= {**IMAGES.to_dict(), **change}.items()


@BOTH
def test_more_keys_and_other_spellings_do_no_harm(api):
    """What a query of ours needs is there."""
    there = {
        **IMAGES.to_dict(),
        "valueProperty": "$['quantity']",
        "groupBy": {"unit": "$.unit", "provenance": "$.provenance", "model": "$.model"},
    }
    with OpenMeterServer(token=KEY, meters=[there]) as server:
        made = create(f"{server.sink_url}?api={api}", [IMAGES])

    assert made == {"images_total": ("there", "")}


def test_a_meter_on_another_page_stays():
    """v3 lists a hundred at once; a meter that it did not list may be any, and is not changed."""
    many = [{**EVENTS.to_dict(), "slug": f"m{number}"} for number in range(100)]
    with OpenMeterServer(token=KEY, meters=[*many, IMAGES.to_dict()]) as server:
        made = create(f"{server.sink_url}?api=v3", [IMAGES])

    assert made == {
        "images_total": (
            "failed",
            "the server has one of that name and did not list it, so nobody compared it",
        )
    }


def test_a_refusal_is_told(server):
    """With what the server said; the other meters are created."""
    server.order(Refuse(403), to="ingest")

    made = create(server.sink_url)

    assert made["tokens_total"][0] == "failed"
    assert made["tokens_total"][1].startswith("403")
    assert [made[slug][0] for slug in ("images_total", "events")] == ["created", "created"]


def test_no_answer_is_no_success(server):
    """Nobody knows whether the meter is there; the next run does."""
    server.order(Hang(), to="ingest")

    made = create(server.sink_url, [IMAGES], limit=0.5)
    server.release()

    assert made["images_total"][0] == "failed"
    assert "run again" in made["images_total"][1]


def test_a_server_that_lists_nothing_gets_nothing(server):
    """Without a key there is no list, and so nothing is created."""
    with pytest.raises(MeteringError, match=r"openmeter: the server does not list .*401"):
        create(server.sink_url, token="another")

    assert [request.method for request in server.received] == ["GET"]


def test_a_server_that_is_away_is_named():
    """One line says what happened, and what to look at."""
    with OpenMeterServer() as server:
        url = server.sink_url

    with pytest.raises(MeteringError, match="openmeter: "):
        create(url, token=None)
