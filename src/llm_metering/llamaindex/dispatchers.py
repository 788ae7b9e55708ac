"""Our handlers on LlamaIndex's root dispatcher, which all events and spans reach.

LlamaIndex has no way to take a handler off, and takes any number (llama-index-instrumentation 0.6.0,
`dispatcher.py`); two of ours would bill each call twice. Handlers are pydantic models, which are
equal when their fields are, so they are told apart by identity.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from llama_index_instrumentation import get_dispatcher

from .event_handler import MeteringEventHandler
from .span_handler import MeteringSpanHandler

__all__ = ["put", "spans"]

_events: Final = MeteringEventHandler()
spans: Final = MeteringSpanHandler()
"""The one of this process."""
_putting: Final = threading.Lock()


def put() -> None:
    """Put them there; idempotent, also where this package was imported anew, as in a notebook."""
    root = get_dispatcher()
    with _putting:
        root.event_handlers[:] = _with(root.event_handlers, _events)
        root.span_handlers[:] = _with(root.span_handlers, spans)


def _with(handlers: list[Any], ours: Any) -> list[Any]:
    if any(each is ours for each in handlers):
        return [each for each in handlers if each is ours or not _is_like(each, ours)]
    return [*_without(handlers, ours), ours]


def _without(handlers: list[Any], ours: Any) -> list[Any]:
    return [each for each in handlers if not _is_like(each, ours)]


def _is_like(handler: Any, ours: Any) -> bool:
    """Whether it is ours, by its name: what was imported before is of another class."""
    name = getattr(type(handler), "class_name", None)
    return callable(name) and name() == ours.class_name()
