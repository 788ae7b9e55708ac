"""What is a CloudEvent in Kafka: in structured mode, in binary mode, or by itself.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md,
section 3. Structured mode is told by its content type; in binary mode the attributes are headers
with the prefix `ce_` and the value is `data`. What has neither a content type nor such headers, as
where a pipeline has dropped them, is taken for structured JSON: the ledger reads it as strictly as
any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ..sinks._payload import UnusableEventError

__all__ = ["cloud_event"]

_PREFIX: Final = "ce_"
_STRUCTURED: Final = "application/cloudevents"
_STRUCTURED_JSON: Final = "application/cloudevents+json"
_JSON: Final = re.compile(r"application/json|text/json|[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+\+json")
_ATTRIBUTE: Final = re.compile(r"[a-z0-9]+")
_NO_ATTRIBUTES: Final = frozenset(["data", "data_base64", "datacontenttype"])

_any: Final = msgspec.json.Decoder(dict[str, Any])

Headers = Sequence[tuple[str, bytes | None]]


def cloud_event(value: bytes | None, headers: Headers) -> bytes:
    """The CloudEvent in structured JSON that a record holds; the ledger says whether it is usage.

    Args:
        value: The record's.
        headers: The record's, in their order.

    Raises:
        UnusableEventError: If it holds none, in words that quote nothing of it.
    """
    if value is None:
        raise UnusableEventError("it has no value (a tombstone)")
    found = _headers(headers)
    content_type = found.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == _STRUCTURED_JSON:
        return value
    if content_type.startswith(_STRUCTURED):
        raise UnusableEventError("its CloudEvents content type is not application/cloudevents+json")
    attributes = {
        name.removeprefix(_PREFIX): text for name, text in found.items() if name != "content-type"
    }
    if attributes:
        return _assembled(attributes, content_type, value)
    if content_type and not _JSON.fullmatch(content_type):
        raise UnusableEventError("its content type is neither JSON nor that of a CloudEvent")
    return value


def _headers(headers: Headers) -> dict[str, str]:
    """Those that a CloudEvent has: names are compared in lower case, as receivers should."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key != "content-type" and not key.startswith(_PREFIX):
            continue
        if key in found:
            raise UnusableEventError("one of its CloudEvents headers is there twice")
        try:
            found[key] = (value or b"").decode()
        except UnicodeDecodeError:
            raise UnusableEventError("one of its CloudEvents headers is not UTF-8") from None
    return found


def _assembled(attributes: dict[str, str], content_type: str, value: bytes) -> bytes:
    if "specversion" not in attributes:
        raise UnusableEventError("it has CloudEvents headers, but no ce_specversion")
    for name in attributes:
        if name in _NO_ATTRIBUTES or not _ATTRIBUTE.fullmatch(name):
            raise UnusableEventError("one of its CloudEvents headers is no attribute")
    if content_type and not _JSON.fullmatch(content_type):
        raise UnusableEventError("its data is not JSON, as its content type says")
    try:
        # Looked at by itself: a value such as `{}, "subject": "…"` must not become a part of the
        # event's own fields.
        _any.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnusableEventError(f"its data is no JSON object: {error}") from None
    except RecursionError:
        raise UnusableEventError("its data is nested too deeply") from None
    event: dict[str, Any] = dict(attributes)
    if content_type:
        event["datacontenttype"] = content_type
    event["data"] = msgspec.Raw(value)
    return msgspec.json.encode(event)
