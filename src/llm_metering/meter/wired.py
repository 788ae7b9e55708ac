"""`Meter`: everything wired together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .. import system
from ..at_exit import EXIT_TIMEOUT, close_at_exit, is_closed
from ..backends import Backends
from ..calls import CallTable, Waits
from ..counting import CountingQueue, TokenCounters
from ..errors import ConfigurationError, TransportProblem
from ..guard import Guard
from ..limiting import open_limiting
from ..opening import open_ledger, open_sinks, retention_of, rules_of, urls_and_objects
from ..price_books import PriceBooks
from ..recording import ResponseRecorder
from ..settings import Settings, load_settings, require_destination
from ..sinks.base import Sink
from ..subjects import MissingSubjects, SubjectRules, check_subject
from ..transport.fleet import Transport
from .asking import FLUSH_TIMEOUT, Asking
from .limited import Limited
from .recording import Recording

if TYPE_CHECKING:
    from ..limits import BalanceNotice

__all__ = ["DRAIN_TIMEOUT", "EXIT_TIMEOUT", "Meter"]

logger = logging.getLogger("llm_metering")

DRAIN_TIMEOUT: Final = 60.0
LOG_EVERY: Final = 60.0


class Meter(Recording, Asking, Limited):
    """Records LLM calls, keeps them safe, ships them, and answers for what was used.

    A context manager, for sync and async code; one that is not closed is closed when the
    interpreter ends. A process needs one only; `llm_metering.get_meter()` has it.

    Args:
        home: The folder of the journal and the ledger, for one user.
        sinks: Where usage goes besides the ledger: URLs, or objects that are a `Sink`. Left
            out, the environment and `llm-metering.toml` say; `()` is none.
        source: The application's stable name, CloudEvents' `source`.
        subject: Who pays where nothing else says so.
        on_threshold: Called with each `BalanceNotice` of a balance that was used up so far, on a
            thread of ours.
        on_error: Called with each `TransportProblem` that a person should look at, on a thread of
            ours and at most once a minute for one kind of one sink; it may page somebody.
        **settings: What else `load_settings` knows.

    Raises:
        ConfigurationError: If a setting cannot be used; it names the setting.
        HomeError: If the home cannot be written to.
        SinkURLError: If a sink's URL is none we can deliver to.
        SubjectError: If the subject is not a non-empty string.
    """

    def __init__(
        self,
        home: str | Path | None = None,
        sinks: Iterable[str | Sink] | None = None,
        source: str | None = None,
        subject: str | None = None,
        on_error: Callable[[TransportProblem], object] | None = None,
        on_threshold: Callable[[BalanceNotice], object] | None = None,
        **settings: Any,
    ) -> None:
        if not (sinks is None or isinstance(sinks, str)):
            sinks = tuple(sinks)
        urls, objects = urls_and_objects(sinks)
        self._arguments: dict[str, Any] = {
            "home": home,
            "sinks": sinks,
            "source": source,
            "subject": subject,
            "on_error": on_error,
            "on_threshold": on_threshold,
            **settings,
        }
        self.settings: Settings = load_settings(
            home=home, sinks=urls, source=source, subject=subject, **settings
        )
        require_destination(self.settings, objects)
        self._subject = self.settings.subject
        self.rules: SubjectRules = rules_of(self.settings)
        self.missing_subjects = MissingSubjects(self.settings.on_missing_subject)
        self._ledger = open_ledger(self.settings)
        self._books = PriceBooks(self.settings)
        counters = TokenCounters(download=self.settings.tokenizer_download)
        self._on_threshold = on_threshold
        self._limiting = open_limiting(
            self.settings,
            self._books,
            count=counters.count,
            announce=self._announce,
            note=lambda name, reason, number: self._journal.count(name, reason, number),
        )
        own = [each for each in (self._ledger, self._limiting and self._limiting.sink) if each]
        all_sinks = open_sinks(self.settings, own, objects)
        self._transport = Transport(
            self.settings.home,
            source=self.settings.source,
            sinks=all_sinks,
            durability=self.settings.durability,
            backlog_bytes=self.settings.backlog_bytes,
            on_error=on_error,
            retention=retention_of(self.settings),
        )
        self._backends = Backends(self._ledger, all_sinks, self._ship, self._books.price)
        self._journal = self._transport.journal
        self._counting = CountingQueue(
            counters,
            note_failure=self.note_failure,
            chore=lambda: self._calls.sweep(),
        )
        self._calls = CallTable(
            self._journal,
            self._counting,
            source=self.settings.source,
            waits=Waits(silence=self.settings.silent_call_hours * 3600),
            watch=self._counting.do_chore,
        )
        self._records = ResponseRecorder(
            self._journal,
            self._counting,
            source=self.settings.source,
            default_subject=lambda: self._subject,
            missing_subjects=self.missing_subjects,
        )
        # As `calls`, without a look for a fork, which takes a tenth of what a chunk may: what a forked
        # child hears of a stream of its parent's stays in its own memory.
        self.calls_heard: CallTable = self._calls
        self._closed = False
        self._next_log = 0.0
        system.on_fork(self._calls)
        system.on_fork(self._counting)
        close_at_exit(self)

    def __repr__(self) -> str:
        return f"<Meter {self.settings.home} {self._transport!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(FLUSH_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose(FLUSH_TIMEOUT)

    @property
    def calls(self) -> CallTable:
        """The calls in flight in this process."""
        # Before a call gets in: the hooks of a fork clear the table of what is the parent's.
        system.notice_fork()
        return self._calls

    @property
    def subject(self) -> str | None:
        """Who pays where nothing else says so.

        Raises:
            SubjectError: When set to what is not a non-empty string.
        """
        return self._subject

    @subject.setter
    def subject(self, subject: str | None) -> None:
        self._subject = None if subject is None else check_subject(subject)

    def start(self) -> None:
        """Ship what earlier processes left, and start what the first call would wait for.

        Only the first call does anything: handlers are made for each request, and looking into
        a folder is nothing to do on an event loop. A meter that is not started works as well.
        """
        if not self._transport.is_started:
            self._transport.start()
            self._counting.start()

    def take_over(self) -> None:
        """Ship what earlier processes left, if they left anything; else no thread is begun."""
        self._transport.take_over()

    def guard(self, where: str) -> Guard:
        """Keep a failure to meter from the application: it is logged and counted.

        Args:
            where: What may fail, for `status`.
        """
        return Guard(where, self.note_failure)

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until every sink has what was recorded before.

        Calls in flight are not waited for and not cut; those that were left, and not told of, are
        settled. A backoff under way is skipped once; a
        server's own `Retry-After` is respected.

        Args:
            timeout: Seconds.

        Returns:
            Whether every event of this process is acknowledged (or dead) everywhere.
        """
        system.notice_fork()
        deadline = time.monotonic() + timeout
        with self.guard("flush"):
            self._calls.settle_decided()
        # Half of the time at first: a count that takes long must not keep the rest from its sinks.
        counted = self._counting.wait(time.monotonic() + timeout / 2)
        shipped = self._transport.flush(deadline)
        if not counted:
            return self._counting.wait(deadline) and self._transport.flush(deadline)
        return shipped

    async def aflush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """`flush`, without blocking the event loop."""
        return await asyncio.to_thread(self.flush, timeout)

    def drain(self, timeout: float = DRAIN_TIMEOUT, sink: str | None = None) -> bool:
        """Ship what the home owes, the events of finished processes too.

        Backoffs and pauses are skipped once; a server's own `Retry-After` is respected.

        Args:
            timeout: Seconds.
            sink: The name of the only sink to ship to.

        Returns:
            Whether nothing is left that this process may ship.

        Raises:
            ConfigurationError: If there is no such sink.
        """
        system.notice_fork()
        deadline = time.monotonic() + timeout
        with self.guard("drain"):
            self._calls.settle_decided()
        counted = self._counting.wait(time.monotonic() + timeout / 2)
        drained = self._transport.drain_named(sink, deadline=deadline)
        if drained is None:
            raise ConfigurationError("sink", f"no sink {sink!r} is configured")
        return drained and counted

    def close(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """Settle calls in flight, ship what can be shipped in time, and let go.

        What is left waits on disk for the next process. Calls in flight are settled with what is
        known of them; what their ends report later is counted, and no longer billed. Calls that
        start later are still recorded, for the next process to ship.

        Args:
            timeout: Seconds.

        Returns:
            Whether nothing was left.
        """
        if self._closed:
            return True
        self._closed = True
        is_closed(self)
        deadline = time.monotonic() + timeout
        with self.guard("close"):
            self.calls.close()
        counted = False
        with self.guard("close"):
            # Half of the time: what is estimated and shipped is better than counted and left.
            counted = self._counting.close(time.monotonic() + timeout / 2)
        with self.guard("close"):
            if self._limiting is not None:
                # What is not given back in time ends by itself.
                self._limiting.close(time.monotonic() + timeout / 4)
        return self._transport.close(deadline) and counted

    def made_with(self, **changes: Any) -> Meter:
        """Another one of the same arguments, but for these."""
        return type(self)(**{**self._arguments, **changes})

    def retire(self) -> bool:
        """Close, unless calls are in flight: they go on, and the meter is closed at exit.

        Returns:
            Whether it was closed.
        """
        self.flush(FLUSH_TIMEOUT)
        if len(self.calls):
            return False
        self.close(FLUSH_TIMEOUT)
        return True

    async def aclose(self, timeout: float = EXIT_TIMEOUT) -> bool:
        """`close`, without blocking the event loop."""
        return await asyncio.to_thread(self.close, timeout)

    def statistics(self) -> dict[str, Any]:
        """What became of every event of this home, as `llm-metering status` shows it.

        For each sink `recorded = acked + pending + dead + dropped`.
        """
        return self._transport.statistics()

    def _ship(self, sink: Sink, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        counted = self._counting.wait(deadline)
        return bool(self._transport.drain(sink, deadline=deadline)) and counted

    def note_failure(self, where: str, error: Exception) -> None:
        """Count and log that something of ours failed; the work of `guard`."""
        now = time.monotonic()
        if now >= self._next_log:
            self._next_log = now + LOG_EVERY
            # Not the message: it may quote a prompt or an answer.
            logger.error("metering failed in %s: %s", where, type(error).__name__)
        try:
            self._journal.count("failures", where)
        except Exception as second:
            logger.error("the failure could not be counted: %s", type(second).__name__)  # noqa: TRY400
