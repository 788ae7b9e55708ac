"""The two ways that Stripe takes meter events.

Sources: stripe 16.1.0 for Python: `v2/billing/_meter_event_session_service.py`,
`v2/billing/_meter_event_stream_service.py`, `billing/_meter_event.py`, and `__init__.py` for the
hosts; https://docs.stripe.com/api/v2/meter-event-streams. Facts that shape this module:

- The stream takes 100 meter events in one request of JSON, checks them afterwards, and has a host
  and a token of its own; the token comes from a session and lasts 15 minutes.
- The single endpoint takes one in a form, and refuses it at once if it is wrong.
- Every request to /v2 names a version of the API.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol
from urllib.parse import urlencode

import msgspec

from ..base import Delivery, Envelope
from ..http import Answer, HTTPClient
from .answers import fault_of, is_duplicate, judged
from .meter_events import MeterEvent

__all__ = ["API_VERSION", "Sender", "Single", "Stream"]

API_VERSION: Final = "2026-10-28.endive"
"""The version of stripe 16.1.0, whose shapes these are."""

_RENEW_BEFORE: Final = 60.0
"""Seconds before its end in which a token is used no more: a request takes its time."""
_SHORTEST: Final = 10.0
"""Seconds that a token is used for at least, however short the server says it lasts."""

Made = tuple[Envelope, Sequence[MeterEvent]]
"""A recorded event and what is sent for it."""


class Sender(Protocol):
    """One of the ways; `most` is how many meter events go in one batch."""

    most: int

    def send(self, made: Sequence[Made]) -> Delivery:
        """Send what was made of each event, all of which is to arrive."""

    def close(self) -> None:
        """Let go of connections."""


class Stream:
    """`/v2/billing/meter_event_stream`, with a session.

    Args:
        api: Where sessions begin: `https://api.stripe.com`.
        stream: Where events go: `https://meter-events.stripe.com`.
        key: The secret key.
        clock: Seconds since 1970, for the age of a token.
    """

    most = 100

    def __init__(
        self, api: str, stream: str, *, key: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._session_url = f"{api}/v2/billing/meter_event_session"
        self._stream_url = f"{stream}/v2/billing/meter_event_stream"
        self._key = key
        self._clock = clock
        self._token: str | None = None
        self._renew_at = 0.0
        common = {"Content-Type": "application/json", "Stripe-Version": API_VERSION}
        self._to_api = common | {"Authorization": f"Bearer {key}"}
        self._to_stream = common
        self._sessions = HTTPClient()
        self._events = HTTPClient()

    def send(self, made: Sequence[Made]) -> Delivery:
        batch = [envelope for envelope, _ in made]
        body = msgspec.json.encode(
            {"events": [each.as_json() for _, several in made for each in several]}
        )
        for may_renew in (True, False):
            refused = self._begin_session(batch)
            if refused is not None:
                return refused
            answer = self._events.exchange(
                batch,
                self._stream_url,
                body=body,
                headers=self._to_stream,
                secret=self._token,
                signed={"Authorization": f"Bearer {self._token}"},
            )
            if isinstance(answer, Delivery):
                return answer
            expired = answer.status >= 400 and fault_of(answer).is_expiry
            if not (expired or answer.status == 401):
                return judged(batch, answer, secret=self._token)
            # Nothing of it was taken, and the next token may be a better one.
            self._token = None
            if not may_renew:
                break
        return Delivery.try_later(batch, "a new session's token is refused", hold=True)

    def _begin_session(self, batch: Sequence[Envelope]) -> Delivery | None:
        if self._token is not None and self._clock() < self._renew_at:
            return None
        self._token = None
        answer = self._sessions.exchange(
            batch, self._session_url, body=b"{}", headers=self._to_api, secret=self._key
        )
        if isinstance(answer, Delivery):
            # No event was on its way yet.
            return Delivery.try_later(
                batch, f"no session: {answer.reason}", hold=answer.hold, ambiguous=False
            )
        if 200 <= answer.status < 300:
            return self._keep(batch, answer)
        told = judged(batch, answer, secret=self._key)
        # No event is to blame for what became of a request that held none.
        passing = told.refusal is None and not told.hold
        return Delivery.try_later(
            batch, f"no session: {told.reason}", retry_after=told.retry_after, hold=not passing
        )

    def _keep(self, batch: Sequence[Envelope], answer: Answer) -> Delivery | None:
        try:
            session = json.loads(answer.body)
            token = session["authentication_token"]
            begun, ends = (
                datetime.fromisoformat(session[key]) for key in ("created", "expires_at")
            )
            # Both by Stripe's clock, whatever ours says.
            seconds = (ends - begun).total_seconds()
        except (ValueError, KeyError, TypeError, RecursionError):
            return Delivery.try_later(batch, "no session: its answer cannot be read")
        if not (isinstance(token, str) and token.isascii() and token.isprintable() and token):
            return Delivery.try_later(batch, "no session: its answer cannot be read")
        self._token = token
        self._renew_at = self._clock() + max(seconds - _RENEW_BEFORE, _SHORTEST)
        return None

    def close(self) -> None:
        self._sessions.close()
        self._events.close()


class Single:
    """`/v1/billing/meter_events`, one meter event a request.

    Args:
        api: Where the API begins: `https://api.stripe.com`.
        key: The secret key.
    """

    most = 25

    def __init__(self, api: str, *, key: str) -> None:
        self._url = f"{api}/v1/billing/meter_events"
        self._key = key
        self._headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Stripe-Version": API_VERSION,
            "Authorization": f"Bearer {key}",
        }
        self._http = HTTPClient()

    def send(self, made: Sequence[Made]) -> Delivery:
        taken: list[str] = []
        for index, (envelope, several) in enumerate(made):
            for position, each in enumerate(several):
                told = self._send_one(envelope, each)
                if not told.accepted:
                    rest = [other for other, _ in made[index:]]
                    return _broken_off(taken, rest, told, in_part=position > 0)
            taken.append(envelope.id)
        return Delivery(accepted=frozenset(taken))

    def _send_one(self, envelope: Envelope, each: MeterEvent) -> Delivery:
        answer = self._http.exchange(
            [envelope],
            self._url,
            body=urlencode(each.as_form()).encode(),
            headers=self._headers,
            secret=self._key,
        )
        if isinstance(answer, Delivery):
            return answer
        if is_duplicate(answer):
            return Delivery.all_accepted([envelope])
        return judged([envelope], answer, secret=self._key)

    def close(self) -> None:
        self._http.close()


def _broken_off(
    taken: Sequence[str], rest: Sequence[Envelope], told: Delivery, *, in_part: bool
) -> Delivery:
    """What became of a batch that ended at its first event of `rest`."""
    reason = told.reason or "not taken"
    return Delivery(
        accepted=frozenset(taken),
        retryable=frozenset(envelope.id for envelope in rest),
        # Who sends such a dead letter again a day later bills what was taken twice.
        reason=f"{reason}; another meter has taken its part" if in_part else reason,
        retry_after=told.retry_after,
        hold=told.hold,
        refusal=told.refusal,
        blamed=rest[0].id if told.refusal else None,
        ambiguous=told.ambiguous or in_part,
    )
