"""`llm-metering dead` beside real processes that were killed, and a server that refuses."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
import typer

from llm_metering.cli.app import app
from llm_metering.testing import OpenMeterServer

from .operating import Site

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


@pytest.fixture
def server():
    """OpenMeter."""
    with OpenMeterServer() as server:
        yield server


@pytest.fixture
def site(home, server):
    """A home with two events that are dead and three that are not."""
    site = Site(home, server.sink_url)
    site.crash(2, "wrong", "refused")
    site.crash(3, "acme", "flushed")
    site.ask("drain")
    assert site.counts() == {"acked": 3, "dead": 2}
    return site


def test_dead_events_are_listed(site):
    """Which, of whom, why, when and how often; of the event no more than subject, model, time."""
    report = site.ask("dead", "list")

    assert report["unreadable"] == 0
    assert len({letter["id"] for letter in report["dead"]}) == 2
    for letter in report["dead"]:
        assert set(letter) == {
            *("sink", "id", "source", "reason", "time", "attempts"),
            *("subject", "model", "event_time"),
        }
        assert (letter["sink"], letter["subject"], letter["model"]) == (
            *("openmeter", "wrong"),
            "tiny",
        )
        assert letter["attempts"] == 1
        assert letter["reason"].startswith("400 Bad")
    shown = site.run("dead", "list").stdout
    assert all(letter["id"] in shown for letter in report["dead"])


def test_retried_events_arrive_once_the_server_takes_them(site, server):
    """They are pending again, then acknowledged, under their ids, and dead no more."""
    dead = {letter["id"] for letter in site.ask("dead", "list")["dead"]}
    report = site.ask("dead", "retry")

    assert report["retried"] == 2
    assert site.counts() == {"acked": 3, "pending": 2}
    assert site.ask("dead", "list")["dead"] == []
    assert site.ask("dead", "retry")["retried"] == 0
    assert site.ask("drain")["complete"]
    assert {event["id"] for event in server.events} >= dead
    assert len(server.events) == 5
    assert site.counts() == {"acked": 5}
    status = site.ask("status")
    assert status["recorded"] == 5
    assert site.counts("ledger") == {"acked": 5}


def test_one_event_alone(site):
    """`--id` puts back that event, and no other."""
    first, second = (letter["id"] for letter in site.ask("dead", "list")["dead"])

    assert site.ask("dead", "retry", "--id", second)["retried"] == 1

    assert [letter["id"] for letter in site.ask("dead", "list")["dead"]] == [first]
    assert site.counts() == {"acked": 3, "pending": 1, "dead": 1}
    assert "no such event is dead" in site.refused("dead", "retry", "--id", second)


def test_exported_events_have_their_reasons(site, tmp_path):
    """One document a line with the whole CloudEvent, in a file for its owner alone."""
    file = tmp_path / "dead.jsonl"

    assert site.ask("dead", "export", "--output", file)["exported"] == 2

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    documents = [json.loads(line) for line in file.read_text().splitlines()]
    listed = {letter["id"]: letter for letter in site.ask("dead", "list")["dead"]}
    assert {document["event"]["id"] for document in documents} == set(listed)
    for document in documents:
        letter = listed[document["event"]["id"]]
        assert (document["event"]["subject"], document["event"]["specversion"]) == ("wrong", "1.0")
        assert document["event"]["data"]["input_tokens"] == 10
        for key in ("sink", "reason", "time", "attempts"):
            assert document[key] == letter[key]
    assert "is there already" in site.refused("dead", "export", "--output", file)
    nowhere = tmp_path / "no" / "where"
    assert "cannot write" in site.refused("dead", "export", "--output", nowhere)


def test_a_home_without_dead_events(home):
    """Nothing is dead, and nothing is made."""
    site = Site(home)
    home.rmdir()

    assert site.ask("dead", "list")["dead"] == []
    assert site.ask("dead", "retry")["retried"] == 0
    assert site.run("dead", "list").stdout == "No event is dead\n"
    site.refused("dead", "list", "--sink", "openmeter")
    assert not home.exists()


@pytest.mark.parametrize("name", ["list", "retry", "export"])
def test_every_option_is_documented(name):
    """The page has each command below `dead`, with its options and no other."""
    command = typer.main.get_command(app).commands["dead"].commands[name]
    options = {option for each in command.params for option in each.opts}
    text = re.split(r"^### `dead (\w+)`$", PAGE.partition("\n## dead\n")[2], flags=re.MULTILINE)
    section = dict(zip(text[1::2], text[2::2], strict=True))[name].partition("\n## ")[0]

    assert set(re.findall(r"^\| option `(--[a-z-]+)", section, re.MULTILINE)) == options
