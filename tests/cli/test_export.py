"""`llm-metering export`: what is in the file, what is said beside it, and how it fails."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime

import pytest

from llm_metering.cli import export as command
from llm_metering.sinks.jsonl import read_events

from .conftest import NOON, make_event, record


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def test_what_finished_processes_left_is_exported(home, run, tmp_path):
    """Events that are still in a journal go into the ledger first, and then into the file."""
    record(home, make_event(subject="a"), make_event(subject="b"))

    result = run("export", tmp_path / "all.jsonl")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"2 events exported to {tmp_path / 'all.jsonl'}\n"
    assert [each.subject for each in read_events(tmp_path / "all.jsonl")] == ["a", "b"]


def test_the_standard_output_is_the_file(home, run):
    """With - only the events are there; what is said goes to the standard error."""
    record(home, make_event())

    result = run("export", "-", "--format", "jsonl")

    assert json.loads(result.stdout)["subject"] == "acme"
    assert result.stderr == "1 event exported\n"


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_standard_output_that_is_full_is_said(home, run, kind):
    """It is one line and exit code 2: what was written is a part."""
    record(home, make_event(subject="a"))
    run("usage")

    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llm_metering", "export", "-", "--format", kind],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "LLM_METERING_HOME": str(home)},
            check=False,
        )

    assert done.returncode == 2
    assert done.stderr.startswith(b"llm-metering: cannot write the standard output: No space left")
    assert done.stderr.count(b"\n") == 1


def test_options_choose_events(home, run, tmp_path):
    """A day is one in UTC; subjects, types and sources may be repeated."""
    record(home, make_event(), make_event(subject="b"), make_event(subject="c"))
    path = tmp_path / "some.jsonl.gz"

    result = run(
        *("export", path, "--from", "2026-11-21", "--to", "2026-11-22", "--subject", "b"),
        *("--subject", "c", "--type", "llm.usage", "--source", "shop"),
    )

    assert result.exit_code == 0
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert [json.loads(line)["subject"] for line in lines] == ["b", "c"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--from", "x"], "--from 'x' is no moment; write a day such as", id="no time"),
        pytest.param(
            ["--from", "2026-11", "--to", "2026-11-01"],
            "--from (2026-11-01T00:00:00Z) must be before --to (2026-11-01T00:00:00Z)",
            id="empty",
        ),
    ],
)
def test_a_bad_period_is_named_as_it_was_typed(run, tmp_path, options, message):
    """The error names the option, its value and the choices, and writes nothing."""
    result = run("export", tmp_path / "all.csv", *options)

    assert (result.exit_code, message in result.stderr) == (2, True)
    assert not (tmp_path / "all.csv").exists()


def test_a_month_is_exported(home, run, tmp_path):
    """Periods are written as for `usage`: a month is its first moment, in UTC."""
    record(
        home,
        *(
            make_event(subject=subject, time=datetime.fromisoformat(time))
            for subject, time in [
                ("before", "2026-10-31T23:59:59Z"),
                ("first", "2026-11-01T00:00:00Z"),
                ("after", "2026-12-01T00:00:00Z"),
            ]
        ),
    )

    result = run("export", "-", "--format", "jsonl", "--from", "2026-11", "--to", "2026-12")

    assert [json.loads(line)["subject"] for line in result.stdout.splitlines()] == ["first"]


def test_a_file_that_is_there_stays(home, run, tmp_path):
    """It is one line and exit code 2, until --force says otherwise."""
    record(home, make_event())
    path = tmp_path / "all.csv"
    path.write_text("mine")

    result = run("export", path)

    assert (result.exit_code, path.read_text()) == (2, "mine")
    assert result.stderr == (
        f"llm-metering: {path} is there; name another file, or overwrite it with --force\n"
    )
    assert run("export", path, "--force").exit_code == 0
    assert path.read_text().startswith("id,source,")


def test_an_incomplete_ledger_is_said(home, run, tmp_path, monkeypatch):
    """What the ledger does not take is not in the file: a note and exit code 3 say so."""
    record(home, make_event(subject="a"))
    run("usage")
    record(home, make_event(subject="b"))
    monkeypatch.setattr(command, "PATIENCE", 0.2)
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        short = run("export", tmp_path / "all.jsonl")
    whole = run("export", tmp_path / "all.jsonl", "--force")

    assert (short.exit_code, whole.exit_code) == (3, 0)
    assert short.stderr.startswith("1 event exported")
    assert "not all in the ledger, and so not in the file" in short.stderr
    assert whole.stderr.startswith("2 events exported")


def test_no_home_is_no_event(home, run, tmp_path):
    """Nothing was ever recorded: the file is empty, and no home is made."""
    result = run("export", tmp_path / "all.jsonl")

    assert result.stderr.startswith("0 events exported")
    assert not home.exists()


def test_a_ledger_that_is_off_has_no_events(home, run, tmp_path, monkeypatch):
    """Without a ledger there is nothing to export, and the setting is named."""
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")

    result = run("export", tmp_path / "all.jsonl")

    assert result.exit_code == 2
    assert "switched off (environment LLM_METERING_LEDGER)" in result.stderr


def test_pruned_bodies_are_said(home, run, tmp_path):
    """A table says how many events have no body any more; JSON lines are refused."""
    record(home, make_event())
    run("usage")
    with closing(sqlite3.connect(home / "ledger.db")) as connection, connection:
        connection.execute("UPDATE events SET payload = ''")
        connection.execute(
            "INSERT INTO meta (key, value) VALUES ('pruned_before', ?)",
            (int(NOON.timestamp() + 60) * 10**6,),
        )

    table = run("export", tmp_path / "all.csv")
    lines = run("export", tmp_path / "all.jsonl")

    assert (table.exit_code, "of 1 event the body was pruned" in table.stderr) == (0, True)
    assert lines.exit_code == 2
    assert "--from 2026-11-21T12:01:00Z" in lines.stderr
