"""`llm-metering meters`."""

from __future__ import annotations

import json
import re

import pytest

from llm_metering.testing import OpenMeterServer

FILE = """
[meters.images_total]
value_property = "$.quantity"
group_by = { what = "$.unit", model = "$.model" }
estimates = false
description = "Images"
"""


@pytest.fixture
def configured(tmp_path):
    """The file with a meter of the user's own, where `run` looks for it."""
    (tmp_path / "llm-metering.toml").write_text(FILE)


def test_the_table_has_all_meters(run, configured):
    """What each looks at and how it can be grouped; the user's own are the last."""
    done = run("meters")

    lines = [line.split("  ") for line in done.stdout.splitlines()]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    assert done.exit_code == 0
    assert [line[0] for line in cells[2:]] == [
        *("tokens_total", "tokens_input", "tokens_output", "tokens_cached", "tokens_reasoning"),
        *("calls_total", "images_total"),
    ]
    assert cells[-1] == [
        *("images_total", "SUM", "$.quantity", "llm.usage", "what ($.unit), model", "left out"),
        "Images",
    ]


def test_the_json_creates_the_meters(run, configured):
    """An array of what OpenMeter's API takes, and nothing else on the standard output."""
    done = run("meters", "--format", "json")

    bodies = json.loads(done.stdout)
    assert [body["slug"] for body in bodies][-2:] == ["calls_total", "images_total"]
    assert bodies[-1]["groupBy"] == {
        "what": "$.unit",
        "model": "$.model",
        "provenance": "$.provenance",
    }
    assert done.stderr == ""


def test_the_json_of_v3_has_its_names(run):
    """`--api v3` writes what its API takes."""
    bodies = json.loads(run("meters", "--format", "json", "--api", "v3").stdout)

    assert {body["key"]: body["aggregation"] for body in bodies}["tokens_total"] == "sum"


def test_another_shape_has_other_meters(run, configured):
    """Meters are for what is sent; those that it has no words for are named beside it."""
    done = run("meters", "--shape", "kind", "--format", "json")

    assert {
        body["slug"]: (body["eventType"], body["valueProperty"]) for body in json.loads(done.stdout)
    } == {
        "tokens_total": ("prompt", "$.tokens"),
        "calls_total": ("prompt", "$.calls"),
        "images_total": ("llm.usage", "$.quantity"),
    }
    assert done.stderr == (
        "shape kind does not send what these meters need: "
        "tokens_input, tokens_output, tokens_cached, tokens_reasoning\n"
    )


def test_another_type_is_that_of_all(run, configured):
    """As a sink with `?event_type=` sends it."""
    done = run("meters", "--event-type", "ai", "--format", "json")

    assert {body["eventType"] for body in json.loads(done.stdout)} == {"ai"}


def test_what_is_no_type_is_refused(run):
    """A space would leave the meters empty."""
    done = run("meters", "--event-type", "a type")

    assert done.exit_code == 2
    assert "--event-type: a CloudEvents type is wanted" in done.stderr
    assert "'a type'" in done.stderr


def test_usage_knows_the_users_own_meters(run, configured):
    """Where nothing was recorded yet the answer is empty, and the question none of a stranger."""
    done = run("usage", "--meter", "images_total", "--format", "json")
    wrong = run("usage", "--meter", "images")

    assert json.loads(done.stdout) == {"data": []}
    assert wrong.exit_code == 2
    assert "unknown meter 'images'; there are tokens_total" in wrong.stderr
    assert "images_total" in wrong.stderr


def test_create_makes_what_the_server_lacks(run, configured, monkeypatch):
    """In the shape and the API of the sink; what is there is compared, and stays."""
    there = {"slug": "calls_total", "eventType": "call", "aggregation": "COUNT"}
    with OpenMeterServer(meters=[there]) as server:
        monkeypatch.setenv("LLM_METERING_SINKS", f"{server.sink_url}?shape=kind&api=v3")
        done = run("meters", "--create", "openmeter", "--format", "json")
        again = run("meters", "--create", "openmeter")

    assert [(each["slug"], each["outcome"]) for each in json.loads(done.stdout)] == [
        ("tokens_total", "created"),
        ("calls_total", "differs"),
        ("images_total", "created"),
    ]
    assert done.exit_code == 1
    assert re.search(r"^tokens_total +there +-", again.stdout, re.MULTILINE)
    assert "event type is call; aggregation is COUNT; property is none" in again.stdout
    assert "shape kind does not send what these meters need: tokens_input" in again.stderr


def test_create_is_done_where_all_is_there(run, monkeypatch):
    """The exit code says whether the server has all meters now."""
    with OpenMeterServer() as server:
        monkeypatch.setenv("LLM_METERING_SINKS", server.sink_url)
        assert [run("meters", "--create", "openmeter").exit_code for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ["--create", "kafka"],
            "--create: no OpenMeter sink 'kafka' is configured; there are: openmeter",
            id="another sink",
        ),
        pytest.param(
            ["--create", "openmeter", "--shape", "kind"],
            "--create: it says which shape, type and API there are",
            id="another shape",
        ),
    ],
)
def test_create_refuses_what_makes_no_sense(run, monkeypatch, options, message):
    """The error names what there is; nobody is asked anything."""
    with OpenMeterServer() as server:
        monkeypatch.setenv("LLM_METERING_SINKS", server.sink_url)
        done = run("meters", *options)

    assert done.exit_code == 2
    assert message in done.stderr
    assert server.received == []
