"""Reading a sink's URL: what the sinks have in common, and errors that repeat nothing secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

import httpx

from ..errors import SinkURLError

__all__ = [
    "filled",
    "http_base",
    "one_of",
    "parameters_of",
    "repeated_of",
    "split_url",
    "whole_number",
    "window_of",
]

_DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_NO_HOST: Final = re.compile(r"[^A-Za-z0-9_.:%\-\x80-\U0010FFFF]")
"""What is in no name of any script, and in no address."""

_MAX_PARAMETERS: Final = 20
_MAX_DIGITS: Final = 15
_UNITS: Final[Mapping[str, timedelta]] = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_MAX_WINDOW: Final = 5
"""Digits of it."""


def split_url(url: str, sink: str) -> SplitResult:
    """Take a URL apart.

    Args:
        url: The sink's.
        sink: Its name, for errors.

    Raises:
        SinkURLError: If it cannot be read; without the part that a password would stand in, which
            urllib quotes.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SinkURLError(f"the host of {sink} sink cannot be read") from None
    if parts.fragment:
        raise SinkURLError(f"{sink} sink takes no fragment ('#…')")
    return parts


def parameters_of(
    parts: SplitResult, sink: str, allowed: Sequence[str], *, secrets: str
) -> dict[str, str]:
    """The parameters of a URL.

    Args:
        parts: The URL.
        sink: Its sink, for errors.
        allowed: Which it may have.
        secrets: Where a secret belongs that somebody may have put here.

    Raises:
        SinkURLError: If there are others, or one is there twice.
    """
    try:
        parameters = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise SinkURLError(f"the parameters of {sink} sink cannot be read") from None
    given = dict(parameters)
    if len(given) < len(parameters) or not set(given) <= set(allowed):
        raise SinkURLError(
            f"{sink} sink takes the parameters {', '.join(allowed)}, each once; {secrets}"
        )
    return given


def repeated_of(
    parts: SplitResult, sink: str, names: Sequence[str]
) -> tuple[SplitResult, dict[str, list[str]]]:
    """Take out of a URL the parameters that may be there more than once.

    Args:
        parts: The URL.
        sink: Its sink, for errors.
        names: Which.

    Returns:
        The URL without them, and the values of each in their order.

    Raises:
        SinkURLError: If the parameters cannot be read.
    """
    try:
        given = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError:
        raise SinkURLError(f"the parameters of {sink} sink cannot be read") from None
    found = {name: [value for key, value in given if key == name] for name in names}
    rest = [(key, value) for key, value in given if key not in found]
    return parts._replace(query=urlencode(rest)), found


def http_base(
    parts: SplitResult,
    sink: str,
    *,
    prefix: str,
    secrets: str,
    example: str,
    keep_path: bool = False,
) -> str:
    """Where an HTTP sink posts to, in the one spelling that debts are kept under.

    Args:
        parts: The URL.
        sink: Its sink, for errors.
        prefix: What stands before `http` in its scheme.
        secrets: Where a key belongs.
        example: A URL that is right.
        keep_path: The path is the whole address, in which a slash at the end may matter; without
            it the path is where an API begins, and the slash goes.

    Raises:
        SinkURLError: If nothing can be posted there.
    """
    if parts.username is not None or parts.password is not None:
        raise SinkURLError(f"{sink} sink takes no user or password; {secrets}")
    if not parts.hostname:
        raise SinkURLError(f"{sink} sink needs a host: {example}")
    scheme = parts.scheme.removeprefix(prefix)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if _NO_HOST.search(parts.hostname):
        # Two URLs, mostly, with a semicolon between them: all would be sent to neither.
        raise SinkURLError(f"the host or port of {sink} sink cannot be read")
    try:
        # One server has one name, which the journal's debts are kept under.
        port = "" if parts.port in (None, _DEFAULT_PORTS[scheme]) else f":{parts.port}"
        # The root alone is the same with a slash and without (RFC 3986, section 6.2.3).
        path = parts.path if keep_path and parts.path != "/" else parts.path.rstrip("/")
        base = f"{scheme}://{host}{port}{path}"
        httpx.URL(base)
    except (ValueError, httpx.InvalidURL):
        raise SinkURLError(f"the host or port of {sink} sink cannot be read") from None
    return base


def one_of(parameter: str, value: str, allowed: Sequence[str]) -> str:
    """The value, if it is one of those allowed.

    Raises:
        SinkURLError: If it is none.
    """
    if value not in allowed:
        raise SinkURLError(f"{parameter} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def filled(parameter: str, value: str) -> str:
    """The value, if there is anything in it.

    Raises:
        SinkURLError: If there is not.
    """
    if not value.strip():
        raise SinkURLError(f"{parameter} must not be empty")
    return value


def whole_number(parameter: str, value: str, *, least: int) -> int:
    """The number that a parameter gives.

    Raises:
        SinkURLError: If it is none, or too small.
    """
    if not (value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS) or (
        int(value) < least
    ):
        raise SinkURLError(f"{parameter} must be a whole number from {least}, got {value!r}")
    return int(value)


def window_of(value: str) -> timedelta | None:
    """The time of a parameter `dedupe_window`; `None` is for ever.

    >>> window_of("32d")
    datetime.timedelta(days=32)

    Raises:
        SinkURLError: If it is none.
    """
    if value == "none":
        return None
    number, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not number.isdecimal() or len(number) > _MAX_WINDOW:
        raise SinkURLError(
            "dedupe_window is how long the server knows an event it has had, such as 24h or 32d;"
            " none is for ever"
        )
    return int(number) * unit
