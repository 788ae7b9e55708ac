"""What OpenMeter's ingest handlers make of a request: its events, or a refusal.

Source: https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c
(`openmeter/server/server.go` with the validator in front, `openmeter/ingest/httpdriver/ingest.go`,
`api/v3/handlers/events/ingest.go`, `pkg/models/problem.go`, `api/v3/apierrors`) and, for what its
decoder takes, https://github.com/cloudevents/sdk-go/tree/d6f403090375c4e07e693d28e1d4d8c7dd4475e9/v2.
Stricter than those on purpose: bytes behind the JSON, `data_base64`, and events without a
`specversion` sent to v3 as plain JSON are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Literal

from .go_url import is_go_url
from .schema import ATTRIBUTES, Problem, event_problems

__all__ = ["API", "PATHS", "Answer", "Event", "problem_answer", "read_events"]

API = Literal["v1", "v3"]
Event = dict[str, Any]

PATHS: Final[Mapping[str, API]] = {"/api/v1/events": "v1", "/api/v3/openmeter/events": "v3"}
"""Where events are posted to, and in which API that is."""

_SINGLE: Final = "application/cloudevents+json"
_BATCH: Final = "application/cloudevents-batch+json"
_JSON: Final = "application/json"
_SCHEMAS: Final = {
    _SINGLE: " #/components/schemas/Event",
    _BATCH: "",
    _JSON: " #/components/schemas/IngestEventsBody",
}
_INT32: Final = 2**31
_V3_TYPES: Final = {
    400: "bad-request",
    401: "unauthenticated",
    403: "unauthorized",
    404: "not-found",
    405: "method-not-allowed",
    500: "internal",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer.

    Attributes:
        status: Its status code.
        headers: Its headers, but for the length of the body.
        body: Its body.
        detail: What a refusal says, for those who look at the server.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    detail: str | None = None


def read_events(api: API, content_type: str | None, body: bytes) -> list[Event] | Answer:
    """Take a request apart as the handlers do.

    Args:
        api: Whose handler.
        content_type: The header as it was sent.
        body: The body as it was sent.

    Returns:
        Its events, or the answer that refuses all of them.
    """
    media_type = (content_type or "").partition(";")[0]
    media_type = media_type if api == "v1" else media_type.strip().lower()
    if not body:
        return _bad_body(api, "value is required but missing")
    if media_type not in (_SINGLE, _BATCH, _JSON):
        reason = f"header Content-Type has unexpected value {json.dumps(content_type or '')}"
        return _bad_body(api, reason)
    try:
        document = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return _bad_body(api, f"failed to decode request body: {error}")
    problems = _problems(api, media_type, document)
    if problems:
        return _invalid(api, media_type, problems)
    if api == "v1" and content_type != media_type:
        # The validator in front passes over parameters; the handler compares the whole header.
        return problem_answer(api, 400, f"invalid content type: {content_type}")
    events: list[Event] = document if isinstance(document, list) else [document]
    if media_type == _JSON and not events:
        return problem_answer(api, 400, "invalid event: no events found")
    for event in events:
        if (undecodable := _undecodable(event)) is not None:
            return problem_answer(api, 400, f"invalid event: {undecodable}")
    return events


def problem_answer(
    api: API,
    status: int,
    detail: str | None,
    *,
    headers: Mapping[str, str] | None = None,
    problems: Sequence[Problem] = (),
) -> Answer:
    """A refusal as the API writes it: a problem document (RFC 9457)."""
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Unknown"
    document: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if api == "v3":
        document["type"] = f"https://kongapi.info/konnect/{_V3_TYPES.get(status, 'error')}"
        document["instance"] = "konnect:trace:0"
    if detail is not None:
        document["detail"] = detail
    if api == "v3" and problems:
        document["invalid_parameters"] = [_invalid_parameter(problem) for problem in problems]
    return Answer(
        status,
        {"Content-Type": "application/problem+json", **(headers or {})},
        json.dumps(document).encode(),
        detail or title,
    )


def _problems(api: API, media_type: str, document: object) -> list[Problem]:
    closed = api == "v3"
    found: list[Problem] = []
    if isinstance(document, list) and media_type != _SINGLE:
        for number, event in enumerate(document):
            found += event_problems(event, closed=closed, path=(str(number),))
    elif media_type == _BATCH:
        found.append(Problem((), "type", "value must be an array"))
    else:
        found += event_problems(document, closed=closed)
    if found and media_type == _JSON:
        # It may be an event or an array of them: the validator says no more than this.
        return [Problem((), "anyOf", 'doesn\'t match any schema from "anyOf"')]
    return found


def _invalid(api: API, media_type: str, problems: Sequence[Problem]) -> Answer:
    if api == "v3":
        listed = ", ".join(
            f"{'.'.join(each.path)} [{_rule(each)}]: {each.reason}" for each in problems
        )
        return problem_answer(api, 400, f"Bad Request: {listed}", problems=problems)
    # v1 stops at the first one.
    return _bad_body(api, f"doesn't match schema{_SCHEMAS[media_type]}: {problems[0]}")


def _bad_body(api: API, reason: str) -> Answer:
    return problem_answer(api, 400, f"request body has an error: {reason}")


def _rule(problem: Problem) -> str:
    return "min_length" if problem.rule == "minLength" else problem.rule


def _invalid_parameter(problem: Problem) -> dict[str, str]:
    field = ".".join(problem.path)
    return {"field": field, "rule": _rule(problem), "reason": problem.reason, "source": ""}


def _undecodable(event: Event) -> str | None:
    """Why the CloudEvents SDK cannot read an event that is valid against the schema."""
    if event["specversion"] not in ("1.0", "0.3"):
        return f"specversion: unknown value: {event['specversion']}"
    if not is_go_url(event["source"]):
        return f"cannot parse uri ref: {event['source']}"
    if (time := event.get("time")) is not None:
        try:
            datetime.fromisoformat(time)
        except ValueError:
            # The validator knows the format and no calendar.
            return f'cannot convert "{time}" to time.Time: not in RFC3339 format'
    for key in sorted(event.keys() - ATTRIBUTES):
        if (reason := _unusable_extension(key, event[key])) is not None:
            return reason
    return None


def _unusable_extension(name: str, value: object) -> str | None:
    if not (name.isascii() and name.isalnum()):
        return f"bad key {name!r}: CloudEvents attribute names consist of letters and digits"
    if name.lower() in ATTRIBUTES - {"data"}:
        return f"bad key {name!r}: CloudEvents spec attribute MUST NOT be overwritten by extension"
    if isinstance(value, dict | list):
        return f"the value of {name!r} is no CloudEvents value"
    if isinstance(value, int | float) and not -_INT32 <= value < _INT32:
        return f"the value of {name!r} is out of range"
    return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"invalid character {name[0]!r} looking for beginning of value")
