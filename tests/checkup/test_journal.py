"""The journal as the doctor sees it, written by real meters."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from llm_metering import Meter, TokenUsage
from llm_metering.checkup.journal import check_journal
from llm_metering.ledger import Ledger
from llm_metering.sinks import Delivery
from llm_metering.transport.frames import Kind, encode_frame
from llm_metering.transport.spool import Spool, debt_of
from tests.checkup.conftest import FarSink

TOKENS = TokenUsage(input_tokens=10, output_tokens=2)


def refuse(batch):
    """A sink that will never take them."""
    return Delivery(rejected=frozenset((each.id, "400 Bad Request") for each in batch))


def pause(batch):
    """A sink that needs a person."""
    return Delivery.try_later(batch, "401 Unauthorized", hold=True)


def back_off(batch):
    """A sink that is away."""
    return Delivery.try_later(batch, "ConnectError")


def lose(batch):
    """A sink whose answer does not come."""
    return Delivery.try_later(batch, "no answer in time", ambiguous=True)


@contextmanager
def living(home, sink=None, *, source="shop", events=2):
    """A meter that has recorded so many events, and lives."""
    meter = Meter(home=home, sinks=[sink] if sink else [], source=source)
    try:
        for _ in range(events):
            meter.record(TOKENS, "acme")
        meter.drain(20, sink="ledger")
        if sink:
            meter.drain(0.3, sink="far")
        yield meter
    finally:
        meter.close(0.1)


def record(home, sink=None, **how):
    """A meter that recorded, and ended."""
    with living(home, sink, **how):
        pass


def look(home, *sinks, source="shop", now=None):
    """What is found with these sinks configured, by check and sink."""
    debts = [debt_of(sink) for sink in (Ledger(home / "ledger.db"), *sinks)]
    findings = list(check_journal(home, source=source, debts=debts, now=now))
    return {(each.check, each.sink) if each.sink else each.check: each for each in findings}


def troubles(found):
    """The levels of what is not well."""
    return {check: each.level for check, each in found.items() if each.level != "ok"}


def files(home):
    """Everything there, with its size and time."""
    paths = sorted(path for path in home.rglob("*") if path.is_file())
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def segment(home) -> Path:
    """The only segment there is."""
    [path] = (home / "journal" / "v1").glob("*.seg")
    return path


def test_an_empty_home_has_nothing_to_say(home):
    """Nothing is wrong, and nothing is made."""
    assert troubles(look(home)) == {}
    assert list(home.iterdir()) == []


def test_a_home_that_delivers_is_well(home):
    """Every sink is well and says what it has."""
    record(home, FarSink())

    found = look(home, FarSink())

    assert troubles(found) == {}
    assert found["sink.status", "far"].found.startswith("2 of 2 events delivered")


def test_looking_changes_nothing(home):
    """Of a home whose processes died and left everything there is to leave."""
    record(home, FarSink(pause))
    before = files(home)

    look(home, FarSink())
    look(home)

    assert files(home) == before


@pytest.mark.parametrize(
    ("answer", "check", "level"),
    [
        pytest.param(pause, "sink.status", "failure", id="paused"),
        pytest.param(back_off, "sink.status", "warning", id="backing off"),
        pytest.param(lose, "sink.suspect", "warning", id="lost answers"),
    ],
)
def test_a_sink_that_takes_nothing_is_said_with_its_reason(home, answer, check, level):
    """What only a person can mend is a failure; what is tried again is not."""
    record(home, FarSink(answer))

    finding = look(home, FarSink())[check, "far"]

    assert finding.level == level
    assert "2 events" in f"{finding.found} {finding.means}"
    if check == "sink.status":
        assert answer([]).reason in finding.found


def test_dead_events_are_said(home):
    """They are billed nowhere."""
    record(home, FarSink(refuse))

    found = look(home, FarSink())

    assert troubles(found) == {("sink.dead", "far"): "warning"}
    assert "2 events" in found["sink.dead", "far"].found


@pytest.mark.parametrize(
    ("age", "level"),
    [
        pytest.param(timedelta(minutes=59), None, id="young"),
        pytest.param(timedelta(hours=2), "warning", id="old"),
    ],
)
def test_events_that_wait_for_long_are_said(home, age, level):
    """Whatever the sink's last word was."""
    record(home, FarSink(back_off))

    found = look(home, FarSink(), now=datetime.now(UTC) + age)

    assert troubles(found).get(("sink.age", "far")) == level


def test_a_sink_that_is_configured_no_more_is_said(home):
    """Its events wait for nobody; with the sink, they do not."""
    record(home, FarSink(back_off))

    assert troubles(look(home)) == {("journal.debts", "far"): "warning"}
    assert "2 events are owed" in look(home)["journal.debts", "far"].found
    assert ("journal.debts", "far") not in look(home, FarSink())


def test_events_of_another_source_that_nobody_ships_are_said(home):
    """With the setting that would deliver them."""
    record(home, FarSink(back_off, account="crm"), source="crm")

    finding = look(home, FarSink())["journal.debts", "far"]

    assert "of source 'crm'" in finding.found
    assert "LLM_METERING_SOURCE=crm" in finding.advice


def test_what_a_living_process_has_is_its_own_affair(home):
    """Another application of the same home is fine, and takes what its dead ones left."""
    record(home, FarSink(back_off, account="crm"), source="crm")

    with living(home, FarSink(back_off, account="crm"), source="crm"):
        found = look(home, FarSink())

    assert troubles(found) == {}
    assert "for another configuration" in found["sink.status", "far"].found


def test_bytes_that_are_no_record_are_said(home):
    """A torn end, and damage in the middle, of a process that ended."""
    record(home, FarSink(back_off), events=5)
    path = segment(home)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content + b"torn")

    finding = look(home, FarSink())["journal.damage"]

    assert finding.level == "warning"
    assert "4 bytes were torn" in finding.found


def test_a_segment_that_cannot_be_read_is_a_failure(home):
    """Its events are not delivered; which file it is, is said."""
    record(home, FarSink(back_off))
    segment(home).write_bytes(b"no segment at all, but long enough to be one")

    finding = look(home, FarSink())["journal.segments"]

    assert finding.level == "failure"
    assert segment(home).name in finding.found


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("v1/0198.000000.seg", id="in its header"),
        pytest.param("v2/0198.000000.seg", id="in its folder"),
    ],
)
def test_a_segment_of_another_version_is_no_damage(home, where):
    """It waits for the version that wrote it."""
    record(home)
    path = home / "journal" / where
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_frame(Kind.HEADER, msgspec.json.encode({"version": 2})))

    assert troubles(look(home)) == {"journal.versions": "warning"}


def test_counters_that_cannot_be_read_are_a_failure(home):
    """What status would show is not the truth."""
    record(home)
    (Spool(home).folder / "counters.json").write_text("{")

    assert look(home)["journal.counters"].level == "failure"


def test_a_clock_that_was_set_back_is_said(home):
    """It is behind the newest segment."""
    record(home, FarSink(back_off))

    assert "journal.clock" not in look(home, FarSink())
    found = look(home, FarSink(), now=datetime.now(UTC) - timedelta(hours=3))
    assert found["journal.clock"].level == "warning"


def test_books_that_do_not_add_up_are_a_failure(home):
    """A count below 0 is how a double acknowledgement would hide in a sum that fits."""
    record(home, FarSink())
    path = Spool(home).folder / "counters.json"
    counters = msgspec.json.decode(path.read_bytes())
    for sink in counters["sinks"].values():
        sink["acked"] += sink["debt"]["name"] == "far"
    path.write_bytes(msgspec.json.encode(counters))

    found = troubles(look(home, FarSink()))

    assert found == {("sink.books", "far"): "failure"}


def test_events_that_were_dropped_are_said(home):
    """With the reason, as long as the home lives."""
    record(home, FarSink())
    path = Spool(home).folder / "counters.json"
    counters = msgspec.json.decode(path.read_bytes())
    counters["counts"] = {"dropped": {"forgotten": 3}, "failures": {"on_llm_end": 2}}
    path.write_bytes(msgspec.json.encode(counters))

    found = look(home, FarSink())

    assert "forgotten 3" in found["journal.dropped"].found
    assert troubles(found) == {"journal.dropped": "warning", "journal.failures": "warning"}


def test_a_journal_that_cannot_be_read_says_which_file(home):
    """One line instead of a traceback."""
    record(home, FarSink())
    path = Spool(home).folder / "counters.json"
    path.unlink()
    path.mkdir()

    finding = look(home)["journal.readable"]

    assert finding.level == "failure"
    assert str(path) in finding.found
