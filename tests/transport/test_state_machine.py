"""Anything may happen between any two steps: every event ends in one place, and the books say which."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from llm_metering import system
from llm_metering.transport.operations import forget_debt
from llm_metering.transport.records import count_note

from .accounts import Auditor
from .kernel import Doom, Turn
from .on_disk import contents
from .processes import Process
from .servers import MOODS, Mood
from .world import WINDOW, World

EXAMPLES = os.environ.get("STATE_MACHINE_EXAMPLES")
"""How many, for a long run, which is another one each time; else it is short and always the same."""
pytestmark = [pytest.mark.timeout(0)] if EXAMPLES else []

MOST_PROCESSES = 5
WHICH = st.integers(0, 5)
SOURCES = st.sampled_from(["app-a", "app-b"])
CALLS = st.sampled_from(
    [
        *("", "write .seg", "write .ndjson", "pwrite .ack", "fsync .tmp"),
        *("replace .json", "replace .seg", "rename .lock", "unlink .seg", "unlink .ack"),
    ]
)
AT = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 6])
DOOMS = st.builds(
    Doom,
    at=AT,
    of=CALLS,
    where=st.sampled_from(["before", "within", "behind"]),
    part=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
)
TURNS = st.tuples(AT, CALLS, WHICH, WHICH)
MOODS_DRAWN = st.builds(
    Mood, st.sampled_from([*MOODS, "takes all", "takes all"]), st.integers(0, 3)
)
CALM = Mood()
PLANS = st.none() | DOOMS | TURNS


class Homes(RuleBasedStateMachine):
    """Processes of two applications come and go in one home."""

    def __init__(self):
        super().__init__()
        self.world = World()
        self.auditor = Auditor(self.world)

    def teardown(self):
        try:
            if sys.exc_info()[0] is None:  # else a step has failed already
                self.auditor.settle_up()
        finally:
            self.world.end()

    @initialize(
        segment_bytes=st.sampled_from([1, 1500, 4000]),
        backlog_bytes=st.sampled_from([1 << 30, 1 << 30, 6000]),
        held_limit=st.sampled_from([10_000, 10_000, 3]),
    )
    def begin(self, segment_bytes, backlog_bytes, held_limit):
        world = self.world
        world.segment_bytes, world.backlog_bytes = segment_bytes, backlog_bytes
        world.held_limit = held_limit
        if backlog_bytes < 1 << 30:
            world.may_drop |= {s.debt.key for each in world.servers.values() for s in each}
        for source in world.servers:
            world.start(source)

    def plan(self, drawn, process):
        """What happens to a process while it does something."""
        if drawn is None or isinstance(drawn, Doom):
            return drawn
        at, of, who, which = drawn

        def action():
            running = self.world.kernel.is_running
            others = [each for each in self.world.processes if not running(each.running)]
            if others:
                other = others[who % len(others)]
                self.pump(other, which, adopt=True)
            self.auditor.look()

        return Turn(at, of, action)

    def pump(self, process, which, *, adopt, urgent=True, mood=CALM, plan=None):
        shipper = process.shippers[which % len(process.shippers)]
        server = shipper.sink
        if adopt:
            shipper._pump.next_adoption = 0.0

        def pump():
            with shipper._turn:
                shipper._pump.once(urgent=urgent, adopt=adopt)

        before, server.mood = server.mood, mood
        self.world.run(process, pump, plan)
        server.mood = before

    def one(self, which) -> Process:
        """One of the processes; there is always one."""
        if not self.world.processes:
            self.world.start("app-a")
        return self.world.processes[which % len(self.world.processes)]

    @rule(source=SOURCES)
    def start(self, source):
        if len(self.world.processes) < MOST_PROCESSES:
            self.world.start(source)

    @rule(which=WHICH, times=st.integers(1, 5), plan=PLANS)
    def record(self, which, times, plan):
        process = self.one(which)
        for _ in range(times - 1):
            self.world.record(process, None)
        self.world.record(process, self.plan(plan, process))

    @rule(which=WHICH, times=st.integers(1, 4), mood=MOODS_DRAWN, plan=PLANS)
    def record_and_ship(self, which, times, mood, plan):
        process = self.one(which)
        for _ in range(times):
            self.world.record(process, None)
        self.pump(process, 0, adopt=False, mood=mood)
        self.pump(process, 1, adopt=False, plan=self.plan(plan, process))

    @rule(which=WHICH, sink=WHICH, about=WHICH, plan=PLANS)
    def have_one_rejected(self, which, sink, about, plan):
        process = self.one(which)
        self.world.record(process, None)
        plan = self.plan(plan, process)
        self.world.clock.now += 61
        self.pump(process, sink, adopt=False, mood=Mood("rejects one", about), plan=plan)

    @rule(which=WHICH, plan=PLANS)
    def open_call(self, which, plan):
        process = self.one(which)
        self.world.open_call(process, self.plan(plan, process))

    @rule(which=WHICH, has_event=st.booleans(), plan=PLANS)
    def end_call(self, which, has_event, plan):
        calls = [call for each in self.world.processes for call in each.open_calls]
        if not calls:
            return
        call = calls[which % len(calls)]
        act = self.world.settle_call if has_event else self.world.close_call
        act(call, self.plan(plan, call.process))

    @rule(which=WHICH, plan=PLANS)
    def count(self, which, plan):
        process, key = self.one(which), f"kind-{self.world.counts.total()}"
        plan = self.plan(plan, process)
        self.world.run(process, lambda: process.journal.count("failures", key), plan)
        note = count_note("failures", key, 1).payload
        sure = any(note in content for content in contents(self.world.spool))
        self.world.counts["sure" if sure else "unsure"] += 1

    @rule(
        which=WHICH,
        sink=WHICH,
        adopt=st.booleans(),
        urgent=st.booleans(),
        moods=st.lists(MOODS_DRAWN, min_size=1, max_size=3),
        plan=PLANS,
    )
    def ship(self, which, sink, adopt, urgent, moods, plan):
        process = self.one(which)
        plan = self.plan(plan, process)
        for mood in moods:
            self.pump(process, sink, mood=mood, adopt=adopt, urgent=urgent, plan=plan)

    @rule(which=WHICH, sink=WHICH, adopt=st.booleans(), mood=MOODS_DRAWN, plan=PLANS)
    def ship_later(self, which, sink, adopt, mood, plan):
        process = self.one(which)
        self.world.clock.now += 61
        self.pump(process, sink, mood=mood, adopt=adopt, plan=self.plan(plan, process))

    @rule(which=WHICH, plan=PLANS)
    def sync(self, which, plan):
        process = self.one(which)
        self.world.sync(process, process.syncer.turn, self.plan(plan, process))

    @rule(which=WHICH)
    def kill(self, which):
        self.world.reasons.add("kill")
        self.world.kill(self.one(which))

    @rule(which=WHICH, plan=PLANS, later=PLANS)
    def close(self, which, plan, later):
        process = self.one(which)
        if not self.world.sync(process, process.journal.close, self.plan(plan, process)):
            return

        def close():
            for shipper in process.shippers:
                shipper.begin_close(deadline=self.world.clock.now)
            for shipper in process.shippers:
                shipper.finish_close()

        if self.world.run(process, close, self.plan(later, process)):
            self.world.kill(process)

    @rule(source=SOURCES, plan=PLANS)
    def drain(self, source, plan):
        process = self.world.start(source)
        plan = self.plan(plan, process)

        def drain():
            for shipper in process.shippers:
                shipper._pump.next_adoption = 0.0
                for _ in range(20):
                    self.world.clock.now += 1
                    if shipper._pump.once(urgent=True, adopt=True) is None:
                        break
            process.journal.close()
            for shipper in process.shippers:
                shipper.begin_close(deadline=self.world.clock.now)
                shipper.finish_close()

        if self.world.run(process, drain, plan):
            self.world.kill(process)

    @rule(source=SOURCES, which=WHICH, plan=PLANS, wanted=st.integers(0, 3))
    def forget(self, source, which, plan, wanted):
        if wanted:
            return  # rarely
        debt = self.world.servers[source][which % 2].debt
        self.world.may_drop.add(debt.key)
        process = self.world.start(source)

        def forget():
            try:
                forget_debt(self.world.spool, debt)
            except OSError:
                assert self.world.kernel.room is not None or isinstance(plan, tuple)

        if self.world.run(process, forget, self.plan(plan, process)):
            self.world.kill(process)

    @rule(
        how=st.sampled_from(["lost", "zeroed", "flipped", "cut", "old"]),
        which=st.integers(0, 20),
        to=WHICH,
    )
    def spoil_an_acknowledgement(self, how, which, to):
        paths = sorted(self.world.spool.folder.glob("*.ack"))
        if not paths:
            return
        path = paths[which % len(paths)]
        lock = system.lock_file(path, create=False)
        if lock is None:
            return  # a file that is in use is not lost
        system.unlock_file(lock)
        self.world.spoil(path)
        content = path.read_bytes()
        old = self.world.kernel.before.get(path, b"")
        flipped = bytes([*content[:4], content[4] ^ 1, *content[5:]]) if content else b""
        spoiled = {"zeroed": bytes(len(content)), "flipped": flipped, "cut": content[: 12 * to]}
        if how == "lost":
            path.unlink()
        else:
            path.write_bytes(spoiled.get(how, old))

    @rule(room=st.sampled_from([None, None, None, 0, 700, 3000]))
    def fill_the_disk(self, room):
        if room is not None:
            self.world.reasons.add("full")
        self.world.kernel.room = room

    @rule(seconds=st.sampled_from([1, 31, 61, 601, WINDOW + 1]))
    def wait(self, seconds):
        self.world.clock.now += seconds

    @invariant()
    def books_balance(self):
        self.auditor.look()


TestHomes = Homes.TestCase
TestHomes.settings = settings(
    max_examples=int(EXAMPLES or 300),
    stateful_step_count=40,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
