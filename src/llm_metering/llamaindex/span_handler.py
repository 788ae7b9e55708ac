"""The spans of LlamaIndex: whose a call is, and calls of which no event tells.

Read in llama-index-instrumentation 0.6.0, `dispatcher.py` (`Dispatcher.span`) and `__init__.py`
(`DispatcherSpanMixin`): each method of a model that asks a provider has a span, entered in the
caller's context before anything else, with the model itself as `instance`. Some such methods tell
nothing more: those of a model of the user's own that lack `@llm_chat_callback`, and
`structured_predict` of integrations that ask their SDK directly (llama-index-llms-anthropic 0.12.3,
`base.py`; llama-index-llms-google-genai 0.11.3, `base.py`).
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final

from llama_index.core.base.llms.base import BaseLLM

from .failures import note_failure
from .frames import Frame, enter, frame_of, keep_generator, keep_streams, leave
from .methods import Watched, catch_up
from .model_calls import ModelCall
from .model_gates import gate_around
from .model_starts import begin_call
from .providers import model_of, provider_of
from .spanless import Spanless
from .stream_options import ask_for_usage
from .travelling import capture, restore
from .ways import ASKING, STRUCTURED, passing_on, seen_of, telling_nothing, way_of

__all__ = ["MeteringSpanHandler"]

_UUID: Final = 37

# Calls that were made before their method was watched, by their spans.
_caught_up: Final[dict[str, Watched]] = {}


class MeteringSpanHandler(Spanless):
    """Hears of all spans; `install()` and `MeteringHandler` put it in place."""

    def span_enter(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        parent_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A method that LlamaIndex watches is called."""
        try:
            _enter(id_, bound_args, instance, parent_id, tags or {})
        except Exception as error:
            note_failure("span_enter", error)

    def catch_up(self, id_: str, bound_args: inspect.BoundArguments, instance: Any) -> None:
        """A method was called before it was watched, in the first of all spans."""
        try:
            kind: Any = type(instance)
            if _is_model(kind):
                return  # of a model the span itself tells
            watched = catch_up(instance, _method_of(id_), bound_args.args, bound_args.kwargs)
            if watched is not None:
                _caught_up[id_] = watched
        except Exception as error:
            note_failure("span_enter", error)

    def span_exit(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        result: Any | None = None,
        **kwargs: Any,
    ) -> None:
        """It returned."""
        try:
            if _caught_up and (watched := _caught_up.pop(id_, None)) is not None:
                watched.end()
            _exit(id_, bound_args, result)
        except Exception as error:
            note_failure("span_exit", error)

    def span_drop(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any | None = None,
        err: BaseException | None = None,
        **kwargs: Any,
    ) -> None:
        """It raised, or was cancelled."""
        try:
            if _caught_up and (watched := _caught_up.pop(id_, None)) is not None:
                watched.fail(err or RuntimeError("the span was dropped"))
            _drop(id_, bound_args, err)
        except Exception as error:
            note_failure("span_drop", error)

    def capture_propagation_context(self) -> dict[str, Any]:
        """Who pays here, for a workflow that goes on in another process."""
        return capture()

    def restore_propagation_context(self, context: dict[str, Any]) -> None:
        """Go on for whom `capture_propagation_context` has said."""
        restore(context)


def _method_of(id_: str) -> str:
    # LlamaIndex names a span "Class.method-" and a UUID.
    return id_[:-_UUID].rpartition(".")[2]


@cache
def _is_model(kind: type[Any]) -> bool:
    return issubclass(kind, BaseLLM)


def _enter(
    id_: str,
    bound_args: inspect.BoundArguments,
    instance: Any,
    outer_id: str | None,
    tags: Mapping[str, Any],
) -> None:
    kind: Any = type(instance)
    is_model = _is_model(kind)
    gated = gate_around(instance, outer_id) if is_model else None
    frame = enter(id_, instance, outer_id, tags, matters=is_model, gated=gated)
    if frame is None or not is_model:
        return
    method = _method_of(id_)
    if "stream" in method:
        ask_for_usage(frame)
    if method not in ASKING:
        return
    frame.method = method
    way = way_of(instance, method)
    if (method in STRUCTURED and way not in passing_on) or way in telling_nothing:
        # Before a provider is asked, so that a call is known of that its process does not survive.
        _begin_silent(frame, bound_args)


def _begin_silent(frame: Frame, bound_args: inspect.BoundArguments) -> ModelCall | None:
    """Begin a call of which no event tells, and perhaps none will."""
    return begin_call(
        frame,
        seen_of(frame.instance, frame.method, bound_args.arguments),
        key=frame.id,
        model=model_of(frame.instance),
        provider=provider_of(frame.instance),
        is_only_a_span=True,
    )


def _exit(id_: str, bound_args: inspect.BoundArguments, result: object) -> None:
    frame = frame_of(id_)
    if frame is None or not frame.method:
        keep_streams(result, frame)
        if frame is not None:
            leave(frame)
        return
    generator = keep_generator(result, frame)
    if generator is not None:
        if not (frame.calls or frame.is_asking or frame.is_refused):
            _begin_silent(frame, bound_args)
        for call in frame.calls:
            call.goes_on_elsewhere()
        # A stream is over when its events say so, or when nobody can read it any more.
        frame.generator = weakref.ref(generator, partial(_gone, frame))
        return
    # What a structured method returns is the user's own object, not an answer.
    answer = None if frame.method in STRUCTURED else result
    _close(frame, bound_args, lambda call: call.answered(answer))


def _drop(id_: str, bound_args: inspect.BoundArguments, error: BaseException | None) -> None:
    frame = frame_of(id_)
    if frame is None:
        return
    if not frame.method:
        leave(frame)
        return
    raised = error or RuntimeError("the span was dropped")
    _close(frame, bound_args, lambda call: call.raised(raised))


def _close(
    frame: Frame,
    bound_args: inspect.BoundArguments,
    end: Callable[[ModelCall], None],
) -> None:
    """End what is open in a span that is over."""
    leave(frame)
    if frame.is_asking:
        if frame.method in STRUCTURED:
            passing_on.add(way_of(frame.instance, frame.method))
    elif not frame.was_told and not frame.is_refused:
        way = way_of(frame.instance, frame.method)
        passing_on.discard(way)
        telling_nothing.add(way)
        if not frame.calls:
            _begin_silent(frame, bound_args)
    while frame.calls:
        call = frame.calls.pop()
        if frame.is_refused or (frame.is_asking and call.is_only_a_span):
            call.drop()
        else:
            end(call)


def _gone(frame: Frame, _: object) -> None:
    """A stream is gone, and nobody has told of its end."""
    try:
        leave(frame)
        while frame.calls:
            call = frame.calls.pop()
            if frame.is_asking and call.is_only_a_span:
                call.drop()
                continue
            call.is_gone()
    except Exception as error:
        note_failure("stream", error)
