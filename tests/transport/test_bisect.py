"""Refusals: only the events that are to blame die, and a server that refuses all kills none."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from math import ceil, log2

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_metering.sinks import open_sink
from llm_metering.sinks.base import Delivery, SinkLimits
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Poison, Refuse, Reset, TooLarge
from llm_metering.transport.cursor import Item
from llm_metering.transport.spool import Spool
from llm_metering.transport.triage import GUARD, Triage

from .harness import (
    FakeClock,
    ScriptedSink,
    down,
    empty,
    journal_for,
    let_go,
    pump,
    record,
    shipper_for,
    sink_row,
    unique,
)

CONTENT = "400 Bad Request at /subject"


class Picky(ScriptedSink):
    """A server that refuses a batch as one if it holds a poisoned event, or too many events.

    Attributes:
        poison: Ids, with the answer to each.
        most: Events of a batch.
        names: Whether it says which event is to blame.
    """

    def __init__(self, *, most=10**6, names=False, lies=False, limits=None):
        super().__init__(limits=limits or SinkLimits(max_events=100))
        self.poison: dict[str, str] = {}
        self.most = most
        self.names = names
        self.lies = lies
        self.refuses_all = False

    def deliver(self, batch, /):
        self.answers.append(self.answers.popleft() if self.answers else self.judge)
        self.answers.rotate(1)
        return super().deliver(batch)

    def judge(self, batch):
        if len(batch) > self.most:
            return Delivery.refuse(batch, "413", "size")
        bad = [each.id for each in batch if self.refuses_all or each.id in self.poison]
        if not bad:
            return Delivery.all_accepted(batch)
        blamed = batch[-1].id if self.lies else bad[0] if self.names else None
        return Delivery.refuse(batch, self.poison.get(bad[0], CONTENT), blamed=blamed)


def letters(home, shipper):
    """The dead letters, as ids with their reasons; none is there twice."""
    path = Spool(home).dead_letters_path(shipper.debt.key)
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    unique(each["event"]["id"] for each in found)
    return {each["event"]["id"]: each["reason"] for each in found}


def run(home, shipper, clock, turns=400):
    """Turn after turn, and an hour later each; the books balance after every one."""
    for _ in range(turns):
        done = pump(shipper)
        row = sink_row(home)
        assert row["recorded"] == row["acked"] + row["pending"] + row["dead"] + row["dropped"]
        if done:
            return
        clock.now += 3600


def ready(home, clock, sink, count):
    journal = journal_for(home, sink)
    shipper = shipper_for(journal, sink, clock=clock)
    return journal, shipper, record(journal, count)


SIZES = [pytest.param(size, id=f"of {size}") for size in range(2, 18)]


@pytest.mark.parametrize("size", SIZES)
def test_one_poisoned_event_dies_alone(tmp_path, size):
    """Wherever it stands: the others arrive, once, and finding it takes log2(n) + 1 requests."""
    for position in range(size):
        home, clock, sink = tmp_path / str(position), FakeClock(), Picky()
        journal, shipper, ids = ready(home, clock, sink, size)
        sink.poison = {ids[position]: CONTENT}

        empty(shipper)

        assert letters(home, shipper) == {ids[position]: CONTENT}
        assert unique(sink.taken) == set(ids) - set(sink.poison)
        counts = {"acked": size - 1, "pending": 0, "dead": 1}
        assert sink_row(home) == {"recorded": size, "dropped": 0} | counts
        assert sink.offered[0] == ids
        alone = sink.offered.index([ids[position]])
        assert alone <= ceil(log2(size)) + 1
        assert shipper.own_settled == size
        journal.close()


class Selective(Picky):
    """A sink that settles every other event without asking the server, which refuses all others."""

    def judge(self, batch):
        asked = [each for each in batch if int(each.id[-1], 16) % 2]
        told = super().judge(asked) if asked else Delivery()
        nothing = {each.id for each in batch} - {each.id for each in asked}
        return replace(told, accepted=told.accepted | nothing, unasked=not told.accepted)


@pytest.mark.parametrize("most", [100, 7, 1], ids=lambda most: f"batches of {most}")
def test_what_was_settled_unasked_speaks_for_no_server(home, clock, most):
    """A server that takes nothing kills nothing, although a part is settled without it."""
    sink = Selective(limits=SinkLimits(max_events=most))
    sink.refuses_all = True
    journal, shipper, ids = ready(home, clock, sink, 4 * GUARD)
    asked = {each for each in ids if int(each[-1], 16) % 2}

    run(home, shipper, clock, turns=100)

    assert letters(home, shipper) == {}
    assert sink_row(home)["pending"] >= GUARD
    sink.refuses_all = False
    run(home, shipper, clock)
    assert set(sink.taken) == set(ids) >= asked
    assert sink_row(home)["acked"] == len(ids)
    journal.close()


def test_a_server_that_names_the_event_is_asked_about_it_at_once(home, clock):
    """Two requests find each poisoned event; it is asked about again when the rest was taken."""
    sink = Picky(names=True)
    journal, shipper, ids = ready(home, clock, sink, 60)
    sink.poison = dict.fromkeys([ids[7], ids[31]], CONTENT)

    empty(shipper)

    assert sorted(letters(home, shipper)) == sorted(sink.poison)
    assert [len(batch) for batch in sink.offered] == [60, 1, 59, 1, 58, 1, 1]
    assert unique(sink.taken) == set(ids) - set(sink.poison)
    journal.close()


def test_a_server_that_names_the_wrong_event_costs_a_request(home, clock):
    """The named event is taken, and is not dead for having been named."""
    sink = Picky(lies=True)
    journal, shipper, ids = ready(home, clock, sink, 16)
    sink.poison = {ids[3]: CONTENT}

    empty(shipper)

    assert sink.offered[:2] == [ids, ids[-1:]]
    assert sink.offered.index(ids[3:4]) <= 6
    assert letters(home, shipper) == {ids[3]: CONTENT}
    assert unique(sink.taken) == set(ids) - {ids[3]}
    journal.close()


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(1, 17),
    poison=st.sets(st.integers(0, 16)),
    trouble=st.lists(st.booleans(), max_size=30),
    names=st.booleans(),
)
def test_several_poisons_between_failures(tmp_path_factory, size, poison, trouble, names):
    """Whatever is poisoned and whenever the server fails, each event ends where it belongs."""
    home, clock, sink = tmp_path_factory.mktemp("home"), FakeClock(), Picky(names=names)
    journal, shipper, ids = ready(home, clock, sink, size)
    (good,) = record(journal)
    sink.poison = {ids[each]: CONTENT for each in poison if each < size}
    sink.answers.extend(down if fails else sink.judge for fails in trouble)

    run(home, shipper, clock)

    assert set(letters(home, shipper)) == set(sink.poison)
    assert unique(sink.taken) == {good, *ids} - set(sink.poison)
    assert sink_row(home)["pending"] == 0
    journal.close()


@pytest.mark.parametrize("most", [1, 2, 3, 7, 16, 50, 99])
def test_a_batch_that_is_too_large_is_halved(home, clock, most):
    """Each event arrives once, none dies, and later batches grow until it is too much again."""
    sink = Picky(most=most)
    journal, shipper, ids = ready(home, clock, sink, 400)

    for _ in range(1000):
        if pump(shipper):
            break

    assert unique(sink.taken) == set(ids)
    assert letters(home, shipper) == {}
    taken_in = [len(batch) for batch in sink.offered if len(batch) <= most]
    assert max(taken_in) > most / 2
    refused = [len(batch) for batch in sink.offered if len(batch) > most]
    assert len(refused) < 10 + len(taken_in)
    journal.close()


def test_batches_grow_back(home, clock):
    """When the server takes more again, batches are as large as before after a while."""
    sink = Picky(most=10)
    journal, shipper, _ = ready(home, clock, sink, 4000)
    for _ in range(6):
        pump(shipper)
    assert len(sink.offered[-1]) <= 10

    sink.most = 100
    empty(shipper)

    assert len(sink.offered[-2]) == 100
    assert sink_row(home)["pending"] == 0
    journal.close()


def test_an_event_that_is_too_large_alone_dies(home, clock):
    """The event is to blame and not the batches, which stay as large as they were."""

    class Narrow(Picky):
        def judge(self, batch):
            return (
                Delivery.refuse(batch, "413", "size")
                if set(self.poison) & {each.id for each in batch}
                else Delivery.all_accepted(batch)
            )

    sink = Narrow()
    journal, shipper, ids = ready(home, clock, sink, 300)
    sink.poison = {ids[0]: "413"}

    empty(shipper)

    assert letters(home, shipper) == {ids[0]: "413"}
    assert [len(batch) for batch in sink.offered] == [100, 50, 25, 12, 6, 3, 1, 100, 1, 100, 99]
    journal.close()


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize("count", [1, 2, GUARD - 1, GUARD, GUARD + 1, 300])
def test_a_server_that_refuses_everything_kills_nothing(home, clock, count, names):
    """However many there are, they stay pending; the sink pauses and asks once a minute."""
    sink = Picky(names=names)
    sink.refuses_all = True
    journal, shipper, ids = ready(home, clock, sink, count)
    for _ in range(60):
        pump(shipper)
    asked = len(sink.offered)

    assert shipper.standing.state == "paused"
    assert shipper.standing.reason.startswith(CONTENT)
    assert sink_row(home)["pending"] == count
    assert asked <= GUARD + 3 * ceil(log2(count + 1)) + 3
    clock.now += 59
    pump(shipper)
    assert len(sink.offered) == asked
    for minute in range(30):
        clock.now += 60
        pump(shipper)
        assert len(sink.offered) == asked + 1 + minute
        assert len(sink.offered[-1]) == 1

    sink.refuses_all = False
    run(home, shipper, clock)
    assert sorted(sink.taken) == sorted(ids)
    assert letters(home, shipper) == {}
    assert shipper.standing.state == "ok"
    journal.close()


@pytest.mark.parametrize(
    ("poisoned", "paused"), [(GUARD - 1, False), (GUARD, True), (GUARD + 1, True)]
)
def test_the_guard_is_at_twenty(home, clock, poisoned, paused):
    """Nineteen in a row die once the next is taken; with twenty the sink pauses first."""
    sink = Picky()
    journal, shipper, ids = ready(home, clock, sink, poisoned + 5)
    sink.poison = dict.fromkeys(ids[:poisoned], CONTENT)

    for _ in range(100):
        pump(shipper)
    assert (shipper.standing.state == "paused") == paused
    assert len(letters(home, shipper)) == (0 if paused else poisoned)
    run(home, shipper, clock)

    # Refused on both sides of what was taken: it is they who are to blame.
    assert set(letters(home, shipper)) == set(sink.poison)
    assert sorted(sink.taken) == sorted(ids[poisoned:])
    assert sink_row(home)["pending"] == 0
    journal.close()


def test_a_lone_event_waits_for_a_witness(home, clock):
    """Refused with nothing else to compare it to, it stays pending until the server takes one."""
    sink = Picky()
    journal, shipper, (bad,) = ready(home, clock, sink, 1)
    sink.poison = {bad: CONTENT}
    for _ in range(3):
        pump(shipper)
    assert (sink_row(home)["pending"], sink_row(home)["dead"]) == (1, 0)
    assert shipper.standing.reason == f"{CONTENT}, to an event sent alone"

    record(journal)
    run(home, shipper, clock)

    assert letters(home, shipper) == {bad: CONTENT}
    assert sink_row(home) == {"recorded": 2, "acked": 1, "pending": 0, "dead": 1, "dropped": 0}
    journal.close()


def test_a_server_that_breaks_kills_nothing_that_it_never_looked_at(home, clock):
    """What it took a moment ago says nothing about the next batch."""
    sink = Picky()
    journal, shipper, _ = ready(home, clock, sink, 100)
    pump(shipper)
    sink.refuses_all = True
    late = record(journal, 10)

    for _ in range(60):
        pump(shipper)

    assert len(sink.taken) == 100
    assert letters(home, shipper) == {}
    assert (shipper.standing.state, sink_row(home)["pending"]) == ("paused", 10)
    sink.refuses_all = False
    run(home, shipper, clock)
    assert unique(sink.taken[100:]) == set(late)
    journal.close()


def test_another_answer_shows_that_the_server_looks_at_events(home, clock):
    """Refused with two answers, the first event is to blame for the first."""
    sink = Picky()
    journal, shipper, ids = ready(home, clock, sink, 2)
    sink.poison = {ids[0]: CONTENT, ids[1]: "422 Unprocessable Entity at /type"}

    for _ in range(6):
        pump(shipper)

    assert letters(home, shipper) == {ids[0]: CONTENT}
    assert sink_row(home)["pending"] == 1
    journal.close()


def test_a_held_event_does_not_stop_later_segments(home, clock):
    """The segments behind it are shipped, and it is in none that was deleted."""
    sink = Picky()
    journal = journal_for(home, sink, segment_bytes=600)
    shipper = shipper_for(journal, sink, clock=clock)
    (bad,) = record(journal)
    sink.poison = {bad: CONTENT}
    for _ in range(3):
        pump(shipper)
    ids = record(journal, 6)

    run(home, shipper, clock)

    assert unique(sink.taken) == set(ids)
    assert letters(home, shipper) == {bad: CONTENT}
    journal.close()
    pump(shipper)
    assert Spool(home).segments() == []


STEP = st.sampled_from(["pump", "pump", "pump", "record", "crash", "down", "break", "mend"])


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(STEP, max_size=40),
    poison=st.sets(st.integers(0, 60)),
    most=st.sampled_from([1, 3, 1000]),
    names=st.booleans(),
)
def test_any_sequence_of_trouble(tmp_path_factory, steps, poison, most, names):
    """Crashes, failures and a server that refuses everything meanwhile: only the poisoned die."""
    home, clock, sink = tmp_path_factory.mktemp("home"), FakeClock(), Picky(names=names, most=most)

    def begin():
        # Small enough to be rotated every few records.
        journal = journal_for(home, sink, segment_bytes=1500)
        return journal, shipper_for(journal, sink, clock=clock)

    def add(count):
        for event_id in record(journal, count):
            if len(ids) in poison:
                sink.poison[event_id] = CONTENT
            ids.append(event_id)

    ids: list[str] = []
    journal, shipper = begin()
    for step in ["record", *steps]:
        if step == "pump":
            pump(shipper, adopt=True)
            clock.now += 60
        elif step == "record":
            add(5)
        elif step == "down":
            sink.answers.append(down)
        elif step == "crash":
            let_go(journal, shipper)
            journal, shipper = begin()
        elif (
            step == "mend" or shipper._pump.dispatch.triage == Triage()
        ):  # else what was learned is no longer true
            sink.refuses_all = step == "break"
        row = sink_row(home)
        assert row["recorded"] == row["acked"] + row["pending"] + row["dead"] == len(ids)
        assert set(letters(home, shipper)) <= set(sink.poison)
        assert row["dead"] <= len(letters(home, shipper))

    sink.refuses_all = False
    witnesses = []
    for _ in range(3):  # the first may be taken before what it is to be compared to is looked at
        witnesses += record(journal)
        for _ in range(100):
            if pump(shipper, adopt=True):
                break
            clock.now += 3600

    assert set(letters(home, shipper)) == set(sink.poison)
    assert set(sink.taken) == {*witnesses, *ids} - set(sink.poison)
    journal.close()


@pytest.mark.parametrize("shape", ["call", "kind"])
@pytest.mark.parametrize("api", ["v1", "v3"])
def test_over_http(home, clock, api, shape):
    """Poisoned events, a proxy with a narrow mind and failures: all that is good arrives."""
    with (
        OpenMeterServer() as server,
        closing(open_sink(f"{server.sink_url}?api={api}&shape={shape}", source="tests")) as sink,
    ):
        journal = journal_for(home, sink)
        shipper = shipper_for(journal, sink, clock=clock)
        ids = record(journal, 120)
        bad = {ids[5], ids[6], ids[70]}
        poisoned = lambda event: event["id"].partition(":")[0] in bad  # noqa: E731
        server.order(Poison(matches=poisoned), TooLarge(max_events=60), times=None)
        server.order(Refuse(503), Reset("after"), times=None, chance=0.2, seed=4)

        for _ in range(300):
            pump(shipper)
            clock.now += 3600

        assert set(letters(home, shipper)) == bad
        assert {event["id"].partition(":")[0] for event in server.events} == set(ids) - bad
        counts = {"acked": 117, "pending": 0, "dead": 3, "dropped": 0}
        assert sink_row(home) == {"recorded": 120} | counts
        journal.close()


def items(count):
    """Events that wait."""
    return [Item(f"e{n}", b"{}", n + 1) for n in range(count)]


def test_what_is_known_can_be_read():
    """Its representation says what the shipper is about, and holds no id."""
    limits = SinkLimits(max_events=100)
    waiting = items(8)
    batch = list(waiting)

    searching = Triage().learn(waiting, Delivery.refuse(batch, "400"), limits).triage
    smaller = Triage().learn(waiting, Delivery.refuse(batch, "413", "size"), limits).triage
    alone = Triage().learn(waiting[:1], Delivery.refuse(batch[:1], "400"), limits).triage
    paused = alone.exhausted().triage

    shown = [repr(each) for each in (Triage(), searching, smaller, alone, paused)]
    assert shown == [
        "<Triage at rest>",
        "<Triage searching=8>",
        "<Triage limit=4>",
        "<Triage held=1>",
        "<Triage held=1 paused turn=0>",
    ]
