"""`Meter`: everything wired together."""

from __future__ import annotations

import asyncio
import atexit
import logging
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .calls import CallTable
from .errors import ConfigurationError, LedgerError
from .guard import Guard
from .settings import Settings, load_settings, require_destination
from .sinks.base import Sink
from .subjects import check_subject
from .transport import system
from .transport.journal import Journal
from .transport.shipper import Shipper
from .transport.spool import Spool, debt_of
from .transport.status import home_status

if TYPE_CHECKING:
    from .ledger import Ledger
    from .meters import UsageReport

__all__ = ["EXIT_TIMEOUT", "FLUSH_TIMEOUT", "Meter"]

logger = logging.getLogger("llm_metering")

FLUSH_TIMEOUT: Final = 10.0
EXIT_TIMEOUT: Final = 5.0
LOG_EVERY: Final = 60.0


class Meter:
    """Records LLM calls, keeps them safe, ships them, and answers for what was used.

    A context manager, for sync and async code; one that is not closed is closed when the
    interpreter ends. A process needs one only; `llm_metering.get_meter()` has it.

    Args:
        home: The folder of the journal and the ledger, for one user.
        sinks: Where usage goes besides the ledger: URLs, or objects that are a `Sink`. Left
            out, the environment and `llm-metering.toml` say; `()` is none.
        source: The application's stable name, CloudEvents' `source`.
        subject: Who pays where nothing else says so.
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
        **settings: Any,
    ) -> None:
        given = () if sinks is None or isinstance(sinks, str) else tuple(sinks)
        objects = [sink for sink in given if not isinstance(sink, str)]
        urls: object = sinks
        if not isinstance(sinks, str) and sinks is not None:
            urls = [sink for sink in given if isinstance(sink, str)]
        self.settings: Settings = load_settings(
            home=home, sinks=urls, source=source, subject=subject, **settings
        )
        require_destination(self.settings, objects)
        self._subject = self.settings.subject
        self._ledger = _open_ledger(self.settings)
        all_sinks = _open_sinks(self.settings, self._ledger, objects)
        self._spool = Spool(self.settings.home)
        self._spool.make()
        self._journal = Journal(
            self._spool,
            source=self.settings.source,
            debts=[debt_of(sink) for sink in all_sinks],
            on_append=self._on_append,
        )
        self._calls = CallTable(self._journal, source=self.settings.source)
        self._shippers = [
            Shipper(sink, spool=self._spool, journal=self._journal) for sink in all_sinks
        ]
        self._started = False
        self._closed = False
        self._next_log = 0.0
        system.on_fork(self._calls)
        _close_at_exit.add(self)

    def __repr__(self) -> str:
        sinks = ", ".join(repr(shipper) for shipper in self._shippers)
        return f"<Meter {self.settings.home} {self._journal!r} [{sinks}]>"

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
        """Ship what earlier processes left; this process's own events need no start.

        Only the first call does anything: handlers are made for each request, and looking into
        a folder is nothing to do on an event loop.
        """
        if self._started:
            return
        self._started = True
        if self._spool.segments():
            for shipper in self._shippers:
                shipper.wake()

    def guard(self, where: str) -> Guard:
        """Keep a failure to meter from the application: it is logged and counted.

        Args:
            where: What may fail, for `status`.
        """
        return Guard(where, self.note_failure)

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until every sink has what was recorded before.

        Calls in flight are not waited for and not cut. A backoff under way is skipped once; a
        server's own `Retry-After` is respected.

        Args:
            timeout: Seconds.

        Returns:
            Whether every event of this process is acknowledged (or dead) everywhere.
        """
        system.notice_fork()
        deadline = time.monotonic() + timeout
        target = self._journal.expected
        for shipper in self._shippers:
            if shipper.own_settled < target:
                shipper.hurry(target)
        for shipper in self._shippers:
            while shipper.own_settled < target:
                if time.monotonic() >= deadline:
                    return False
                if shipper.is_running:
                    time.sleep(0.005)
                elif not shipper.drain(deadline=deadline, own_only=True):
                    return False
                elif shipper.own_settled < target:
                    time.sleep(0.005)  # the disk has not taken what is held in memory
        return True

    async def aflush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """`flush`, without blocking the event loop."""
        return await asyncio.to_thread(self.flush, timeout)

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
        _close_at_exit.discard(self)
        deadline = time.monotonic() + timeout
        with self.guard("close"):
            self.calls.close()
        self._journal.close()
        for shipper in self._shippers:
            shipper.begin_close(deadline=deadline)
        # All of them, whatever the first one says: they drain side by side.
        done = [shipper.finish_close() for shipper in self._shippers]
        if self._journal.held:
            logger.error(
                "%d records are lost if this process ends now: the journal in %s takes none",
                self._journal.held,
                self._spool.folder,
            )
        return all(done) and not self._journal.held

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
        status = home_status(self.settings.home)
        for reason, amount in dict(self._journal.dropped).items():
            status["dropped"][reason] = status["dropped"].get(reason, 0) + amount
        status["held_in_memory"] = self._journal.held
        # By what makes a sink the same one; its name may have been changed since.
        rows = {(row["url"], row["account"]): row for row in status["sinks"]}
        for shipper in self._shippers:
            debt = shipper.debt
            row = rows.get((debt.url, debt.account))
            if row is None:
                row = _empty_row(shipper)
                status["sinks"].append(row)
            row["name"] = debt.name
            if shipper.is_running:
                row["state"], row["reason"] = shipper.standing.state, shipper.standing.reason
        return status

    def take_in(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Bring into the ledger what the journal holds of this and of finished processes.

        Args:
            timeout: Seconds.

        Returns:
            Whether nothing was left.

        Raises:
            LedgerError: If the ledger is switched off.
        """
        shipper = next((s for s in self._shippers if s.sink is self._ledger), None)
        if shipper is None:
            raise LedgerError("the ledger is switched off; usage is kept where your sinks keep it")
        return shipper.drain(deadline=time.monotonic() + timeout)

    def usage(
        self,
        meter: str = "tokens_total",
        subject: str | Iterable[str] | None = None,
        window: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        group_by: str | Iterable[str] = (),
        time_zone: str = "UTC",
        *,
        allow_incomplete: bool = False,
    ) -> UsageReport:
        """What was used, from the ledger, everything this process recorded so far included.

        Args:
            meter: Slug of a meter: `tokens_total`, `tokens_input`, `tokens_output`,
                `tokens_cached`, `tokens_reasoning`, `calls_total`.
            subject: One or several subjects; all of them if left out.
            window: `MINUTE`, `HOUR`, `DAY` or `MONTH`; one row for the whole time if left out.
            start: First moment that counts: an aware datetime, or ISO 8601 with an offset.
            end: First moment that no longer counts.
            group_by: `subject`, `model`, `provider`, `provenance`, `status`, `type`, a
                dimension, or another key of the events' `data`.
            time_zone: Where days and months begin.
            allow_incomplete: Answer even while the ledger does not take what was recorded.

        Raises:
            QueryError: If the question makes no sense.
            LedgerError: If the ledger is switched off, or does not take what was recorded: the
                answer would be short.
        """
        from .meters import usage_query

        query = usage_query(
            meter,
            subject=subject,
            window=window,
            start=start,
            end=end,
            group_by=group_by,
            time_zone=time_zone,
        )
        complete = self.take_in(1.0 if allow_incomplete else FLUSH_TIMEOUT)
        assert self._ledger is not None  # or `take_in` had raised
        if not complete and not allow_incomplete:
            raise LedgerError(
                "the ledger has not taken all that was recorded, so usage would be short; "
                "`llm-metering status` says why; allow_incomplete=True shows what there is"
            )
        return self._ledger.query(query)

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

    def _on_append(self, recorded: int) -> None:
        for shipper in self._shippers:
            if recorded >= shipper.wake_at:
                shipper.wake()


def _open_ledger(settings: Settings) -> Ledger | None:
    if not settings.ledger:
        return None
    # Here, not above: `import llm_metering` brings no database along.
    from .ledger import Ledger

    return Ledger(settings.home / "ledger.db")


def _open_sinks(settings: Settings, ledger: Ledger | None, objects: Iterable[Sink]) -> list[Sink]:
    from .sinks import open_sink

    sinks: list[Sink] = [] if ledger is None else [ledger]
    sinks += [
        open_sink(url, source=settings.source, openmeter_token=settings.openmeter_token)
        for url in settings.sinks
    ]
    sinks += objects
    names: set[str] = set()
    debts: set[str] = set()
    for sink in sinks:
        if sink.name in names:
            raise ConfigurationError(
                "sinks", f"two sinks are called {sink.name!r}; give one of them ?name=…"
            )
        debt = debt_of(sink).key
        if debt in debts:
            # Each would wait for the other's acknowledgements, and the server get all twice.
            raise ConfigurationError(
                "sinks", f"{sink.name!r} delivers where another sink does, for the same account"
            )
        names.add(sink.name)
        debts.add(debt)
    return sinks


def _empty_row(shipper: Shipper) -> dict[str, Any]:
    counts = dict.fromkeys(
        ("recorded", "acked", "pending", "dead", "dropped", "suspect", "retries"), 0
    )
    debt = shipper.debt
    return {
        "name": debt.name,
        "url": debt.url,
        "account": debt.account,
        "state": shipper.standing.state,
        "reason": shipper.standing.reason,
        **counts,
        "oldest_pending_seconds": None,
    }


_close_at_exit: Final[set[Meter]] = set()


@atexit.register
def _close_all() -> None:
    # One deadline for all of them: a process may have made several.
    deadline = time.monotonic() + EXIT_TIMEOUT
    for meter in list(_close_at_exit):
        with meter.guard("exit"):
            meter.close(max(deadline - time.monotonic(), 0.0))
