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
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..errors import ConfigurationError, SinkURLError
from ..settings.checks import EVENT_IDS, EVENT_TYPE_WANTED, is_event_type
from ._payload import UnusableEventError
from .base import Delivery, Envelope, SinkLimits
from .http import HTTPClient, check_url
from .shapes import SHAPES, WireForm, event_type_of, wire_form

__all__ = ["OpenMeterSink", "from_url"]

CONTENT_TYPE: Final = "application/cloudevents-batch+json"
LIMITS: Final = SinkLimits(max_events=100, max_bytes=512 * 1024, dedupe="optional")
"""Of one request."""

_GROWTH: Final = 32 * 1024
"""What ids, types and kinds may add to the bytes of a batch that is reshaped."""

_PATHS: Final[Mapping[str, str]] = {
    "v1": "/api/v1/events",
    "v3": "/api/v3/openmeter/events",
}
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
_UNITS: Final[Mapping[str, timedelta]] = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_MAX_WINDOW: Final = 5
"""Digits of it."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


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
        self.token = _checked_token(token)
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


def from_url(
    url: str,
    *,
    source: str,
    openmeter_token: str | None,
    event_type: str | None = None,
    event_id: str = "call",
) -> OpenMeterSink:
    """Make the sink that `openmeter+https://host[:port][/base][?parameters]` names.

    Args:
        url: What a parameter of it says wins over the arguments.
        source: The account where the URL names none.
        openmeter_token: The API key.
        event_type: The CloudEvents `type` of what is sent.
        event_id: `call` or `response`.

    Raises:
        SinkURLError: Naming what is wrong and what is allowed, never what may be a secret.
    """
    try:
        parts = urlsplit(url)
        base = _base(parts)
        check_url(base)
        parameters = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        if isinstance(error, SinkURLError):
            raise
        # urllib quotes what it could not read, and a password may be in it.
        raise SinkURLError("the host or port of an openmeter sink cannot be read") from None
    given = dict(parameters)
    if len(given) < len(parameters) or not set(given) <= set(_PARAMETERS):
        raise SinkURLError(
            f"an openmeter sink takes the parameters {', '.join(_PARAMETERS)}, each once; "
            "a key belongs in the environment variable OPENMETER_API_KEY"
        )
    api = _one_of("api", given.get("api", "v1"), tuple(_PATHS))
    event_type = given.get("event_type", event_type)
    if event_type is not None and not is_event_type(event_type):
        raise SinkURLError(f"event_type: {EVENT_TYPE_WANTED}")
    return OpenMeterSink(
        base,
        account=_filled("account", given.get("account", source)),
        token=openmeter_token,
        api=api,
        name=_filled("name", given.get("name", "openmeter")),
        shape=_one_of("shape", given.get("shape", "call"), SHAPES),
        event_type=event_type,
        event_id=_one_of("event_id", given.get("event_id", event_id), EVENT_IDS),
        dedupe_window=_window(given.get("dedupe_window")),
    )


def _base(parts: SplitResult) -> str:
    if parts.username is not None or parts.password is not None:
        raise SinkURLError(
            "an openmeter sink takes no user or password; "
            "put its key in the environment variable OPENMETER_API_KEY"
        )
    if not parts.hostname:
        raise SinkURLError("an openmeter sink needs a host: openmeter+https://openmeter.cloud")
    if parts.fragment:
        raise SinkURLError("an openmeter sink takes no fragment ('#…')")
    scheme = parts.scheme.removeprefix("openmeter+")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # One server has one name, which the journal's debts are kept under.
    port = "" if parts.port in (None, _DEFAULT_PORTS[scheme]) else f":{parts.port}"
    return f"{scheme}://{host}{port}{parts.path.rstrip('/')}"


def _window(value: str | None) -> timedelta | None:
    if value is None:
        return _DEDUPE_WINDOW
    if value == "none":
        return None
    number, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not number.isdecimal() or len(number) > _MAX_WINDOW:
        raise SinkURLError(
            "dedupe_window is how long the server knows an event it has had, such as 24h or 32d;"
            " none is for ever"
        )
    return int(number) * unit


def _one_of(parameter: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise SinkURLError(f"{parameter} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def _filled(parameter: str, value: str) -> str:
    if not value.strip():
        raise SinkURLError(f"{parameter} must not be empty")
    return value


def _checked_token(token: str | None) -> str | None:
    token = (token or "").strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token:
        # httpx would quote the whole header in its error.
        raise ConfigurationError("openmeter_token", "holds characters no HTTP header can carry")
    return token
