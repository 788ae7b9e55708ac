"""Events out of the ledger: exact in JSON lines, typed in tables, and of one moment."""

from __future__ import annotations

import csv
import json
from datetime import timedelta

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_metering.exporting import Exported, export_events
from llm_metering.exporting.columns import COLUMNS
from llm_metering.ledger import extracts
from llm_metering.sinks import Envelope
from llm_metering.sinks.jsonl import read_events
from llm_metering.token_usage import TokenUsage
from tests.exporting.tables import rows_of_csv
from tests.factories import NOON, batch_of, envelope_of, make_event


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


def test_what_came_later_is_behind_the_others(ledger, tmp_path):
    """The tier of a call has a column behind those that were there before, and is not in `data`."""
    ledger.deliver(batch_of([make_event(service_tier="flex")]))

    export_events(ledger, tmp_path / "t.csv")

    (row,) = rows_of_csv(tmp_path / "t.csv")
    assert list(row)[-2:] == ["pruned", "service_tier"]
    assert (row["service_tier"], row["data"]) == ("flex", "")


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
