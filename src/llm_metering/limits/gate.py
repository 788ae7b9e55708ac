"""`Gate`: whether a call may be made, by what its payer has left; and what is reserved for it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from datetime import UTC, datetime
from typing import Any, Final, Literal

from .. import system
from ..calls import Call
from ..errors import (
    BalanceExceeded,
    CallRefusedError,
    LimitStoreError,
    LimitsUnavailable,
    UnpricedCallError,
)
from ..events import UNATTRIBUTED, new_event_id
from ..exchange import Counted, Exchange
from ..handoff import Empty, SimpleQueue
from ..prices import Unpriced
from .amounts import Amounts
from .ceilings import output_limit
from .leases import HELD_FOR, Leases
from .service import Limits
from .slices import Slices, part_of
from .stores import AccountKey, Hold, Rate

__all__ = ["CallReservation", "Gate", "OnStoreError"]

OnStoreError = Literal["allow", "refuse"]
"""What becomes of calls while nobody knows what is left."""

_PAUSE: Final = 1.0
"""Seconds for which nobody waits for a store that was out of reach, or late several times in a row."""

_TIMEOUTS: Final = 3

_CLOSING: Final = 5.0
"""Seconds that the end waits for what is being given back."""

_Gift = tuple[str, Callable[[], object]]

_MOST: Final = 1 << 59
"""Steps that are reserved at most: more than anybody has, and still a number of 64 bits."""

_THREADS: Final = 8
"""That ask stores; as many as a store has connections."""


class CallReservation:
    """What is reserved for one call, by all gates that it passes.

    Attributes:
        id: Names it; the call's event carries it.
        held: Whose balance it is of, by gate.
    """

    __slots__ = ("_process", "held", "id")

    def __init__(self, id: str) -> None:
        self._process = os.getpid()
        self.id = id
        self.held: dict[Gate, str] = {}

    def __repr__(self) -> str:
        return f"<CallReservation {self.id} {list(self.held.values())}>"

    @property
    def is_shared(self) -> bool:
        """Whether several gates have reserved something under its id."""
        return len(self.held) > 1

    def release(self, then: Callable[[], object], /) -> None:
        """The call costs nothing: it is given back by a thread of ours, and then `then` is called."""
        gates, self.held = list(self.held), {}
        if not gates or self._process != os.getpid():  # a forked child's: it is the parent's
            then()
            return
        for gate in gates[1:]:
            gate.give_back(self.id, lambda: None)
        gates[0].give_back(self.id, then)

    def recorded(self) -> None:
        """The event is recorded: whoever keeps the balance settles it."""
        for gate in list(self.held):
            gate.ended(self.id)


class Gate:
    """Reserves what a call may need before it is made.

    The estimate is the tokens that go in, counted, and the most that may come out: what the call itself
    says, or the ceiling.

    Args:
        limits: Whose balances.
        amounts: What tokens come to.
        count: Counts the tokens of a request.
        ceiling: How many tokens come out at most of a call that says nothing itself.
        deadline: Seconds after which the store is waited for no longer.
        on_store_error: What becomes of a call then, and where the store cannot be used.
        requests_per_minute: How many calls a subject may begin a minute, of whom nothing else is said.
        tokens_per_minute: How many tokens, likewise.
        slices: Whether hot subjects are served from what is leased ahead.
        note: Counts what was let through unchecked, by the reason.
        clock: In seconds.

    Attributes:
        leases: What is reserved here.
    """

    def __init__(
        self,
        limits: Limits,
        amounts: Amounts,
        *,
        count: Callable[[Exchange], Counted],
        ceiling: int,
        deadline: float,
        on_store_error: OnStoreError = "allow",
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        slices: bool = False,
        note: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._timeouts = 0
        self._shut_until = 0.0
        self._slices = Slices(limits.store) if slices else None
        self._amounts = amounts
        self._count = count
        self._ceiling = ceiling
        self._deadline = deadline
        self._on_store_error = on_store_error
        self._rates = requests_per_minute, tokens_per_minute
        self._note = note
        self.leases = Leases(limits.store)
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._giving: SimpleQueue[_Gift | None] = SimpleQueue()
        self._giver: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Gate {self._limits!r}>"

    def after_fork(self) -> None:
        """In a forked child: threads are the parent's."""
        self._begin()

    def close(self) -> None:
        """Wait for what is being given back, and let go of threads."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)
        giver, self._giver = self._giver, None
        if giver is not None and giver.is_alive():
            self._giving.put(None)
            giver.join(_CLOSING)
        for _ in range(self._giving.qsize()):
            try:
                gift = self._giving.get_nowait()
            except Empty:
                break
            if gift is not None:
                self._take_in(gift)
        self.leases.close()
        if self._slices is not None:
            self._slices.close()

    def prepare(self) -> CallReservation:
        """What is to be reserved for a call that is about to begin."""
        self._has_giver()
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
            return future.result(self._deadline)
        except Late:
            if ticket:
                ticket.clear()
                return self._late()
            return future.result()

    async def admit_async(self, call: Call) -> CallRefusedError | None:
        """`admit`, without blocking the event loop."""
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
        # Nothing but this: it may be within garbage collection, on a thread that holds any lock.
        self._giving.put((id, then))

    def _has_giver(self) -> None:
        """See to it that the thread lives which gives back."""
        giver = self._giver
        if giver is not None and giver.is_alive():
            return
        try:
            giver = threading.Thread(
                target=self._give, args=(self._giving,), name="llm-metering-give-back", daemon=True
            )
            giver.start()
        except RuntimeError:
            return  # too many threads, or the interpreter ends: `close` gives back
        self._giver = giver

    def _give(self, giving: SimpleQueue[_Gift | None]) -> None:
        while (gift := giving.get()) is not None:
            self._take_in(gift)

    def _take_in(self, gift: _Gift) -> None:
        id, then = gift
        # What is not given back ends by itself, and a note of the call would not end it any sooner.
        self._release(id)
        try:
            then()
        except Exception:
            self._note("release")

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
            return self._running().submit(work)
        except RuntimeError:
            return None  # too many threads, or the interpreter ends

    def _running(self) -> ThreadPoolExecutor:
        threads = self._threads
        if threads is None:
            threads = self._threads = ThreadPoolExecutor(_THREADS, "llm-metering-limits")
        return threads

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
            hold = self._hold(call, reservation.id, subject)
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

    def _hold(self, call: Call, id: str, subject: str) -> Hold:
        """What to reserve for a call.

        Raises:
            CallRefusedError: If the subject has no account that the call counts for, or nobody knows what
                the call would cost there.
        """
        start = call.start
        # Nobody is given anything by default for what nobody pays for.
        is_known = subject != UNATTRIBUTED
        terms = self._limits.terms(subject, with_default=is_known)
        features = [
            key
            for key in sorted(terms.features)
            if key in self._limits.features
            and self._limits.features[key].counts(start.provider, start.request_model)
        ]
        data = self._estimate(call)
        tokens = data["total_tokens"]
        if not features:
            raise BalanceExceeded(subject, "tokens", "tokens", balance=None, needed=tokens)
        amounts: dict[AccountKey, int] = {}
        for key, parts in self._amounts.of(data, datetime.now(UTC), features).items():
            if isinstance(parts, Unpriced):
                raise UnpricedCallError(start.request_model, parts.detail)
            feature = self._limits.features[key]
            # A call of which nothing is known needs something, too.
            amounts[AccountKey(subject, key)] = min(max(feature.steps_up(parts), 1), _MOST)
        requests, tokens_per_minute = self._rates
        rates = []
        if (most := terms.requests_per_minute or requests) is not None:
            rates.append(Rate("requests", 1, most))
        if (most := terms.tokens_per_minute or tokens_per_minute) is not None:
            rates.append(Rate("tokens", min(max(tokens, 1), _MOST), most))
        return Hold(id=id, subject=subject, amounts=amounts, seconds=HELD_FOR, rates=tuple(rates))

    def _estimate(self, call: Call) -> Mapping[str, Any]:
        """What the event of the call would hold if it used all that it may."""
        start = call.start
        request = start.asked()
        input_tokens = 0
        if request is not None:
            counted = self._count(
                Exchange(model=start.request_model, provider=start.provider, request=request)
            )
            input_tokens = counted.input_tokens or 0
        output_tokens = 0
        if start.operation not in _WITHOUT_OUTPUT:
            output_tokens = self._ceiling if start.output_limit is None else start.output_limit
        data = {
            "provider": start.provider,
            "model": start.request_model,
            "service_tier": start.service_tier,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
            "calls": 1,
        }
        return {key: value for key, value in data.items() if value is not None}


_WITHOUT_OUTPUT: Final = ("embeddings", "rerank")


def _is_on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
