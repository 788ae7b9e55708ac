"""Stripe's meter events, as strict as the published API: what it refuses, this refuses.

The stream answers 200 to whatever has the right form, and looks at it afterwards: what it then
drops is in `dropped`, by the codes of Stripe's error report
(`v1.billing.meter.error_report_triggered` in stripe 16.1.0; a repeated identifier is `duplicate`
here, since Stripe says nothing of those).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.sinks.webhook_receiver import Answer, Request, WebhookReceiver

KEY = "sk_test_hunter2"
FIELDS = {"event_name", "identifier", "payload", "timestamp"}
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}\.[a-z]+")
_METERS = "/v1/billing/meters"


class StripeServer(WebhookReceiver):
    """Both of Stripe's hosts; `meters` are the event names that have a meter."""

    def __init__(self, *meters: str) -> None:
        super().__init__()
        self.meters = meters or ("llm_tokens",)
        self.customers: set[str] | None = None
        self.customer_key = "stripe_customer_id"
        self.counted: list[dict[str, Any]] = []
        self.dropped: list[tuple[str, str]] = []
        self.tokens: dict[str, datetime] = {}
        self.lifetime = timedelta(minutes=15)
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.when_stored: Callable[[], object] = lambda: None

    @property
    def base(self) -> str:
        return f"stripe+http://127.0.0.1:{self.port}"

    def values(self, meter: str, customer: str | None = None) -> list[int]:
        """What a meter has counted, of one customer or of all."""
        return [
            int(event["payload"]["value"])
            for event in self.counted
            if event["event_name"] == meter
            and customer in (None, event["payload"]["stripe_customer_id"])
        ]

    def take(self, request: Request) -> Answer:
        self.received.append(request)
        order = self.orders.pop(0) if self.orders else None
        if order is not None and not order.stores:
            return order
        answer = self._route(request)
        return order or answer

    def _route(self, request: Request) -> Answer:
        path = urlsplit(request.path).path
        if request.method == "GET":
            if not self._is_key(request):
                return _no_key()
            return self._listed(request) if path == _METERS else self._summaries(request)
        if request.method != "POST":
            return _error(404, None, "Unrecognized request URL.")
        if not VERSION.fullmatch(request.headers.get("Stripe-Version", "")):
            return _error(400, "stripe_version_required", "Stripe-Version wants a version.")
        kind = request.headers.get("Content-Type")
        if path == "/v2/billing/meter_event_session":
            if not self._is_key(request):
                return _no_key()
            if kind != "application/json" or json.loads(request.body) != {}:
                return _error(400, "unknown_field", "This takes no fields.")
            return self._session()
        if path == "/v2/billing/meter_event_stream":
            return self._refused_token(request) or self._stream(kind, request.body)
        if path == "/v1/billing/meter_events":
            if not self._is_key(request):
                return _no_key()
            return self._single(kind, request.body)
        return _error(404, None, f"Unrecognized request URL (POST: {path}).")

    def _is_key(self, request: Request) -> bool:
        return bool(request.headers["Authorization"] == f"Bearer {KEY}")

    def _session(self) -> Answer:
        token = f"token_hunter2_{len(self.tokens)}"
        begun = self.now()
        self.tokens[token] = begun + self.lifetime
        return _json(
            200,
            {
                "id": f"mes_{len(self.tokens)}",
                "object": "v2.billing.meter_event_session",
                "authentication_token": token,
                "created": _rfc3339(begun),
                "expires_at": _rfc3339(self.tokens[token]),
                "livemode": False,
            },
        )

    def _refused_token(self, request: Request) -> Answer | None:
        token = (request.headers["Authorization"] or "").removeprefix("Bearer ")
        if token not in self.tokens:
            return _error(401, "unauthorized", "No such session.")
        if self.now() >= self.tokens[token]:
            return _error(
                401,
                "billing_meter_event_session_expired",
                "The session has expired.",
                kind="temporary_session_expired",
            )
        return None

    def _stream(self, kind: str | None, body: bytes) -> Answer:
        if kind != "application/json":
            return _error(400, "invalid_content_type", "JSON is wanted.")
        try:
            content = json.loads(body)
        except ValueError:
            return _error(400, "invalid_json", "This is no JSON.")
        if set(content) != {"events"} or not isinstance(content["events"], list):
            return _error(400, "unknown_field", "Only events are wanted.")
        events = content["events"]
        if not 1 <= len(events) <= 100:
            return _error(400, "invalid_array_length", "1 to 100 events are wanted.")
        for event in events:
            problem = _misshapen(event) or self._poisoned(event)
            if problem:
                return _error(400, "invalid_field", f"{problem} in {json.dumps(event)}")
        for event in events:
            time = datetime.fromisoformat(event["timestamp"])
            self._count(event | {"time": time})
        self.when_stored()
        return _json(200, {})

    def _poisoned(self, event: dict[str, Any]) -> str | None:
        """What is refused at once, whatever it is, and the whole request with it."""
        hit = self.poison is not None and event["identifier"].startswith(self.poison)
        return "poison" if hit else None

    def _count(self, event: dict[str, Any]) -> None:
        code = self._fault(event)
        customer = event["payload"].get("stripe_customer_id")
        if code is None and self.customers is not None and customer not in self.customers:
            code = "meter_event_customer_not_found"
        if code is not None:
            self.dropped.append((event["identifier"], code))
        else:
            self.counted.append(event | {"seen": self.now()})

    def _fault(self, event: dict[str, Any]) -> str | None:
        value = event["payload"].get("value", "")
        if event["event_name"] not in self.meters:
            return "no_meter"
        if self._has(event["identifier"]):
            return "duplicate"
        if not event["payload"].get("stripe_customer_id"):
            return "meter_event_no_customer_defined"
        if not re.fullmatch(r"-?\d+", value):
            return "meter_event_invalid_value"
        if len(value.lstrip("-0")) > 15:
            return "meter_event_value_too_many_digits"
        if event["time"] > self.now() + timedelta(minutes=5):
            return "timestamp_in_future"
        if event["time"] < self.now() - timedelta(days=35):
            return "timestamp_too_far_in_past"
        return None

    def _has(self, identifier: str) -> bool:
        # Uniqueness is promised for a day, and nothing beyond it.
        since = self.now() - timedelta(hours=24)
        return any(
            event["identifier"] == identifier and event["seen"] > since for event in self.counted
        )

    def _single(self, kind: str | None, body: bytes) -> Answer:
        if kind != "application/x-www-form-urlencoded":
            return _error(400, None, "A form is wanted.")
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True)
        event: dict[str, Any] = {"payload": {}}
        for key, value in pairs:
            inner = re.fullmatch(r"payload\[([^\]]+)\]", key)
            if inner:
                event["payload"][inner[1]] = value
            elif key in FIELDS - {"payload"}:
                event[key] = value
            else:
                return _error(400, "parameter_unknown", f"Received unknown parameter: {key}")
        problem = _misshapen(event | {"timestamp": "2026-11-22T00:00:00.000Z"})
        problem = problem or self._poisoned(event)
        if problem or not event.get("timestamp", "").isdecimal():
            return _error(400, "parameter_invalid", f"{problem or 'timestamp'}: {body!r}")
        event["time"] = datetime.fromtimestamp(int(event["timestamp"]), UTC)
        code = self._fault(event)
        if code == "no_meter":
            name = event["event_name"]
            return _error(400, None, f"Invalid event_name: {name}. No active meter found.")
        if code == "duplicate":
            identifier = event["identifier"]
            return _error(400, None, f"An event already exists with identifier {identifier}.")
        if code is not None:
            return _error(400, code, f"Not for {event['payload']}")
        self._count(event)
        self.when_stored()
        return _json(200, {"object": "billing.meter_event", "identifier": event["identifier"]})

    def _listed(self, request: Request) -> Answer:
        """Two on a page, however many are asked for."""
        query = {key: values[0] for key, values in parse_qs(urlsplit(request.path).query).items()}
        if set(query) - {"status", "limit", "starting_after"}:
            return _error(400, "parameter_unknown", "Received unknown parameters")
        after = query.get("starting_after", "mtr_").removeprefix("mtr_")
        begin = self.meters.index(after) + 1 if after else 0
        data = [
            {
                "id": f"mtr_{name}",
                "object": "billing.meter",
                "event_name": name,
                "status": "active",
                "customer_mapping": {"type": "by_id", "event_payload_key": self.customer_key},
                "value_settings": {"event_payload_key": "value"},
                "default_aggregation": {"formula": "sum"},
            }
            for name in self.meters[begin : begin + 2]
        ]
        has_more = begin + 2 < len(self.meters)
        return _json(200, {"object": "list", "url": _METERS, "data": data, "has_more": has_more})

    def _summaries(self, request: Request) -> Answer:
        parts = urlsplit(request.path)
        found = re.fullmatch(r"/v1/billing/meters/mtr_(\w+)/event_summaries", parts.path)
        if found is None or found[1] not in self.meters:
            return _error(404, "resource_missing", "No such meter")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        start, end = int(query["start_time"]), int(query["end_time"])
        if start % 60 or end % 60:
            return _error(400, None, "Times must be aligned with minute boundaries.")
        total = sum(
            int(event["payload"]["value"])
            for event in self.counted
            if event["event_name"] == found[1]
            and event["payload"]["stripe_customer_id"] == query["customer"]
            and start <= event["time"].timestamp() < end
        )
        summary = {"object": "billing.meter_event_summary", "aggregated_value": float(total)}
        return _json(200, {"object": "list", "has_more": False, "data": [summary]})


def _misshapen(event: Any) -> str | None:
    if not isinstance(event, dict) or set(event) != FIELDS:
        return "fields"
    texts = [event["event_name"], event["identifier"], event["timestamp"]]
    if not all(isinstance(text, str) and 0 < len(text) <= 100 for text in texts):
        return "a text"
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event["timestamp"]):
        return "timestamp"
    payload = event["payload"]
    if not isinstance(payload, dict) or not all(
        isinstance(each, str) for each in (*payload, *payload.values())
    ):
        return "payload"
    return None


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(status: int, body: dict[str, Any]) -> Answer:
    return Answer(
        status=status,
        headers=(("Content-Type", "application/json"),),
        body=json.dumps(body).encode(),
    )


def _error(
    status: int, code: str | None, message: str, *, kind: str = "invalid_request_error"
) -> Answer:
    error = {"type": kind, "message": message} | ({"code": code} if code else {})
    return _json(status, {"error": error})


def _no_key() -> Answer:
    return _error(401, None, "Invalid API Key provided: sk_test_***ter2")
