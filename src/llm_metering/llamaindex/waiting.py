"""Our place on the root dispatcher, kept until LlamaIndex is used.

`install()` meters whatever framework is installed. LlamaIndex may be, and never be used: its core
takes more than a second to import, its dispatcher a tenth of that, most of it pydantic, which
LangChain imports as well. So one light handler waits there for the first span.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any, Final

from llama_index_instrumentation import get_dispatcher

from ..installed import INSTALLED
from .failures import note_failure
from .spanless import Spanless

__all__ = ["wait"]

_CORE: Final = "llama_index.core"


class _Waiting(Spanless):
    """Has the other handlers put in place when the first span begins, and hands it on to them."""

    def span_enter(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        # Workflows use the dispatcher too, and may do so without the core.
        if "llamaindex" not in INSTALLED or _CORE not in sys.modules:
            return
        try:
            from . import dispatchers

            dispatchers.put()
        except Exception as error:
            note_failure("waiting", error)
            return
        # It stands where this one did, which the dispatcher has just called.
        dispatchers.spans.span_enter(id_, bound_args, instance, *args, **kwargs)
        dispatchers.spans.catch_up(id_, bound_args, instance)


_waiting: Final = _Waiting()


def wait() -> None:
    """Wait on the root dispatcher; idempotent."""
    handlers = get_dispatcher().span_handlers
    if all(type(each).__name__ != type(_waiting).__name__ for each in handlers):
        handlers.append(_waiting)
