"""HTTP for sinks: one POST, and what its outcome means for the events.

Connections are `wire`'s; whose errors end here.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import httpx

from .base import Delivery, Envelope
from .problems import named_place, problem_texts
from .reasons import shorten
from .wire import Answer, Wire, WireError

__all__ = ["Answer", "HTTPClient", "judge", "retry_after"]

MAX_RETRY_AFTER: Final = 600.0
"""Seconds; a server that asks for a day must not silence us for a day."""

IDLE_LIMIT: Final = 30.0
"""Seconds after which a connection is not used again: the other end, or a gateway between, may have
forgotten it, and a batch would have to be sent twice."""
_PASSING: Final = frozenset([408, 425, 429])
_HALF_DONE: Final = frozenset([500, 502, 504])
"""OpenMeter stores the events of a batch one by one and answers 500 at the first that fails; a
proxy does not know what became of a request whose answer it did not get."""

_QUOTED: Final = re.compile(r"""\n|[\s:=\["'(,]*\{""")

_PAGE: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE
)

_inherited: list[Wire] = []
"""Connections of a parent process. Closing one could wait for a lock that nobody holds any more,
and dropping it would warn about its sockets."""


class HTTPClient:
    """Posts batches; safe to use after a fork and from one thread after another."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: Wire | None = None
        self._idle_since = _now()
        self._to: tuple[str, Mapping[str, str]] | None = None
        self._closings = 0

    def post(
        self,
        batch: Sequence[Envelope],
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        secret: str | None = None,
        owners: Sequence[Envelope] | None = None,
        signed: Mapping[str, str] | None = None,
    ) -> Delivery:
        """Send `body`, which holds `batch`.

        Args:
            batch: The events.
            url: Where to.
            body: As it goes over the wire.
            headers: Beside User-Agent; the same for each request.
            secret: What no reason may show, even where a server repeats it.
            owners: What each element of the body was made of, if that is not one of `batch` each.
            signed: Headers of this request alone.
        """
        answer = self.exchange(batch, url, body=body, headers=headers, secret=secret, signed=signed)
        if isinstance(answer, Delivery):
            return answer
        return judge(batch, answer, secret=secret, now=datetime.now(UTC), owners=owners)

    def exchange(
        self,
        batch: Sequence[Envelope],
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        secret: str | None = None,
        signed: Mapping[str, str] | None = None,
    ) -> Answer | Delivery:
        """Send `body`, for a sink that reads the answer itself.

        Args:
            batch: The events.
            url: Where to.
            body: As it goes over the wire.
            headers: As `post` takes them.
            secret: What no reason may show.
            signed: Headers of this request alone.

        Returns:
            What came back, or what it means that nothing did.
        """
        self._forget_parent()
        try:
            wire, closings = self._take(url, headers)
        except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
            reason = f"{type(error).__name__}: check the proxy and certificate variables"
            return Delivery.try_later(batch, reason, hold=True)
        try:
            return wire.post(body, signed)
        except WireError as error:
            late, reason = f"no answer in time ({error.name})", shorten(str(error), [secret])
            reason = late if error.is_late else reason
            return Delivery.try_later(batch, reason, ambiguous=error.ambiguous)
        except UnicodeError:
            # From the resolver, for a label that is empty or longer than 63 bytes.
            return Delivery.try_later(batch, "no server can have this name", hold=True)
        finally:
            self._give_back(wire, closings)

    def close(self) -> None:
        """Close the connections; a request in flight closes its own when it is done."""
        self._forget_parent()
        with self._lock:
            self._closings += 1
            wire, self._idle = self._idle, None
        if wire is not None:
            wire.close()

    def _forget_parent(self) -> None:
        if self._pid != os.getpid():
            if self._idle is not None:
                _inherited.append(self._idle)
            self._begin()

    def _take(self, url: str, headers: Mapping[str, str]) -> tuple[Wire, int]:
        with self._lock:
            wire, self._idle = self._idle, None
            closings = self._closings
            seconds = max(now - then for now, then in zip(_now(), self._idle_since, strict=True))
            if self._to != (url, headers):
                self._to, seconds = (url, headers), IDLE_LIMIT + 1
        if wire is not None and seconds > IDLE_LIMIT:
            wire.close()
            wire = None
        return wire or Wire(url, headers), closings

    def _give_back(self, wire: Wire, closings: int) -> None:
        with self._lock:
            if closings == self._closings and self._idle is None:
                self._idle = wire
                self._idle_since = _now()
                return
        wire.close()


def _now() -> tuple[float, float]:
    # Both: of the time that a virtual machine is frozen for, as AWS Lambda freezes it between two
    # calls, the monotonic clock may know nothing, and the other one may be set back.
    return time.monotonic(), time.time()


def judge(
    batch: Sequence[Envelope],
    answer: Answer,
    *,
    secret: str | None,
    now: datetime,
    owners: Sequence[Envelope] | None = None,
) -> Delivery:
    """Say what an answer means for the batch.

    Args:
        batch: The events that were sent.
        answer: What came back.
        secret: What no reason may show.
        now: An aware time, to which an HTTP date in Retry-After is compared.
        owners: See `HTTPClient.post`.
    """
    if 200 <= answer.status < 300:
        if _is_web_page(answer):
            reason = f"{_status_line(answer.status)}, but with a web page: check the address"
            return Delivery.try_later(batch, reason, hold=True)
        return Delivery.all_accepted(batch)
    if answer.status == 413:
        return Delivery.refuse(batch, _status_line(answer.status), "size")
    if answer.status in (400, 422):
        return _refused(batch, answer, batch if owners is None else owners)
    reason = _reason(answer, secret)
    if answer.status in _PASSING or answer.status >= 500:
        wait = retry_after(answer.headers.get("retry-after"), now=now)
        ambiguous = answer.status in _HALF_DONE
        return Delivery.try_later(batch, reason, retry_after=wait, ambiguous=ambiguous)
    # A wrong key or address, or a redirect: repeating it changes nothing, and dropping events
    # for it would lose usage that was paid for.
    return Delivery.try_later(batch, reason, hold=True)


def _is_web_page(answer: Answer) -> bool:
    """Whether it is not the API that has answered.

    A login page of a proxy, and whatever shows its start page at any address, answer 200 to a POST as
    well, and have stored nothing.
    """
    return _PAGE.match(answer.body) is not None


def _refused(batch: Sequence[Envelope], answer: Answer, owners: Sequence[Envelope]) -> Delivery:
    # The reason goes into dead letters and logs, and a server's text may quote the event. Of it
    # we keep the place alone.
    reason = _status_line(answer.status)
    place = named_place(_problem_texts(answer))
    if place is None:
        return Delivery.refuse(batch, reason)
    blamed = owners[place.index].id if place.index < len(owners) else None
    return Delivery.refuse(batch, f"{reason} at {place}", blamed=blamed)


def retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, section 10.2.3), 600 at most.

    >>> retry_after("120", now=datetime(2026, 11, 21, tzinfo=UTC))
    120.0
    >>> retry_after("Sat, 21 Nov 2026 00:00:30 GMT", now=datetime(2026, 11, 21, tzinfo=UTC))
    30.0
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        # More digits than a wait can have; int() refuses thousands of them.
        seconds = float(value[:12])
    else:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _reason(answer: Answer, secret: str | None) -> str:
    status = _status_line(answer.status)
    # Only the first line, since OpenMeter's validator appends the value it refused, and no JSON, which
    # could be an event: others quote it in the same line.
    lines = [_QUOTED.split(text.strip(), maxsplit=1)[0] for text in _problem_texts(answer)]
    said = [line for line in lines if line and line not in status]
    return shorten(": ".join([status, *said]), [secret])


def _problem_texts(answer: Answer) -> list[str]:
    return problem_texts(answer.headers.get("content-type", ""), answer.body)
