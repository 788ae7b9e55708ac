"""What LlamaIndex's instrumentation says of calls, told to the call table.

Read in llama-index-core 0.14.25, `instrumentation/events/` and `llms/callbacks.py`, and in
llama-index-instrumentation 0.6.0, `dispatcher.py`: an event carries the id of its span, whatever
context it is dispatched in; handlers are called one after another, on the thread or event loop of
the application, and what they raise is swallowed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.instrumentation.events.rerank import ReRankStartEvent
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler

from .advice import advise_on_stream, warn_of_other_meter
from .failures import note_failure
from .frames import Frame, enter, frame_of, leave
from .model_calls import ModelCall
from .model_gates import watch_models
from .model_starts import begin_call
from .providers import provider_of, reads_raw
from .rerankers import start_ranking
from .seen import Seen

__all__ = ["MeteringEventHandler"]

_Take = Callable[[Any], None]


class MeteringEventHandler(BaseEventHandler):
    """Hears the events of all calls of models; `install()` and `MeteringHandler` put it in place."""

    @classmethod
    def class_name(cls) -> str:
        """The name that handlers of ours are known by."""
        return "MeteringEventHandler"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """An event was dispatched."""
        kind = type(event)
        try:
            take = _TAKES[kind]
        except KeyError:
            take = _TAKES[kind] = _take_of(kind)
        if take is None:
            return
        try:
            take(event)
        except Exception as error:
            note_failure(kind.__name__, error)


def _take_of(kind: type[BaseEvent]) -> _Take | None:
    """What is done with events of a kind, which may be somebody's own."""
    return next((_TAKES[base] for base in kind.__mro__ if base in _TAKES), None)


def _start_chat(event: LLMChatStartEvent) -> None:
    _start(event, "chat", event.messages)


def _start_completion(event: LLMCompletionStartEvent) -> None:
    _start(event, "text_completion", event.prompt)


def _start(event: Any, operation: str, asked: Any) -> None:
    frame = frame_of(event.span_id) or _frame_of_none(event)
    if frame is None:
        return
    passed = None
    if frame.calls and frame.calls[-1].is_only_a_span:
        silent = frame.calls.pop()
        passed = silent.hand_over()
        silent.drop()
    seen = Seen(operation, asked, event.additional_kwargs, reads_raw=reads_raw(frame.instance))
    payload = event.model_dict
    # One span may hold several calls, one inside of the other.
    key = f"{frame.id}#{len(frame.calls)}" if frame.calls else frame.id
    warn_of_other_meter(frame.instance)
    call = begin_call(
        frame,
        seen,
        key=key,
        # Until llama-index-core 0.14.22 the key was `model` (`base/llms/base.py`, `to_payload`).
        model=payload.get("model_name") or payload.get("model"),
        provider=provider_of(frame.instance),
        passed=passed,
    )
    if call is not None and call.passed is not None:
        # A setting that came later than handlers did says so: from the next call on nothing here waits.
        watch_models()


def _frame_of_none(event: Any) -> Frame | None:
    """A frame for a call outside of any span, or in one that was entered before we listened."""
    id_ = event.span_id or _unspanned()
    return enter(id_, None, None, event.tags, matters=True)


def _unspanned() -> str:
    return f"unspanned-{threading.get_ident()}"


def _piece(event: LLMChatInProgressEvent | LLMCompletionInProgressEvent) -> None:
    # Not by `_call_of`: a stream has many pieces.
    frame = frame_of(event.span_id or _unspanned())
    if frame is not None and frame.calls:
        frame.calls[-1].piece(event.response)


def _end(event: LLMChatEndEvent | LLMCompletionEndEvent) -> None:
    call = _call_of(event)
    if call is not None:
        _over(call)
        call.answered(event.response)
        if call.seen.is_streamed and call.told is not None and call.told.usage is None:
            advise_on_stream(call.frame.instance)


def _error(event: ExceptionEvent) -> None:
    call = _call_of(event)
    if call is not None:
        _over(call)
        call.raised(event.exception)


def _call_of(event: BaseEvent) -> ModelCall | None:
    frame = frame_of(event.span_id or _unspanned())
    return frame.calls[-1] if frame is not None and frame.calls else None


def _over(call: ModelCall) -> None:
    frame = call.frame
    frame.calls.remove(call)
    # Of a span that is over itself, or was none, nothing more is heard.
    if not frame.calls and (frame.generator is not None or frame.instance is None):
        leave(frame)


_TAKES: Final[dict[type[BaseEvent], _Take | None]] = {
    LLMChatStartEvent: _start_chat,
    LLMCompletionStartEvent: _start_completion,
    LLMChatInProgressEvent: _piece,
    LLMCompletionInProgressEvent: _piece,
    LLMChatEndEvent: _end,
    LLMCompletionEndEvent: _end,
    ExceptionEvent: _error,
    ReRankStartEvent: start_ranking,
}
