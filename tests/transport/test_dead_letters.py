"""Dead letters: each once, whole, and without anything the server quoted."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import pytest

from llm_metering import system
from llm_metering.sinks.base import Delivery, Envelope
from llm_metering.transport.dead_letters import write_dead_letters
from llm_metering.transport.spool import Spool, debt_of

from .harness import ScriptedSink, journal_for, let_go, pump, record, shipper_for, sink_row
from .test_bisect import CONTENT, Picky, letters


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(16))
@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(os, "write", id="before a letter or a note"),
        pytest.param(system, "sync_data", id="before a letter is synced"),
        pytest.param(system, "write_at", id="before the place is written"),
    ],
)
def test_a_crash_between_any_two_steps(home, clock, monkeypatch, module, name, after):
    """A dead letter is there once, and no event is lost between it and the sink."""
    sink = Picky()
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    ids = record(journal, 9)
    sink.poison = dict.fromkeys([ids[0], ids[4], ids[5]], CONTENT)
    original = getattr(module, name)
    here = threading.current_thread()
    steps: list[str] = []

    def crashing(*arguments):
        if threading.current_thread() is here:  # the journal's own thread lives on
            steps.append(name)
            if len(steps) > after:
                raise Crash
        return original(*arguments)

    with monkeypatch.context() as patch, suppress(Crash):
        patch.setattr(module, name, crashing)
        for _ in range(60):
            pump(shipper)
    let_go(journal, shipper)

    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    (good,) = record(journal)
    for _ in range(60):
        pump(shipper, adopt=True)
        clock.now += 3600

    assert set(letters(home, shipper)) == set(sink.poison)
    assert set(sink.taken) == {good, *ids} - set(sink.poison)
    assert sink_row(home) == {"recorded": 10, "acked": 7, "pending": 0, "dead": 3, "dropped": 0}
    journal.close()


@pytest.mark.parametrize(
    ("cut", "lines"), [pytest.param(1, 2, id="of its end"), pytest.param(3, 3, id="of its content")]
)
def test_a_letter_that_was_torn(home, cut, lines):
    """Half a line is no letter and is written again, a whole one is; neither spoils the next."""
    spool, debt = Spool(home), debt_of(ScriptedSink())
    spool.make()
    batch = [Envelope(name, f'{{"id":"{name}"}}'.encode()) for name in "abc"]
    delivery = Delivery(rejected=frozenset((each.id, "no") for each in batch[:2]))
    write_dead_letters(spool, debt, batch, delivery)
    path = spool.dead_letters_path(debt.key)
    whole = path.read_bytes().splitlines()
    path.write_bytes(path.read_bytes()[:-cut])

    for _ in range(2):
        write_dead_letters(spool, debt, batch, delivery)
    last = Delivery(rejected=frozenset([("c", "no")]))
    write_dead_letters(spool, debt, batch, last)

    *before, letter = path.read_bytes().splitlines()
    assert len(before) == lines
    assert before[0] == whole[0]
    assert [b'"id":"b"' in before[-1], b'"id":"c"' in letter] == [True, True]


def test_an_id_in_the_data_of_another_is_no_letter(home):
    """Only the event's own id says that it is there."""
    spool, debt = Spool(home), debt_of(ScriptedSink())
    spool.make()
    other = Envelope("a", b'{"id":"a","data":{"id":"b"}}')
    own = Envelope("b", b'{"id":"b"}')
    for each in (other, own):
        write_dead_letters(spool, debt, [each], Delivery(rejected=frozenset([(each.id, "no")])))

    assert len(spool.dead_letters_path(debt.key).read_bytes().splitlines()) == 2


def test_an_event_of_another_source_is_another_one(home):
    """Identity is source and id, as everywhere."""
    spool, debt = Spool(home), debt_of(ScriptedSink())
    spool.make()
    for source in ("shop", "search", "shop"):
        event = Envelope("a", f'{{"id":"a","source":"{source}"}}'.encode())
        write_dead_letters(spool, debt, [event], Delivery(rejected=frozenset([("a", "no")])))

    assert len(spool.dead_letters_path(debt.key).read_bytes().splitlines()) == 2
