"""Offering a batch to a sink, and doing what its answer means."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from .. import system
from ..sinks.base import Delivery, Sink, SinkLimits
from .alarms import Alarms
from .batches import Batch, Batches
from .cursor import Cursor, Item
from .dead_letters import write_dead_letters
from .held_cursor import HeldCursor
from .policy import LINGER, SinkState, Standing, after, complete
from .spool import Debt, Spool
from .suspects import Suspects
from .triage import Held, Triage

__all__ = ["Dispatcher", "SinkNote"]

logger = logging.getLogger("llm_metering")

LOG_EVERY: Final = 60.0


class SinkNote(msgspec.Struct, frozen=True):
    """How a sink stands, as left for `status` of other processes."""

    debt: Debt
    state: SinkState
    reason: str | None
    suspect: int = 0


class Dispatcher:
    """Offers batches to one sink, settles them, and knows when it may be tried again.

    Used by one thread at a time.

    Args:
        sink: Where to.
        debt: What it is owed under.
        spool: The folder of all journals.
        backlog: Where batches come from.
        alarms: Who is told of trouble.
        clock: A monotonic clock, in seconds.
        wall: Seconds since 1970.
        chance: Random numbers between 0 and 1.
        had: Events of this process that the sink was sent from memory; see the journal.

    Attributes:
        standing: How the sink stands.
        triage: What is known about refusals.
        suspects: Events that the sink may have, though it did not say so.
        own_settled: How many of this process's own events are settled, without a gap.
        next_try: When the sink may be tried again, by the clock.
        floor_until: The same, as far as the sink itself asked for it.
    """

    def __init__(
        self,
        sink: Sink,
        debt: Debt,
        *,
        spool: Spool,
        backlog: Batches,
        alarms: Alarms,
        clock: Callable[[], float],
        wall: Callable[[], float],
        chance: Callable[[], float],
        had: Callable[[], dict[str, bool]],
    ) -> None:
        self._sink = sink
        self._debt = debt
        self._spool = spool
        self._backlog = backlog
        self._alarms = alarms
        self._clock = clock
        self._wall = wall
        self._had = had
        self._chance = chance
        self.standing = Standing()
        self.own_settled = 0
        self.next_try = 0.0
        self.floor_until = 0.0
        self._next_log = 0.0
        self._noted: tuple[SinkState, str | None, int] | None = None
        self._forget()

    def __repr__(self) -> str:
        return f"<Dispatcher {self._sink.name} {self.standing.state} {self.triage!r}>"

    def _forget(self) -> None:
        self.triage = Triage()
        self.suspects = Suspects()
        self._held: dict[str, tuple[Cursor | HeldCursor, Item]] = {}

    @property
    def is_searching(self) -> bool:
        """Whether the next batch is part of one that was offered before."""
        return bool(self.triage.group or self.triage.held)

    def next_own(self) -> Batch | None:
        """The next events of this process."""
        return self._past_suspects(self._backlog.next_own)

    def next_adopted(self) -> Batch | None:
        """The next events of dead processes."""
        return self._past_suspects(self._backlog.next_adopted)

    def offer(self, batch: Batch) -> bool:
        """Offer a batch.

        Returns:
            Whether the sink has answered for all of it.
        """
        remembers = self._sink.limits.dedupe_window is not None
        before = batch.cursor.doubtful
        if remembers:
            batch.cursor.doubt(batch.items, now=self._wall())
        try:
            # What a sink does to what it is given stays with it.
            delivery = complete(self._sink.deliver(tuple(batch.items)), batch.items)
        except Exception as error:
            # The message of a foreign error may hold a payload: only its type is kept.
            reason = f"{type(error).__name__} in the sink"
            delivery = Delivery.try_later(batch.items, reason, ambiguous=True)
        if remembers and not delivery.ambiguous:
            batch.cursor.believe(before)
        lesson = self.triage.learn(batch.items, delivery, self._sink.limits)
        delivery = lesson.delivery
        self._settle(batch.cursor, batch.items, delivery)
        self.suspects = self.suspects.learn(delivery, now=self._wall())
        if lesson.triage.held or lesson.dead:
            self._held |= {item.id: (batch.cursor, item) for item in batch.items}
        self._bury(lesson.dead)
        self._go_on(lesson.triage)
        self.stand(after(delivery, self.standing, chance=self._chance()))
        return not delivery.retryable

    def conclude(self) -> bool:
        """Decide on the events that are held, now that nothing else is left to offer.

        Returns:
            Whether they died.
        """
        if self.triage.paused or not self.triage.held:
            return False
        lesson = self.triage.exhausted()
        self._bury(lesson.dead)
        self._go_on(lesson.triage)
        if lesson.delivery.hold:
            self.stand(after(lesson.delivery, self.standing, chance=self._chance()))
        return bool(lesson.dead)

    def probe(self) -> Batch | None:
        """One of the events that were refused, while the sink takes nothing."""
        if not self.triage.paused or not self._held:
            return None
        chosen = self.triage.held[self.triage.turn % len(self.triage.held)]
        cursor, item = self._held[chosen.id]
        return Batch(cursor, [item], is_full=True)

    def adopt(self, cursor: Cursor) -> None:
        """Take over what the process that had a segment before knew of its events."""
        if self._sink.limits.dedupe_window is not None:
            event_ids, since = cursor.in_doubt()
            self.suspects = self.suspects.join(event_ids, since=since)

    def gave_up(self, suspects: Suspects) -> None:
        """Note that events were given up, and begin anew with what is known of refusals.

        Args:
            suspects: Those that the sink may have, without the ones given up.
        """
        self.own_settled = self._backlog.own_settled
        self.triage = Triage()
        self._held = {}
        self.suspects = suspects
        self._leave_note()

    def release(self) -> None:
        """Let go of all segments."""
        self._backlog.release()
        self._forget()

    def failed(self, error: Exception) -> None:
        """Note that the work itself failed: it goes on, a little later."""
        # A full disk, or a bug of ours, must neither end the shipping for the life of the
        # process nor reach a caller of `flush`.
        if self._clock() >= self._next_log:
            self._next_log = self._clock() + LOG_EVERY
            logger.exception("shipping to %s failed; it goes on", self._sink.name)
        failures = self.standing.failures + 1
        self.stand(Standing("backoff", type(error).__name__, failures, LINGER))

    def stand(self, standing: Standing) -> None:
        """Note how the sink stands, for this process and for `status` of others."""
        now = self._clock()
        self.standing = standing
        self.next_try = now + standing.wait
        self.floor_until = now + standing.floor
        told = (
            f"{self._sink.name} does not take events ({standing.state}, try {standing.failures}):"
            f" {standing.reason}; they are kept"
        )
        if standing.state == "paused":
            self._alarms.sound("sink_paused", told, sink=self._sink.name, level=logging.WARNING)
        elif standing.state != "ok" and now >= self._next_log:
            self._next_log = now + LOG_EVERY
            logger.warning("%s", told)
        self._leave_note()

    def _leave_note(self) -> None:
        noted = (self.standing.state, self.standing.reason, len(self.suspects.since))
        if noted != self._noted:
            self._noted = noted
            note = SinkNote(self._debt, *noted)
            with contextlib.suppress(OSError):  # it only informs; a full disk is seen elsewhere
                path = self._spool.sink_path(self._debt.key)
                system.replace_file(path, msgspec.json.encode(note))

    def _past_suspects(self, choose: Callable[[SinkLimits, Triage], Batch | None]) -> Batch | None:
        """The next batch, with what the sink may have had and forgotten set aside for a person."""
        while (batch := choose(self._sink.limits, self.triage)) is not None:
            if self._pass_over(batch):
                continue
            window = self._sink.limits.dedupe_window
            overdue = self.suspects.overdue(window, now=self._wall())
            if not overdue:
                return batch
            found = [item for item in batch.items if item.id in overdue]
            if not found:
                return batch
            reason = (
                f"sent without an answer more than {window} ago: the sink may have counted it, and"
                " may no longer know that; compare before it is sent again"
            )
            letters = frozenset((item.id, reason) for item in found)
            self._settle(batch.cursor, found, Delivery(rejected=letters))
            settled = frozenset(item.id for item in found)
            self.suspects = self.suspects.forget(settled)
            self.triage = self.triage.without(settled)
        return None

    def _pass_over(self, batch: Batch) -> bool:
        """Settle what the sink has had already, from memory, while the disk took nothing."""
        had = self._had()
        if not had or isinstance(batch.cursor, HeldCursor):
            return False
        # Those in front of the batch too: while it is searched who is to blame, it need not begin
        # with the next event, and in front of a gap the next process would begin anew.
        found = [item for item in batch.cursor.up_to(batch.items) if item.id in had]
        if not found:
            return False
        # What it will never take is in its dead letters by now.
        dead = frozenset((item.id, "") for item in found if not had.get(item.id, True))
        taken = frozenset(item.id for item in found) - {event_id for event_id, _ in dead}
        batch.cursor.settle(found, Delivery(accepted=taken, rejected=dead))
        for item in found:  # an id may be there twice
            had.pop(item.id, None)
        self.own_settled = self._backlog.own_settled
        return True

    def _go_on(self, triage: Triage) -> None:
        self.triage = triage
        self._held = {each.id: self._held[each.id] for each in triage.held}

    def _settle(
        self, cursor: Cursor | HeldCursor, items: Sequence[Item], delivery: Delivery
    ) -> None:
        if delivery.rejected:
            write_dead_letters(self._spool, self._debt, items, delivery)
            self._alarms.sound(
                "dead_letters",
                f"{self._sink.name} will never take {len(delivery.rejected)} events;"
                " `llm-metering dead list` shows them and why",
                sink=self._sink.name,
                level=logging.WARNING,
            )
        cursor.settle(items, delivery)
        if cursor.own:
            self.own_settled = self._backlog.own_settled

    def _bury(self, dead: Iterable[Held]) -> None:
        by_cursor: defaultdict[Cursor | HeldCursor, list[Held]] = defaultdict(list)
        for each in dead:
            by_cursor[self._held[each.id][0]].append(each)
        for cursor, letters in by_cursor.items():
            items = [self._held[each.id][1] for each in letters]
            rejected = frozenset((each.id, each.reason) for each in letters)
            self._settle(cursor, items, Delivery(rejected=rejected))
            self.suspects = self.suspects.forget(frozenset(each.id for each in letters))
