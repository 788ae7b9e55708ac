"""Whatever becomes of calls, in whatever order it is told: each is settled once, and rightly billed."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_metering.calls import CallTable, Report, Waits, owner_is_over
from llm_metering.testing import FakeClock
from llm_metering.token_usage import TokenUsage
from tests.call_table import NOW, Notebook, Words, call

WAITS = Waits()
PARENTS = ("chain", "graph")


class Task:
    """A task of asyncio's, as far as the table asks."""

    def __init__(self):
        self.callbacks = []
        self.is_cancelled = self.is_done = False

    def add_done_callback(self, callback):
        self.callbacks.append(callback)

    def done(self):
        return self.is_done

    def cancelled(self):
        return self.is_cancelled

    def end(self, *, cancelled):
        self.is_done, self.is_cancelled = True, cancelled
        for callback in self.callbacks:
            callback(self)


@dataclass
class Told:
    """One call as the provider and the handlers know it, and what must become of it."""

    number: int
    key: str
    tellers: str
    parent: str | None
    task: Task | None
    seen: float
    request: list[str] = field(default_factory=lambda: ["request"])
    pieces: int = 0
    left: float | None = None
    failed: float | None = None
    settled: str | None = None
    billed: int = 0
    late: int = 0

    @property
    def tokens(self):
        """A number that no sum of others makes."""
        return 1 << self.number

    def settle(self, how, billed=0):
        if self.settled is None:
            self.settled, self.billed = how, billed

    def close_if_due(self, now):
        """What a sweep does at `now`, a flush at `None`, said in another way than the table does it."""
        if self.failed is not None and (now is None or now >= self.failed + WAITS.failure):
            self.settle("failed")
        elif self.left is not None and (
            (self.seen <= self.left and (self.task is None or self.task.is_done))
            if now is None
            else now >= max(self.left, self.seen) + WAITS.left
        ):
            self.settle("left_behind")
        elif now is not None and now >= self.seen + WAITS.silence:
            self.settle("gone_silent")


class Story(RuleBasedStateMachine):
    """Calls under keys of their own, in every kind of trouble, beside others that share one."""

    def __init__(self):
        super().__init__()
        self.notes = Notebook()
        self.clock = FakeClock()
        self.table = CallTable(
            self.notes, Words(), source="tests", now=lambda: NOW, clock=self.clock
        )
        self.calls = []
        self.sharing = []
        self.finished = False

    def tell(self, each, told):
        """LangChain tells one handler after the other."""
        for teller in each.tellers:
            told(teller)

    def open_calls(self):
        return [each for each in self.calls if each.settled is None]

    @rule(
        tellers=st.sampled_from(["a", "ab", "aa", "ba"]),
        parent=st.sampled_from([None, *PARENTS]),
        in_task=st.booleans(),
    )
    def start(self, tellers, parent, in_task):
        number = len(self.calls) + len(self.sharing)
        task = Task() if in_task else None
        each = Told(number, f"run-{number}", tellers, parent, task, self.clock())
        self.calls.append(each)
        self.tell(each, lambda teller: self.begin(each, teller))

    def begin(self, each, teller):
        self.table.start(
            each.key,
            call(request=each.request, teller=teller, parent=each.parent, task=each.task),
        )

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), text=st.sampled_from(["word ", None]))
    def piece(self, data, text):
        each = data.draw(st.sampled_from(self.calls))
        self.tell(each, lambda teller: self.table.piece(each.key, text, teller=teller))
        if each.settled is None:
            each.seen = self.clock()
            each.pieces += 1

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(["failed", "refused", "aborted"]))
    def error(self, data, outcome):
        """An integration tells of an error by itself; the last word on it may come."""
        each = data.draw(st.sampled_from(self.calls))
        report = Report(is_last=False)
        self.tell(each, lambda teller: self.table.end(each.key, outcome, report, teller=teller))
        if each.settled is None and each.failed is None:
            each.failed = self.clock()

    @precondition(lambda self: self.calls)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["completed", "failed", "refused", "aborted"]),
        knows=st.booleans(),
    )
    def end(self, data, outcome, knows):
        each = data.draw(st.sampled_from(self.calls))
        usage = TokenUsage(input_tokens=each.tokens, output_tokens=0) if knows else None
        report = Report(usage=usage)
        self.tell(each, lambda teller: self.table.end(each.key, outcome, report, teller=teller))
        if each.settled is None:
            each.settle("ended", each.tokens if knows else 0)
        elif knows and not each.billed:
            each.late = each.tokens

    @rule(parent=st.sampled_from(PARENTS))
    def parent_is_over(self, parent):
        owner_is_over(parent)
        for each in self.open_calls():
            if each.parent == parent and each.left is None:
                each.left = self.clock()

    @precondition(lambda self: any(each.task for each in self.calls))
    @rule(data=st.data(), cancelled=st.booleans())
    def task_is_over(self, data, cancelled):
        each = data.draw(st.sampled_from([each for each in self.calls if each.task]))
        task, each.task = each.task, None
        task.end(cancelled=cancelled)
        if each.settled is not None:
            return
        if cancelled:
            each.settle("cancelled")
        elif not each.pieces and each.left is None:
            each.left = self.clock()

    @rule(
        seconds=st.sampled_from(
            [0.0, WAITS.failure, WAITS.left / 2, WAITS.left, WAITS.silence / 2, WAITS.silence]
        )
    )
    def sweep(self, seconds):
        self.clock.advance(seconds)
        wait = self.table.sweep()
        for each in (*self.calls, *self.sharing):
            if each.settled is None:
                each.close_if_due(self.clock())
        assert (wait is None) == (len(self.table) == 0)

    @rule()
    def flush(self):
        self.table.settle_decided()
        for each in self.open_calls():
            each.close_if_due(None)

    @rule(tellers=st.sampled_from(["a", "ab", "aa"]))
    def start_under_a_shared_key(self, tellers):
        number = len(self.calls) + len(self.sharing)
        each = Told(number, "shared", tellers, None, None, self.clock())
        self.sharing.append(each)
        self.tell(each, lambda teller: self.begin(each, teller))

    @precondition(lambda self: any(each.settled is None for each in self.sharing))
    @rule(data=st.data(), fails_first=st.booleans())
    def end_under_a_shared_key(self, data, fails_first):
        """The end of one of those in flight; which one it is the table cannot know."""
        tellers = {each.tellers for each in self.sharing if each.settled is None}
        if len(tellers) > 1:
            return  # handlers that differ from call to call, under one run id: nobody does that
        each = data.draw(st.sampled_from([each for each in self.sharing if each.settled is None]))
        if fails_first:
            error = Report(is_last=False)
            self.tell(each, lambda who: self.table.end("shared", "failed", error, teller=who))
        report = Report(usage=TokenUsage(input_tokens=each.tokens, output_tokens=0))
        self.tell(each, lambda who: self.table.end("shared", "completed", report, teller=who))
        each.settle("ended", each.tokens)

    @invariant()
    def what_is_in_flight_is_in_the_table(self):
        if not self.finished:
            in_flight = [*self.open_calls(), *(s for s in self.sharing if s.settled is None)]
            assert len(self.table) == len(in_flight)

    @invariant()
    def the_bill_is_the_ledgers(self):
        """What was billed as reported, and what came late, is what the provider reported."""
        everyone = [*self.calls, *self.sharing]
        billed = sum(event["data"].get("input_tokens", 0) for event in self.notes.events)
        assert billed == sum(each.billed for each in everyone)
        late = [usage["input_tokens"] for usage in self.notes.late]
        assert sorted(late) == sorted(each.late for each in everyone if each.late)

    def teardown(self):
        """At its end the process settles the rest, and nothing twice."""
        self.finished = True
        self.table.close()
        for each in (*self.calls, *self.sharing):
            if each.settled is None:
                each.close_if_due(None)
                each.settle("open_at_exit")
        self.table.sweep()
        settled = [event["id"] for event in self.notes.events] + self.notes.closed
        assert sorted(settled) == sorted(self.notes.opened)
        assert len(self.notes.opened) == len(self.calls) + len(self.sharing)
        for reason in ("left_behind", "gone_silent", "open_at_exit"):
            flagged = [e for e in self.notes.events if reason in e["data"].get("flags", ())]
            assert len(flagged) == sum(
                each.settled == reason for each in (*self.calls, *self.sharing)
            )
        assert self.notes.counts["failures", "closing"] == 0
        for parent in PARENTS:
            owner_is_over(parent)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
