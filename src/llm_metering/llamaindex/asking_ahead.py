"""Asking the store of balances before a method that is awaited begins.

The hook in which a call can be refused is none that could wait (`gating`); what is awaited around the
method is. What it finds is carried to the hook by a context variable, for the first call that
begins inside for the same payer.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any, Final
from uuid import uuid4

from llama_index.core.base.llms.base import BaseLLM
from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id

from ..calls import Call, CallStart, Reserved
from ..errors import CallRefusedError
from ..extract.reading import name_of
from .accounts import Teller, tellers_of
from .attributions import attribution_of
from .failures import note_failure
from .frames import enter, leave
from .gating import admit_async, gate_of, limit_of, prepare
from .methods import watch
from .providers import is_metered_elsewhere, model_of, provider_of, reads_raw
from .seen import Seen

__all__ = ["Found", "found_ahead", "watch_models"]

_METHODS: Final = ("achat", "acomplete", "astream_chat", "astream_complete")
_COMPLETIONS: Final = ("acomplete", "astream_complete")

SHORTLY: Final = 60.0
"""Seconds for which a reservation counts that no note of a call tells of yet."""


class Found:
    """What was found ahead of a call.

    Attributes:
        instance: The model that is to be asked.
        subject: Who pays.
        reservation: What is reserved, or was to be.
        refusal: Why nothing is, if the balance does not cover it.
    """

    __slots__ = ("_is_taken", "_tellers", "_token", "call", "instance", "refusal", "subject")

    def __init__(self, instance: object, call: Call, tellers: list[Teller]) -> None:
        self.instance = instance
        self.call = call
        self.subject = call.attribution.subject
        self.refusal: CallRefusedError | None = None
        self._tellers = tellers
        self._is_taken = False
        self._token: Token[Found | None] | None = None

    async def admitted(self) -> None:
        """Ask the store."""
        self.refusal = await admit_async(self._tellers, self.call, seconds=SHORTLY)
        self._token = _found.set(self)

    def take(self) -> Reserved | None:
        """A call begins that this was found for; what is reserved for it, from now on for as long as it lives."""
        self._is_taken = True
        reservation = self.call.reservation
        for gate in getattr(reservation, "held", {}):
            gate.keep(reservation)
        return reservation

    @property
    def is_open(self) -> bool:
        """Whether no call has taken it."""
        return not self._is_taken

    def end(self) -> None:
        """The method is over."""
        if self._token is not None:
            try:
                _found.reset(self._token)
            except ValueError:
                # A coroutine that nobody awaits to its end is closed by garbage collection, in any context.
                _found.set(None)
        reservation = self.call.reservation
        if not self._is_taken and reservation is not None:
            reservation.release(lambda: None)

    def fail(self, error: BaseException) -> None:
        """It raised."""
        self.end()


_found: Final[ContextVar[Found | None]] = ContextVar("llm_metering_found", default=None)


def found_ahead(instance: object, subject: str) -> Found | None:
    """What was found for a call of a model that begins here and now, if nobody has taken it."""
    found = _found.get()
    is_for_it = found is not None and found.is_open and found.instance is instance
    return found if is_for_it and found is not None and found.subject == subject else None


def watch_models() -> None:
    """Have models tell of their methods that are awaited, before these begin; idempotent."""
    watch(BaseLLM, _METHODS, _ask, beside=[])


def _ask(instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found | None:
    try:
        return _asked(instance, name, args, kwargs)
    except Exception as error:
        note_failure("limits", error)
        return None


def _asked(instance: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found | None:
    id_ = f"{type(instance).__name__}.{name}-{uuid4()}"
    tags = active_instrument_tags.get()
    frame = enter(id_, instance, active_span_id.get(), tags, matters=True)
    if frame is None:
        return None
    try:
        tellers = tellers_of(frame.account)
        if not any(map(gate_of, tellers)) or is_metered_elsewhere(instance):
            return None
        before = _found.get()
        if before is not None and before.is_open and before.instance is instance:
            return None  # a method of a class below, which calls this one
        around = frame.call_around()
        if around is not None and around.is_reserved:
            return None  # it is a part of that call
        attribution = attribution_of(tellers[0], frame)
        for teller in tellers[1:]:
            attribution = attribution_of(teller, frame).beside(attribution)
    finally:
        leave(frame)
    parameters: Mapping[str, Any] = {key: kwargs[key] for key in kwargs if key not in _ASKED}
    first = args[0] if args else next((kwargs[key] for key in _ASKED if key in kwargs), None)
    operation = "text_completion" if name in _COMPLETIONS else "chat"
    seen = Seen(operation, first, parameters, reads_raw=reads_raw(instance))
    start = CallStart(
        attribution=attribution,
        operation=operation,
        provider=provider_of(instance),
        request_model=name_of(model_of(instance)),
        asked=seen.asked,
        output_limit=limit_of(tellers, instance, parameters),
        reservation=prepare(tellers),
    )
    return Found(instance, Call.begin(id_, start, 0.0), tellers)


_ASKED: Final = ("messages", "prompt")
