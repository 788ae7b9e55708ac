"""Holding a call to its payer's balance: what is reserved before it is made, and how it is refused.

LangChain calls the hooks of an inline handler in place, also from async code; one that is a coroutine
function it awaits (langchain-core 1.7.2, `callbacks/manager.py`, `_ahandle_event_for_handler`), but
in sync code it runs such a one on a loop of its own and swallows what it raises (`handle_event`,
`_run_coros`). So which of the two a hook is depends on who asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.callbacks import manager

from .. import taps
from ..calls import Call, Key
from ..errors import CallRefusedError
from ..meter import Meter
from .batches import Batch
from .refusing import remember_refused

if TYPE_CHECKING:
    from ..limits import Gate

__all__ = ["Begun", "admit", "admit_async", "is_awaited"]

_ASYNC: Final = getattr(getattr(manager, "_ahandle_event_for_handler", None), "__code__", None)


class Begun(NamedTuple):
    """A call that the table was told of, and that may be refused yet.

    Attributes:
        meter: Whose.
        gate: What holds it to a balance, by the handler that told of it; it may be another's alone.
        call: The call.
        key: What it is called by.
        request: Its request object.
        parameters: Its parameters, the same object for all that are sent together.
        batch: The calls that it was begun with.
    """

    meter: Meter
    gate: Gate | None
    call: Call
    key: Key
    request: object
    parameters: object
    batch: Batch | None

    def refuse(self, refusal: CallRefusedError) -> CallRefusedError:
        """It is not made."""
        if self.batch is not None:
            self.batch.keys.pop(self.key, None)
            remember_refused(self.parameters, refusal)
        taps.forget(self.request)
        with self.meter.guard("on_llm_start"):
            self.meter.calls.refuse(self.key, self.request, refusal.reason, batch=self.batch)
        return refusal

    def forget(self) -> None:
        """Nobody has asked the provider: a task was cancelled while it waited, or somebody pressed Ctrl-C."""
        taps.forget(self.request)
        self.meter.calls.refuse(self.key, self.request, None)

    def gates(self) -> Iterator[Any]:
        """What it has to pass: also what another handler's balance was asked by, if the payer is another now."""
        reservation: Any = self.call.reservation
        gates = [] if self.gate is None else [self.gate]
        yield from dict.fromkeys([*gates, *reservation.held])


def is_awaited() -> bool:
    """Whether whoever asks for the attribute from which this is called awaits a coroutine function."""
    # 2: this function, the property, and who asks it.
    return _ASYNC is not None and sys._getframe(2).f_code is _ASYNC  # noqa: SLF001


def admit(begun: Begun) -> CallRefusedError | None:
    """Reserve what a call may need; what is to be raised in its place, if it is not covered."""
    try:
        for gate in begun.gates():
            refusal: CallRefusedError | None = gate.admit(begun.call)
            if refusal is not None:
                return begun.refuse(refusal)
    except Exception:
        raise  # a fault of ours: the call is made, and metered
    except BaseException:
        begun.forget()
        raise
    return None


async def admit_async(begun: Begun) -> CallRefusedError | None:
    """`admit`, without blocking the event loop."""
    try:
        for gate in begun.gates():
            refusal: CallRefusedError | None = await gate.admit_async(begun.call)
            if refusal is not None:
                return begun.refuse(refusal)
    except Exception:
        raise
    except BaseException:
        begun.forget()
        raise
    return None
