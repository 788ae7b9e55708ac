"""`llm-metering prune`: what goes, what stays, and that somebody said so."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from llm_metering.sinks.memory import MemorySink

from .conftest import NOON, make_event, record


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def old_and_new(home, run):
    """A ledger with an event of November 20 and one of the 21st."""
    record(home, make_event(time=NOON - timedelta(days=1)), make_event())
    run("usage")


def bodies(home):
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        found = connection.execute(
            "SELECT time, payload <> '' FROM events ORDER BY time"
        ).fetchall()
    return [bool(has_body) for _, has_body in found]


def test_bodies_go_and_sums_stay(home, run, old_and_new):
    """Older events have no body then, and every answer is as before."""
    before = run("usage", "--format", "json").stdout

    result = run("prune", "--before", "2026-11-21", "--yes")

    assert result.exit_code == 0
    assert "the bodies of 1 events before 2026-11-21T00:00:00Z are gone" in result.stdout
    assert bodies(home) == [False, True]
    assert run("usage", "--format", "json").stdout == before
    assert run("export", home.parent / "all.jsonl").exit_code == 2
    assert run("export", home.parent / "all.jsonl", "--from", "2026-11-21").exit_code == 0


@pytest.mark.parametrize("option", ["--dry-run", "no answer"])
def test_nothing_goes_unsaid(home, run, old_and_new, option):
    """A dry run says how much it would be; without a terminal nobody can be asked."""
    asked = [option] if option == "--dry-run" else []

    result = run("prune", "--before", "2026-11-21", *asked)

    assert bodies(home) == [True, True]
    if asked:
        assert (result.exit_code, "1 events before" in result.stdout) == (0, True)
    else:
        assert result.exit_code == 2
        assert "export as JSON lines, replay and reconcile" in result.stderr
        assert "--yes says so" in result.stderr


def test_json_has_the_numbers(home, run, old_and_new):
    """What is for programs is the whole report; to prune again does nothing."""
    first = json.loads(run("prune", "--before", "2026-11-21", "--yes", "--format", "json").stdout)
    second = json.loads(run("prune", "--before", "2026-11-21", "--format", "json").stdout)

    assert (first["bodies"], first["pruned"], first["dry_run"]) == (1, 1, False)
    assert first["bytes"] > 200
    assert first["size"] == (home / "ledger.db").stat().st_size
    assert (second["bodies"], second["pruned"]) == (0, 0)


def test_compacting_gives_the_space_back(home, run):
    """With --compact the file becomes smaller."""
    record(home, *(make_event(run_id="x" * 400) for _ in range(200)))
    run("usage")
    asked = ("prune", "--before", "2026-11-22", "--yes", "--format", "json")

    kept = json.loads(run(*asked).stdout)
    compacted = json.loads(run(*asked, "--compact").stdout)

    assert kept["free"] > 0
    assert compacted["size"] < kept["size"]
    assert compacted["free"] == 0


def test_what_sinks_are_owed_is_said(home, run):
    """Another sink that has not had all of it is named: the ledger could not help it any more."""
    record(home, make_event(), sinks=[MemorySink()])
    run("usage")

    result = run("prune", "--before", "2026-11-22", "--yes")

    assert "memory is still owed 1 events" in result.stdout


@pytest.mark.parametrize(
    ("before", "message"),
    [
        pytest.param("last year", "--before 'last year' is no moment; write a day", id="no time"),
        pytest.param("2026-11-21T00:00:00", "or ISO 8601 with an offset", id="no zone"),
        pytest.param("2099-01-01", "is still to come", id="the future"),
        pytest.param("", "--before", id="empty"),
    ],
)
@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_a_bad_moment_is_named(home, run, old_and_new, before, message, option):
    """A moment that cannot be meant changes nothing, and none is tried out."""
    result = run("prune", "--before", before, option)

    assert (result.exit_code, message in result.stderr) == (2, True)
    assert bodies(home) == [True, True]


def test_no_home_has_no_bodies(home, run):
    """Nothing was ever recorded: it says so, and makes nothing."""
    assert "recorded" in run("prune", "--before", "2026-11-21", "--yes").stdout
    report = json.loads(run("prune", "--before", "2026-11-21", "--format", "json").stdout)

    assert (report["bodies"], report["size"]) == (0, 0)
    assert not home.exists()
