"""OpenMeter, over its HTTP API.

Source: the ingest handlers and the API documents of OpenMeter,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/ingest/httpdriver/ingest.go`, `api/openapi.yaml`). Facts that shape this module:

- v1 compares the Content-Type with a plain string: with a charset behind it, it answers 400.
- 2xx (204 in v1, 202 in v3) says that the server has the batch in memory.
- It deduplicates on `source` + `id` only where an operator switched that on; ids never change,
  so that it can.
- Where it is on, it knows an event it has had for 24 hours unless its operator chose another time
  (`dedupe.config.expiration` of the Redis driver, `app/config/dedupe.go`).
- There is no stated limit. 100 events are what its own collector sends at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from ..errors import ConfigurationError, SinkURLError
from ..settings.delivering import EVENT_IDS, EVENT_TYPE_WANTED, is_event_type
from ._payload import UnusableEventError
from .base import Delivery, Envelope, SinkContext, SinkLimits
from .http import HTTPClient
from .shapes import SHAPES, WireForm, event_type_of, wire_form
from .urls import filled, http_base, one_of, parameters_of, split_url, window_of

__all__ = ["OpenMeterSink", "checked_token", "from_url"]

CONTENT_TYPE: Final = "application/cloudevents-batch+json"
LIMITS: Final = SinkLimits(max_events=100, max_bytes=512 * 1024, dedupe="optional")
"""Of one request."""

_GROWTH: Final = 32 * 1024
"""What ids, types and kinds may add to the bytes of a batch that is reshaped."""

_PATHS: Final[Mapping[str, str]] = {
    "v1": "/api/v1/events",
    "v3": "/api/v3/openmeter/events",
}
_SINK: Final = "an openmeter"
_SECRETS: Final = "a key belongs in the environment variable OPENMETER_API_KEY"
_PARAMETERS: Final = (
    "api",
    "shape",
    "event_type",
    "event_id",
    "dedupe_window",
    "account",
    "name",
)
_DEDUPE_WINDOW: Final = timedelta(hours=24)


class OpenMeterSink:
    """Sends events to an OpenMeter server: as they are in the journal, or in another shape.

    Whether the server counts a repeated event once is the server's setting.
    What became of a batch is told by recorded event, however many are sent for it.

    Args:
        base: Where its API begins: `https://openmeter.cloud`.
        account: Whose books it writes: by default the name of the application.
        token: Its API key; OpenMeter's open source server has none.
        api: `v1` or `v3`.
        name: How `status` calls it.
        shape: One of `SHAPES`.
        event_type: The CloudEvents `type` of what is sent; the shape's own if left out.
        event_id: `call`, or `response` to send events under their providers' response ids.
        dedupe_window: How long the server knows an event it has had; `None` is for ever. What it may
            have had longer ago is not sent again.

    Attributes:
        base: Where its API begins.
        api: `v1` or `v3`.
        shape: One of `SHAPES`.
        event_type: The CloudEvents `type` of what is sent for a call.
        event_id: `call` or `response`.
        token: The API key; it is never part of what is shown.

    Raises:
        ConfigurationError: If the token cannot stand in a header. The message does not hold it.
    """

    def __init__(
        self,
        base: str,
        *,
        account: str,
        token: str | None = None,
        api: str = "v1",
        name: str = "openmeter",
        shape: str = "call",
        event_type: str | None = None,
        event_id: str = "call",
        dedupe_window: timedelta | None = _DEDUPE_WINDOW,
    ) -> None:
        self.name = name
        # Each shape is a book of its own, with other ids and other meters, and one server may
        # keep two of them. Another type or id only renames what is in the same book.
        self.url = f"openmeter+{base}" if shape == "call" else f"openmeter+{base}?shape={shape}"
        self.account = account
        self._form = wire_form(shape, event_type=event_type, event_id=event_id)
        self.limits = replace(_limits(self._form), dedupe_window=dedupe_window)
        self.base = base
        self.api = api
        self.shape = shape
        self.event_type = event_type or event_type_of(shape)
        self.event_id = event_id
        self.token = checked_token(token)
        self._endpoint = base + _PATHS[api]
        self._headers = {"Content-Type": CONTENT_TYPE}
        if self.token is not None:
            self._headers["Authorization"] = f"Bearer {self.token}"
        self._http = HTTPClient()

    def __repr__(self) -> str:
        return f"<OpenMeterSink {self.name} {self.url} account={self.account}>"

    def deliver(self, batch: Sequence[Envelope], /) -> Delivery:
        if self._form is None:
            return self._post(batch, [envelope.payload for envelope in batch], batch)
        readable: list[Envelope] = []
        events: list[bytes] = []
        owners: list[Envelope] = []
        rejected: set[tuple[str, str]] = set()
        for envelope in batch:
            try:
                encoded = self._form.encode(envelope.payload)
            except UnusableEventError as error:
                rejected.add((envelope.id, str(error)))
            else:
                readable.append(envelope)
                events += encoded
                owners += [envelope] * len(encoded)
        return replace(self._post(readable, events, owners), rejected=frozenset(rejected))

    def wire_events(self, payload: bytes) -> list[bytes]:
        """What is sent for a recorded event: one or several CloudEvents, each under an id of its own.

        Args:
            payload: The event, as the journal holds it.

        Raises:
            UnusableEventError: If it is none that can be sent.
        """
        return [payload] if self._form is None else self._form.encode(payload)

    def _post(
        self, batch: Sequence[Envelope], events: Sequence[bytes], owners: Sequence[Envelope]
    ) -> Delivery:
        if not batch:
            return Delivery()
        body = b"[" + b",".join(events) + b"]"
        return self._http.post(
            batch,
            self._endpoint,
            body=body,
            headers=self._headers,
            secret=self.token,
            owners=owners,
        )

    def close(self) -> None:
        self._http.close()


def _limits(form: WireForm | None) -> SinkLimits:
    """Recorded events that stay within the limits of one request, whatever becomes of them."""
    if form is None:
        return LIMITS
    return replace(
        LIMITS,
        max_events=LIMITS.max_events // form.most_events,
        max_bytes=(LIMITS.max_bytes - _GROWTH) // form.most_events,
    )


def from_url(url: str, context: SinkContext) -> OpenMeterSink:
    """Make the sink that `openmeter+https://host[:port][/base][?parameters]` names.

    Args:
        url: What a parameter of it says wins over the context.
        context: What else holds; the key is its secret `openmeter_token`.

    Raises:
        SinkURLError: Naming what is wrong and what is allowed, never what may be a secret.
    """
    parts = split_url(url, _SINK)
    base = http_base(
        parts,
        _SINK,
        prefix="openmeter+",
        secrets=_SECRETS,
        example="openmeter+https://openmeter.cloud",
    )
    given = parameters_of(parts, _SINK, _PARAMETERS, secrets=_SECRETS)
    event_type = given.get("event_type", context.event_type)
    if event_type is not None and not is_event_type(event_type):
        raise SinkURLError(f"event_type: {EVENT_TYPE_WANTED}")
    return OpenMeterSink(
        base,
        account=filled("account", given.get("account", context.source)),
        token=context.credentials.get("openmeter_token"),
        api=one_of("api", given.get("api", "v1"), tuple(_PATHS)),
        name=filled("name", given.get("name", "openmeter")),
        shape=one_of("shape", given.get("shape", "call"), SHAPES),
        event_type=event_type,
        event_id=one_of("event_id", given.get("event_id", context.event_id), EVENT_IDS),
        dedupe_window=window_of(given.get("dedupe_window", "24h")),
    )


def checked_token(token: str | None) -> str | None:
    """A key without the space around it; `None` if nothing is left of it.

    Raises:
        ConfigurationError: If it cannot stand in a header. The message does not hold it.
    """
    token = (token or "").strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        # httpx would quote the whole header in its error.
        raise ConfigurationError("openmeter_token", "holds characters no HTTP header can carry")
    return token
