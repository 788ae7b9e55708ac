"""`Meter`: everything wired together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast

from . import system
from .at_exit import EXIT_TIMEOUT, close_at_exit, is_closed
from .backends import Backends
from .calls import CallStart, CallTable, Waits
from .counting import CountingQueue, TokenCounters
from .errors import ConfigurationError, LedgerError, NotDurableError, TransportProblem
from .events import UsageEvent
from .guard import Guard
from .opening import open_ledger, open_sinks, retention_of, rules_of, urls_and_objects
from .price_books import PriceBooks
from .recording import ResponseRecorder, check_name, meter_stream, model_of, snapshot
from .recording.keywords import RecordArguments
from .service_tiers import check_service_tier
from .settings import Settings, load_settings, require_destination
from .sinks.base import Sink
from .subjects import MissingSubjects, SubjectRules, check_subject
from .transport.fleet import Transport
from .transport.journal import nobody_waits

if TYPE_CHECKING:
    from .meters import Book, MeterDefinition, UsageReport
    from .prices import PriceList

__all__ = ["DRAIN_TIMEOUT", "EXIT_TIMEOUT", "FLUSH_TIMEOUT", "Meter"]

logger = logging.getLogger("llm_metering")

StreamT = TypeVar("StreamT")

FLUSH_TIMEOUT: Final = 10.0
DRAIN_TIMEOUT: Final = 60.0
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
        **settings: Any,
    ) -> None:
        urls, objects = urls_and_objects(sinks)
        self.settings: Settings = load_settings(
            home=home, sinks=urls, source=source, subject=subject, **settings
        )
        require_destination(self.settings, objects)
        self._subject = self.settings.subject
        self.rules: SubjectRules = rules_of(self.settings)
        self.missing_subjects = MissingSubjects(self.settings.on_missing_subject)
        self._ledger = open_ledger(self.settings)
        all_sinks = open_sinks(self.settings, self._ledger, objects)
        self._transport = Transport(
            self.settings.home,
            source=self.settings.source,
            sinks=all_sinks,
            durability=self.settings.durability,
            backlog_bytes=self.settings.backlog_bytes,
            on_error=on_error,
            retention=retention_of(self.settings),
        )
        self._books = PriceBooks(self.settings)
        self._backends = Backends(self._ledger, all_sinks, self._ship, self._books.price)
        self._journal = self._transport.journal
        self._counting = CountingQueue(
            TokenCounters(download=self.settings.tokenizer_download),
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

    @property
    def prices(self) -> PriceList:
        """What models cost, by the settings `prices` and `price_source`; read when it is first used.

        Raises:
            PriceError: If something in a file is wrong; the message names the line.
            MissingExtraError: If prices are to come from what is not installed.
        """
        return self._books.prices

    @property
    def credits(self) -> PriceList | None:
        """How many credits tokens are worth, by the setting `prices`; `None` if no file says.

        Raises:
            PriceError: As in `prices`.
        """
        return self._books.credits

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

    def record(
        self,
        response: object = None,
        subject: str | None = None,
        *,
        dimensions: Mapping[str, str] | None = None,
        time: datetime | str | None = None,
        idempotency_key: str | None = None,
        quantity: float | Decimal | None = None,
        unit: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        operation: str | None = None,
        service_tier: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> UsageEvent | None:
        """Meter a response of a provider's own client, or a quantity of anything else.

        The same response object is one event, however often it is handed over (dicts and strings
        cannot be told apart; `idempotency_key` can). What the response holds never raises: a
        shape we do not know is an event with provenance `missing`, flagged with its keys.

        Args:
            response: An object of the SDKs of OpenAI, Anthropic, Google, Cohere, Mistral or
                AWS, a dict, JSON (a stream's, too), or a `TokenUsage`.
            subject: Who pays; without it `subject()` and the default say.
            dimensions: Strings to group usage by.
            time: When; by default the provider's own time of the answer, if it gives a plausible
                one, else now. An aware datetime, or ISO 8601 with an offset.
            idempotency_key: Any number of calls with one key are one event, in every process of
                the same `source`.
            quantity: How much of `unit`, from 0.
            unit: What is counted where it is no tokens: `images`, `api_calls`, `gpu_seconds`.
            provider: Who answered, where the response does not show it.
            model: The model that was asked for.
            operation: OpenTelemetry's `gen_ai.operation.name`, where the response does not show it.
            service_tier: On which of the provider's tiers the call was served (`batch`, `flex`,
                `priority`, …), where the response names none or the plain one.
            request: The request in the JSON shape of the API. It is read only if the response
                reports no usage, to count the input; nothing of it is kept.

        Returns:
            The event. Where we have to count, it holds an estimate from lengths, and the count
            follows under the same id; `flush()` waits for it. `None` for a provider's
            refusal, which costs nothing and is counted in `status`.

        Raises:
            SubjectError: If the subject or a dimension is not usable.
            MissingSubjectError: If nobody pays, and `on_missing_subject` refuses that.
            InvalidArgumentError: If another argument is not.
            InvalidUsageError: If the quantity is no finite number from 0.
        """
        system.notice_fork()
        attribution = self._records.attribution(subject, dimensions)
        return self._records.record(
            response,
            attribution,
            request=request,
            time=time,
            idempotency_key=idempotency_key,
            quantity=quantity,
            unit=unit,
            provider=provider,
            model=model,
            operation=operation,
            service_tier=service_tier,
        )

    async def arecord(
        self,
        response: object = None,
        subject: str | None = None,
        **arguments: Unpack[RecordArguments],
    ) -> UsageEvent | None:
        """`record`, and wait until the medium has it: from then on the event survives a power cut.

        Waits for a sync of the journal, which those who wait at the same time share; it takes
        milliseconds, during which the event loop is free.

        Args:
            response: As `record` takes it.
            subject: Who pays.
            **arguments: As `record` takes them.

        Returns:
            The event, as `record` returns it.

        Raises:
            NotDurableError: If the medium does not take it. The event is recorded all the same.
            SubjectError: As in `record`.
            InvalidArgumentError: As in `record`.
            InvalidUsageError: As in `record`.
        """
        waiting = nobody_waits.set(True)
        try:
            event = self.record(response, subject, **arguments)
        finally:
            nobody_waits.reset(waiting)
        try:
            await asyncio.wrap_future(self._journal.durable())
        except Exception as error:
            raise NotDurableError(f"recorded, but not on the medium: {error}") from error
        return event

    def metered_stream(
        self,
        stream: StreamT,
        subject: str | None = None,
        *,
        dimensions: Mapping[str, str] | None = None,
        provider: str | None = None,
        model: str | None = None,
        operation: str | None = None,
        service_tier: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> StreamT:
        """Meter a stream of a provider's own client while you read it.

        It is billed once: when it has ended, failed, was closed, or is collected unread. Who pays is
        decided here and now.

        Args:
            stream: What the SDK returned, sync or async, or an iterable of its chunks or lines.
            subject: Who pays; without it `subject()` and the default say.
            dimensions: Strings to group usage by.
            provider: Who is asked, where the chunks do not show it.
            model: The model that was asked for.
            operation: OpenTelemetry's `gen_ai.operation.name`, where the chunks do not show it.
            service_tier: As in `record`.
            request: The request in the JSON shape of the API, to count the input if the stream
                reports no usage.

        Returns:
            A stand-in for the stream, to be read as before.

        Raises:
            SubjectError: If the subject or a dimension is not usable.
            MissingSubjectError: If nobody pays, and `on_missing_subject` refuses that.
            InvalidArgumentError: If it is no stream, or another argument is not usable.
        """
        for name, value in (("provider", provider), ("model", model), ("operation", operation)):
            check_name(name, value)
        asked = snapshot(request)
        start = CallStart(
            attribution=self._records.attribution(subject, dimensions),
            provider=provider,
            request_model=model or model_of(request),
            service_tier=check_service_tier(service_tier),
            asked=lambda: asked,
        )
        metered = meter_stream(
            stream,
            calls=self.calls,
            start=start,
            operation=operation,
            note_failure=self.note_failure,
        )
        return cast("StreamT", metered)

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
        return self._transport.close(deadline) and counted

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

    def take_in(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Bring into the ledger what the journal holds of this and of finished processes.

        Args:
            timeout: Seconds.

        Returns:
            Whether nothing was left.

        Raises:
            LedgerError: If the ledger is switched off.
        """
        if self._ledger is None:
            raise LedgerError("the ledger is switched off; usage is kept where your sinks keep it")
        return self._ship(self._ledger, timeout)

    def price(self, *books: Book) -> None:
        """Work out what the events in the ledger cost that nobody has priced yet.

        `usage` does so before it answers for costs.

        Args:
            *books: `cost`, `credits`; the former if left out.

        Raises:
            LedgerError: If the ledger is switched off or cannot be written.
            PriceError: As in `prices`.
            MissingExtraError: As in `prices`.
        """
        if self._ledger is None:
            raise LedgerError("the ledger is switched off; what usage costs is kept nowhere else")
        self._books.price(self._ledger, *(books or ("cost",)))

    def _ship(self, sink: Sink, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        counted = self._counting.wait(deadline)
        return bool(self._transport.drain(sink, deadline=deadline)) and counted

    def usage(
        self,
        meter: str | MeterDefinition = "tokens_total",
        subject: str | Iterable[str] | None = None,
        window: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        group_by: str | Iterable[str] = (),
        time_zone: str = "UTC",
        *,
        filters: Mapping[str, str | Iterable[str]] | None = None,
        allow_incomplete: bool = False,
        backend: str | None = None,
    ) -> UsageReport:
        """What was used, everything this process recorded so far included.

        An OpenMeter server shows some seconds later what it has acknowledged.

        Args:
            meter: Slug of a meter: `tokens_total`, `tokens_input`, `tokens_output`,
                `tokens_cached`, `tokens_reasoning`, `calls_total`, one of the setting `meters`, or,
                of the ledger alone, `cost_total` and `credits_total`, whose values are `Decimal`;
                or a `MeterDefinition` that is in no setting.
            subject: One or several subjects; all of them if left out.
            window: `MINUTE`, `HOUR`, `DAY` or `MONTH`; one row for the whole time if left out.
            start: First moment that counts: an aware datetime, or ISO 8601 with an offset.
            end: First moment that no longer counts.
            group_by: `subject`, `model`, `provider`, `operation`, `framework`, `provenance`,
                `status`, a dimension, or another key of the events' `data`.
            time_zone: Where hours, days and months begin: a name of the IANA database.
            filters: By such a key, the value or values of which an event must have one; `""` for a
                key that it lacks.
            allow_incomplete: Answer even while the back end does not take what was recorded.
            backend: Who answers: `ledger`, or the name of an OpenMeter sink, whose server is asked.
                Left out, the ledger, and where that is off the only such sink.

        Raises:
            QueryError: If the question makes no sense, or the server's meter cannot answer it.
            LedgerError: If the ledger is switched off, or does not take what was recorded: the
                answer would be short.
            RemoteUsageError: If the server does not take what was recorded, gives no answer, or
                counts something else under the meter's name.
        """
        from .meters import usage_query

        query = usage_query(
            meter,
            subject=subject,
            window=window,
            start=start,
            end=end,
            group_by=group_by,
            filters=filters,
            time_zone=time_zone,
            meters=self.settings.meters,
        )
        return self._backends.usage(query, backend, allow_incomplete=allow_incomplete)

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
