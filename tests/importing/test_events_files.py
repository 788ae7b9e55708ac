"""CloudEvents from files into the ledger: each once, byte for byte, whatever is there already."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from llm_metering.errors import ImportFileError
from llm_metering.events import encode
from llm_metering.exporting import export_events
from llm_metering.ledger import Ledger
from llm_metering.sinks.jsonl import JSONLinesSink
from tests.factories import NOON, batch_of, envelope_of, make_event


def lines_of(events) -> bytes:
    return b"".join(encode(event) + b"\n" for event in events)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "events.jsonl"


def test_what_was_exported_is_the_same_again(ledger, importing, tmp_path, path):
    """An export imported elsewhere makes the same ledger, byte for byte and in the same order."""
    other = Ledger(tmp_path / "other" / "ledger.db")
    other.deliver(batch_of([make_event(subject=name) for name in ("b", "a", "c")]))
    export_events(other, path)

    imported = importing(path)
    export_events(ledger, tmp_path / "again.jsonl")

    assert (imported.shape, imported.read, imported.new) == ("cloudevents", 3, 3)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


def test_an_event_counts_once(ledger, importing, total, path):
    """An event that the ledger has, or that the file has twice, is not counted again."""
    known, twice, new = (make_event() for _ in range(3))
    ledger.deliver([envelope_of(known)])
    path.write_bytes(lines_of([known, twice, new, twice]))

    imported = importing(path)

    assert (imported.read, imported.new, imported.known, imported.repeated) == (4, 2, 1, 1)
    assert (imported.differing, total("calls_total")) == (0, 3)
    assert importing(path).new == 0


def test_an_event_whose_body_was_pruned_is_known(ledger, importing, total, path):
    """The id of an event stays when its body goes, so that it does not come back."""
    event = make_event()
    ledger.deliver([envelope_of(event)])
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        connection.execute("UPDATE events SET payload = ''")
    path.write_bytes(lines_of([event]))

    imported = importing(path)

    assert (imported.new, imported.known, imported.differing) == (0, 1, 0)
    assert total("calls_total") == 1


def test_another_event_under_the_same_id_is_said(ledger, importing, events, path):
    """What is there stays; the other event is counted, with its line."""
    mine, first = make_event(id="e1"), make_event(id="e2")
    ledger.deliver([envelope_of(mine)])
    changed = make_event(id="e1", subject="other")
    path.write_bytes(lines_of([first, changed, make_event(id="e2", subject="other")]))

    imported = importing(path)

    assert (imported.new, imported.known, imported.repeated) == (1, 1, 1)
    assert (imported.differing, imported.differing_places) == (2, (2, 3))
    assert [each["subject"] for each in events()] == ["customer-42", "customer-42"]


@pytest.mark.parametrize(
    ("indent", "order"), [(None, 1), (2, 1), (None, -1)], ids=["spaces", "lines", "order"]
)
def test_an_event_that_is_written_otherwise_is_the_same(ledger, importing, tmp_path, indent, order):
    """What another tool has only written anew is known, and is no other content."""
    path = tmp_path / "events.json"
    event = make_event(id="e1", dimensions={"team": "Ä"})
    ledger.deliver([envelope_of(event)])
    data = dict(list(json.loads(encode(event)).items())[::order])
    path.write_text(json.dumps([data], indent=indent))

    imported = importing(path)

    assert (imported.known, imported.differing) == (1, 0)
    data["data"]["team"] = "O"
    path.write_text(json.dumps([data], indent=indent))
    assert importing(path).differing == 1


@pytest.mark.parametrize("torn", [b"\0" * 512 + b"\n", b"\0" * 512, b"18,\n"])
def test_a_torn_beginning_is_passed_over(importing, path, torn):
    """A file of lines may begin with zeros, which a loss of power leaves, or with half an event."""
    path.write_bytes(torn + lines_of([make_event(), make_event()]))

    with pytest.raises(ImportFileError):
        importing(path)
    imported = importing(path, skip_unreadable=True)

    assert (imported.new, imported.skipped_places) == (1 if torn[-1:] == b"\0" else 2, (1,))


def test_one_id_of_two_sources_is_two_events(importing, total, path):
    """The identity of an event is its source and its id."""
    path.write_bytes(lines_of([make_event(id="e", source=each) for each in ("shop", "desk")]))

    assert importing(path).new == 2
    assert total("calls_total") == 2


def test_the_files_of_a_sink(importing, tmp_path):
    """What a `jsonl` sink has written is read, its renamed files too, compressed or not."""
    sink = JSONLinesSink(tmp_path / "out" / "usage.jsonl", max_bytes=4096)
    for _ in range(3):
        sink.deliver(batch_of([make_event() for _ in range(8)]))
    sink.close()
    files = sorted((tmp_path / "out").glob("usage*.jsonl"))
    assert len(files) > 2
    packed = files[0].with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    files[0].unlink()

    assert sum(importing(each).new for each in (packed, *files[1:])) == 24


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[{0}, {1}]", id="a list"),
        pytest.param("\n{0}\n\n{1}", id="blank lines"),
        pytest.param("\ufeff{0}\r\n{1}\r\n", id="a mark and Windows' lines"),
        pytest.param("{0}\n{1}", id="no end of the last line"),
        pytest.param("{pretty}\n{1}", id="one behind the other"),
    ],
)
def test_forms_of_a_file(importing, events, path, content):
    """Events may stand in lines, in a list, or one behind the other."""
    first, second = (make_event(subject=name) for name in ("a", "b"))
    texts = [encode(each).decode() for each in (first, second)]
    pretty = json.dumps(json.loads(texts[0]), indent=2)
    for name, text in {"{0}": texts[0], "{1}": texts[1], "{pretty}": pretty}.items():
        content = content.replace(name, text)
    path = path.with_suffix(".json")
    path.write_text(content, "utf-8", newline="")

    assert importing(path).new == 2
    assert [each["subject"] for each in events()] == ["a", "b"]


def test_the_sums_are_those_of_new_events(ledger, importing, path):
    """The report adds up what is new, by subject and model; what nobody knows is no 0."""
    known = make_event(subject="a")
    ledger.deliver([envelope_of(known)])
    path.write_bytes(
        lines_of(
            [
                known,
                make_event(subject="b"),
                make_event(subject="b"),
                make_event(subject="b", model="m", usage=None),
            ]
        )
    )

    assert [tuple(each) for each in importing(path).sums] == [
        ("b", "gpt-5-mini", 2, 200, 40, 240, 2),
        ("b", "m", 1, None, None, None, 1),
    ]


@pytest.mark.parametrize("is_there", [False, True], ids=["no ledger", "a ledger"])
def test_a_dry_run_writes_nothing(ledger, importing, total, path, is_there):
    """It says what would be imported, and makes no ledger either."""
    known = make_event()
    if is_there:
        ledger.deliver([envelope_of(known)])
    path.write_bytes(lines_of([known, make_event(), make_event()]))

    imported = importing(path, dry_run=True)

    assert (imported.read, imported.new) == (3, 2 if is_there else 3)
    assert imported.sums[0].events == imported.new
    assert total("calls_total") == int(is_there)
    assert ledger.path.exists() == is_there


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            b'{"specversion": "1.0"', "line 2: no CloudEvent: Input data was trunc", id="cut"
        ),
        pytest.param(b"<xml/>", "line 2: no CloudEvent", id="no JSON"),
        pytest.param(b'{"object":"page"}', "line 2: no CloudEvent", id="something else"),
        pytest.param(b"\xff", "line 2: no CloudEvent", id="no text"),
        pytest.param(
            encode(make_event()).replace(b'"total_tokens":120', b'"total_tokens":-1'),
            "line 2: its total_tokens is no whole number",
            id="no count",
        ),
        pytest.param(
            encode(make_event()).replace(b'"1.0"', b'"0.3"'), "its specversion", id="version"
        ),
    ],
)
def test_a_line_that_is_no_event_stops_the_file(importing, events, path, line, message):
    """The error names the line; nothing of the file is there, unless such lines are passed over."""
    path.write_bytes(lines_of([make_event()]) + line + b"\n" + lines_of([make_event()]))

    with pytest.raises(ImportFileError, match=message) as caught:
        importing(path)

    assert str(caught.value).startswith(str(path))
    assert events() == []
    imported = importing(path, skip_unreadable=True)
    assert (imported.new, imported.skipped, imported.skipped_places) == (2, 1, (2,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "it is empty", id="empty"),
        pytest.param(" \n\n", "it is empty", id="blank"),
        pytest.param('{"a": 1}', "unknown shape; CloudEvents .*OpenAI", id="other JSON"),
        pytest.param("[1, 2]", "values that are no objects", id="numbers"),
        pytest.param(
            '[{"specversion": "1.0"}, {"object": "page"}]', "unknown shape", id="a mixture"
        ),
        pytest.param("a,b\n1,2\n", "no table that is known; CloudEvents", id="other table"),
        pytest.param("a,a\n1,2\n", "two columns of it have one title", id="columns"),
        pytest.param("\x00\x01", "its last line has no end", id="no text at all"),
        pytest.param('{"a": NaN}', "it is no JSON", id="no number"),
        pytest.param("[" * 100_000, "it is no JSON", id="nested too deeply"),
    ],
)
def test_files_of_no_known_shape(importing, events, tmp_path, content, message):
    """They are refused, naming what can be imported."""
    path = tmp_path / "file"
    path.write_text(content, "utf-8")

    with pytest.raises(ImportFileError, match=message):
        importing(path, subject="acme")

    assert events() == []


def test_a_file_that_is_not_there(importing, ledger, tmp_path):
    """It is one error of ours, and makes no ledger."""
    from llm_metering.importing import import_file

    with pytest.raises(ImportFileError, match=r"none\.jsonl: it cannot be read: No such file"):
        import_file(ledger, tmp_path / "none.jsonl")

    assert not ledger.path.exists()


def test_options_of_a_provider_are_refused(importing, path):
    """Events name their own subject: one that is named besides would be passed over."""
    path.write_bytes(lines_of([make_event()]))

    with pytest.raises(ImportFileError, match="name their own subject"):
        importing(path, subject="acme")


def test_imported_events_are_in_the_sums_of_their_time(importing, total, path):
    """Late events go to their own day."""
    path.write_bytes(lines_of([make_event(time=NOON.replace(year=2024)), make_event()]))

    importing(path)

    assert total(start=NOON.replace(hour=0, year=2024), end=NOON.replace(year=2025)) == 120
