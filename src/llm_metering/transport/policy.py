"""When to send and how long to wait: decisions only, no clock and no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ..sinks.base import Delivery, Envelope
from ..sinks.reasons import shorten

__all__ = ["BACKOFF_CAP", "LINGER", "PROBE_EVERY", "SinkState", "Standing", "after", "complete"]

SinkState = Literal["ok", "backoff", "paused", "closed"]

LINGER: Final = 1.0
"""Seconds an event waits for company before a batch that is not full is sent."""
PROBE_EVERY: Final = 60.0
"""Seconds between two tries while only a person can mend the trouble."""
BACKOFF_BASE: Final = 0.5
BACKOFF_CAP: Final = 60.0
RETRY_AFTER_CAP: Final = 600.0
"""A hostile or broken `Retry-After` must not park a sink for longer than this."""
MAX_REASON: Final = 1000
"""Characters: the path of a file may be in it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a sink stands with its server.

    Attributes:
        state: `ok`, `backoff`, `paused` or `closed`.
        reason: Why it is not `ok`; never a payload, never a secret.
        failures: Failed tries in a row.
        wait: Seconds to the next try.
        floor: Of those, the seconds the server itself asked for, which no flush cuts short.
    """

    state: SinkState = "ok"
    reason: str | None = None
    failures: int = 0
    wait: float = 0.0
    floor: float = 0.0


def after(delivery: Delivery, before: Standing, *, chance: float) -> Standing:
    """Say how a sink stands after a delivery.

    Nothing is ever given up: what a sink did not take is offered again, for ever, under the
    same ids. Waiting has full jitter; after an outage every process would otherwise come back
    at once.

    Args:
        delivery: What became of the batch.
        before: How the sink stood.
        chance: A random number between 0 and 1.
    """
    if delivery.refusal is not None or not (delivery.retryable or delivery.hold):
        # A server that refuses events for what they are is well; its next answer may be awaited.
        return Standing()
    failures = before.failures + 1
    floor = min(max(delivery.retry_after or 0.0, 0.0), RETRY_AFTER_CAP)
    if delivery.hold:
        return Standing("paused", delivery.reason, failures, max(PROBE_EVERY, floor), floor)
    # 2**7 * 0.5 is above the cap already; a larger exponent would only overflow.
    ceiling = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** min(failures - 1, 7))
    return Standing("backoff", delivery.reason, failures, max(chance * ceiling, floor), floor)


def complete(delivery: Delivery, batch: Sequence[Envelope]) -> Delivery:
    """Make sure that a sink's answer speaks of each event it was given, and can be shown.

    What it says nothing of is offered again; taking silence for consent would lose an event.
    """
    if delivery.reason is not None or delivery.rejected:
        rejected = frozenset((each, _shown(reason)) for each, reason in delivery.rejected)
        reason = None if delivery.reason is None else _shown(delivery.reason)
        delivery = replace(delivery, reason=reason, rejected=rejected)
    if delivery.accepted.issuperset([envelope.id for envelope in batch]):
        return delivery
    dead = {event_id for event_id, _ in delivery.rejected}
    spoken_of = delivery.accepted | delivery.retryable | dead
    silent = frozenset(envelope.id for envelope in batch) - spoken_of
    if not silent:
        return delivery
    told = delivery.reason or f"no answer about {len(silent)} events of {len(batch)}"
    return replace(delivery, retryable=delivery.retryable | silent, reason=told)


def _shown(reason: object) -> str:
    # A sink may be anybody's. What is no text could not be read back by `status`.
    return shorten(reason if isinstance(reason, str) else type(reason).__name__, most=MAX_REASON)
