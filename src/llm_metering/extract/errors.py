"""Bodies in which a provider refuses a request instead of answering it.

Source: openai 3.54.0 `openai/types/shared/error_object.py`, anthropic 2.12.0
`anthropic/types/error_response.py`, https://cloud.google.com/apis/design/errors (Google),
https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html (`{"message": …}`,
`__type`), https://docs.cohere.com/reference/errors (`{"id", "message"}`), FastAPI's `{"detail": …}`
(Mistral, vLLM), https://openrouter.ai/docs/api-reference/errors. Nobody pays for a refusal.

An error beside a usage is no refusal: something was generated first, and the call failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from .reading import NOTHING, Reading
from .views import as_list, as_mapping

__all__ = ["read", "reason_of"]

SHAPE: Final = "error"
_NO_NAME: Final = "error"

_STATUS_CODES: Final = ("status_code", "statusCode", "HTTPStatusCode", "http_status")
_NAMES: Final = ("code", "Code", "type", "__type", "status", "error_type")
_IDENTIFIER: Final = re.compile(r"[a-z0-9_]{1,40}")
_LARGEST_STATUS: Final = 99_999

# A body with a message and nothing but these beside it has no answer in it.
_BESIDE_A_MESSAGE: Final = frozenset(
    [
        *("message", "Message", "detail", "id", "object", "param", "raw_status_code"),
        *("request_id", "requestId", "RequestId", "user_id", "ResponseMetadata"),
        *_STATUS_CODES,
        *_NAMES,
    ]
)


def reason_of(error: object, beside: Mapping[str, Any] = NOTHING) -> str:
    """A short identifier of an error: its HTTP status, else its code, type or status.

    Never its message, which may repeat the prompt, nor a name in another form than the providers'
    codes have: a server may put there what it likes.

    >>> reason_of({"message": "No such model: x", "code": "model_not_found", "type": "invalid"})
    'model_not_found'

    Args:
        error: The provider's error object.
        beside: The body it stands in, asked where the error itself has no name.
    """
    for place in (as_mapping(error) or NOTHING, beside):
        for name in _STATUS_CODES:
            if _is_status(status := place.get(name)):
                return str(status)
        for name in _NAMES:
            value = place.get(name)
            if _is_status(value):
                return str(value)
            if isinstance(value, str) and value != _NO_NAME and _IDENTIFIER.fullmatch(value):
                return value
    return _NO_NAME


def _is_status(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_STATUS


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read a refusal; `None` if the body is none."""
    error = body.get("error") or body.get("Error")
    if error:
        return _refused(error, body)
    if body.get("type") == "error" or body.get("object") == "error":
        return _refused(body)
    message = body.get("message") or body.get("Message") or body.get("detail")
    if (isinstance(message, str) or as_list(message)) and body.keys() <= _BESIDE_A_MESSAGE:
        return _refused(body)
    return None


def _refused(error: object, beside: Mapping[str, Any] = NOTHING) -> Reading:
    metadata = as_mapping(beside.get("ResponseMetadata")) or NOTHING
    reason = reason_of(error, beside)
    if reason == _NO_NAME and metadata:
        reason = reason_of(metadata)
    return Reading(shape=SHAPE, ending="refused", reason=reason)
