"""Holding a call to its payer's balance: what is reserved before it is made, by all who are told of it.

Whether a call may be made has to be known in a hook that is no coroutine, also where the call is one
(llama-index-core 0.14.25, `llms/callbacks.py`). So the methods that are awaited ask before they
begin, without holding up their event loop, and the hook finds the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..calls import Call
from ..errors import CallRefusedError
from ..installed import ENFORCED
from ..meter import Meter
from .accounts import Teller

if TYPE_CHECKING:
    from ..calls import Reserved
    from ..limits import Gate

__all__ = ["admit", "admit_async", "gate_of", "is_enforcing", "limit_of", "prepare"]


def is_enforcing(teller: Teller) -> bool:
    """Whether a handler holds calls to balances."""
    account, meter = teller
    return account.enforce or meter.settings.enforce or (account.meter is None and _is_global())


def gate_of(teller: Teller) -> Gate | None:
    """What holds calls to balances, by what one handler knows; `None` if nothing does."""
    meter: Meter = teller.meter
    return meter.gate if is_enforcing(teller) else None


def prepare(tellers: Iterable[Teller]) -> Reserved | None:
    """What is to be reserved for a call that is about to begin; `None` if nobody holds it to a balance."""
    for teller in tellers:
        gate = gate_of(teller)
        if gate is not None:
            return gate.prepare()
    return None


def limit_of(tellers: Iterable[Teller], instance: object, parameters: object) -> int | None:
    """The most tokens that an answer may have, by the call and by the model that is asked."""
    for teller in tellers:
        gate = gate_of(teller)
        if gate is not None:
            own = {
                name: getattr(instance, name, None)
                for name in (
                    "max_completion_tokens",
                    "max_output_tokens",
                    "max_tokens",
                    "num_predict",
                )
            }
            return gate.output_limit(parameters, getattr(instance, "additional_kwargs", None), own)
    return None


def admit(tellers: Iterable[Teller], call: Call) -> CallRefusedError | None:
    """Reserve what a call may need; what is to be raised in its place, if it is not covered."""
    for gate in _gates(tellers, call):
        refusal: CallRefusedError | None = gate.admit(call)
        if refusal is not None:
            return refusal
    return None


async def admit_async(
    tellers: Iterable[Teller], call: Call, *, seconds: float | None = None
) -> CallRefusedError | None:
    """`admit`, without blocking the event loop.

    Args:
        tellers: Who is told.
        call: The call.
        seconds: How long the reservation counts, if not as long as those of calls do.
    """
    for gate in _gates(tellers, call):
        refusal: CallRefusedError | None = await gate.admit_async(call, seconds=seconds)
        if refusal is not None:
            return refusal
    return None


def _gates(tellers: Iterable[Teller], call: Call) -> list[Any]:
    reservation: Any = call.reservation
    if reservation is None:
        return []
    found = [gate for teller in tellers if (gate := gate_of(teller)) is not None]
    return list(dict.fromkeys([*found, *reservation.held]))


def _is_global() -> bool:
    return "llamaindex" in ENFORCED
