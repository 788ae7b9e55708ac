"""Refusing a call before it is made.

LlamaIndex swallows whatever an instrumentation handler raises (llama-index-instrumentation 0.6.0,
`dispatcher.py`, `Dispatcher.event`). A handler of the older callbacks it does not guard: right behind
the event of the start it calls `on_event_start` (llama-index-core 0.14.25, `llms/callbacks.py`;
llama-index-postprocessor-cohere-rerank 0.10.0, `base.py`), and what that raises the application gets
in place of the call. So a refusal that our event handler has decided on is raised there.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.callbacks.schema import CBEventType

__all__ = ["Gatekeeper", "refuse", "take_back"]

_REFUSED: Final = (CBEventType.LLM, CBEventType.RERANKING)
_IGNORED: Final[list[CBEventType]] = [kind for kind in CBEventType if kind not in _REFUSED]

_refusal: Final[ContextVar[Exception | None]] = ContextVar("llm_metering_refusal", default=None)


class Gatekeeper(BaseCallbackHandler):
    """A handler of the older callbacks that does nothing but raise what is to be raised."""

    def __init__(self) -> None:
        super().__init__(event_starts_to_ignore=_IGNORED, event_ends_to_ignore=list(CBEventType))

    def on_event_start(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        parent_id: str = "",
        **kwargs: Any,
    ) -> str:
        """A call is about to be made.

        Raises:
            CallRefusedError: If it is refused.
        """
        refusal = _refusal.get()
        if refusal is not None:
            _refusal.set(None)
            raise refusal
        return event_id

    def on_event_end(
        self,
        event_type: CBEventType,
        payload: dict[str, Any] | None = None,
        event_id: str = "",
        **kwargs: Any,
    ) -> None:
        """Nothing: the instrumentation tells of the end."""

    def start_trace(self, trace_id: str | None = None) -> None:
        """Nothing: a trace of the callbacks is no run."""

    def end_trace(
        self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None
    ) -> None:
        """Nothing, likewise."""


class _Doorkeeper(Gatekeeper):
    """The one that we put where there is none; of a kind of its own, since a manager takes one of each."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _the_doorkeeper, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Doorkeeper:
        return self


_doorkeeper: Final = _Doorkeeper()


def _the_doorkeeper() -> _Doorkeeper:
    return _doorkeeper


def refuse(instance: object, refusal: Exception) -> bool:
    """Have the call that `instance` is about to make raise; whether that can be done."""
    manager = getattr(instance, "callback_manager", None)
    handlers = getattr(manager, "handlers", None)
    if not isinstance(handlers, list):
        return False
    if not any(isinstance(each, Gatekeeper) for each in handlers):
        # First, so that no other is told of the start of a call that has no end.
        handlers.insert(0, _doorkeeper)
    _refusal.set(refusal)
    return True


def take_back() -> None:
    """What was to be refused here has gone by without a start to raise at."""
    if _refusal.get() is not None:
        _refusal.set(None)
