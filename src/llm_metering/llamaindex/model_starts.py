"""The start of a call of a model: who is told of it, who pays, and whether it may be made."""

from __future__ import annotations

from typing import Final

from .. import taps
from ..calls import CallStart
from ..extract.reading import name_of
from ..meter import Meter
from ..subjects import Attribution
from .accounts import Teller, tellers_of
from .attributions import attribution_of, refusal_of
from .frames import Frame
from .gate import refuse
from .model_calls import ModelCall
from .providers import is_metered_elsewhere, reads_raw
from .reserving import Passed, needed_by, output_limit_of
from .seen import Seen

__all__ = ["Told", "begin_call", "needed_in", "reserved_around", "starts_of"]

_FRAMEWORK: Final = "llamaindex"
_UUID: Final = 36

Told = list[tuple[Teller, Attribution]]
"""Who is told of a call, and who pays by what each of them knows."""


def begin_call(
    frame: Frame,
    seen: Seen,
    *,
    key: str,
    model: object,
    provider: str | None,
    is_only_a_span: bool = False,
    passed: Passed | None = None,
) -> ModelCall | None:
    """A call begins in a span.

    Args:
        frame: The span.
        seen: What was asked.
        key: What to know it by.
        model: The name of the model, if it has one.
        provider: Who is asked, if that is known.
        is_only_a_span: Whether no event told of it.
        passed: What is reserved for what turned out to be this call.

    Returns:
        `None` where it is metered by nobody, or refused.
    """
    tellers = tellers_of(frame.account)
    if not tellers:
        return None
    told = [(teller, attribution_of(teller, frame)) for teller in tellers]
    around = frame.call_around()
    request_model = name_of(model)
    refusal = None if is_only_a_span else refusal_of(told, provider, request_model)
    if refusal is not None and refuse(frame.instance, refusal):
        for teller, _ in told:
            teller.meter.calls.refuse(key, seen, refusal.reason)
        frame.refuse()
        return None
    tapped = seen.tapped = taps.begin(
        seen, provider, framework=_FRAMEWORK, is_read=tellers[0].meter.settings.taps
    )
    told = [(teller, tapped.paid_by(attribution)) for teller, attribution in told]
    needed = needed_in(frame, told, around=tapped.reservation_around)
    held = _held(needed, passed, around)
    if held is None and is_only_a_span:
        # There is nowhere to raise what refuses it; see `model_gates`.
        needed = None
    passing = held or needed
    tapped.reservation = None if passing is None else passing.reservation
    call = ModelCall(
        key,
        frame,
        seen,
        starts_of(frame, seen, told, provider, request_model, passing),
        is_metered_elsewhere=is_metered_elsewhere(frame.instance),
        passed=passing,
    )
    call.is_only_a_span = is_only_a_span
    refusal = call.admit() if held is None else None
    if refusal is not None and refuse(frame.instance, refusal):
        call.refuse(refusal)
        return None
    if around is not None:
        around.withdraw(call)
    frame.calls.append(call)
    if not is_only_a_span:
        frame.is_told_of()
    return call


def needed_in(frame: Frame, told: Told, *, around: object) -> Passed | None:
    """What a call in a span has to pass; `None` if it asks nobody itself, or others meter it.

    Args:
        frame: The span.
        told: Who is told of it, and who pays by what each of them knows.
        around: What is reserved for a call of another framework around it.
    """
    if not reads_raw(frame.instance) or is_metered_elsewhere(frame.instance):
        return None
    needed = needed_by(told)
    if needed is not None and all(gate.covers(around, needed.payer) for gate in needed.gates):
        return None
    return needed


def reserved_around() -> object:
    """What is reserved for the call of another framework inside of which something begins here and now."""
    call = taps.current()
    if call is None or call.is_over:
        return None
    return call.reservation_around if call.framework == _FRAMEWORK else call.reservation


def starts_of(
    frame: Frame,
    seen: Seen,
    told: Told,
    provider: str | None,
    model: str | None,
    passed: Passed | None,
) -> list[tuple[Meter, CallStart]]:
    """What each meter is told of a call that begins in a span."""
    # LlamaIndex names a span after what runs in it, and a UUID.
    run_id = frame.id[-_UUID:]
    limit = None if passed is None else output_limit_of(passed, frame.instance, seen.parameters)
    # No `task`: a span or a generator tells of every end, also of a cancelled one, while a stream
    # outlives the task that it was made in, and may be read by another one, much later.
    return [
        (
            teller.meter,
            CallStart(
                attribution=attribution,
                teller=teller.account.name,
                framework=_FRAMEWORK,
                operation=seen.operation,
                provider=provider,
                request_model=model,
                run_id=run_id,
                request=seen,
                asked=seen.asked,
                so_far=seen.so_far,
                output_limit=limit,
                reservation=None if passed is None else passed.reservation,
            ),
        )
        for teller, attribution in told
    ]


def _held(needed: Passed | None, passed: Passed | None, around: ModelCall | None) -> Passed | None:
    """What is reserved already for a call that needs something, in whose place it is made."""
    if passed is not None:
        if needed is not None and passed.covers(needed):
            return passed
        passed.give_back()
    if needed is None or around is None or around.passed is None:
        return None
    return around.hand_over() if around.passed.covers(needed) else None
