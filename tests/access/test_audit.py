"""The audit log: one line for each, whatever a caller writes into it."""

from __future__ import annotations

import json
import logging
import multiprocessing
from datetime import UTC, datetime

import pytest

from llm_metering.access import AuditLog

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def clock():
    """The time, as a list of one."""
    return [NOON]


@pytest.fixture
def log(tmp_path, clock):
    """A log of a home that is not there yet."""
    return AuditLog(tmp_path / "home", clock=lambda: clock[0])


def lines(tmp_path):
    """All there are, each read as JSON."""
    files = sorted((tmp_path / "home" / "audit").iterdir())
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def test_a_line_says_when_who_and_what(log, tmp_path):
    """What is not known of it is left out."""
    assert log.note("grant.void", actor="key:1", subject="acme", amount=3, why=None)

    assert lines(tmp_path) == [
        {
            "time": "2026-11-23T12:00:00.000+00:00",
            "action": "grant.void",
            "actor": "key:1",
            "subject": "acme",
            "amount": 3,
        }
    ]


@pytest.mark.parametrize(
    "said",
    ["two\nlines", "\x1b[31mred", "\u2028", "\ud800", '"}\n{"action":"grant"', "x" * 100_000],
)
def test_no_caller_writes_a_line_of_his_own(log, tmp_path, said):
    """Nor a sign that a terminal obeys, nor a file full."""
    log.note("refused", actor=said, subject=said, subjects=[said])

    (line,) = lines(tmp_path)
    assert line["action"] == "refused"
    written = (tmp_path / "home" / "audit" / "2026-11.jsonl").read_bytes()
    assert written.isascii()
    assert b"\x1b" not in written
    assert len(written) < 6000


def test_each_month_has_a_file(log, clock, tmp_path):
    """So that old ones can be put away while the log goes on."""
    log.note("a", actor="x")
    clock[0] += 30 * 86_400
    log.note("b", actor="x")

    assert [file.name for file in sorted((tmp_path / "home" / "audit").iterdir())] == [
        "2026-11.jsonl",
        "2026-12.jsonl",
    ]


def test_who_knocks_very_often_fills_no_disk(log, clock, tmp_path):
    """So many have a line, the others are counted in the next one."""
    for _ in range(1000):
        log.refused("unknown key", actor="anonymous", client="192.0.2.1")
    clock[0] += 1
    for _ in range(20):
        log.refused("unknown key", actor="anonymous")

    found = lines(tmp_path)
    assert len(found) == 110
    assert [line["not_written"] for line in found if "not_written" in line] == [900]


def test_a_log_that_cannot_be_written_is_told_of(log, tmp_path, caplog):
    """What was done is done; the process's own log has it then."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "audit").write_text("not a folder")

    with caplog.at_level(logging.ERROR):
        assert not log.note("key.create", actor="user:ops", key="12")

    assert '"action":"key.create"' in caplog.text


def _write(home, number):
    log = AuditLog(home)
    for count in range(200):
        log.note("key.create", actor=f"user:{number}", count=count)


def test_several_processes_share_a_file(tmp_path):
    """Each line is whole, and none is missing."""
    context = multiprocessing.get_context("spawn")
    home = tmp_path / "home"
    processes = [context.Process(target=_write, args=(home, each)) for each in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert sorted((line["actor"], line["count"]) for line in lines(tmp_path)) == [
        (f"user:{each}", count) for each in range(3) for count in range(200)
    ]
