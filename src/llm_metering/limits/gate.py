"""`Gate`: whether a call may be made, by what its payer has left; and what is reserved for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final, Literal

from .. import system
from ..calls import Call
from ..errors import CallRefusedError, LimitStoreError, LimitsUnavailable
from ..events import new_event_id
from ..handoff import result_of, wait_for
from .call_reservations import CallReservation
from .ceilings import output_limit
from .estimates import Estimates
from .giving_back import GivingBack
from .leases import Leases
from .service import Limits
from .slices import Slices, part_of
from .stores import Hold

__all__ = ["Gate", "OnStoreError"]

OnStoreError = Literal["allow", "refuse"]
"""What becomes of calls while nobody knows what is left."""

_PAUSE: Final = 1.0
"""Seconds for which nobody waits for a store that was out of reach, or late several times in a row."""

_TIMEOUTS: Final = 3

_CLOSING: Final = 5.0
"""Seconds that the end waits for what is being given back."""

_THREADS: Final = 8
"""That ask stores; as many as a store has connections."""


class Gate:
    """Reserves what a call may need before it is made.

    The estimate is the tokens that go in, counted, and the most that may come out: what the call itself
    says, or the ceiling.

    Args:
        limits: Whose balances.
        estimates: Say what calls may need.
        deadline: Seconds after which the store is waited for no longer.
        on_store_error: What becomes of a call then, and where the store cannot be used.
        slices: Whether hot subjects are served from what is leased ahead.
        note: Counts what was let through unchecked, by the reason.
        clock: In seconds.

    Attributes:
        leases: What is reserved here.
    """

    def __init__(
        self,
        limits: Limits,
        estimates: Estimates,
        *,
        deadline: float,
        on_store_error: OnStoreError = "allow",
        slices: bool = False,
        note: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._timeouts = 0
        self._shut_until = 0.0
        self._slices = Slices(limits.store) if slices else None
        self._deadline = deadline
        self._on_store_error = on_store_error
        self._note = note
        self._estimates = estimates
        self.leases = Leases(limits.store)
        self._giving = GivingBack(self._release, note=note)
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._asked: set[Future[CallRefusedError | None]] = set()

    def __repr__(self) -> str:
        return f"<Gate {self._limits!r}>"

    def after_fork(self) -> None:
        """In a forked child: threads are the parent's."""
        self._begin()
        self._giving.begin()

    def close(self, deadline: float | None = None) -> None:
        """Wait for what is being given back, and let go of threads.

        Args:
            deadline: On the monotonic clock; five seconds from now, if it is left out.
        """
        if deadline is None:
            deadline = time.monotonic() + _CLOSING
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
            # What these reserve for nobody any more, they take back themselves.
            wait_for(list(self._asked), deadline)
        if self._slices is not None:
            # Behind the parts of them that are given back.
            self._giving.start()
            self._giving.add(None, self._slices.close)
        self._giving.close(deadline)
        self.leases.close()

    def prepare(self) -> CallReservation:
        """What is to be reserved for a call that is about to begin."""
        self._giving.start()
        return CallReservation(new_event_id())

    @staticmethod
    def output_limit(*given: object) -> int | None:
        """The most tokens that an answer may have, by the parameters of its call."""
        return output_limit(*given)

    def admit(self, call: Call) -> CallRefusedError | None:
        """Reserve what a call may need; what to raise in its place, if it may not be made.

        Where an event loop runs in this thread, or the store is on another machine, it waits no longer
        than the deadline.
        """
        try:
            return self._wait(call)
        except Exception as error:  # a fault of ours: no call fails of it
            return self._unknown(type(error).__name__)

    async def admit_async(self, call: Call) -> CallRefusedError | None:
        """`admit`, without blocking the event loop."""
        try:
            return await self._wait_async(call)
        except Exception as error:
            return self._unknown(type(error).__name__)

    def _wait(self, call: Call) -> CallRefusedError | None:
        if not self._is_new(call):
            return None
        if self._is_shut():
            return self._unknown("unavailable")
        if not (self._limits.store.is_remote or _is_on_a_loop()):
            return self._admit(call)
        ticket = deque([True])
        future = self._submit(call, ticket)
        if future is None:
            return self._admit(call)
        try:
            return result_of(future, self._deadline)
        except CancelledError:
            return self._unknown("closed")
        except TimeoutError:
            if ticket:
                ticket.clear()
                return self._late()
            return result_of(future, threading.TIMEOUT_MAX)
        except BaseException:
            ticket.clear()  # such as Ctrl-C: what the thread still reserves it gives back
            raise

    async def _wait_async(self, call: Call) -> CallRefusedError | None:
        if not self._is_new(call):
            return None
        if self._is_shut():
            return self._unknown("unavailable")
        ticket = deque([True])
        future = self._submit(call, ticket)
        if future is None:
            return self._admit(call)
        waiting = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait([waiting], timeout=self._deadline)
        except BaseException:
            ticket.clear()  # what the thread still reserves it gives back
            raise
        if not done and ticket:
            ticket.clear()
            return self._late()
        if future.cancelled():
            return self._unknown("closed")
        return await waiting

    def _is_shut(self) -> bool:
        """Whether the store has just been found to be out of reach, so that nobody waits for it."""
        return self._clock() < self._shut_until

    def _late(self) -> CallRefusedError | None:
        self._timeouts += 1
        if self._timeouts >= _TIMEOUTS:
            self._shut_until = self._clock() + _PAUSE
        return self._unknown("timeout")

    def give_back(self, id: str, then: Callable[[], object]) -> None:
        """Release what was reserved, on a thread of ours, and call `then`."""
        self._giving.add(id, then)

    def _is_new(self, call: Call) -> bool:
        reservation = call.reservation
        return (
            isinstance(reservation, CallReservation)
            and reservation.held.get(self) != call.attribution.subject
        )

    def _submit(self, call: Call, ticket: deque[bool]) -> Future[CallRefusedError | None] | None:
        """Have a thread admit a call; if nobody waits for it by then, it takes that back."""

        def work() -> CallRefusedError | None:
            if not ticket:
                return None  # nobody waits for it any more
            claims: list[bool] = []

            def claim() -> bool:
                """Whether somebody still waits; nobody gives up from then on."""
                if not claims:
                    try:
                        claims.append(ticket.pop())
                    except IndexError:
                        claims.append(False)
                return claims[0]

            refusal = self._admit(call, claim)
            if not claim() and call.reservation is not None:
                self._take_back(call.reservation)
            return refusal

        try:
            future = self._running().submit(work)
        except RuntimeError:
            return None  # too many threads, or the interpreter ends
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        return future

    def _running(self) -> ThreadPoolExecutor:
        threads = self._threads
        if threads is None:
            threads = self._threads = ThreadPoolExecutor(_THREADS, "llm-metering-limits")
        return threads

    def covers(self, reservation: object, subject: str) -> bool:
        """Whether something is reserved here for a call of a subject, under a reservation of a call around it."""
        return isinstance(reservation, CallReservation) and reservation.held.get(self) == subject

    def ended(self, id: str) -> None:
        """The event of a call is recorded, which settles what was reserved for it."""
        self.leases.end(id)
        if self._slices is not None:
            self._slices.ended(id)

    def _take_back(self, reservation: Any) -> None:
        reservation.held.pop(self, None)
        self._release(reservation.id)
        if part_of(reservation.id)[1] is not None:
            reservation.id = new_event_id()  # that part is somebody else's now

    def _release(self, id: str) -> None:
        try:
            if self._slices is not None and part_of(id)[1] is not None:
                self._slices.give_back(id)
            else:
                self._limits.store.release(id)
        except Exception:
            self._note("release")
        finally:
            self.leases.end(id)

    def _admit(
        self, call: Call, claim: Callable[[], bool] = lambda: True
    ) -> CallRefusedError | None:
        reservation = call.reservation
        assert isinstance(reservation, CallReservation)  # as `_is_new` has seen
        subject = call.attribution.subject
        try:
            if self in reservation.held:
                # Another handler knows better who pays.
                self._take_back(reservation)
            if part_of(reservation.id)[1] is not None:
                # Another meter has served it from a slice, whose name means nothing in our store.
                return self._unknown("slice")
            hold = self._estimates.hold(call, reservation.id, subject)
            reservation.held[self] = subject
            if self._is_served(reservation, hold, claim):
                self._timeouts = 0
                return None
            self.leases.begin(reservation.id)
            self._limits.hold(hold)
        except CallRefusedError as refusal:
            self._timeouts = 0
            reservation.held.pop(self, None)
            self.leases.end(reservation.id)
            return refusal
        except Exception as error:
            # It may have been reserved all the same: then the event releases it.
            if isinstance(error, LimitStoreError):
                self._shut_until = self._clock() + _PAUSE
            return self._unknown(type(error).__name__)
        self._timeouts = 0
        return None

    def _is_served(
        self, reservation: CallReservation, hold: Hold, claim: Callable[[], bool]
    ) -> bool:
        """Whether what is leased ahead covers a call."""
        if self._slices is None or len(hold.amounts) != 1 or hold.rates or reservation.is_shared:
            return False
        [(key, steps)] = hold.amounts.items()
        id = self._slices.take(key, steps)
        if id is None:
            return False
        if not claim():
            # Its event may be on its way, under the id that it had.
            self._slices.give_back(id)
            return True
        # The note of the call has another id: should this process die, the part ends with its slice.
        reservation.id = id
        return True

    def _unknown(self, reason: str) -> CallRefusedError | None:
        if self._on_store_error == "refuse":
            return LimitsUnavailable(
                f"nobody knows what is left ({reason}), and on_limit_store_error is 'refuse'"
            )
        self._note(reason)
        return None


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
