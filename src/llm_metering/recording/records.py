"""`ResponseRecorder`: one event for a response, or for a quantity, that the user hands over."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from ..calls import Recorder, Report, Tokenizer, counts_of, utc_now
from ..errors import InvalidArgumentError
from ..events import Status, UsageEvent, encode, new_event_id
from ..exchange import Counted, Exchange, Output
from ..extract import read
from ..extract.reading import NOTHING, Reading
from ..service_tiers import check_service_tier
from ..subjects import (
    Attribution,
    MissingSubjects,
    Rank,
    attribute,
    check_subject,
    plain_dimensions,
)
from ..token_usage import TokenUsage
from .arguments import amount_of, check_name, keyed_id, model_of, moment_of, snapshot
from .contents import exchange_of, flags_of, on_tier, time_of, with_amount, with_count, with_tier

__all__ = ["ResponseRecorder", "report_of"]

_COUNTERS: Final[Mapping[str, str]] = {
    "refused": "refused_calls",
    "unfinished": "unfinished_responses",
}
"""What is counted in place of an event, by how a response ended."""


@dataclass(frozen=True, slots=True)
class _Named:
    """An object that was recorded, and under which id."""

    reference: weakref.ref[Any]
    event_id: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """An object that was recorded here, and the event that came of it."""

    reference: weakref.ref[Any]
    event: UsageEvent | None


# The ids of the objects that were recorded, by source and object, for all meters of the process:
# two meters that are told of one response record it under one id.
_named: dict[tuple[str, int], _Named] = {}


class ResponseRecorder:
    """Makes events of what the user hands over, each response once.

    Args:
        recorder: Where events and notes go.
        tokenizer: What counts where a response reports nothing.
        source: The CloudEvents source of the events.
        default_subject: Who pays where nothing else says so.
        missing_subjects: What is done where nobody is named at all.
        now: The clock, in aware UTC.
    """

    def __init__(
        self,
        recorder: Recorder,
        tokenizer: Tokenizer,
        *,
        source: str,
        default_subject: Callable[[], str | None],
        missing_subjects: MissingSubjects | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._recorder = recorder
        self._tokenizer = tokenizer
        self._source = source
        self._default_subject = default_subject
        self._missing_subjects = missing_subjects or MissingSubjects()
        self._now = now
        self._seen: dict[int, _Seen] = {}

    def attribution(self, subject: str | None, dimensions: Mapping[str, str] | None) -> Attribution:
        """Who pays for what is handed over now.

        Raises:
            SubjectError: If the subject is not a non-empty string, or a dimension unusable.
            MissingSubjectError: If nobody pays, and the settings refuse that.
        """
        if subject is not None:
            subject = check_subject(subject)
        if dimensions is not None:
            dimensions = plain_dimensions(dimensions)
        default = self._default_subject() if subject is None else None
        found = attribute(handler=subject, default=default, dimensions=dimensions)
        if found.rank is Rank.NOBODY:
            refusal = self._missing_subjects.refusal()
            if refusal is not None:
                raise refusal
        return found

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
        service_tier: str | None,
        reservation_id: str | None = None,
    ) -> UsageEvent | None:
        """Record one call, or one quantity; see `Meter.record`."""
        when = None if time is None else moment_of(time)
        amount = None if quantity is None and unit is None else amount_of(quantity, unit)
        key_id = None if idempotency_key is None else keyed_id(self._source, idempotency_key)
        if provider is not None:
            check_name("provider", provider)
        if model is not None:
            check_name("model", model)
        if operation is not None:
            check_name("operation", operation)
        if service_tier is not None:
            service_tier = check_service_tier(service_tier)
        if request is not None:
            request = snapshot(request)
        if response is None and amount is None:
            raise InvalidArgumentError("record() needs a response, a TokenUsage, or a quantity")
        # Two equal counts may be two calls, and a constant may stand for many.
        is_ready = response is None or isinstance(response, TokenUsage)
        reference = None if is_ready else self._reference(response)
        event_id = key_id or new_event_id()
        if reference is not None:
            event_id = self._id_of(response, reference, event_id)
            seen = self._seen.get(id(response))
            if seen is not None and seen.reference() is response:
                return seen.event

        reading = _reading_of(response)
        if service_tier is not None:
            reading = on_tier(reading, service_tier)
        event = exchange = None
        if reading.ending == "completed" or not _is_nothing_to_bill(reading, amount):
            event = self._event(
                event_id, reading, attribution, when, request, provider, model, operation
            )
            if amount is not None:
                event = with_amount(event, amount, unit)
            elif event.provenance != "reported":
                exchange = exchange_of(response, reading, request, model, provider)
            if exchange is not None:
                event = with_count(event, reading, attribution, self._tokenizer.guess(exchange))
            if reservation_id is not None:
                event = replace(event, reservation_id=reservation_id)
        if reference is not None:
            # Whoever puts it in first records it; no lock, which a signal handler or a finaliser
            # that records could meet held.
            mine = _Seen(reference, event)
            first = self._seen.setdefault(id(response), mine)
            if first is not mine and first.reference() is response:
                return first.event
        if event is None:
            self._recorder.count(_COUNTERS[reading.ending], reading.reason)
            return None
        try:
            self._write(event, exchange, attribution, reading)
        except BaseException:
            # Such as Ctrl-C: whoever hands it over again has it recorded, under the same id.
            self._seen.pop(id(response), None)
            raise
        return event

    def _event(
        self,
        event_id: str,
        reading: Reading,
        attribution: Attribution,
        when: datetime | None,
        request: Mapping[str, Any] | None,
        provider: str | None,
        model: str | None,
        operation: str | None,
    ) -> UsageEvent:
        """What is known before anything is counted."""
        status: Status = "completed" if reading.ending == "completed" else "failed"
        if reading.cached:
            status = "cached"
        usage, provenance, _ = counts_of(status, reading, None)
        # CPython passes up to 15 keywords on its stack, and more of them in a dict, which takes
        # several times as long.
        event = UsageEvent(
            id=event_id,
            source=self._source,
            subject=attribution.subject,
            time=when or time_of(reading, self._now()),
            provenance=provenance,
            status=status,
            usage=usage,
            measures=reading.measures,
            operation=reading.operation or operation,
            provider=provider or reading.provider,
            model=reading.model or model,
            request_model=model or (None if request is None else model_of(request)),
            response_id=reading.response_id,
            flags=flags_of(attribution, reading, usage),
            dimensions=attribution.dimensions,
        )
        return event if reading.service_tier is None else with_tier(event, reading.service_tier)

    def _reference(self, response: object) -> weakref.ref[Any] | None:
        key = id(response)

        def forget(_: object) -> None:
            self._seen.pop(key, None)
            _named.pop((self._source, key), None)

        try:
            return weakref.ref(response, forget)
        except TypeError:
            return None  # dicts, strings: nothing tells one that is handed over twice

    def _id_of(self, response: object, reference: weakref.ref[Any], event_id: str) -> str:
        mine = _Named(reference, event_id)
        first = _named.setdefault((self._source, id(response)), mine)
        return first.event_id if first.reference() is response else event_id

    def _write(
        self,
        event: UsageEvent,
        exchange: Exchange | None,
        attribution: Attribution,
        reading: Reading,
    ) -> None:
        if exchange is None:
            self._recorder.record(event.id, encode(event))
            for watcher in attribution.watchers:
                watcher.settled(event)
            return
        # The note is the event to record if this process dies before we have counted.
        self._recorder.note_open(event.id, encode(event))
        for watcher in attribution.watchers:
            watcher.counting(event.id)
        done = partial(self._settle_counted, event, attribution, reading)
        self._tokenizer.submit(exchange, done)

    def _settle_counted(
        self, event: UsageEvent, attribution: Attribution, reading: Reading, counted: Counted
    ) -> None:
        event = with_count(event, reading, attribution, counted)
        self._recorder.record(event.id, encode(event))
        for watcher in attribution.watchers:
            watcher.settled(event)


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
        service_tier=reading.service_tier,
        created=reading.created,
        measures=reading.measures,
        cached=reading.cached,
        is_countable=reading.is_countable,
        flags=reading.flags,
        reason=reason or reading.reason,
    )


def _reading_of(response: object) -> Reading:
    if isinstance(response, TokenUsage):
        return Reading(shape="usage", usage=response, measures=NOTHING)
    if response is None:
        return Reading(shape="quantity")
    return read(response)


def _is_nothing_to_bill(reading: Reading, amount: float | None) -> bool:
    """Whether it cost nothing, or is not over: then its end will be billed."""
    return reading.ending in _COUNTERS and reading.usage is None and amount is None
