"""The file of an export: whole or not there, private, never in another's place, never silently short."""

from __future__ import annotations

import gzip
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from llm_metering.errors import ExportError, QueryError
from llm_metering.exporting import export_events
from llm_metering.ledger import extracts
from llm_metering.sinks.jsonl import read_events
from tests.exporting.tables import rows_of_csv
from tests.factories import NOON, batch_of, envelope_of, make_event


def prune(path: Path, before: int) -> None:
    """Take the bodies of older events away, as pruning leaves them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET payload = '' WHERE time < ?", (before,))
        connection.execute("INSERT INTO meta (key, value) VALUES ('pruned_before', ?)", (before,))


def test_compressed_files_are_the_same_every_time(ledger, tmp_path):
    """What gzip makes of the same events is the same file, and holds the same bytes."""
    ledger.deliver([envelope_of(make_event())])
    for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl"):
        export_events(ledger, tmp_path / name)

    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (
        (tmp_path / "c.jsonl").read_bytes()
    )


def test_a_file_is_private_and_not_overwritten(ledger, tmp_path):
    """It is for its owner alone; one that is there stays, unless it is to give way."""
    ledger.deliver([envelope_of(make_event())])
    path = tmp_path / "all.jsonl"
    path.write_text("mine")

    with pytest.raises(ExportError, match=r"all\.jsonl is there; .*--force"):
        export_events(ledger, path)
    assert path.read_text() == "mine"
    export_events(ledger, path, overwrite=True)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["all.jsonl", "home"]


def test_a_link_stays_a_link(ledger, tmp_path):
    """What a link leads to is written, as any program would, and the link is left."""
    ledger.deliver([envelope_of(make_event())])
    (tmp_path / "data").mkdir()
    link = tmp_path / "all.jsonl"
    link.symlink_to(tmp_path / "data" / "real.jsonl")

    export_events(ledger, link)
    with pytest.raises(ExportError, match=r"real\.jsonl is there"):
        export_events(ledger, link)
    export_events(ledger, link, overwrite=True)

    assert link.is_symlink()
    assert [each.name for each in (tmp_path / "data").iterdir()] == ["real.jsonl"]
    assert len(list(read_events(link))) == 1


@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwriting"])
def test_what_is_no_file_is_left_alone(ledger, tmp_path, overwrite):
    """A device or a pipe does not give way to a file of its name, whoever may do that."""
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    link = tmp_path / "null.jsonl"
    link.symlink_to("/dev/null")

    for path in (pipe, link):
        with pytest.raises(ExportError, match="is no file; name one, or -"):
            export_events(ledger, path, overwrite=overwrite)

    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(link.stat().st_mode)


def test_a_file_made_meanwhile_stays(ledger, tmp_path):
    """A file that somebody makes while the export runs is not overwritten either."""
    ledger.deliver([envelope_of(make_event())])
    path = tmp_path / "all.jsonl"

    with pytest.raises(ExportError, match="is there"):
        export_events(ledger, path, on_progress=lambda done, total: path.write_text("theirs"))

    assert path.read_text() == "theirs"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["all.jsonl", "home"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "csv.gz"])
def test_nothing_is_left_of_an_export_that_fails(ledger, tmp_path, suffix):
    """After an error in the middle there is no file, not even a part of one."""
    ledger.deliver([envelope_of(make_event())])

    def fail(done, total):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        export_events(ledger, tmp_path / f"all.{suffix}", on_progress=fail)

    assert [each.name for each in tmp_path.iterdir()] == ["home"]


def test_a_full_disk_is_said(ledger):
    """What a disk does not take is one error of ours, and what was there stays."""
    ledger.deliver(batch_of([make_event() for _ in range(50)]))
    code = (
        "import resource, sys; from pathlib import Path; from llm_metering.ledger import Ledger;"
        " from llm_metering.exporting import export_events;"
        " import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        " resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        " export_events(Ledger(Path(sys.argv[1])), sys.argv[2])"
    )
    target = ledger.path.parent / "all.jsonl"

    done = subprocess.run(
        [sys.executable, "-c", code, ledger.path, target],
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"ExportError: cannot write {target}: File too large" in done.stderr
    assert [each.name for each in ledger.path.parent.glob("*all*")] == []


def test_pruned_events_are_no_json_lines(ledger, tmp_path, monkeypatch):
    """Where a body is gone JSON lines are refused at once, naming from when on there are some."""
    hour = timedelta(hours=1)
    ledger.deliver(batch_of([make_event(time=NOON - hour), make_event(time=NOON)]))
    prune(ledger.path, int(NOON.timestamp() * 1e6))

    with monkeypatch.context() as patch:
        patch.setattr(extracts.Extract, "pages", lambda self: pytest.fail("it began"))
        with pytest.raises(ExportError, match=r"before 2026-11-21T12:00:00Z were pruned.*--from"):
            export_events(ledger, tmp_path / "all.jsonl")

    assert export_events(ledger, tmp_path / "new.jsonl", start=NOON).events == 1
    assert not (tmp_path / "all.jsonl").exists()


def test_pruned_events_are_rows_of_what_is_kept(ledger, tmp_path):
    """A table has the columns that the ledger keeps of them, marked, and counts them."""
    ledger.deliver([envelope_of(make_event(dimensions={"feature": "x"}))])
    prune(ledger.path, int(NOON.timestamp() * 1e6) + 1)

    exported = export_events(ledger, tmp_path / "t.csv")

    (row,) = rows_of_csv(tmp_path / "t.csv")
    assert exported.pruned == 1
    assert (row["total_tokens"], row["model"], row["pruned"], row["data"]) == (
        *("120", "gpt-5-mini", "true"),
        "",
    )


def test_events_pruned_during_an_export_stop_it(ledger, tmp_path):
    """Bodies that go while JSON lines are written leave no file that lacks them."""
    ledger.deliver(batch_of([make_event() for _ in range(extracts.PAGE + 1)]))
    pruned = []

    def on_progress(done, total):
        if not pruned:
            pruned.append(prune(ledger.path, int(NOON.timestamp() * 1e6) + 1))

    with pytest.raises(ExportError, match="were pruned"):
        export_events(ledger, tmp_path / "all.jsonl", on_progress=on_progress)

    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "asked", "error", "message"),
    [
        pytest.param("all.txt", {}, ExportError, r"all\.txt names no format: \.jsonl", id="suffix"),
        pytest.param("all", {}, ExportError, r"all names no format", id="no suffix"),
        pytest.param(
            "all.jsonl",
            {"format": "xml"},
            ExportError,
            "'xml' is no format; there are jsonl",
            id="format",
        ),
        pytest.param("a.parquet.gz", {}, ExportError, "without .gz", id="compressed Parquet"),
        pytest.param("no/all.csv", {}, ExportError, "no is no folder", id="folder"),
        pytest.param("home", {"format": "csv"}, ExportError, "home is a folder", id="a folder"),
        pytest.param(
            "all.csv", {"start": NOON, "end": NOON}, ExportError, "is not before end", id="period"
        ),
        pytest.param("all.csv", {"start": "now"}, QueryError, "'now' is no ISO 8601", id="moment"),
        pytest.param(
            "all.csv", {"subjects": "acme"}, ExportError, "got the text 'acme'", id="text"
        ),
        pytest.param(None, {}, ExportError, "name a format", id="output without a format"),
    ],
)
def test_bad_input_is_named(ledger, tmp_path, name, asked, error, message):
    """What cannot be done is said with the value and the choices, before anything is written."""
    ledger.deliver([envelope_of(make_event())])

    with pytest.raises(error, match=message):
        export_events(ledger, None if name is None else tmp_path / name, **asked)

    assert [each.name for each in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_no_ledger_has_no_events(ledger, tmp_path, suffix):
    """An export of a ledger that was never written is empty and makes none."""
    assert export_events(ledger, tmp_path / f"all.{suffix}").events == 0
    assert not ledger.path.exists()
