"""What goes into the event of a response: its time, its flags, what is measured and counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from ..calls import counts_of, needs_counting
from ..events import UsageEvent
from ..exchange import Counted, Exchange
from ..extract import output as output_of
from ..extract.reading import Reading
from ..service_tiers import agreed
from ..subjects import Attribution
from ..token_usage import TokenUsage
from .arguments import model_of

__all__ = [
    "exchange_of",
    "flags_of",
    "on_tier",
    "time_of",
    "with_amount",
    "with_count",
    "with_tier",
]

EARLIEST: Final = datetime(2015, 1, 1, tzinfo=UTC)
LATEST: Final = timedelta(minutes=5)
"""A provider's time before the one or further ahead than the other is no time of an answer."""


def with_amount(event: UsageEvent, amount: float, unit: str | None) -> UsageEvent:
    """The event, of so much of a unit as well."""
    provenance = "reported" if event.usage is None else event.provenance
    return replace(event, quantity=amount, unit=unit, provenance=provenance)


def with_count(
    event: UsageEvent, reading: Reading, attribution: Attribution, counted: Counted
) -> UsageEvent:
    """The event, with what we counted where nothing was reported."""
    usage, provenance, count_method = counts_of(event.status, reading, counted)
    return replace(
        event,
        usage=usage,
        provenance=provenance,
        count_method=count_method,
        flags=flags_of(attribution, reading, usage),
    )


def with_tier(event: UsageEvent, tier: str) -> UsageEvent:
    """The event, of a call that was served on this tier."""
    return replace(event, service_tier=tier)


def on_tier(reading: Reading, said: str) -> Reading:
    """The reading of a response, of whose call somebody says on which tier it was served."""
    tier, flags = agreed(reading.service_tier, said, reading.flags)
    return dataclasses.replace(reading, service_tier=tier, flags=flags)


def flags_of(
    attribution: Attribution, reading: Reading, usage: TokenUsage | None
) -> tuple[str, ...]:
    """What was odd about who pays, the response, and its counts."""
    flags = attribution.flags + reading.flags
    return flags if usage is None or usage.is_consistent else (*flags, "usage_inconsistent")


def exchange_of(
    response: object,
    reading: Reading,
    request: Mapping[str, Any] | None,
    model: str | None,
    provider: str | None,
) -> Exchange | None:
    """What there is to count; `None` if all is known, or nothing can be counted."""
    if not needs_counting("completed", reading):
        return None
    output = output_of(response)
    if request is None and not output:
        return None
    return Exchange(
        model=reading.model or model or model_of(request),
        provider=provider or reading.provider,
        request=request,
        output=output,
    )


def time_of(reading: Reading, now: datetime) -> datetime:
    """The provider's time of the answer if it is plausible, else now."""
    created = reading.created
    return created if created is not None and EARLIEST <= created <= now + LATEST else now
