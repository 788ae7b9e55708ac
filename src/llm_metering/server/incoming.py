"""A request's body as events: what OpenMeter's ingest takes, checked to the last byte.

What goes on from here was written anew from what was checked, so that nothing reads it otherwise: of a
key that stands there twice, readers of JSON take the first or the last.

Source: `ingestEvents` of `api/openapi.yaml`,
https://github.com/openmeterio/openmeter/tree/7e57a394a0283fb210a644685ad1d257f6d5c85c, and
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

from ..errors import SubjectError
from ..ledger import UnusableEventError, check_event
from ..settings.sources import source_problem
from ..subjects import check_subject
from .problems import Refusal

__all__ = ["CONTENT_TYPES", "Incoming", "is_deeper", "read_events"]

SINGLE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
EITHER: Final = "application/json"
CONTENT_TYPES: Final = (SINGLE, BATCH, EITHER)

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
_OTHER_SIGNS: Final = bytes(each for each in range(256) if each not in b'"[]{}')
_innermost: Final = re.compile(rb"\[\]|\{\}")
_extension: Final = re.compile(r"[a-z0-9]{1,40}").fullmatch
_MOST_EXTENSIONS: Final = 20


class _Attributes(msgspec.Struct, kw_only=True):
    """What CloudEvents knows of an event, and OpenMeter takes."""

    id: _Name
    source: _Name
    type: _Name
    subject: _Name
    specversion: Literal["1.0"] = "1.0"
    time: datetime | None = None
    datacontenttype: Literal["application/json"] | None = None
    dataschema: str | None = None
    data: dict[str, Any] | None = None


class Incoming(msgspec.Struct, frozen=True):
    """An event that can be recorded.

    Attributes:
        number: Which of its request it is, from 0.
        id: Its id.
        source: Its source.
        subject: Who pays.
        payload: It, in structured JSON.
        content: What it says, but for the time if whoever sent it did not say that: by this the same
            event is known when it comes again.
    """

    number: int
    id: str
    source: str
    subject: str
    payload: bytes
    content: bytes

    @property
    def dated(self) -> bool:
        """Whether whoever sent it said when it was."""
        return self.content is self.payload


# A request's events are of one source mostly, and all of them of a few.
_source_problem: Final = lru_cache(1000)(source_problem)
_body: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode
_KNOWN: Final = frozenset(_Attributes.__struct_fields__)


def read_events(
    content_type: str,
    body: bytes,
    *,
    now: datetime,
    payer: Callable[[str, str], str],
    max_events: int,
    max_event: int,
) -> list[Incoming]:
    """The events of a request.

    Args:
        content_type: The media type, without parameters.
        body: The body.
        now: When events were that do not say so.
        payer: Who pays, of an event's source and subject.
        max_events: How many there may be.
        max_event: Bytes of one.

    Raises:
        Refusal: If one of them cannot be recorded: then none is. It names the number of the event.
    """
    if content_type not in CONTENT_TYPES:
        raise Refusal(415, f"the content type is one of {', '.join(CONTENT_TYPES)}")
    try:
        document = _body.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    several = isinstance(document, list)
    if several == (content_type == SINGLE) and content_type != EITHER:
        wanted = "one event" if content_type == SINGLE else "a list of events"
        raise Refusal(400, f"{content_type} is {wanted}")
    listed = document if several else [document]
    if not listed:
        raise Refusal(400, "there is no event in the body")
    if len(listed) > max_events:
        raise Refusal(413, f"a request has at most {max_events} events")
    events = []
    for number, each in enumerate(listed):
        try:
            events.append(_read(number, each, now, payer, max_event))
        except Refusal as refusal:
            refusal.extra["event"] = number
            raise
    return events


def is_deeper(body: bytes, depth: int) -> bool:
    """Whether JSON is nested more deeply than that; of what is no JSON it may say either."""
    if body.count(b"{") + body.count(b"[") <= depth:
        return False
    # All of it in C: a batch has hundreds of brackets, and thousands of quotes.
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    rest = b"".join(body.translate(None, _OTHER_SIGNS).split(b'"')[::2])
    for _ in range(depth):
        rest = _innermost.sub(b"", rest)
        if not rest:
            return False
    return True


def _read(
    number: int,
    given: object,
    now: datetime,
    payer: Callable[[str, str], str],
    max_event: int,
) -> Incoming:
    if not isinstance(given, dict):
        raise Refusal(400, "an event is a JSON object")
    try:
        event = msgspec.convert(given, _Attributes)
    except msgspec.ValidationError as error:
        # It names a place and types, never a value.
        raise Refusal(400, f"no CloudEvent: {error}") from None
    if event.time is not None and event.time.tzinfo is None:
        raise Refusal(400, "no CloudEvent: its time names no zone")
    try:
        time = (event.time or now).astimezone(UTC)
    except OverflowError:
        raise Refusal(400, "no CloudEvent: its time is on no calendar") from None
    if (problem := _source_problem(event.source)) is not None:
        raise Refusal(400, f"no CloudEvent: its source cannot be one: {problem}")
    extensions = _extensions(given)
    subject = payer(event.source, event.subject)
    try:
        check_subject(subject)
    except SubjectError:
        raise Refusal(400, "its subject cannot be one") from None
    written: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": subject,
        "time": time,
        **{
            name: value
            for name in ("datacontenttype", "dataschema")
            if (value := getattr(event, name)) is not None
        },
        **extensions,
        "data": event.data or {},
    }
    try:
        payload = _encode(written)
        if len(payload) > max_event:
            raise Refusal(413, f"an event has at most {max_event} bytes")
        check_event(payload)
    except (UnicodeEncodeError, UnicodeDecodeError):
        raise Refusal(400, "it holds what is no text") from None
    except UnusableEventError as error:
        raise Refusal(400, f"it cannot be counted: {error}") from None
    content = payload if event.time is not None else _encode({**written, "time": None})
    return Incoming(number, event.id, event.source, subject, payload, content)


def _extensions(given: dict[str, Any]) -> dict[str, str | int | bool]:
    """Attributes that CloudEvents does not know, kept for who reads the event behind us."""
    names = given.keys() - _KNOWN
    if len(names) > _MOST_EXTENSIONS:
        raise Refusal(400, f"no CloudEvent: it has more than {_MOST_EXTENSIONS} extensions")
    for name in names:
        if not _extension(name):
            raise Refusal(
                400, "no CloudEvent: extensions are named in lower-case letters and digits"
            )
        if not isinstance(given[name], str | int):
            raise Refusal(400, "no CloudEvent: an extension is a text, a number or true or false")
    return {name: given[name] for name in sorted(names)}
