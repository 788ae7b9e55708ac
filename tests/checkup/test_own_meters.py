"""The user's own meters on a server, as the doctor sees them."""

from __future__ import annotations

from contextlib import closing

import pytest

from llm_metering.checkup import examine
from llm_metering.checkup.openmeter import check_openmeter
from llm_metering.meters import MeterDefinition
from llm_metering.settings import load_settings
from llm_metering.sinks import open_sink
from llm_metering.testing import OpenMeterServer

IMAGES = MeterDefinition(slug="images_total", value_property="$.quantity", group_by={})
CALLS = MeterDefinition(slug="calls", aggregation="COUNT")
DOLLARS = MeterDefinition(slug="dollars", value_property="$.reported_cost")
TOKENS = {
    "slug": "tokens",
    "eventType": "llm.usage",
    "aggregation": "SUM",
    "valueProperty": "$.total_tokens",
}


def look(own, *, listed, query=""):
    """What is found of the user's meters on a server with others."""
    with (
        OpenMeterServer(meters=[TOKENS, *listed]) as server,
        closing(open_sink(server.sink_url + query, source="shop")) as sink,
    ):
        found = check_openmeter(sink, source="shop", meters=own, send=False, wait=0.1)
        return [each for each in found if each.check == "sink.own_meters"]


@pytest.mark.parametrize("query", ["", "?api=v3"], ids=["v1", "v3"])
def test_meters_that_are_there(query):
    """By what they count, under whatever slug and in whatever spelling of a path."""
    listed = [
        {**IMAGES.to_dict(), "slug": "pictures", "valueProperty": "$['quantity']"},
        CALLS.to_dict(),
    ]

    [finding] = look([IMAGES, CALLS], listed=listed, query=query)

    assert (finding.level, finding.found) == (
        "ok",
        "your own meters are there: images_total, calls",
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"eventType": "images"}, id="event type"),
        pytest.param({"aggregation": "MAX"}, id="aggregation"),
        pytest.param({"valueProperty": "$.images"}, id="property"),
    ],
)
def test_meters_that_are_missing(change):
    """A meter that counts something else is not it, whatever it is called."""
    [finding] = look([IMAGES, CALLS], listed=[{**IMAGES.to_dict(), **change}, CALLS.to_dict()])

    assert finding.level == "warning"
    assert finding.found == (
        "the server has no such meter: images_total (SUM $.quantity of llm.usage)"
    )
    assert "llm-metering meters --format json" in finding.advice


def test_meters_of_another_shape():
    """What a sink sends decides what a meter has to look at."""
    [finding] = look([IMAGES, DOLLARS, CALLS], listed=[IMAGES.to_dict()], query="?shape=litellm")

    assert finding.found == (
        "the server has no such meter: dollars (SUM $.cost of litellm_tokens), "
        "calls (shape litellm does not send what it needs)"
    )


def test_meters_of_another_type():
    """A sink that sends another type needs meters of that type."""
    [finding] = look([IMAGES], listed=[IMAGES.to_dict()], query="?event_type=ai")

    assert "images_total (SUM $.quantity of ai)" in finding.found


def test_without_own_meters_nothing_is_said():
    """Those who have none need to hear nothing of them."""
    assert look([], listed=[]) == []


def test_the_doctor_knows_the_settings(home):
    """`llm-metering doctor` looks for the meters of the file."""
    with OpenMeterServer(meters=[TOKENS]) as server:
        settings = load_settings(home=home, sinks=server.sink_url, meters=[IMAGES])
        found = [each for each in examine(settings) if each.check == "sink.own_meters"]

    assert [each.level for each in found] == ["warning"]
