"""Where usage events go, and how a URL names it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from ..errors import SinkURLError
from .base import Dedupe, Delivery, Envelope, Refusal, Sink, SinkLimits

__all__ = ["Dedupe", "Delivery", "Envelope", "Refusal", "Sink", "SinkLimits", "open_sink"]

_MODULES: Final[Mapping[str, str]] = {
    "memory": "memory",
    "openmeter+http": "openmeter",
    "openmeter+https": "openmeter",
}
"""The module of each scheme; each has `from_url`. They are imported when they are asked for,
so that nobody pays for the libraries of a sink they do not use."""


def open_sink(
    url: str,
    *,
    source: str,
    openmeter_token: str | None = None,
    event_type: str | None = None,
    event_id: str = "call",
) -> Sink:
    """Make the sink that `url` names; it connects when it delivers.

    Args:
        url: `memory:`, or `openmeter+https://host[:port][/base]` with the parameters `api`,
            `shape`, `event_type`, `event_id`, `account` and `name`.
        source: The application's name; the account of sinks whose URL names none.
        openmeter_token: The key of OpenMeter's cloud, if it needs one.
        event_type: The CloudEvents `type` that OpenMeter sinks send where their URL names none.
        event_id: Under which id they send an event where their URL does not say: `call` or
            `response`.

    Raises:
        SinkURLError: If there is no such sink or its URL makes no sense. The message never
            holds the URL, in which somebody may have put a key.
    """
    try:
        scheme = urlsplit(url.strip()).scheme
    except ValueError:
        # urllib quotes the part of the URL that a password would stand in.
        raise SinkURLError("a sink's URL cannot be read; is its host complete?") from None
    module = _MODULES.get(scheme)
    if module is None:
        known = ", ".join(f"{name}:" for name in _MODULES)
        problem = f"unknown scheme {scheme!r}" if scheme else "a sink's URL begins with a scheme"
        hint = f" (for OpenMeter write openmeter+{scheme}://…)" if scheme.startswith("http") else ""
        raise SinkURLError(f"{problem}; there are {known}{hint}")
    options: dict[str, str | None] = {"source": source, "openmeter_token": openmeter_token}
    if module == "openmeter":
        options |= {"event_type": event_type, "event_id": event_id}
    sink: Sink = importlib.import_module(f".{module}", __name__).from_url(url.strip(), **options)
    return sink
