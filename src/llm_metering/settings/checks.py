"""Each setting's own check: what may stand there, and how it is shown without its secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal

from ..errors import ConfigurationError, SubjectError
from ..subjects import check_subject
from .found import Found, one_of, refusal
from .paying import PAYING
from .sources import source_problem

__all__ = [
    "CHECKS",
    "DEFAULT_BACKLOG_BYTES",
    "DEFAULT_DURABILITY",
    "DEFAULT_EVENT_ID",
    "DEFAULT_RETENTION_BYTES",
    "DEFAULT_RETENTION_HOURS",
    "DEFAULT_SILENT_CALL_HOURS",
    "EVENT_IDS",
    "EVENT_TYPE_WANTED",
    "Durability",
    "Found",
    "expand_path",
    "is_event_type",
    "mask_url",
]

Durability = Literal["process", "power", "memory"]
DEFAULT_DURABILITY: Final = "process"
DURABILITIES: Final[tuple[Durability, ...]] = ("process", "power", "memory")
"""What a recorded event may survive: the death of the process, a power cut, nothing."""

DEFAULT_BACKLOG_BYTES: Final = 1 << 30
MIN_BACKLOG_BYTES: Final = 1 << 20
"""Of what a sink may be owed on disk."""

DEFAULT_EVENT_ID: Final = "call"
DEFAULT_RETENTION_HOURS: Final = 72
DEFAULT_RETENTION_BYTES: Final = 256 << 20
DEFAULT_SILENT_CALL_HOURS: Final = 1

EVENT_IDS: Final = (DEFAULT_EVENT_ID, "response")
"""Under which ids events can be sent."""

EVENT_TYPE_WANTED: Final = "a CloudEvents type is wanted: 1 to 200 printable characters, no spaces"

_SWITCH = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HALF_USERINFO = re.compile(r"[^/?#\[\]]*:(?!\d*(?:[,/?#]|$))[^/?#]*")
_SECRET_PARAMETER = re.compile(
    r"([?&#;][^=&#;]*(?:key|token|secret|pass|pwd|auth|sig)[^=&#;]*=)[^&#;]*", re.IGNORECASE
)
_MASK = "***"
_MAX_EVENT_TYPE = 200
_FOR_EVER: Final = 10_000_000


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


def expand_path(path: str, setting: str) -> Path:
    """`path` with its `~` resolved.

    Raises:
        ConfigurationError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(setting, f"{path!r} names no home directory: {error}") from error


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


def _home(found: Found) -> Path:
    value = os.fspath(found.value) if isinstance(found.value, os.PathLike) else found.value
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise refusal("home", found, "the path of a folder is wanted")
    path = expand_path(value, "home")
    if found.folder is not None:
        path = found.folder / path
    try:
        # At once: the journal must not move when the application changes its working folder.
        return path.absolute()
    except FileNotFoundError as error:
        wanted = "the working folder is gone, so an absolute path is wanted"
        raise refusal("home", found, wanted) from error


def _sinks(found: Found) -> tuple[str, ...]:
    value = found.value
    if isinstance(value, str):
        return tuple(url for url in re.split(r"[\s,]+", value) if url)
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


def _source(found: Found) -> str:
    source = found.value
    problem = source_problem(source) if isinstance(source, str) else "it is no string"
    if problem is not None or not isinstance(source, str):
        # OpenMeter would refuse every event.
        wanted = (
            "the application's name is wanted as a URI reference (in ASCII, without spaces), "
            f"such as 'my-app' or 'https://example.org/my-app', but {problem}"
        )
        raise refusal("source", found, wanted)
    return source


def _subject(found: Found) -> str:
    try:
        return check_subject(found.value)
    except SubjectError as error:
        raise SubjectError(f"subject: {error} ({found.origin})") from None


def _switch(name: str, found: Found) -> bool:
    value = found.value
    if isinstance(value, str):
        value = _SWITCH.get(value.strip().lower())
    if not isinstance(value, bool):
        raise refusal(name, found, "on or off is wanted (or true, false, 1, 0)")
    return value


def _auto_or_switch(name: str, found: Found) -> bool | None:
    if isinstance(found.value, str) and found.value.strip().lower() == "auto":
        return None
    return _switch(name, found)


def _durability(found: Found) -> Durability:
    return one_of(DURABILITIES, "durability", found)


def _backlog_bytes(found: Found) -> int:
    value = found.value
    if isinstance(value, str):
        value = int(value) if value.strip().isdecimal() else None
    if type(value) is not int or value < MIN_BACKLOG_BYTES:
        wanted = f"a number of bytes from {MIN_BACKLOG_BYTES} is wanted"
        raise refusal("backlog_bytes", found, wanted)
    return value


def _hours(name: str, found: Found, *, above_zero: bool = False) -> int | float:
    value = found.value
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    # bool is an int to Python, and `inf` and `nan` are numbers to it.
    least = "more than 0" if above_zero else "from 0"
    wanted = f"hours are wanted, {least} and below {_FOR_EVER}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FOR_EVER:
        raise refusal(name, found, wanted)
    if above_zero and value == 0:
        raise refusal(name, found, wanted)
    return int(value) if value == int(value) else value


def _retention_bytes(found: Found) -> int:
    value = found.value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refusal("retention_bytes", found, "a whole number of bytes is wanted, from 0")
    return value


def _event_type(found: Found) -> str:
    if not isinstance(found.value, str) or not is_event_type(found.value):
        raise refusal("event_type", found, EVENT_TYPE_WANTED)
    return found.value


def _event_id(found: Found) -> str:
    if not isinstance(found.value, str) or found.value not in EVENT_IDS:
        raise refusal("event_id", found, f"one of {', '.join(EVENT_IDS)} is wanted")
    return found.value


def _openmeter_token(found: Found) -> str:
    token = found.value.strip() if isinstance(found.value, str) else ""
    # It travels in an HTTP header, which takes no line break and nothing but ASCII.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "openmeter_token",
            f"an API key is wanted: ASCII characters without spaces or line breaks ({found.origin})",
        )
    return token


CHECKS: Final[Mapping[str, Callable[[Found], object]]] = {
    "home": _home,
    "sinks": _sinks,
    "source": _source,
    "subject": _subject,
    "ledger": partial(_switch, "ledger"),
    "durability": _durability,
    "backlog_bytes": _backlog_bytes,
    "retention_hours": partial(_hours, "retention_hours"),
    "retention_bytes": _retention_bytes,
    "event_type": _event_type,
    "event_id": _event_id,
    "openmeter_token": _openmeter_token,
    "tokenizer_download": partial(_switch, "tokenizer_download"),
    "taps": partial(_switch, "taps"),
    "request_stream_usage": partial(_auto_or_switch, "request_stream_usage"),
    "silent_call_hours": partial(_hours, "silent_call_hours", above_zero=True),
    **PAYING,
}
"""By name: returns the value in its type, or raises `ConfigurationError` or `SubjectError`."""
