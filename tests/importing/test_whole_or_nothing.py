"""All of a file or nothing: cut at any byte, killed at any moment, beside any other writer."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_metering.errors import ImportFileError, LedgerError
from llm_metering.events import UsageEvent, encode
from llm_metering.exporting import export_events
from llm_metering.importing import import_file
from llm_metering.ledger import Ledger, _files, _folding, staging
from llm_metering.meters import usage_query
from llm_metering.sinks import Envelope
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, envelope_of, make_event

from .exports import (
    AFTER,
    CONSOLE_TABLE,
    anthropic_bucket,
    anthropic_page,
    completions,
    messages,
    openai_bucket,
    openai_page,
    table,
)


def count(ledger) -> int:
    if not ledger.path.exists():
        return 0
    with closing(sqlite3.connect(ledger.path)) as connection:
        return connection.execute("SELECT count(*) FROM events").fetchone()[0]


FILES = {
    "openai": json.dumps(openai_page(openai_bucket(completions()))).encode(),
    "anthropic": json.dumps(anthropic_page(anthropic_bucket(messages())), indent=1).encode(),
    "list": b"[" + b", ".join(encode(make_event()) for _ in range(2)) + b"]",
    "gzip": gzip.compress(b"".join(encode(make_event()) + b"\n" for _ in range(2)), mtime=0),
}


def test_a_table_cut_anywhere_is_refused_or_shorter(ledger, tmp_path):
    """Nor does a number that was cut in a table count; cut between two lines, it is a shorter one."""
    path = tmp_path / "claude.csv"
    titles = len(table(CONSOLE_TABLE))
    path.write_bytes(table(CONSOLE_TABLE, {}).encode())
    for size in reversed(range(path.stat().st_size)):
        os.truncate(path, size)
        if size == titles:
            assert import_file(ledger, path, subject="acme", dry_run=True).read == 0
        else:
            with pytest.raises(ImportFileError):
                import_file(ledger, path, subject="acme")

    assert count(ledger) == 0


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere_is_refused(ledger, tmp_path, name):
    """Whatever is missing at its end, a file is refused and nothing of it is there."""
    path = tmp_path / "file"
    asked = {} if name in ("list", "gzip") else {"subject": "acme"}
    path.write_bytes(FILES[name])
    os.utime(path, (AFTER, AFTER))
    assert import_file(ledger, path, dry_run=True, clock=lambda: AFTER, **asked).new > 0
    for size in reversed(range(len(FILES[name]))):
        os.truncate(path, size)
        with pytest.raises(ImportFileError):
            import_file(ledger, path, **asked)

    assert count(ledger) == 0


def test_lines_cut_anywhere_are_refused_or_fewer(ledger, tmp_path):
    """A file of lines is refused, unless it is cut between two of them: then it is a shorter file."""
    short = b'{"specversion":"1.0","id":"%d","source":"s","type":"t","subject":"a","time":"2026-11-21T12:00:00Z","data":{}}'
    lines = [short % number for number in range(3)]
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    ends = {}
    for number in range(1, 4):
        end = len(b"\n".join(lines[:number]))
        ends |= {end: number, end + 1: number}
    ledger.deliver(batch_of([make_event()]))
    for size in reversed(range(path.stat().st_size + 1)):
        os.truncate(path, size)
        if size not in ends:
            with pytest.raises(ImportFileError):
                import_file(ledger, path)
        else:
            assert import_file(ledger, path, dry_run=True).new == ends[size]

    assert count(ledger) == 1


IMPORTER = """
import sys
from pathlib import Path
from llm_metering.importing import import_file
from llm_metering.ledger import Ledger, staging

if sys.argv[3] == "taking":
    # Inside the transaction, all rows inserted and none committed.
    take = staging.Staging.take

    def taking(self, expected):
        def say(sql):
            if sql == "COMMIT":
                print("there", flush=True)
                sys.stdin.read()
        self._connection.set_trace_callback(say)
        return take(self, expected)

    staging.Staging.take = taking

def on_progress(read):
    if sys.argv[3] == "reading" and read > 3000:
        print("there", flush=True)
        sys.stdin.read()

import_file(Ledger(Path(sys.argv[1])), sys.argv[2], on_progress=on_progress)
"""


@pytest.mark.parametrize("moment", ["reading", "taking"])
def test_a_killed_import_leaves_nothing(ledger, tmp_path, moment):
    """After kill -9 while it reads, or right before it commits, nothing is there; then all is."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode(make_event()) + b"\n" for _ in range(5000)))
    ledger.deliver(batch_of([make_event()]))
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTER, ledger.path, path, moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    assert count(ledger) == 1
    assert ledger.deliver(batch_of([make_event()])).accepted
    assert import_file(ledger, path).new == 5000
    assert (count(ledger), import_file(ledger, path).new) == (5002, 0)


def test_two_imports_of_one_file_at_once(ledger, tmp_path):
    """Two processes that import the same file count it once between them."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode(make_event()) + b"\n" for _ in range(3000)))
    code = IMPORTER.replace("import_file(Ledger", "found = import_file(Ledger") + "print(found.new)"
    ledger.deliver(batch_of([make_event()]))

    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, ledger.path, path, ""], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    new = sorted(int(each.communicate()[0]) for each in running)

    assert new == [0, 3000]
    assert count(ledger) == 3001


def test_events_taken_in_meanwhile_are_no_error(ledger, tmp_path):
    """An event of the file that is delivered while the file is read is known, and all else new."""
    events = [make_event() for _ in range(10)]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode(each) + b"\n" for each in events))
    compare = staging.Staging.compare
    seen = []

    def late(self):
        found = compare(self)
        if not seen:
            ledger.deliver([envelope_of(events[3])])
        seen.append(found.new)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging.Staging, "compare", late)
        imported = import_file(ledger, path)

    assert seen == [10, 9]
    assert (imported.new, imported.known, count(ledger)) == (9, 1, 10)


def test_a_full_folder_of_temporary_files_is_named(ledger, tmp_path, monkeypatch):
    """What is gathered lies elsewhere than the ledger: whoever looks for space is told where."""
    lines = [encode(make_event()) + b"\n" for _ in range(500)]
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines))
    monkeypatch.setattr(staging, "_MAKE", staging._MAKE + "PRAGMA temp.max_page_count = 20;")

    with pytest.raises(LedgerError, match="folder of temporary files"):
        import_file(ledger, tmp_path / "events.jsonl")

    assert count(ledger) == 0


def test_an_import_waits_for_a_writer(ledger, tmp_path, monkeypatch):
    """Another process that holds the ledger is waited for, longer than SQLite itself does."""
    monkeypatch.setattr(_files, "BUSY_TIMEOUT", 0.1)
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode(make_event()) + b"\n")
    ledger.deliver(batch_of([make_event()]))
    with closing(
        sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        done = threading.Timer(0.8, other.execute, ["COMMIT"])
        done.start()
        imported = import_file(ledger, path)
        done.join()

    assert (imported.new, count(ledger)) == (1, 2)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
DIMENSIONS = NAMES.map("team {}".format)  # no name of a field of the event
TOKENS = st.none() | st.integers(0, 10**11)


@st.composite
def calls(draw) -> Envelope:
    usage = TokenUsage(input_tokens=draw(TOKENS), output_tokens=draw(TOKENS))
    event = UsageEvent(
        id=str(draw(st.integers(0, 30))),
        source=draw(st.sampled_from(["shop", "desk"])),
        subject=draw(NAMES),
        time=NOON + timedelta(seconds=draw(st.integers(-(10**8), 10**8))),
        provenance="reported",
        status="completed",
        usage=usage,
        model=draw(st.none() | NAMES),
        dimensions=draw(st.dictionaries(DIMENSIONS, NAMES, max_size=1)),
    )
    return envelope_of(event)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(calls(), max_size=20))
def test_a_ledger_that_was_exported_and_imported_answers_the_same(tmp_path_factory, envelopes):
    """Whatever was recorded: the answers of the new ledger are those of the old one."""
    folder = tmp_path_factory.mktemp("round")
    first, second = (Ledger(folder / name / "ledger.db") for name in ("first", "second"))
    for each in envelopes:
        first.deliver([each])
    exported = export_events(first, folder / "all.jsonl.gz")
    if exported.events:
        assert import_file(second, folder / "all.jsonl.gz").new == exported.events

    for meter in ("tokens_total", "tokens_input", "calls_total"):
        for window in (None, "DAY"):
            query = usage_query(meter, window=window, group_by=["subject", "model"])
            assert first.query(query).rows == second.query(query).rows
    first.close()


def test_what_was_imported_is_added_up(ledger, tmp_path, monkeypatch):
    """After a large import no question has to read all of its events."""
    monkeypatch.setattr(_folding, "FOLD_AT", 10)
    monkeypatch.setattr(staging, "FOLD_AT", 10)
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode(make_event()) + b"\n" for _ in range(45)))

    import_file(ledger, path)

    with closing(sqlite3.connect(ledger.path)) as connection:
        (recent,) = connection.execute("SELECT count(*) FROM recent").fetchone()
    assert (recent < 10, count(ledger)) == (True, 45)
    assert ledger.recount() == []
    assert ledger.query(usage_query("calls_total")).rows[0].value == 45
