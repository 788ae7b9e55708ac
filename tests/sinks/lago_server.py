"""Lago's endpoint for batches of events, as strict as lago-api.

It answers as `app/services/events/create_batch_service.rb` and
`app/controllers/concerns/api_errors.rb` of
https://github.com/getlago/lago-api/tree/1b1c24a6a6c321d7900b05906bf1b20f706c97c2 do. What lago-api
drops without a word (a field it does not know, a property that is a list) is in `violations`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl

from tests.sinks.webhook_receiver import Answer, Request, WebhookReceiver

KEY = "lago-hunter2"
FIELDS = {"transaction_id", "external_subscription_id", "code", "timestamp", "properties"}


class LagoServer(WebhookReceiver):
    """One organisation, its events in PostgreSQL, or with `clickhouse` in ClickHouse."""

    def __init__(self, *, clickhouse: bool = False, most: int = 100) -> None:
        super().__init__()
        self.clickhouse = clickhouse
        self.most = most
        self.codes = ["llm_tokens"]
        self.events: dict[tuple[str, ...], dict[str, Any]] = {}
        self.violations: list[str] = []
        self.when_stored: Callable[[], object] = lambda: None

    @property
    def base(self) -> str:
        return f"lago+http://127.0.0.1:{self.port}"

    def take(self, request: Request) -> Answer:
        self.received.append(request)
        order = self.orders.pop(0) if self.orders else None
        if order is not None and not order.stores:
            return order
        answer = self._batch(request)
        return order or answer

    def _batch(self, request: Request) -> Answer:
        path, _, query = request.path.partition("?")
        if (request.method, path) == ("GET", "/api/v1/billable_metrics"):
            if request.headers["Authorization"] != f"Bearer {KEY}":
                return _json(401, {"status": 401, "error": "Unauthorized"})
            return self._metrics(int(dict(parse_qsl(query))["page"]))
        if (request.method, request.path) != ("POST", "/api/v1/events/batch"):
            return _json(404, {"status": 404, "error": "Not Found", "code": "resource_not_found"})
        if request.headers["Authorization"] != f"Bearer {KEY}":
            return _json(401, {"status": 401, "error": "Unauthorized"})
        if request.headers["Content-Type"] != "application/json":
            return _invalid({"events": ["no_events"]})
        try:
            events = json.loads(request.body).get("events")
        except ValueError:
            return _json(400, {"status": 400, "error": "BadRequest: no JSON"})
        if not events:
            return _invalid({"events": ["no_events"]})
        if len(events) > self.most:
            return _invalid({"events": ["too_many_events"]})
        faults = {str(index): fault for index, each in enumerate(events) if (fault := _fault(each))}
        faults |= {
            str(index): {"properties": ["value_is_invalid"]}
            for index, each in enumerate(events)
            if self.poison is not None and each["transaction_id"].startswith(self.poison)
        }
        if faults:
            return _invalid(faults)
        self.violations += [problem for each in events for problem in _dropped(each)]
        return self._store(events)

    def _metrics(self, page: int) -> Answer:
        """Two on a page, however many are asked for."""
        listed = self.codes[2 * page - 2 : 2 * page]
        metrics = [{"code": code, "aggregation_type": "sum_agg"} for code in listed]
        following = page + 1 if 2 * page < len(self.codes) else None
        meta = {"current_page": page, "next_page": following}
        return _json(200, {"billable_metrics": metrics, "meta": meta})

    def _store(self, events: list[dict[str, Any]]) -> Answer:
        held = dict(self.events)
        repeated: dict[str, Any] = {}
        for index, event in enumerate(events):
            identity = event["external_subscription_id"], event["transaction_id"]
            if self.clickhouse:
                held[*identity, event["code"], str(event["timestamp"])] = event
            elif identity in held:
                repeated[str(index)] = {"transaction_id": ["value_already_exist"]}
            else:
                held[identity] = event
        if repeated:
            return _invalid(repeated)
        self.events = held
        self.when_stored()
        now = datetime.now(UTC).isoformat()
        return _json(200, {"events": [each | {"created_at": now} for each in events]})


def _fault(event: dict[str, Any]) -> dict[str, list[str]]:
    fault = {
        field: ["value_is_mandatory"] for field in ("transaction_id", "code") if not event[field]
    }
    try:
        Decimal(str(event["timestamp"]))
    except InvalidOperation:
        fault["timestamp"] = ["invalid_format"]
    return fault


def _dropped(event: dict[str, Any]) -> list[str]:
    unknown = [f"field {each}" for each in set(event) ^ FIELDS]
    strange = [
        f"property {key}"
        for key, value in event["properties"].items()
        if isinstance(value, bool) or not isinstance(value, str | int | float)
    ]
    texts = ("transaction_id", "external_subscription_id", "code")
    return unknown + strange + [f"{key} is no text" for key in texts if type(event[key]) is not str]


def _invalid(details: dict[str, Any]) -> Answer:
    return _json(
        422,
        {
            "status": 422,
            "error": "Unprocessable Entity",
            "code": "validation_errors",
            "error_details": details,
        },
    )


def _json(status: int, body: dict[str, Any]) -> Answer:
    return Answer(
        status=status,
        headers=(("Content-Type", "application/json"),),
        body=json.dumps(body).encode(),
    )
