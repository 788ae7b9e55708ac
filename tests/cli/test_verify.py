"""`llm-metering verify`: what it says, and how it ends."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from .conftest import make_event, record

KEY = "a-secret-of-thirty-two-bytes-or-so"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def signed(home, run, monkeypatch):
    """A ledger of three events, signed by whoever ships them."""
    monkeypatch.setenv("LLM_METERING_LEDGER_KEYS", KEY)
    record(home, make_event(), make_event(), make_event())
    assert run("usage").exit_code == 0


def change(home, statement):
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        connection.execute(statement)
        connection.commit()


def test_a_ledger_that_nobody_has_touched(home, run, signed):
    """One line, and exit code 0; the same for programs."""
    result = run("verify")
    data = json.loads(run("verify", "--format", "json").stdout)

    assert (result.exit_code, result.stdout) == (
        0,
        "nothing was changed\n3 of 3 events are as they were signed\n",
    )
    assert data["intact"] is True
    assert (data["events"], data["signed"], data["tampering"]) == (3, 3, [])
    assert (data["wrong_sums"], data["damage"], data["head"]["place"]) == ([], None, 3)
    assert KEY not in json.dumps(data)


def test_what_was_changed_is_named(home, run, signed):
    """With exit code 1."""
    change(home, "UPDATE events SET total_tokens = 1, payload = '{}' WHERE rowid = 2")

    result = run("verify")
    data = json.loads(run("verify", "--format", "json").stdout)

    assert result.exit_code == 1
    assert "event 2 was changed" in result.stdout
    assert "sums differ from the events" in result.stdout
    assert "2 of 3 events are as they were signed" in result.stdout
    assert data["tampering"] == [{"kind": "changed", "first": 2, "last": 2}]
    assert data["wrong_sums"]


def test_bytes_that_are_no_text_are_shown(home, run, signed):
    """In sums as well, for people and for programs."""
    change(home, "UPDATE events SET subject = x'00ff' WHERE rowid = 2")

    assert run("verify").exit_code == 1
    data = json.loads(run("verify", "--format", "json").stdout)
    assert data["tampering"] == [{"kind": "changed", "first": 2, "last": 2}]
    assert "00ff" in json.dumps(data["wrong_sums"])


def test_a_head_that_is_kept_elsewhere_finds_what_was_cut_off(home, run, signed, tmp_path):
    """It is written if nothing is wrong, and compared later."""
    head = tmp_path / "head.json"
    assert "keep it elsewhere" in run("verify", "--write-head", head).stdout
    assert run("verify", "--head", head).exit_code == 0
    for table, place in (("events", "rowid"), ("links", "place"), ("recent", "place")):
        change(home, f"DELETE FROM {table} WHERE {place} > 1")

    assert run("verify").exit_code == 0
    result = run("verify", "--head", head)

    assert result.exit_code == 1
    assert "events 2 to 3 were cut off: the head names it" in result.stdout
    other = tmp_path / "other.json"
    assert run("verify", "--head", head, "--write-head", other).exit_code == 1
    assert not other.exists()
    (home / "ledger.db").unlink()
    assert run("verify", "--head", head).exit_code == 1


def test_without_a_key_it_says_what_it_could_not_see(home, run):
    """Sums alone are looked at; there is no head."""
    record(home, make_event())
    run("usage")

    result = run("verify")

    assert result.exit_code == 0
    assert result.stdout == (
        "sums are right\nthe 1 events are not signed, so changes to them cannot be found; see the "
        "setting ledger_keys\n"
    )
    refused = run("verify", "--write-head", home / "head.json")
    assert (refused.exit_code, "set ledger_keys" in refused.stderr) == (2, True)


def test_the_wrong_key_is_an_error(home, run, signed, monkeypatch):
    """Nothing can be said of the ledger."""
    monkeypatch.setenv("LLM_METERING_LEDGER_KEYS", "x" * 32)

    result = run("verify")

    assert result.exit_code == 2
    assert "signed with a key" in result.stderr


def test_a_head_that_is_none(home, run, signed, tmp_path):
    """It is an error, whether there is none or it is something else."""
    (tmp_path / "odd.json").write_text('{"place": "x"}')

    for name in ("odd.json", "none.json"):
        result = run("verify", "--head", tmp_path / name)
        assert (result.exit_code, "--head" in result.stderr) == (2, True)
    result = run("verify", "--write-head", tmp_path)
    assert (result.exit_code, "--write-head" in result.stderr) == (2, True)


def test_where_nothing_was_recorded(home, run):
    """Nothing is made."""
    result = run("verify")

    assert result.exit_code == 0
    assert not home.exists()


def test_a_ledger_that_is_off(run, monkeypatch):
    """There is nothing to verify."""
    monkeypatch.setenv("LLM_METERING_LEDGER", "off")

    assert run("verify").exit_code == 2
