"""`ResponseRecorder`: one event for a response, or for a quantity, that the user hands over."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from ..calls import Recorder, Report, Tokenizer, counts_of, needs_counting
from ..errors import InvalidArgumentError, InvalidUsageError
from ..events import Status, UsageEvent, encode, keyed_event_id, new_event_id
from ..exchange import Counted, Exchange, Output
from ..extract import output as output_of
from ..extract import read
from ..extract.reading import Reading, moment, name_of
from ..subjects import Attribution, attribute, check_subject
from ..token_usage import MAX_COUNT, TokenUsage

__all__ = ["ResponseRecorder", "check_name", "model_of", "report_of"]

EARLIEST: Final = datetime(2015, 1, 1, tzinfo=UTC)
LATEST: Final = timedelta(minutes=5)
"""A provider's time before the one or further ahead than the other is no time of an answer."""


@dataclass(frozen=True, slots=True)
class _Seen:
    reference: weakref.ref[Any]
    event: UsageEvent | None


class ResponseRecorder:
    """Makes events of what the user hands over, each response once.

    Args:
        recorder: Where events and notes go.
        tokenizer: What counts where a response reports nothing.
        source: The CloudEvents source of the events.
        default_subject: Who pays where nothing else says so.
        now: The clock, in aware UTC.
    """

    def __init__(
        self,
        recorder: Recorder,
        tokenizer: Tokenizer,
        *,
        source: str,
        default_subject: Callable[[], str | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._recorder = recorder
        self._tokenizer = tokenizer
        self._source = source
        self._default_subject = default_subject
        self._now = now
        self._seen: dict[int, _Seen] = {}
        # An RLock, since garbage collection may record inside any allocation of ours.
        self._lock = threading.RLock()

    def attribution(self, subject: str | None, dimensions: Mapping[str, str] | None) -> Attribution:
        """Who pays for what is handed over now.

        Raises:
            SubjectError: If the subject is not a non-empty string, or a dimension unusable.
        """
        if subject is not None:
            check_subject(subject)
        return attribute(handler=subject, default=self._default_subject(), dimensions=dimensions)

    def record(
        self,
        response: object,
        attribution: Attribution,
        *,
        request: Mapping[str, Any] | None,
        time: datetime | str | None,
        idempotency_key: str | None,
        quantity: float | Decimal | None,
        unit: str | None,
        provider: str | None,
        model: str | None,
        operation: str | None,
    ) -> UsageEvent | None:
        """Record one call, or one quantity; see `Meter.record`."""
        when = _moment(time)
        amount = _amount(quantity, unit)
        event_id = _event_id(self._source, idempotency_key)
        for name, value in (("provider", provider), ("model", model), ("operation", operation)):
            check_name(name, value)
        if response is None and amount is None:
            raise InvalidArgumentError("record() needs a response, a TokenUsage, or a quantity")

        def make() -> UsageEvent | None:
            reading = _reading_of(response)
            if reading.ending == "refused" and reading.usage is None and amount is None:
                self._recorder.count("refused_calls", reading.reason)
                return None
            now = self._now()
            event = partial(
                _event,
                reading,
                id=event_id,
                source=self._source,
                subject=attribution.subject,
                time=when or _plausible(reading.created, now) or now,
                operation=operation or reading.operation,
                provider=provider or reading.provider,
                model=reading.model or model,
                request_model=model or model_of(request),
                response_id=reading.response_id,
                measures=reading.measures,
                quantity=amount,
                unit=unit,
                dimensions=attribution.dimensions,
                flags=(*attribution.flags, *reading.flags),
            )
            exchange = None
            if amount is None and needs_counting("completed", report_of(reading)):
                exchange = _exchange(response, reading, request, model, provider)
            return self._settle(event, exchange)

        return self._once(response, make) if idempotency_key is None else make()

    def _once(self, response: object, make: Callable[[], UsageEvent | None]) -> UsageEvent | None:
        """The event of this very object, made the first time it is handed over."""
        if response is None or isinstance(response, TokenUsage):
            # Two equal counts may be two calls, and a constant may stand for many.
            return make()
        key = id(response)
        try:
            reference = weakref.ref(response, lambda _: self._seen.pop(key, None))
        except TypeError:
            return make()  # dicts, strings: nothing tells one that is handed over twice
        with self._lock:
            seen = self._seen.get(key)
            if seen is None or seen.reference() is not response:
                seen = self._seen[key] = _Seen(reference, make())
        return seen.event

    def _settle(
        self, make: Callable[[Counted | None], UsageEvent], exchange: Exchange | None
    ) -> UsageEvent:
        if exchange is None:
            event = make(None)
            self._recorder.record(event.id, encode(event))
            return event
        # The note is the event to record if this process dies before we have counted.
        guessed = make(self._tokenizer.guess(exchange))
        self._recorder.note_open(guessed.id, encode(guessed))
        self._tokenizer.submit(exchange, partial(self._settle_counted, make))
        return guessed

    def _settle_counted(
        self, make: Callable[[Counted | None], UsageEvent], counted: Counted
    ) -> None:
        event = make(counted)
        self._recorder.record(event.id, encode(event))


def report_of(
    reading: Reading, *, output: Callable[[], Output] = Output, reason: str = ""
) -> Report:
    """What a response says of its call, as the call table takes it."""
    return Report(
        output=output,
        usage=reading.usage,
        is_final=reading.is_final,
        provider=reading.provider,
        operation=reading.operation,
        model=reading.model,
        response_id=reading.response_id,
        created=reading.created,
        measures=reading.measures,
        flags=reading.flags,
        reason=reason or reading.reason,
    )


def _reading_of(response: object) -> Reading:
    if isinstance(response, TokenUsage):
        return Reading(shape="usage", usage=response)
    if response is None:
        return Reading(shape="quantity")
    return read(response)


def _event(
    reading: Reading, counted: Counted | None, *, flags: tuple[str, ...], **fields: Any
) -> UsageEvent:
    status: Status = "completed" if reading.ending == "completed" else "failed"
    usage, provenance, count_method = counts_of(status, report_of(reading), counted)
    if usage is None and fields["quantity"] is not None:
        provenance = "reported"
    if usage is not None and not usage.is_consistent:
        flags = (*flags, "usage_inconsistent")
    return UsageEvent(
        status=status,
        usage=usage,
        provenance=provenance,
        count_method=count_method,
        flags=flags,
        **fields,
    )


def _exchange(
    response: object,
    reading: Reading,
    request: Mapping[str, Any] | None,
    model: str | None,
    provider: str | None,
) -> Exchange | None:
    output = output_of(response)
    if request is None and not output:
        return None
    return Exchange(
        model=reading.model or model or model_of(request),
        provider=provider or reading.provider,
        request=request,
        output=output,
    )


def _moment(time: datetime | str | None) -> datetime | None:
    if time is None:
        return None
    found = moment(time) if isinstance(time, datetime | str) else None
    if found is None:
        raise InvalidArgumentError(
            "time is an aware datetime, or ISO 8601 with an offset, such as 2026-11-21T20:19:00Z"
        )
    return found


def _plausible(created: datetime | None, now: datetime) -> datetime | None:
    return created if created is not None and EARLIEST <= created <= now + LATEST else None


def _amount(quantity: float | Decimal | None, unit: str | None) -> int | float | None:
    if quantity is None and unit is None:
        return None
    if not isinstance(unit, str) or not unit.strip():
        raise InvalidArgumentError('a quantity needs a unit, such as unit="images"')
    if quantity is None:
        raise InvalidArgumentError(f"how many {unit}? give quantity=")
    if isinstance(quantity, bool) or not isinstance(quantity, int | float | Decimal):
        raise InvalidArgumentError(f"quantity is a number, got {type(quantity).__name__}")
    amount = quantity if isinstance(quantity, int) else float(quantity)
    if not math.isfinite(amount) or not 0 <= amount <= MAX_COUNT:
        raise InvalidUsageError(f"quantity is a number from 0 to {MAX_COUNT}")
    return amount


def _event_id(source: str, idempotency_key: str | None) -> str:
    if idempotency_key is None:
        return new_event_id()
    if not isinstance(idempotency_key, str) or not idempotency_key:
        raise InvalidArgumentError("idempotency_key is a non-empty string")
    return keyed_event_id(source, idempotency_key)


def check_name(name: str, value: object) -> None:
    """Refuse a provider, model or operation that is no name.

    Raises:
        InvalidArgumentError: Naming the argument.
    """
    if value is not None and name_of(value) is None:
        raise InvalidArgumentError(f"{name} is a non-empty string, got {type(value).__name__}")


def model_of(request: Mapping[str, Any] | None) -> str | None:
    """The model that a request asks for."""
    return name_of(request.get("model")) if isinstance(request, Mapping) else None
