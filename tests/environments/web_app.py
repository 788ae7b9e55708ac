"""A WSGI application that meters a call for each request, and one while it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import llm_metering

from .children import USAGE

LOADED = llm_metering.record(USAGE, "nobody", model="gpt-5-mini")


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer with the process's id and the ids of the events that were recorded by then."""
    event = llm_metering.record(USAGE, "customer-42", model="gpt-5-mini")
    assert LOADED is not None
    assert event is not None
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {LOADED.id} {event.id}".encode()]
