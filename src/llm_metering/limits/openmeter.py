"""`OpenMeterGrants`: accounts that follow the entitlements of an OpenMeter server.

OpenMeter counts to the minute, and hears of usage some time after it was burnt here, so a balance that it
states may hold what is used already. What was burnt here in the time in which it may not have heard of it
is subtracted from what it says: of what it did hear of by then, that counts twice for as long. What is
left here is so never more than what is left there less what is on its way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from .. import system
from ..errors import InvalidArgumentError, LimitStoreError
from .account import Account
from .entitled import Entitled
from .entitlements import EntitlementServer, NoAnswerError
from .features import Feature
from .mirrors import KEPT, RemoteBalance
from .stores import AccountKey, LimitStore

__all__ = ["FRESH", "LAG", "STALE", "OpenMeterGrants"]

logger = logging.getLogger("llm_metering")

FRESH: Final = 30.0
"""Seconds for which an answer is used before another one is asked for."""

LAG: Final = 180.0
"""Seconds after which the server has counted what was burnt here."""

STALE: Final = 300.0
"""Seconds for which an answer is used while the server gives no other."""

_RETRY: Final = 5.0
_LONGEST_LAG: Final = (KEPT - timedelta(minutes=3)).total_seconds()
_THREADS: Final = 4
_MOST: Final = 20_000


@dataclass(slots=True)
class _Known:
    """What is known of one account, in seconds of the clock.

    Attributes:
        ask_at: When the server is asked again.
        wait_from: From when on calls wait for that: nobody has asked for so long.
        good_until: For how long what it said may be used.
        problem: Why there is no newer answer.
    """

    ask_at: float
    wait_from: float
    good_until: float
    problem: LimitStoreError | None = None


class OpenMeterGrants:
    """Keeps accounts in step with what an OpenMeter server says of entitlements.

    Each process asks for itself, and one question at a time for an account. Who calls again and again waits
    for no answer but the first: while another is asked for, the last one holds. The store makes sure that the one that was asked for last
    stays; what is reserved stays reserved.

    Args:
        store: Where accounts are.
        server: The server.
        features: What there is to grant, by key.
        feature_keys: Which of these are OpenMeter's, by what it calls them; if left out, all, by the same
            keys.
        fresh: Seconds for which an answer is used before another one is asked for, also one that there is
            no entitlement.
        lag: Seconds after which the server has counted what was burnt here.
        stale: Seconds for which an answer is used while the server gives no other.
        note: Counts questions that were not answered, by the reason.
        clock: In seconds.

    Raises:
        InvalidArgumentError: If a feature is unknown, or one of the times makes no sense.
    """

    def __init__(
        self,
        store: LimitStore,
        server: EntitlementServer,
        features: Mapping[str, Feature],
        *,
        feature_keys: Mapping[str, str] | None = None,
        fresh: float = FRESH,
        lag: float = LAG,
        stale: float = STALE,
        note: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names = {key: key for key in features} if feature_keys is None else dict(feature_keys)
        for key in names:
            if key not in features:
                known = ", ".join(features)
                raise InvalidArgumentError(f"a feature is one of {known}, got {key!r}")
        if not 0 <= lag <= _LONGEST_LAG:
            raise InvalidArgumentError(f"lag is from 0 to {_LONGEST_LAG:g} seconds, got {lag:g}")
        if not 0 < fresh <= stale:
            raise InvalidArgumentError(
                f"fresh is more than 0 and up to stale, got {fresh:g} and {stale:g}"
            )
        self._store = store
        self._entitled = Entitled(server, features, names)
        self._names = names
        self._fresh = fresh
        self._lag = timedelta(seconds=lag)
        self._stale = stale
        self._note = note
        self._clock = clock
        self._known: dict[AccountKey, _Known] = {}
        self._paused: tuple[float, NoAnswerError] | None = None
        self._begin()
        system.on_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._flights: dict[AccountKey, Future[None]] = {}

    def __repr__(self) -> str:
        return f"<OpenMeterGrants {self._entitled.server.base} {len(self._known)} known>"

    def after_fork(self) -> None:
        """In a forked child: threads, and what they ask, are the parent's."""
        self._begin()

    def close(self) -> None:
        """Wait for what is being asked, and let go of threads and connections."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True)
        self._entitled.server.close()

    def refresh(self, subject: str, features: Collection[str]) -> None:
        """See to it that accounts are not older than they may be; see `RemoteGrants`."""
        needed: list[tuple[AccountKey, Future[None]]] = []
        now = self._clock()
        for feature in self._names:
            if feature not in features:
                continue
            key = AccountKey(subject, feature)
            known = self._known.get(key)
            if known is None or now >= known.ask_at:
                flight = self._ask(key)
                if known is None or now >= min(known.wait_from, known.good_until):
                    needed.append((key, flight))
            elif now >= known.good_until and known.problem is not None:
                raise _again(known.problem)
        for key, flight in needed:
            flight.result()
            known = self._known.get(key)
            # By the clock as it is now: it failed behind the beginning of this.
            if (
                known is not None
                and known.problem is not None
                and self._clock() >= known.good_until
            ):
                raise _again(known.problem)

    def _ask(self, key: AccountKey) -> Future[None]:
        """Have a thread ask; who asks for the same meanwhile waits for the same."""
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight
            known = self._known.get(key)
            if known is not None and self._clock() < known.ask_at:
                return _done()  # it ended a moment ago
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, "llm-metering-entitlements")
            try:
                flight = self._threads.submit(self._learn, key)
            except RuntimeError:
                flight = None  # too many threads, or the interpreter ends
            else:
                self._flights[key] = flight
        if flight is None:
            self._learn(key)
            return _done()
        flights = self._flights
        flight.add_done_callback(lambda _: flights.pop(key, None))
        return flight

    def _learn(self, key: AccountKey) -> None:
        """Ask once, and note what came of it."""
        asked = self._clock()
        try:
            self._follow(key, asked)
        except Exception as error:
            self._failed(key, error)
            return
        self._keep(
            key,
            _Known(
                ask_at=asked + self._fresh,
                wait_from=asked + 2 * self._fresh,
                good_until=asked + self._stale,
            ),
        )

    def _failed(self, key: AccountKey, error: Exception) -> None:
        reason = error.reason if isinstance(error, NoAnswerError) else type(error).__name__
        self._note(reason)
        if not isinstance(error, LimitStoreError):
            logger.error("entitlements of %s: %s", key, reason, exc_info=error)
            error = LimitStoreError(f"what {key.subject!r} is entitled to is not known: {reason}")
        now = self._clock()
        wait = _RETRY
        if isinstance(error, NoAnswerError):
            wait = max(_RETRY, min(error.retry_after or 0.0, self._fresh))
            if error.is_general and self._paused is None:
                # The next ones would wait just as long to hear the same.
                self._paused = now + wait, error
        known = self._known.get(key)
        good_until = now if known is None else known.good_until
        if good_until <= now:
            good_until = self._good_until(key, now)
        self._keep(
            key,
            _Known(
                ask_at=now + wait,
                wait_from=now + wait + self._fresh,
                good_until=good_until,
                problem=error,
            ),
        )

    def _keep(self, key: AccountKey, known: _Known) -> None:
        if len(self._known) >= _MOST:
            # Those that pay often come back; to find the oldest would take longer.
            self._known.clear()
        self._known[key] = known

    def _good_until(self, key: AccountKey, now: float) -> float:
        """For how long an answer may be used that another process had, or this one's last run."""
        try:
            held = self._store.read([key]).get(key)
        except LimitStoreError as error:
            logger.warning("the account of %s cannot be read: %s", key, error)
            return now
        if held is None or held.account.mirror is None:
            return now
        age = held.account.as_of - held.account.mirror.asked_at
        return now + self._stale - age.total_seconds()

    def _follow(self, key: AccountKey, asked: float) -> None:
        """Ask, and have the account follow the answer.

        Raises:
            LimitStoreError: If there is no answer, or the store cannot be used now.
        """
        paused = self._paused
        if paused is not None:
            until, problem = paused
            if asked < until:
                raise _again(problem)
            self._paused = None
        said = self._entitled.balance(key, asked)
        if said is None and key not in self._store.keys([key.subject]):
            return

        def work(account: Account) -> None:
            if said is None and account.mirror is None:
                return  # granted here, and OpenMeter never knew of it
            # By the store's clock, which burns what is recent; too early rather than too late.
            elapsed = timedelta(seconds=self._clock() - asked)
            account.follow(said or RemoteBalance(), asked_at=account.as_of - elapsed, lag=self._lag)

        self._store.change(key, work, make=lambda now: Account(as_of=now))


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future


def _again(problem: LimitStoreError) -> LimitStoreError:
    """The same error for another call: one that is raised twice gathers the tracebacks of both."""
    if isinstance(problem, NoAnswerError):
        return NoAnswerError(
            str(problem),
            reason=problem.reason,
            retry_after=problem.retry_after,
            is_general=problem.is_general,
        )
    return LimitStoreError(str(problem))
