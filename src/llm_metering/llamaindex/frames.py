"""`Frame`: a span of LlamaIndex's that matters to a bill, and the generators that come of spans.

Who pays for a call is settled when it begins. But a streamed answer of a query engine begins when it
is read: `query()` returns a generator, and the model is asked at its first step, perhaps by another
task, thread or customer's request (llama-index-core 0.14.25, `response_synthesizers/refine.py`,
`_get_response_couple`). So what held where a generator was made is kept by the generator's own
stack frame, and looked for on the stack when a call begins: a call that is made inside of a
generator belongs to whom the generator belongs.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from types import AsyncGeneratorType, FrameType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llama_index_instrumentation.dispatcher import active_instrument_tags

from ..subjects import Scope, current_scope
from .accounts import Account
from .binding import account_around, account_of, has_rival

if TYPE_CHECKING:
    from .model_calls import ModelCall

__all__ = [
    "Frame",
    "Surroundings",
    "call_here",
    "enter",
    "frame_of",
    "hold",
    "keep_generator",
    "keep_streams",
    "leave",
]

_GENERATORS: Final = frozenset([GeneratorType, AsyncGeneratorType])
_STREAMS: Final = ("response_gen", "chat_stream", "achat_stream")
"""Where the answers of query and chat engines keep what is to be read."""


class Surroundings(NamedTuple):
    """What held where a generator was made.

    Attributes:
        scope: Of `subject()`.
        tags: Of `instrument_tags`.
        account: Of the handler that held.
        frame: The span that it came of, if that one matters.
    """

    scope: Scope | None
    tags: Mapping[str, Any]
    account: Account | None
    frame: Frame | None


class Frame:
    """One span.

    Attributes:
        id: LlamaIndex's name for it.
        instance: What it is a method of.
        method: Its name, if it is one of a model's that may ask a provider; else empty.
        outer: The span around it, as far as that one matters.
        around: What held where the generator was made that it was begun in; `None` outside of any.
        account: Of the handler that holds in it.
        tags: Of `instrument_tags`.
        calls: The calls that were begun in it; the last one is the innermost.
        is_asking: Whether another span inside of it asks the provider.
        is_refused: Whether a call was refused here, or in a span inside of it.
        was_told: Whether an event told of a call in it.
        generator: What it returned, if that is still to be read.
    """

    __slots__ = (
        *("__weakref__", "account", "around", "calls", "generator", "id", "instance"),
        *("is_asking", "is_refused", "method", "outer", "tags", "was_told"),
    )

    def __init__(
        self,
        id_: str,
        instance: object,
        outer: Frame | None,
        around: Surroundings | None,
        account: Account | None,
        tags: Mapping[str, Any],
    ) -> None:
        self.id = id_
        self.instance = instance
        self.method = ""
        self.outer = outer
        self.around = around
        self.account = account
        self.tags = tags
        self.calls: list[ModelCall] = []
        self.is_asking = False
        self.is_refused = False
        self.was_told = False
        self.generator: weakref.ref[Any] | None = None

    def __repr__(self) -> str:
        return f"<Frame {self.id}>"

    def scope(self) -> Scope | None:
        """What of `subject()` holds for a call that begins here and now."""
        scope = here = current_scope()
        if self.around is None or here is self.around.scope:
            return here
        inside = _inside_of(self.around)
        while scope is not None and scope is not self.around.scope:
            if scope.opened_in in inside:
                return here
            scope = scope.outer
        # What was opened since is the reader's, who reads what was asked for somebody else.
        return self.around.scope

    @property
    def is_contested(self) -> bool:
        """Whether two handlers that hold here were built with different subjects."""
        account = self.account
        if account is None or account.subject is None:
            return False
        if has_rival(self.instance, account):
            return True
        outer = self.outer
        while outer is not None:
            if outer.account is not None and outer.account.subject not in (None, account.subject):
                return True
            outer = outer.outer
        return False

    def refuse(self) -> None:
        """A call was refused in this span."""
        frame: Frame | None = self
        while frame is not None:
            frame.is_refused = True
            for call in frame.calls:
                call.drop()
            frame = frame.outer

    def is_told_of(self) -> None:
        """An event tells of a call in this span, so that those around it ask nobody for it."""
        self.was_told = True
        outer = self.outer
        while outer is not None:
            outer.is_asking = True
            outer = outer.outer

    def call_around(self) -> ModelCall | None:
        """The innermost call that a call which begins here is a part of."""
        frame: Frame | None = self
        while frame is not None:
            if frame.calls:
                return frame.calls[-1]
            frame = frame.outer
        return None


_frames: Final[dict[str | None, Frame]] = {}
frame_of: Final = _frames.get
"""The span of that name, if it matters and is not over."""

# By the `id` of a generator's stack frame, which lives as long as the generator.
_generators: Final[dict[int, tuple[weakref.ref[Any], Surroundings]]] = {}


def enter(
    id_: str,
    instance: object,
    outer_id: str | None,
    tags: Mapping[str, Any],
    *,
    matters: bool,
    gated: Frame | None = None,
) -> Frame | None:
    """A span begins.

    Args:
        id_: Its name.
        instance: What it is a method of.
        outer_id: The name of the span around it.
        tags: Of `instrument_tags`.
        matters: Whether it may ask a provider.
        gated: What stands for the span around it, where the call has passed a gate before.

    Returns:
        `None` if it matters to no bill: nothing in it says who pays.
    """
    outer = gated or frame_of(outer_id)
    around = _around_here() if _generators else None
    if around is None and outer is not None:
        # In a task or a thread that was begun inside of a generator, as `LangChainLLM.stream_complete` does.
        around = outer.around
    account = None if instance is None else account_of(instance)
    if not (matters or account or outer or around):
        return None
    inherited = None if outer is None else outer.account
    if around is not None:
        if outer is None or outer.around is not around:
            # That span is the reader's; the one that the generator came of is around this one.
            outer, inherited = around.frame, around.account
        tags = around.tags
    # What LlamaIndex itself has put into a model's manager says the least.
    account = account or inherited or (account_around(instance) if matters else None)
    frame = _frames[id_] = Frame(id_, instance, outer, around, account, tags)
    return frame


def leave(frame: Frame) -> None:
    """A span is over, and so is all that was begun in it."""
    _frames.pop(frame.id, None)


def keep_generator(result: object, frame: Frame | None) -> Any:
    """Keep what holds here for what is to be read of the result of a span, if that is a generator.

    Returns:
        The generator; `None` if it is none.
    """
    if type(result) not in _GENERATORS:
        return None
    _keep(result, frame)
    return result


def keep_streams(result: object, frame: Frame | None) -> None:
    """Likewise, also where an engine's answer holds what is to be read."""
    if keep_generator(result, frame) is not None:
        return
    if type(result).__module__.startswith("llama_index."):
        for name in _STREAMS:
            keep_generator(getattr(result, "__dict__", {}).get(name), frame)


def hold(generator: Any, scope: Scope | None) -> None:
    """From here on `scope` holds for what begins in a generator, not what held where it was made."""
    key = id(_stack_frame(generator))
    kept = _generators.get(key)
    if kept is not None and kept[0]() is generator:
        _generators[key] = (kept[0], kept[1]._replace(scope=scope))


def call_here() -> ModelCall | None:
    """The call whose stream is being read here; of several the innermost."""
    if not _generators:
        return None
    stack: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while stack is not None:
        kept = _generators.get(id(stack))
        if kept is not None and _stack_frame(kept[0]()) is stack:
            frame = kept[1].frame
            if frame is not None and frame.calls:
                return frame.calls[-1]
        stack = stack.f_back
    return None


def _keep(generator: Any, frame: Frame | None) -> None:
    stack = _stack_frame(generator)
    if stack is None:
        return
    key = id(stack)
    kept = _generators.get(key)
    if kept is not None and kept[0]() is generator:
        # A method that hands on another one's stream, as `OpenAILike.stream_chat` does, has no call.
        return
    around = None if frame is None else frame.around
    surroundings = Surroundings(
        current_scope() if around is None else around.scope,
        active_instrument_tags.get() if around is None else around.tags,
        None if frame is None else frame.account,
        frame,
    )

    def forget(reference: weakref.ref[Any]) -> None:
        kept = _generators.get(key)
        if kept is not None and kept[0] is reference:
            _generators.pop(key, None)

    _generators[key] = (weakref.ref(generator, forget), surroundings)


def _inside_of(around: Surroundings) -> set[int]:
    """The stack frames of what the generator itself has called, itself included.

    In a thread that was started inside of it they are all that there are.
    """
    inside = set()
    stack: FrameType | None = sys._getframe(2)  # noqa: SLF001
    while stack is not None:
        inside.add(id(stack))
        kept = _generators.get(id(stack))
        if kept is not None and kept[1] is around:
            return inside
        stack = stack.f_back
    return inside


def _around_here() -> Surroundings | None:
    """What holds for the innermost generator that we are in."""
    stack: FrameType | None = sys._getframe(2)  # noqa: SLF001  # as `logging` does
    while stack is not None:
        kept = _generators.get(id(stack))
        if kept is not None and _stack_frame(kept[0]()) is stack:
            return kept[1]
        stack = stack.f_back
    return None


def _stack_frame(generator: Any) -> FrameType | None:
    stack = getattr(generator, "gi_frame", None) or getattr(generator, "ag_frame", None)
    return stack if isinstance(stack, FrameType) else None
