"""Meter events of Stripe: what a recorded event becomes, one for each meter that has its count.

Sources: stripe 16.1.0 for Python, `params/v2/billing/_meter_event_stream_create_params.py` and
`params/billing/_meter_event_create_params.py`, generated from Stripe's OpenAPI document; lengths
and values from https://docs.stripe.com/api/billing/meter-event/create and
https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage-api. Facts that shape this
module:

- A meter event has one value, as a string of a whole number, of at most 15 digits
  (https://docs.stripe.com/changelog/dahlia/2026-04-22/billing-meter-event-values-validation).
- Its identifier, 100 characters at most, is unique for 24 hours at least, in the whole account.
- Its time is within the past 35 days, and at most 5 minutes ahead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ...cloud_events import CloudEvent
from ...errors import SinkURLError
from ...events import MEASURES, format_time
from ...token_usage import TokenUsage
from .._payload import UnusableEventError, read_event
from ..paying import identity_of

__all__ = ["COUNTS", "AheadError", "MeterEvent", "MeterEvents", "MeterSource", "meter_source"]

COUNTS: Final = (
    "total_tokens",
    *(each.name for each in fields(TokenUsage)),
    # What the provider says it charged is money, and a fraction.
    *sorted(MEASURES - {"reported_cost"}),
    "calls",
)
"""What a meter can be fed from, beside `unit.…`."""

UNIT: Final = "unit."
"""Begins the name of a count that is the quantity of events with this unit."""

PAST: Final = timedelta(days=35)
FUTURE: Final = timedelta(minutes=5)
DRIFT: Final = timedelta(minutes=5)
"""How far Stripe's clock and ours may differ. What is refused there after it was accepted is seen by
nobody who reads our dead letters, so the old end of the window is this much nearer."""
PATIENCE: Final = timedelta(hours=1)
"""How far ahead a time may be that is waited for. A clock that is further off is no drift."""

_MAX_NAME: Final = 100
_MAX_VALUE: Final = 10**15 - 1
_CUSTOMER: Final = "cus_"
_OWN_KEYS: Final = ("stripe_customer_id", "value")


class AheadError(Exception):
    """The event's time is not yet one that Stripe takes, and soon will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSource:
    """A meter, and what it is fed from.

    Attributes:
        event_name: The meter's `event_name` in Stripe.
        count: One of `COUNTS`, or `unit.` and the name of a unit.
    """

    event_name: str
    count: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterEvent:
    """What Stripe is sent.

    Attributes:
        event_name: Of which meter.
        identifier: What Stripe recognises it by.
        time: When it was used, aware.
        payload: Who pays, the value, and what it is grouped by.
    """

    event_name: str
    identifier: str
    time: datetime
    payload: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """As the stream takes it."""
        return {
            "event_name": self.event_name,
            "identifier": self.identifier,
            "timestamp": format_time(self.time),
            "payload": self.payload,
        }

    def as_form(self) -> list[tuple[str, str]]:
        """As the single endpoint takes it."""
        return [
            ("event_name", self.event_name),
            ("identifier", self.identifier),
            ("timestamp", str(int(self.time.timestamp()))),
            *((f"payload[{key}]", value) for key, value in self.payload.items()),
        ]


class MeterEvents:
    """Makes meter events.

    Args:
        meters: What is fed from what.
        dimensions: The keys of `data` that go into the payload beside the value.
    """

    def __init__(self, meters: Sequence[MeterSource], dimensions: Sequence[str] = ()) -> None:
        self.meters = tuple(meters)
        self.dimensions = tuple(dimensions)

    def of(
        self, payload: bytes, customers: Mapping[str, str], *, now: datetime
    ) -> list[MeterEvent]:
        """The meter events of a recorded event, in the order of the meters.

        Args:
            payload: The event, as the journal holds it.
            customers: Stripe's customers by subject.
            now: An aware time.

        Returns:
            Nothing, where no meter has a count of it.

        Raises:
            UnusableEventError: If Stripe would never count it; the message holds nothing of it.
            AheadError: If it would count it in a while.
        """
        event = read_event(payload)
        counted = [
            (meter, value)
            for meter in self.meters
            if (value := _value_of(event.data, meter.count)) is not None
        ]
        if not counted:
            return []
        customer = _customer_of(event.subject, customers)
        _check_time(event, now)
        common = {key: _label(event.data.get(key)) for key in self.dimensions}
        identity = identity_of(event)
        return [
            MeterEvent(
                event_name=meter.event_name,
                identifier=identifier_of(identity, meter.event_name),
                time=event.time,
                payload={"stripe_customer_id": customer, "value": str(value), **common},
            )
            for meter, value in counted
        ]


def identifier_of(identity: str, event_name: str) -> str:
    """What Stripe recognises a meter event by: one for each event and meter."""
    identifier = f"{identity}:{event_name}"
    if len(identifier) <= _MAX_NAME:
        return identifier
    return f"{identity}:{hashlib.sha256(event_name.encode()).hexdigest()[:32]}"


def meter_source(text: str) -> MeterSource:
    """Read `event_name:count`.

    >>> meter_source("llm_tokens:total_tokens")
    MeterSource(event_name='llm_tokens', count='total_tokens')

    Raises:
        SinkURLError: Naming what is allowed.
    """
    event_name, parted, count = text.rpartition(":")
    if not parted:
        raise SinkURLError(
            f"meter wants the meter's event name and a count, such as {text or 'llm_tokens'}"
            ":total_tokens"
        )
    if not event_name.strip() or not event_name.isprintable() or len(event_name) > _MAX_NAME:
        raise SinkURLError(f"meter: an event name has 1 to {_MAX_NAME} characters, in {text!r}")
    if count not in COUNTS and not (count.startswith(UNIT) and count != UNIT):
        raise SinkURLError(
            f"meter: {count!r} is no count; there are {', '.join(COUNTS)}, and unit.… for the"
            " quantity of a unit"
        )
    return MeterSource(event_name=event_name, count=count)


def checked_dimension(key: str) -> str:
    """The key, if it can stand in a payload.

    Raises:
        SinkURLError: If it has none, or a name that the payload has already.
    """
    if not key.strip() or not key.isprintable() or len(key) > _MAX_NAME or key in _OWN_KEYS:
        raise SinkURLError(f"dimension: {key!r} is no key that a payload can have beside its own")
    return key


def _value_of(data: Mapping[str, Any], count: str) -> int | None:
    if count.startswith(UNIT):
        value = data.get("quantity") if data.get("unit") == count.removeprefix(UNIT) else None
    else:
        value = data.get(count)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value != value // 1 or not 0 <= value <= _MAX_VALUE:
        # Rounding it would be a count that nobody reported.
        raise UnusableEventError(
            f"its {count} is no whole number of 15 digits at most, which is what Stripe counts"
        )
    return int(value)


def _customer_of(subject: str, customers: Mapping[str, str]) -> str:
    customer = customers.get(subject)
    if customer is not None:
        return customer
    if subject.startswith(_CUSTOMER) and subject.isprintable():
        return subject
    raise UnusableEventError(
        "its subject is no customer of Stripe's: add it to the file of customers, then"
        " `llm-metering dead retry`"
    )


def _check_time(event: CloudEvent, now: datetime) -> None:
    try:
        time = event.time.astimezone(UTC)
    except OverflowError:
        raise UnusableEventError("its time is none in UTC") from None
    if now - time > PAST - DRIFT:
        raise UnusableEventError("its time is more than 35 days ago, and Stripe takes none older")
    if time - now > PATIENCE:
        raise UnusableEventError(
            "its time is more than an hour ahead, and Stripe takes none beyond 5 minutes; when it"
            " has come, `llm-metering dead retry`"
        )
    if time - now > FUTURE:
        raise AheadError


def _label(value: object) -> str:
    # A meter with dimensions refuses an event that lacks one of them (missing_dimension_payload_keys).
    if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
        return str(value)
    return "unknown"
