"""Gates of models: a call passes before anything of LlamaIndex's knows of it.

LlamaIndex tells of a call in sync code alone, where a store of balances could only be waited for by
blocking the event loop; and of some calls it tells nothing, so there is nowhere to raise what refuses
them (see `gate`, `span_handler`). So the methods by which models ask are watched in their classes, once
somebody holds calls to balances. A call that has passed there is told to the call table in their place
and hands what is reserved for it on to what LlamaIndex then tells of, which is a part of it. ::

    the method is called ──► open, reserved ──► LlamaIndex tells of its start: that call takes it over
              │                    └► the method is over, and nobody has: it is given back
              └► refused: raised, and LlamaIndex is never called
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from llama_index.core.base.llms.base import BaseLLM
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id

from ..errors import CallRefusedError
from ..extract.reading import name_of
from .accounts import gates_of, tellers_of
from .attributions import attribution_of, refusal_of
from .failures import note_failure
from .frames import Frame, enter, leave
from .methods import asker_of, watch
from .model_calls import ModelCall
from .model_starts import needed_in, reserved_around, starts_of
from .providers import model_of, provider_of
from .ways import ASKING, STRUCTURED, passing_on, seen_of, way_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gate_around", "watch_models"]

_CORE: Final = "llama_index.core."

_gated: Final[ContextVar[_Gated | None]] = ContextVar("llm_metering_gated", default=None)
_watching: Final[list[bool]] = []


class _Expected(ModelCall):
    """A call that LlamaIndex has not told of yet.

    Attributes:
        around: The call that it is a part of, if there is one, which knows nothing of it.
    """

    __slots__ = ("around",)

    around: ModelCall | None

    def withdraw(self, inner: ModelCall) -> None:
        """LlamaIndex has told of it, by now."""
        super().withdraw(inner)
        if self.around is not None:
            self.around.withdraw(inner)


class _Gated:
    """One call of a method, which has to pass a gate.

    Args:
        call: What the call table is told of in its place.
        outer_id: The span that it is called in.
    """

    __slots__ = ("call", "outer_id")

    def __init__(self, call: ModelCall, outer_id: str | None) -> None:
        self.call = call
        self.outer_id = outer_id

    def pass_(self) -> None:
        """Wait until it may be made.

        Raises:
            CallRefusedError: If it may not.
        """
        try:
            refusal = self.call.admit()
        except Exception as error:
            # A fault of ours: the call is made, and metered.
            note_failure("admit", error)
            return
        except BaseException:
            # Such as Ctrl-C: nobody has asked the provider.
            self.call.drop()
            raise
        self._end(refusal)

    async def pass_async(self) -> None:
        """`pass_`, without blocking the event loop.

        Raises:
            CallRefusedError: Likewise.
        """
        try:
            refusal = await self.call.admit_async()
        except Exception as error:
            note_failure("admit", error)
            return
        except BaseException:
            # Such as a task that is cancelled: nobody has asked the provider.
            self.call.drop()
            raise
        self._end(refusal)

    def _end(self, refusal: CallRefusedError | None) -> None:
        if refusal is not None:
            self.call.refuse(refusal)
            raise refusal

    @contextmanager
    def here(self) -> Iterator[None]:
        """In this context it is made."""
        token = _gated.set(self)
        try:
            yield
        finally:
            # A coroutine that nobody awaits to its end is closed by garbage collection, in any context.
            with suppress(ValueError):
                _gated.reset(token)
            self.call.drop()


def gate_around(instance: object, outer_id: str | None) -> Frame | None:
    """What stands for the span around a method of a model that has passed a gate.

    Args:
        instance: The model.
        outer_id: The span that the method was called in.
    """
    gated = _gated.get()
    if gated is None or gated.call.frame.instance is not instance or gated.outer_id != outer_id:
        return None
    return gated.call.frame


def watch_models() -> None:
    """Have all models pass gates from now on; idempotent."""
    if not _watching:
        _watching.append(True)
        watch(BaseLLM, sorted(ASKING), _ask, beside=[], around=_around)


def _around(base: type[Any], name: str, theirs: Callable[..., Any]) -> Callable[..., Any]:
    is_async = inspect.iscoroutinefunction(theirs)
    signature = inspect.signature(theirs)
    # What LlamaIndex has put around its own methods has to be bound to learn whose they are.
    bind: Any = theirs.__get__

    @wraps(theirs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        gated = asker_of(base)(self, name, signature, (self, *args), kwargs)
        bound = bind(self, type(self))
        if gated is None:
            return bound(*args, **kwargs)
        gated.pass_()
        with gated.here():
            return bound(*args, **kwargs)

    @wraps(theirs)
    async def async_method(self: Any, *args: Any, **kwargs: Any) -> Any:
        gated = asker_of(base)(self, name, signature, (self, *args), kwargs)
        bound = bind(self, type(self))
        if gated is None:
            return await bound(*args, **kwargs)
        await gated.pass_async()
        with gated.here():
            return await bound(*args, **kwargs)

    return async_method if is_async else method


def _ask(
    instance: Any,
    method: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Gated | None:
    """What a method has to pass that is called; `None` if nothing.

    Raises:
        CallRefusedError: If nobody pays, and the settings refuse that, or a budget is spent.
    """
    try:
        if method in STRUCTURED and _passes_on(instance, method):
            return None
        outer_id = active_span_id.get()
        id_ = f"{type(instance).__name__}.{method}-{uuid4()}"
        frame = enter(id_, instance, outer_id, active_instrument_tags.get(), matters=True)
        if frame is None:
            return None
        leave(frame)  # no span is called by its name
        call = _begun(frame, method, signature, args, kwargs)
        return None if call is None else _Gated(call, outer_id)
    except CallRefusedError:
        raise
    except Exception as error:
        note_failure(method, error)
        return None


def _passes_on(instance: Any, method: str) -> bool:
    """Whether a structured method has another one ask, by all we know."""
    found = getattr(type(instance), method, None)
    if getattr(found, "__module__", "").startswith(_CORE):
        return True  # LlamaIndex's own do
    return way_of(instance, method) in passing_on


def _begun(
    frame: Frame,
    method: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> ModelCall | None:
    tellers = tellers_of(frame.account)
    if not gates_of(tellers):
        return None
    told = [(teller, attribution_of(teller, frame)) for teller in tellers]
    passed = needed_in(frame, told, around=reserved_around())
    if passed is None:
        return None
    around = frame.call_around()
    if around is not None and around.passed is not None and around.passed.covers(passed):
        return None  # it is a part of that one, and takes over what is reserved for it
    seen = seen_of(frame.instance, method, signature.bind(*args, **kwargs).arguments)
    provider = provider_of(frame.instance)
    model = name_of(model_of(frame.instance))
    refusal = refusal_of(told, provider, model)
    if refusal is not None:
        for teller, _ in told:
            teller.meter.calls.refuse(frame.id, seen, refusal.reason)
        frame.refuse()
        raise refusal
    starts = starts_of(frame, seen, told, provider, model, passed)
    call = _Expected(frame.id, frame, seen, starts, passed=passed)
    call.around = around
    call.is_only_a_span = True
    frame.calls.append(call)
    return call
