"""What Stripe's answers mean for the events.

Sources: the errors of stripe 16.1.0 for Python (`_error.py`, `_api_requestor.py`);
https://docs.stripe.com/api/errors; for the stream
https://docs.stripe.com/api/v2/meter-event-streams: a token that has expired is answered with the code
`billing_meter_event_session_expired`. A repeated identifier has no code of its own: it is told by
the words of a 400, "An event already exists with identifier …".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from ..base import Delivery, Envelope
from ..http import Answer, judge, retry_after

__all__ = ["Fault", "fault_of", "is_duplicate", "judged"]

_CODE: Final = re.compile(r"[a-z0-9_]{1,64}")
_EXISTS: Final = "An event already exists with identifier"
_NO_METER: Final = ("No active meter", "No such meter")


@dataclass(frozen=True, slots=True)
class Fault:
    """The `error` of an answer.

    Attributes:
        code: Its code, else its type; it quotes nothing.
        message: Its words, which may quote the event: for our eyes alone.
    """

    code: str | None
    message: str

    @property
    def is_expiry(self) -> bool:
        """Whether it is the token of a session that is too old."""
        return self.code in ("billing_meter_event_session_expired", "temporary_session_expired")


def fault_of(answer: Answer) -> Fault:
    """Read an answer that is no acceptance."""
    try:
        error = json.loads(answer.body)["error"]
        found = [error.get("code"), error.get("type")]
        message = error.get("message")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Fault(None, "")
    codes = [each for each in found if isinstance(each, str) and _CODE.fullmatch(each)]
    return Fault(codes[0] if codes else None, message if isinstance(message, str) else "")


def is_duplicate(answer: Answer) -> bool:
    """Whether Stripe has the meter event already."""
    return answer.status == 400 and fault_of(answer).message.startswith(_EXISTS)


def judged(batch: Sequence[Envelope], answer: Answer, *, secret: str | None) -> Delivery:
    """Say what an answer means for the batch.

    Args:
        batch: The events that were sent.
        answer: What came back.
        secret: What no reason may show.
    """
    now = datetime.now(UTC)
    delivery = judge(batch, answer, secret=secret, now=now)
    if delivery.accepted:
        return delivery
    fault = fault_of(answer)
    reason = f"{delivery.reason}: {fault.code}" if fault.code else delivery.reason
    if any(words in fault.message for words in _NO_METER):
        # It is not this event that is wrong but the name of the meter, which a person must mend.
        told = f"{reason}: no active meter has this event name"
        return Delivery.try_later(batch, told, hold=True)
    if answer.status == 409:
        # Another request of ours holds what this one needs (https://docs.stripe.com/api/errors).
        wait = retry_after(answer.headers.get("retry-after"), now=now)
        return Delivery.try_later(batch, reason or "409 Conflict", retry_after=wait)
    return replace(delivery, reason=reason)
