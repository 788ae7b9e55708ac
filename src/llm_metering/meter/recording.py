"""The part of `Meter` that takes what has no framework: answers and streams of a provider's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from .. import system
from ..calls import CallStart, CallTable
from ..errors import InvalidArgumentError, NotDurableError
from ..events import UsageEvent
from ..recording import ResponseRecorder, check_name, meter_stream, model_of, snapshot
from ..recording.keywords import RecordArguments
from ..service_tiers import check_service_tier
from ..transport.journal import Journal, nobody_waits

if TYPE_CHECKING:
    from ..limits import Reservation

__all__ = ["Recording", "StreamT"]

StreamT = TypeVar("StreamT")


class Recording:
    """What is recorded by hand; the rest of the meter has the parts that it is made of."""

    _journal: Journal
    _records: ResponseRecorder
    note_failure: Callable[[str, Exception], None]

    @property
    def calls(self) -> CallTable:
        """The calls in flight in this process."""
        raise NotImplementedError

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
        reservation: Reservation | str | None = None,
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
            reservation: What `reserve` has reserved for it, or the id of that: the event settles it.

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
        reservation_id = _reservation_id(reservation)
        event = self._records.record(
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
            reservation_id=reservation_id,
        )
        # Not before: what no event settles stays with who reserved it.
        is_settled = event is not None and event.reservation_id == reservation_id
        if is_settled and not (reservation is None or isinstance(reservation, str)):
            reservation.handed_over()
        return event

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

    def forward(self, events: Iterable[tuple[str, bytes]]) -> None:
        """Record events that were made elsewhere, as they are; `secured` says when they are safe.

        Args:
            events: Their ids, and the events: CloudEvents in structured JSON, of this meter's source,
                that `ledger.check_event` has nothing against.
        """
        waiting = nobody_waits.set(True)
        try:
            for event_id, payload in events:
                self._journal.record(event_id, payload)
        finally:
            nobody_waits.reset(waiting)

    def secured(self) -> Future[None] | None:
        """What was recorded before is in the journal's file; where durability is `power`, on the medium.

        Returns:
            `None` if it is there; else what is done when it is. Its exception, if it has one, says why
            it is not: then it is in memory, and may be delivered yet. Offer it again, under the same
            ids.
        """
        if not self._journal.held and self._journal.durability != "power":
            return None
        return self._journal.durable()

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


def _reservation_id(reservation: Reservation | str | None) -> str | None:
    if reservation is None or (isinstance(reservation, str) and reservation):
        return reservation
    try:
        return reservation.id  # type: ignore[union-attr]  # a string that is empty
    except AttributeError:
        raise InvalidArgumentError(
            f"reservation is what reserve() returned, or its id, got {reservation!r}"
        ) from None
