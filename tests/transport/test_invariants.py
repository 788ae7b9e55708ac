"""Any sequence of work, trouble and crashes: nothing is lost, and the books are right."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_metering.events import encode
from llm_metering.sinks.base import Delivery
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status
from tests.factories import make_event

from .harness import (
    FakeClock,
    ScriptedSink,
    down,
    empty,
    ids_on_disk,
    journal_for,
    let_go,
    note_open,
    pump,
    record,
    reject,
    shipper_for,
    unique,
)


def first_only(batch):
    """A sink that takes one and asks for the others again."""
    return Delivery(accepted=frozenset([batch[0].id]))


def last_only(batch):
    """A sink that leaves a gap before what it took."""
    return Delivery(accepted=frozenset([batch[-1].id]))


def first_never(batch):
    """A sink that will never take the first."""
    ids = [each.id for each in batch]
    return Delivery(accepted=frozenset(ids[1:]), rejected=frozenset([(ids[0], "no")]))


ANSWERS = st.sampled_from([down, first_only, last_only, first_never, reject, Delivery.all_accepted])
WHICH = st.sampled_from([0, 1])


class Home(RuleBasedStateMachine):
    """One home, two sinks, one process after another."""

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.sinks = [ScriptedSink(name="a"), ScriptedSink(name="b")]
        self.recorded: set[str] = set()
        self.open: list[str] = []
        self.refused: set[str] = set()
        self.begin()

    def begin(self):
        # Small enough to be rotated every few records.
        self.journal = journal_for(self.home, *self.sinks, segment_bytes=1500)
        self.shippers = [shipper_for(self.journal, s, clock=self.clock) for s in self.sinks]

    @rule(count=st.integers(1, 4))
    def record(self, count):
        self.recorded |= set(record(self.journal, count))

    @rule()
    def start_call(self):
        self.open.append(note_open(self.journal))

    @precondition(lambda self: self.open)
    @rule(refused=st.booleans())
    def end_call(self, refused):
        call = self.open.pop(0)
        if refused:
            self.journal.note_closed(call)
            self.refused.add(call)
        else:
            self.journal.record(call, encode(make_event(id=call)))
            self.recorded.add(call)

    @rule(which=WHICH, answer=ANSWERS, adopt=st.booleans())
    def deliver(self, which, answer, adopt):
        self.sinks[which].answers.append(answer)
        self.clock.now += 60
        pump(self.shippers[which], adopt=adopt)
        self.sinks[which].answers.clear()

    @rule()
    def crash(self):
        let_go(self.journal, *self.shippers)
        self.recorded |= set(self.open)  # as interrupted, once somebody has settled them
        self.open = []
        self.begin()

    @precondition(lambda self: not self.open)
    @rule()
    def close(self):
        self.journal.close()
        for shipper in self.shippers:
            shipper.begin_close(deadline=self.clock.now)
        for shipper in self.shippers:
            shipper.finish_close()
        let_go(self.journal, *self.shippers)
        self.begin()

    @invariant()
    def books_balance(self):
        status = home_status(self.home)
        on_disk = set(ids_on_disk(self.home))
        assert status["recorded"] <= len(self.recorded)
        for sink in self.sinks:
            rows = [row for row in status["sinks"] if row["name"] == sink.name]
            for row in rows:
                counts = [row[key] for key in ("acked", "pending", "dead", "dropped")]
                assert min(counts) >= 0
                assert row["recorded"] == sum(counts) == status["recorded"]
                assert row["acked"] <= len(set(sink.taken))
            # What is neither with the sink nor a dead letter is on disk, or will be put there
            # by who settles a dead writer's calls.
            missing = self.recorded - set(sink.taken) - self.dead(sink) - on_disk
            assert len(missing) <= status["open_calls"]
            assert not self.refused & set(sink.taken)

    def dead(self, sink):
        path = Spool(self.home).dead_letters_path(self.shippers[self.sinks.index(sink)].debt.key)
        lines = path.read_text().splitlines() if path.exists() else []
        return {json.loads(line)["event"]["id"] for line in lines}

    def teardown(self):
        for call in self.open:
            self.journal.record(call, encode(make_event(id=call)))
            self.recorded.add(call)
        self.journal.close()
        for _ in range(2):  # the second time finds what the other sink let go
            for shipper in self.shippers:
                self.clock.now += 60
                empty(shipper, adopt=True)
        for shipper in self.shippers:
            shipper.finish_close()

        assert Spool(self.home).segments() == []
        for row, sink in zip(home_status(self.home)["sinks"], self.sinks, strict=False):
            dead = self.dead(sink)
            assert set(sink.taken) | dead == self.recorded
            assert row["recorded"] == row["acked"] + row["dead"] == len(self.recorded)
        shutil.rmtree(self.home)


TestHome = Home.TestCase
TestHome.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_ids_are_minted_once(home):
    """A forked or later process never mints an id that was minted before."""
    ids: list[str] = []
    for _ in range(5):
        journal = journal_for(home)
        ids += [journal.writer, *record(journal, 100)]
        let_go(journal)

    assert len(unique(ids)) == 505
