"""Our handlers on LlamaIndex's root dispatcher, which all events and spans reach.

LlamaIndex has no way to take a handler off, and takes any number (llama-index-instrumentation 0.6.0,
`dispatcher.py`); two of ours would bill each call twice. Handlers are pydantic models, which are
equal when their fields are, so they are told apart by identity.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from llama_index_instrumentation import get_dispatcher

from .embeddings import watch_embeddings
from .event_handler import MeteringEventHandler
from .rerankers import watch_rerankers
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
        watch_embeddings()
        watch_rerankers()
        _put(root.event_handlers, _events)
        _put(root.span_handlers, spans)


def _put(handlers: list[Any], ours: Any) -> None:
    # In place, and where what is like ours has stood: a dispatcher may be going through the list right
    # now, and another thread may add a handler of somebody else's to it.
    alike = [index for index, each in enumerate(handlers) if _is_like(each, ours)]
    if not alike:
        handlers.append(ours)
        return
    for index in reversed(alike[1:]):
        del handlers[index]
    handlers[alike[0]] = ours


def _is_like(handler: Any, ours: Any) -> bool:
    """Whether it is ours, by its name: what was imported before is of another class."""
    try:
        return bool(type(handler).class_name() == ours.class_name())
    except Exception:
        # Somebody else's may do anything; LlamaIndex's own `SimpleSpanHandler` has it as no class method.
        return False
