"""The checks of the settings that say where events go, and what sinks need to know."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from ..errors import ConfigurationError
from .found import Found, expand_path, refusal

__all__ = [
    "DEFAULT_EVENT_ID",
    "DELIVERING",
    "EVENT_IDS",
    "EVENT_TYPE_WANTED",
    "is_event_type",
    "mask_url",
    "read_webhook_secrets",
]

DEFAULT_EVENT_ID: Final = "call"
EVENT_IDS: Final = (DEFAULT_EVENT_ID, "response")
"""Under which ids events can be sent."""

EVENT_TYPE_WANTED: Final = "a CloudEvents type is wanted: 1 to 200 printable characters, no spaces"

WEBHOOK_SECRET_PREFIX: Final = "whsec_"
WEBHOOK_SECRET_BYTES: Final = (24, 64)
"""The fewest and the most bytes of a key, as Standard Webhooks wants them
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)."""

_NEXT_URL: Final = re.compile(r"[\s,]*\s[\s,]*|,+(?=[A-Za-z][A-Za-z0-9+.-]*://|memory:|$)|^,+")
"""What parts two URLs. The brokers of Kafka are parted by commas themselves, so a comma parts URLs
where the next one begins."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HALF_USERINFO: Final = re.compile(r"[^/?#\[\]]*:(?!\d*(?:[,/?#]|$))[^/?#]*")
_SECRET_PARAMETER: Final = re.compile(
    r"([?&#;][^=&#;]*(?:key|token|secret|pass|pwd|auth|sig)[^=&#;]*=)[^&#;]*", re.IGNORECASE
)
_MASK: Final = "***"
_MAX_EVENT_TYPE: Final = 200


def mask_url(url: str) -> str:
    """The URL without what may be a secret: userinfo, and parameters named like a secret.

    >>> mask_url("openmeter+https://me:hush@example.org/base?api_key=hush&name=main")
    'openmeter+https://***@example.org/base?api_key=***&name=main'
    """
    scheme = _SCHEME.match(url)
    head = scheme.group() if scheme else ""
    rest = url[len(head) :]
    if "@" in rest:
        # The last "@", since a password may hold anything; rather too much is masked.
        rest = f"{_MASK}@{rest.rpartition('@')[2]}"
    else:
        # "user:password" of a URL that a comma or a space in the password cut in two.
        rest = _HALF_USERINFO.sub(_MASK, rest, count=1) if _HALF_USERINFO.match(rest) else rest
    return head + _SECRET_PARAMETER.sub(rf"\g<1>{_MASK}", rest)


def is_event_type(value: object) -> bool:
    """Whether `value` can be the CloudEvents `type` of events.

    OpenMeter compares it with the event types of its meters, character by character: a space
    that nobody sees would leave every meter empty.

    >>> is_event_type("com.example.prompt"), is_event_type(" prompt")
    (True, False)
    """
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_EVENT_TYPE:
        return False
    return value.isprintable() and " " not in value


def read_webhook_secrets(value: str) -> tuple[bytes, ...]:
    """The keys that a receiver may check signatures with, the first of them current.

    >>> read_webhook_secrets("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
    (b'012345678901234567890123',)

    Args:
        value: One key or several, parted by white space: `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        ValueError: If it is none; without it.
    """
    keys = []
    for word in value.split():
        try:
            key = base64.b64decode(word.removeprefix(WEBHOOK_SECRET_PREFIX), validate=True)
        except ValueError:  # no base64, or not even ASCII
            key = b""
        least, most = WEBHOOK_SECRET_BYTES
        if not word.startswith(WEBHOOK_SECRET_PREFIX) or not least <= len(key) <= most:
            raise ValueError(
                f"{WEBHOOK_SECRET_PREFIX} and base64 of {least} to {most} bytes is wanted"
            )
        keys.append(key)
    if not keys:
        raise ValueError("it is empty")
    return tuple(keys)


def _sinks(found: Found) -> tuple[str, ...]:
    value = found.value
    if isinstance(value, str):
        return tuple(url for url in _NEXT_URL.split(value) if url)
    given = value if isinstance(value, Iterable) and not isinstance(value, Mapping) else (None,)
    urls = []
    for url in given:
        if not isinstance(url, str) or not url.strip():
            # The value is not repeated: a URL may hold a password.
            raise ConfigurationError(
                "sinks", f"URLs are wanted, as one string or a list of strings ({found.origin})"
            )
        urls.append(url.strip())
    return tuple(urls)


def _event_type(found: Found) -> str:
    if not isinstance(found.value, str) or not is_event_type(found.value):
        raise refusal("event_type", found, EVENT_TYPE_WANTED)
    return found.value


def _event_id(found: Found) -> str:
    if not isinstance(found.value, str) or found.value not in EVENT_IDS:
        raise refusal("event_id", found, f"one of {', '.join(EVENT_IDS)} is wanted")
    return found.value


def _token(name: str, found: Found) -> str:
    token = found.value.strip() if isinstance(found.value, str) else ""
    # It travels in an HTTP header, which takes no line break and nothing but ASCII.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            name,
            f"an API key is wanted: ASCII characters without spaces or line breaks ({found.origin})",
        )
    return token


def _webhook_secret(found: Found) -> str:
    value = found.value if isinstance(found.value, str) else ""
    try:
        read_webhook_secrets(value)
    except ValueError as error:
        raise ConfigurationError("webhook_secret", f"{error} ({found.origin})") from None
    return value


def _secret(name: str, found: Found) -> str:
    if not isinstance(found.value, str) or not found.value:
        raise ConfigurationError(name, f"a string is wanted that is not empty ({found.origin})")
    return found.value


def _kafka_properties(found: Found) -> str:
    if not isinstance(found.value, str | Path) or not str(found.value).strip():
        raise refusal("kafka_properties", found, "the path of a file is wanted")
    path = expand_path(str(found.value), "kafka_properties")
    if found.folder is not None:
        path = found.folder / path
    return str(path.absolute())


DELIVERING: Final[Mapping[str, Callable[[Found], object]]] = {
    "sinks": _sinks,
    "event_type": _event_type,
    "event_id": _event_id,
    "openmeter_token": partial(_token, "openmeter_token"),
    "webhook_secret": _webhook_secret,
    "webhook_token": partial(_token, "webhook_token"),
    "kafka_username": partial(_secret, "kafka_username"),
    "kafka_password": partial(_secret, "kafka_password"),
    "kafka_properties": _kafka_properties,
    "stripe_api_key": partial(_token, "stripe_api_key"),
    "lago_api_key": partial(_token, "lago_api_key"),
}
"""By name: returns the value in its type, or raises `ConfigurationError`."""
