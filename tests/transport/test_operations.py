"""Draining, retrying and forgetting: whatever breaks, every event is in exactly one place."""

from __future__ import annotations

import threading
import time

import pytest

from llm_metering.errors import ConfigurationError
from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.transport.dead_letters import write_dead_letters
from llm_metering.transport.operations import (
    drain_home,
    find_debt,
    finish_retries,
    forget_debt,
    read_books,
    read_letters,
    retry_letters,
    retrying,
)
from llm_metering.transport.spool import Spool, debt_of
from llm_metering.transport.status import home_status
from tests.factories import batch_of, make_event

from .harness import (
    ScriptedSink,
    empty,
    journal_for,
    let_go,
    record,
    reject,
    run_child,
    shipper_for,
    sink_row,
    unique,
)


def die(home, count=3, answers=1):
    """Have a sink refuse so many events; the sink takes what comes after, and their ids."""
    sink = ScriptedSink(*[reject] * answers)
    journal = journal_for(home, sink)
    ids = record(journal, count)
    shipper = shipper_for(journal, sink)
    empty(shipper)
    journal.close()
    shipper.finish_close()
    return sink, ids


def ship(home, sink):
    """What the next process does with what is left."""
    shipper = shipper_for(journal_for(home, sink), sink)
    empty(shipper, adopt=True)
    shipper.finish_close()


def books(home):
    """What `status` counts, checked to add up."""
    row = sink_row(home)
    assert row["recorded"] == row["acked"] + row["pending"] + row["dead"] + row["dropped"]
    assert min(row.values()) >= 0
    assert home_status(home)["recorded"] == row["recorded"]
    return {key: value for key, value in row.items() if value and key != "recorded"}


def test_dead_events_are_put_back_once(home):
    """From dead to pending to acknowledged, under their ids; nothing is recorded anew."""
    sink, ids = die(home)
    spool = Spool(home)
    before = home_status(home)["flags"]
    assert books(home) == {"dead": 3}

    retried = retry_letters(spool)

    assert (sum(retried.events.values()), retried.waiting, retried.unknown) == (3, 0, 0)
    assert books(home) == {"pending": 3}
    assert read_letters(spool).letters == ()
    assert retry_letters(spool).events == {}
    ship(home, sink)
    assert unique(sink.taken) == set(ids)
    assert books(home) == {"acked": 3}
    assert home_status(home)["recorded"] == 3
    assert home_status(home)["flags"] == before
    assert spool.segments() == []


def test_flags_are_counted_once(home):
    """An event that is put back does not count its flags again."""
    sink = ScriptedSink(reject)
    journal = journal_for(home, sink)
    event = make_event(flags=("subject_conflict", "unknown_usage:total"))
    batch = batch_of([event])
    journal.record(event.id, batch[0].payload)
    shipper = shipper_for(journal, sink)
    empty(shipper)
    journal.close()
    shipper.finish_close()

    def flags():
        return {key: count for key, count in home_status(home)["flags"].items() if count}

    expected = {"subject_conflict": 1, "unknown_usage": 1}
    assert flags() == expected
    retry_letters(Spool(home))
    assert flags() == expected
    ship(home, sink)
    assert flags() == expected


def test_a_line_that_was_put_back_is_no_letter_any_more(home):
    """It is valid JSON still, has no event, and its place in the file; who appends may be at it."""
    die(home)
    (path,) = (Spool(home).folder / "dead").glob("*.ndjson")
    before = path.read_bytes()

    retry_letters(Spool(home))

    assert path.read_bytes() == before.replace(b'"event":', b'"again":')


def test_refused_again_is_dead_once(home):
    """With one more attempt each time, and it can be put back again."""
    sink, ids = die(home, answers=3)
    spool = Spool(home)
    for attempts in (2, 3):
        retry_letters(spool)
        ship(home, sink)
        letters = read_letters(spool).letters
        assert [letter.attempts for letter in letters] == [attempts] * 3
        assert {letter.id for letter in letters} == set(ids)
        assert books(home) == {"dead": 3}


def test_only_what_was_chosen_is_put_back(home):
    """The others stay dead, and are listed."""
    _, ids = die(home)
    spool = Spool(home)

    retry_letters(spool, lambda letter: letter.id == ids[1])

    assert books(home) == {"pending": 1, "dead": 2}
    assert [letter.id for letter in read_letters(spool).letters] == [ids[0], ids[2]]


def test_an_event_that_is_still_pending_is_not_put_back(home):
    """A crash after the line and before the acknowledgement: the event is offered again anyway."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    event = make_event()
    batch = batch_of([event])
    journal.record(event.id, batch[0].payload)
    spool = Spool(home)
    refusal = Delivery(rejected=frozenset({(event.id, "no")}))
    write_dead_letters(spool, debt_of(sink), batch, refusal)
    let_go(journal)

    retried = retry_letters(spool)

    assert (retried.events, retried.waiting) == ({}, 1)
    assert books(home) == {"pending": 1}
    # It was taken then. Its line is still there, and putting it back counts nothing below 0.
    ship(home, sink)
    assert books(home) == {"acked": 1}
    retry_letters(spool)
    ship(home, sink)
    assert books(home) == {"acked": 2}


def test_lines_that_are_none_are_passed_over(home):
    """A torn line and somebody's edit are counted, and spoil no other."""
    die(home, 2)
    spool = Spool(home)
    (path,) = (spool.folder / "dead").glob("*.ndjson")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"{}\nnot json\n\n" + second + second[:40])

    letters = read_letters(spool)

    assert (len(letters.letters), letters.unreadable) == (2, 3)
    assert sum(retry_letters(spool).events.values()) == 2
    assert books(home) == {"pending": 2}


def test_many_are_put_back_in_parts(home, monkeypatch):
    """Each part is decided by itself, and all of them arrive."""
    monkeypatch.setattr(retrying, "BATCH", 2)
    sink, ids = die(home, 5)

    retry_letters(Spool(home))

    assert len(Spool(home).segments()) == 3
    assert books(home) == {"pending": 5}
    ship(home, sink)
    assert unique(sink.taken) == set(ids)
    assert books(home) == {"acked": 5}


CRASH = """
import os, sys
from pathlib import Path
from llm_metering.transport.operations import forget_debt, retry_letters
from llm_metering import system
from tests.transport.harness import *

home, action, countdown = Path(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]

def dying(real):
    def call(*arguments, **options):
        if countdown[0] == 0:
            os.kill(os.getpid(), 9)
        countdown[0] -= 1
        return real(*arguments, **options)
    return call

os.replace = dying(os.replace)
Path.unlink = dying(Path.unlink)
system.write_at = dying(system.write_at)
if action == "retry":
    retry_letters(Spool(home))
else:
    forget_debt(Spool(home), debt_of(ScriptedSink()))
"""


@pytest.mark.parametrize("countdown", range(10))
def test_a_retry_that_is_killed_is_done_or_undone(home, countdown):
    """At any step: the counts add up, and the next one puts back what is dead, each once."""
    sink, ids = die(home)
    crashed = run_child(CRASH, home, "retry", countdown)
    crashed.communicate(timeout=60)
    assert crashed.returncode == (-9 if countdown < 9 else 0)
    assert sum(books(home).values()) in (3, 0)  # 0 while what was decided is not finished

    ship(home, sink)
    finish_retries(Spool(home))
    assert sum(books(home).values()) == 3
    retry_letters(Spool(home))
    ship(home, sink)

    assert unique(sink.taken) == set(ids)
    assert books(home) == {"acked": 3}
    assert read_letters(Spool(home)).letters == ()
    assert len(list((Spool(home).folder / "dead").iterdir())) == 1, "the file with the lines"


@pytest.mark.parametrize("countdown", range(7))
def test_a_forget_that_is_killed_drops_each_once(home, countdown):
    """At any step: the counts add up, and the next one drops what is pending."""
    sink = ScriptedSink()
    journal = journal_for(home, sink, segment_bytes=600)
    record(journal, 3)
    let_go(journal)
    crashed = run_child(CRASH, home, "forget", countdown)
    crashed.communicate(timeout=60)
    assert crashed.returncode == -9
    assert sum(books(home).values()) == 3

    forget_debt(Spool(home), debt_of(sink))

    assert books(home) == {"dropped": 3}
    assert Spool(home).segments() == []


def test_what_is_forgotten_is_no_longer_told_of(home):
    """Nothing of it is suspect, and no failed try is left to be looked into."""
    sink = ScriptedSink(lambda batch: Delivery.try_later(batch, "no answer", ambiguous=True))
    journal = journal_for(home, sink)
    record(journal, 3)
    shipper = shipper_for(journal, sink)
    shipper.drain(deadline=0.0)
    journal.close()
    shipper.finish_close()
    [row] = home_status(home)["sinks"]
    assert (row["state"], row["suspect"]) == ("backoff", 3)

    forget_debt(Spool(home), debt_of(sink))

    [row] = home_status(home)["sinks"]
    assert (row["state"], row["reason"], row["suspect"]) == ("ok", None, 0)
    assert row["dropped"] == 3


def test_forgetting_leaves_others_their_share(home):
    """What another sink is owed stays pending for it, and is delivered."""
    gone, stays = ScriptedSink(name="gone"), ScriptedSink(name="stays")
    journal = journal_for(home, gone, stays)
    ids = record(journal, 3)
    let_go(journal)

    forgotten = forget_debt(Spool(home), debt_of(gone))

    assert (forgotten.events, forgotten.held) == (3, 0)
    owed = {each.debt.name: each.pending for each in read_books(Spool(home)).values()}
    assert owed == {"gone": 0, "stays": 3}
    assert home_status(home)["dropped"]["forgotten"] == 3
    ship(home, stays)
    assert unique(stays.taken) == set(ids)
    ship(home, gone)
    assert gone.taken == []


def test_forgetting_leaves_living_processes_theirs(home):
    """Nothing of a journal that is open is given up, before or after it is read."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    record(journal, 2)

    forgotten = forget_debt(Spool(home), debt_of(sink))

    assert forgotten.events == 0
    (owed,) = read_books(Spool(home)).values()
    assert (owed.pending, owed.in_living) == (2, 2)
    journal.close()
    assert forget_debt(Spool(home), debt_of(sink)).events == 2


def test_what_another_process_has_adopted_is_not_forgotten(home):
    """It is counted as held, and stays pending."""
    sink = ScriptedSink(lambda batch: Delivery.try_later(batch, "away"))
    journal = journal_for(home, sink)
    record(journal)
    let_go(journal)
    other = shipper_for(journal_for(home, sink), sink)
    other._pump.backlog.adopt()

    assert forget_debt(Spool(home), debt_of(sink)).held == 1

    assert books(home) == {"pending": 1}
    other._pump.backlog.release()


def test_draining_waits_for_what_another_process_has_adopted(home):
    """It looks again until that one lets go, and delivers the rest."""
    sink = ScriptedSink()
    journal = journal_for(home, sink)
    ids = record(journal)
    let_go(journal)
    other = shipper_for(journal_for(home, sink), sink)
    other._pump.backlog.adopt()
    seen = threading.Event()

    def let_go_once_seen():
        seen.wait(20)
        time.sleep(0.3)
        other._pump.backlog.release()

    helper = threading.Thread(target=let_go_once_seen)
    helper.start()
    (drained,) = drain_home(
        home, source="tests", sinks=[sink], timeout=20, on_start=lambda _: seen.set()
    )
    helper.join()

    assert (drained.owed.pending, drained.delivered, drained.state) == (0, 1, "ok")
    assert sink.taken == ids


def test_sinks_are_drained_side_by_side(home):
    """One that hangs until the end of the time costs another nothing; progress is told."""
    hanging = threading.Event()

    def hang(batch):
        hanging.wait(20)
        return Delivery.all_accepted(batch)

    slow = ScriptedSink(hang, name="slow")
    quick = ScriptedSink(name="quick", limits=SinkLimits(max_events=2))
    journal = journal_for(home, slow, quick)
    record(journal, 6)
    let_go(journal)
    told = []

    def progress(key, delivered):
        told.append((key, delivered))
        if (debt_of(quick).key, 6) in told:
            hanging.set()

    drained = drain_home(
        home, source="tests", sinks=[slow, quick], timeout=20, on_progress=progress
    )

    assert [(each.owed.pending, each.delivered) for each in drained] == [(0, 6), (0, 6)]


def test_a_sink_is_found_by_name_url_or_id(home):
    """And by nothing that two of them share."""
    one = ScriptedSink(name="same", url="scripted://one")
    two = ScriptedSink(name="same", url="scripted://two")
    journal = journal_for(home, one, two)
    record(journal)
    journal.close()
    spool = Spool(home)

    assert find_debt(spool, "scripted://two") == debt_of(two)
    assert find_debt(spool, debt_of(one).key) == debt_of(one)
    with pytest.raises(ConfigurationError, match="several are called 'same'"):
        find_debt(spool, "same")
    with pytest.raises(ConfigurationError, match="the home knows same"):
        find_debt(spool, "other")
