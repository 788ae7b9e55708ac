"""CloudEvents over HTTP, for any server that a company writes itself.

A request is a structured batch (CloudEvents 1.0.2, HTTP protocol binding, 3.3, and JSON format, 4:
https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents). With a secret it is signed as Standard
Webhooks 1.0.0 has it
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):

- The signature is of the id, the time of this attempt and the body, joined with full stops.
- While keys are changed there is a signature by each of them, parted by spaces.
- The id is the same whenever the same request is made again.

There, 410 means that the receiver wants no more. Here it pauses the sink, as a wrong address does:
usage is never thrown away because a server says so.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import msgspec

from ..errors import ConfigurationError
from ..settings.delivering import read_webhook_secrets
from ._payload import UnusableEventError, read_event
from .base import Delivery, Envelope, SinkContext, SinkLimits
from .http import HTTPClient
from .urls import filled, http_base, parameters_of, split_url, whole_number, window_of

__all__ = ["CloudEventsSink", "from_url", "signed_headers"]

CONTENT_TYPE: Final = "application/cloudevents-batch+json"
LIMITS: Final = SinkLimits(max_events=100, max_bytes=512 * 1024, dedupe="unknown")
"""Of one request."""

_SINK: Final = "a cloudevents"
_SECRETS: Final = (
    "a key belongs in the environment variable LLM_METERING_WEBHOOK_SECRET, a token in"
    " LLM_METERING_WEBHOOK_TOKEN"
)
_PARAMETERS: Final = ("max_events", "dedupe_window", "account", "name")


class CloudEventsSink:
    """Posts batches of events to a URL, signed if there are keys.

    Args:
        endpoint: Where to: `https://example.org/usage`.
        account: Whose books it writes: by default the name of the application.
        keys: What it signs with, the current one first; without any it does not sign.
        token: A bearer token, if the receiver wants one.
        name: How `status` calls it.
        max_events: Events of one request.
        dedupe_window: How long the receiver knows an event it has had; `None` is for ever. What it
            may have had longer ago is not sent again.
        clock: Seconds since 1970, for the time of each attempt.

    Attributes:
        endpoint: Where to.
        keys: What it signs with; never part of what is shown.
        token: The bearer token; never part of what is shown.

    Raises:
        ConfigurationError: If the token cannot stand in a header. The message does not hold it.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        account: str,
        keys: Sequence[bytes] = (),
        token: str | None = None,
        name: str = "cloudevents",
        max_events: int = LIMITS.max_events,
        dedupe_window: timedelta | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.url = f"cloudevents+{endpoint}"
        self.account = account
        self.limits = replace(LIMITS, max_events=max_events, dedupe_window=dedupe_window)
        self.endpoint = endpoint
        self.keys = tuple(keys)
        self.token = _checked_token(token)
        self._clock = clock
        self._headers = {"Content-Type": CONTENT_TYPE}
        if self.token is not None:
            self._headers["Authorization"] = f"Bearer {self.token}"
        self._http = HTTPClient()

    def __repr__(self) -> str:
        return f"<CloudEventsSink {self.name} {self.url} account={self.account}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        readable: list[Envelope] = []
        names: list[tuple[str, str]] = []
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                event = read_event(envelope.payload)
            except UnusableEventError as error:
                # One of these would make the whole request unreadable.
                rejected.add((envelope.id, str(error)))
            else:
                readable.append(envelope)
                names.append((event.source, event.id))
        if not readable:
            return Delivery(rejected=frozenset(rejected))
        body = b"[" + b",".join([envelope.payload for envelope in readable]) + b"]"
        delivery = self._http.post(
            readable,
            self.endpoint,
            body=body,
            headers=self._headers,
            secret=self.token,
            signed=signed_headers(_request_id(names), body, keys=self.keys, now=self._clock()),
        )
        return replace(delivery, rejected=frozenset(rejected)) if rejected else delivery

    def close(self) -> None:
        self._http.close()


def signed_headers(
    request_id: str, body: bytes, *, keys: Sequence[bytes], now: float
) -> dict[str, str]:
    """The headers of Standard Webhooks for one request.

    Args:
        request_id: The same for the same request; it holds no full stop.
        body: As it goes over the wire.
        keys: What it is signed with; without any there is nothing to add.
        now: Seconds since 1970, of this attempt.
    """
    if not keys:
        return {}
    timestamp = str(int(now))
    signed = b".".join([request_id.encode(), timestamp.encode(), body])
    signatures = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    return {
        "webhook-id": request_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(
            f"v1,{base64.b64encode(signature).decode()}" for signature in signatures
        ),
    }


def _request_id(names: Sequence[tuple[str, str]]) -> str:
    # Derived, not drawn: a receiver that goes by it must know a request it has had, even when
    # another process makes it after ours was killed.
    return f"msg_{hashlib.sha256(msgspec.json.encode(sorted(names))).hexdigest()[:32]}"


def from_url(url: str, context: SinkContext) -> CloudEventsSink:
    """Make the sink that `cloudevents+https://host[:port]/path[?parameters]` names.

    Args:
        url: Its path is kept as it is, since a slash at its end may matter to the receiver.
        context: What else holds; the keys are its secret `webhook_secret`, the bearer token is
            `webhook_token`.

    Raises:
        SinkURLError: Naming what is wrong and what is allowed, never what may be a secret.
        ConfigurationError: If a secret cannot be used; without it.
    """
    parts = split_url(url, _SINK)
    endpoint = http_base(
        parts,
        _SINK,
        prefix="cloudevents+",
        secrets=_SECRETS,
        example="cloudevents+https://example.org/usage",
        keep_path=True,
    )
    given = parameters_of(parts, _SINK, _PARAMETERS, secrets=_SECRETS)
    return CloudEventsSink(
        endpoint,
        account=filled("account", given.get("account", context.source)),
        keys=_keys(context.credentials.get("webhook_secret")),
        token=context.credentials.get("webhook_token"),
        name=filled("name", given.get("name", "cloudevents")),
        max_events=whole_number(
            "max_events", given.get("max_events", str(LIMITS.max_events)), least=1
        ),
        dedupe_window=window_of(given.get("dedupe_window", "none")),
    )


def _keys(secret: str | None) -> tuple[bytes, ...]:
    if secret is None:
        return ()
    try:
        return read_webhook_secrets(secret)
    except ValueError as error:
        raise ConfigurationError("webhook_secret", str(error)) from None


def _checked_token(token: str | None) -> str | None:
    token = (token or "").strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        # httpx would quote the whole header in its error.
        raise ConfigurationError("webhook_token", "holds characters no HTTP header can carry")
    return token
