"""Events out of the ledger: exact in JSON lines, typed in tables, and of one moment."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_metering.errors import ExportError, QueryError
from llm_metering.exporting import Exported, export_events
from llm_metering.exporting.columns import COLUMNS
from llm_metering.ledger import Ledger, extracts
from llm_metering.sinks import Envelope
from llm_metering.sinks.jsonl import read_events
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, envelope_of, make_event


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.db")


def foreign(**changes):
    """An event that somebody else has made, as they wrote it."""
    event = {
        "specversion": "1.0",
        "id": "e1",
        "source": "theirs",
        "type": "prompt",
        "subject": "acme",
        "time": "2026-11-21T13:00:00.123456+01:00",
        "data": {"total_tokens": 5},
    } | changes
    return Envelope(id=event["id"], payload=json.dumps(event, indent=1).encode())


def prune(path: Path, before: int) -> None:
    """Take the bodies of older events away, as pruning leaves them."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE events SET payload = '' WHERE time < ?", (before,))
        connection.execute("INSERT INTO meta (key, value) VALUES ('pruned_before', ?)", (before,))


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))


def test_json_lines_are_the_events_as_they_were_delivered(ledger, tmp_path):
    """Each line is an event byte for byte, in the order in which they were taken in."""
    events = [envelope_of(make_event(subject=name)) for name in ("zebra", "acme", "müller")]
    for each in events:
        ledger.deliver([each])

    exported = export_events(ledger, tmp_path / "all.jsonl")

    assert exported == Exported(events=3, pruned=0, format="jsonl")
    assert (tmp_path / "all.jsonl").read_bytes().splitlines() == [e.payload for e in events]
    assert [e.subject for e in read_events(tmp_path / "all.jsonl")] == ["zebra", "acme", "müller"]


def test_an_event_on_several_lines_becomes_one(ledger, tmp_path):
    """Line breaks between the values of somebody else's event are taken out, and nothing else."""
    ledger.deliver([foreign(data={"note": "a\nb", "total_tokens": 5})])

    export_events(ledger, tmp_path / "all.jsonl")

    (line,) = (tmp_path / "all.jsonl").read_bytes().splitlines()
    assert json.loads(line) == json.loads(foreign(data={"note": "a\nb", "total_tokens": 5}).payload)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({"start": NOON}, ["noon", "later"], id="from"),
        pytest.param({"end": NOON}, ["earlier"], id="to"),
        pytest.param({"subjects": ["noon", "nobody"]}, ["noon"], id="subject"),
        pytest.param({"types": ["llm.other"]}, ["later"], id="type"),
        pytest.param({"sources": ["shop"]}, ["earlier"], id="source"),
        pytest.param({"subjects": []}, [], id="no subject at all"),
        pytest.param({"start": NOON, "sources": ["shop"]}, [], id="both"),
    ],
)
def test_what_is_wanted(ledger, tmp_path, asked, found):
    """The period is half open, and every condition has to hold."""
    hour = timedelta(hours=1)
    ledger.deliver(
        batch_of(
            [
                make_event(subject="earlier", time=NOON - hour, source="shop"),
                make_event(subject="noon"),
                make_event(subject="later", time=NOON + hour, type="llm.other"),
            ]
        )
    )

    export_events(ledger, tmp_path / "some.jsonl", **asked)

    assert (
        [e.subject for e in read_events(tmp_path / "some.jsonl")] == found
        if found
        else ((tmp_path / "some.jsonl").read_bytes() == b"")
    )


def test_a_table_has_typed_columns(ledger, tmp_path):
    """Parquet has each known key in a column of its type, and the rest as JSON."""
    event = make_event(
        time=NOON + timedelta(microseconds=7000),
        usage=TokenUsage(input_tokens=100, output_tokens=20, cache_read_input_tokens=64),
        flags=("unattributed",),
        duration_ms=12,
        measures={"reported_cost": 0.25, "images": 2},
        dimensions={"feature": "search"},
    )
    ledger.deliver([envelope_of(event)])

    export_events(ledger, tmp_path / "t.parquet")

    table = pq.read_table(tmp_path / "t.parquet")
    (row,) = table.to_pylist()
    assert table.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("total_tokens").type == pa.int64()
    assert table.schema.field("reported_cost").type == pa.float64()
    assert {name: value for name, value in row.items() if value is not None} == {
        "id": event.id,
        "source": "tests",
        "type": "llm.usage",
        "subject": "customer-42",
        "time": event.time,
        "provider": "openai",
        "model": "gpt-5-mini",
        "operation": "chat",
        "framework": "langchain",
        "provenance": "reported",
        "status": "completed",
        "total_tokens": 120,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 64,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "calls": 1,
        "duration_ms": 12,
        "images": 2,
        "reported_cost": 0.25,
        "flags": ["unattributed"],
        "data": '{"feature":"search"}',
        "pruned": False,
    }


def test_csv_is_the_same_table(ledger, tmp_path):
    """CSV has the columns of Parquet in their order; what an event lacks is an empty cell."""
    ledger.deliver([envelope_of(make_event(subject='a "b", c', flags=("x",)))])

    export_events(ledger, tmp_path / "t.csv")
    export_events(ledger, tmp_path / "t.parquet")

    (row,) = rows_of_csv(tmp_path / "t.csv")
    assert list(row) == list(COLUMNS) == pq.read_schema(tmp_path / "t.parquet").names
    assert (row["subject"], row["time"], row["total_tokens"], row["flags"], row["pruned"]) == (
        *('a "b", c', "2026-11-21T12:00:00Z", "120", '["x"]'),
        "false",
    )
    assert row["reasoning_output_tokens"] == ""


def test_odd_names_stay_in_their_cells_of_csv(ledger, tmp_path):
    """Line breaks of every kind, quotes and signs are in the cell that they belong to."""
    names = ["a\rb", "c\nd", "e\r\nf", 'g "h", i', " j", "=1+2", "\u2028é"]
    ledger.deliver(batch_of([make_event(subject=name, model=name) for name in names]))

    export_events(ledger, tmp_path / "t.csv")

    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["subject"] for row in rows] == [row["model"] for row in rows] == names
    assert {row["pruned"] for row in rows} == {"false"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_of_another_type_stays_as_it_is(ledger, tmp_path, suffix):
    """A value that its column cannot hold without a change stays in `data`, digit for digit."""
    data = (
        '{"run_id": 7, "duration_ms": 1.50, "batch_size": 99999999999999999999, "unit": "",'
        ' "flags": "x", "images": true, "far": 1e400, "quantity": 3}'
    )
    payload = foreign(traceparent="00-1").payload.replace(
        b'{\n  "total_tokens": 5\n }', data.encode()
    )
    assert data.encode() in payload
    assert ledger.deliver([Envelope(id="e1", payload=payload)]).accepted

    export_events(ledger, tmp_path / f"t.{suffix}")

    path = tmp_path / f"t.{suffix}"
    row = rows_of_csv(path)[0] if suffix == "csv" else pq.read_table(path).to_pylist()[0]
    kept = msgspec.json.decode(row["data"], type=dict[str, msgspec.Raw])
    assert {name: bytes(value) for name, value in kept.items()} == {
        "run_id": b"7",
        "duration_ms": b"1.50",
        "batch_size": b"99999999999999999999",
        "unit": b'""',
        "flags": b'"x"',
        "images": b"true",
        "far": b"1e400",
    }
    assert float(row["quantity"]) == 3.0
    assert row["attributes"] == '{"traceparent":"00-1"}'


def test_what_is_taken_in_meanwhile_is_not_there(ledger, tmp_path, monkeypatch):
    """An export holds what there was when it began, though writers go on between its pieces."""
    monkeypatch.setattr(extracts, "PAGE", 2)
    monkeypatch.setattr(extracts, "_PAGE", extracts._PAGE.replace("LIMIT 5000", "LIMIT 2"))
    ledger.deliver(batch_of([make_event(subject=f"s{n}") for n in range(5)]))
    seen = []

    def on_progress(done, total):
        seen.append((done, total))
        ledger.deliver(batch_of([make_event(subject="late")]))

    exported = export_events(ledger, tmp_path / "all.jsonl", on_progress=on_progress)

    assert exported.events == 5
    assert [e.subject for e in read_events(tmp_path / "all.jsonl")] == [f"s{n}" for n in range(5)]
    assert seen == [(2, 5), (4, 5), (5, 5)]


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


def test_pruned_events_are_no_json_lines(ledger, tmp_path):
    """Where a body is gone JSON lines are refused, naming from when on there are some."""
    hour = timedelta(hours=1)
    ledger.deliver(batch_of([make_event(time=NOON - hour), make_event(time=NOON)]))
    prune(ledger.path, int(NOON.timestamp() * 1e6))

    with pytest.raises(ExportError, match=r"before 2026-11-21T12:00:00Z were pruned.*--from 2026"):
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
