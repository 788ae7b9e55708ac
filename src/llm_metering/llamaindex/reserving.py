"""What is reserved for a call, by whom it is paid, and how much may come out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..calls import Call
from ..errors import CallRefusedError
from ..subjects import Attribution
from .accounts import Teller, gates_of

if TYPE_CHECKING:
    from ..limits import CallReservation, Gate

__all__ = ["Passed", "admit", "admit_async", "needed_by", "output_limit_of"]

_LIMITS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_new_tokens")
"""What integrations call the most that may come out, among their models' own fields."""
_PARAMETERS: Final = ("additional_kwargs", "generate_kwargs", "model_kwargs", "_generation_config")
"""Where they keep what goes into each request; of Gemini's, `max_tokens` is the model's own maximum."""


class Passed(NamedTuple):
    """What a call has passed, or is about to.

    Attributes:
        gates: What holds it to balances.
        payer: Who pays, by all that its tellers know.
        reservation: What is reserved by them.
    """

    gates: tuple[Gate, ...]
    payer: str
    reservation: CallReservation

    def covers(self, needed: Passed) -> bool:
        """Whether a call that is a part of this one needs nothing of its own."""
        return (self.gates, self.payer) == (needed.gates, needed.payer)

    def give_back(self) -> None:
        """No call needs it."""
        self.reservation.release(lambda: None)


def needed_by(told: Sequence[tuple[Teller, Attribution]]) -> Passed | None:
    """What a call has to pass, nothing reserved yet; `None` if nobody holds it to a balance.

    Args:
        told: Who is told of it, and who pays by what each of them knows.
    """
    gates = gates_of(teller for teller, _ in told)
    if not gates:
        return None
    payer = told[0][1]
    for _, other in told[1:]:
        payer = other.beside(payer)
    return Passed(gates, payer.subject, gates[0].prepare())


def admit(passed: Passed, call: Call) -> CallRefusedError | None:
    """Have a call pass; what to raise in its place, if it may not be made."""
    for gate in _gates(passed):
        refusal = gate.admit(call)
        if refusal is not None:
            return refusal
    return None


async def admit_async(passed: Passed, call: Call) -> CallRefusedError | None:
    """`admit`, without blocking the event loop."""
    for gate in _gates(passed):
        refusal = await gate.admit_async(call)
        if refusal is not None:
            return refusal
    return None


def _gates(passed: Passed) -> Iterator[Gate]:
    # Also what another handler's balance was asked by, if the payer is another now.
    yield from dict.fromkeys([*passed.gates, *passed.reservation.held])


def output_limit_of(passed: Passed, instance: object, parameters: Any) -> int | None:
    """The most tokens that an answer may have, as the call or its model says; `None` if neither does.

    Args:
        passed: Knows how parameters are read.
        instance: The model.
        parameters: The arguments of the call.
    """
    return passed.gates[0].output_limit(parameters, *_parameters_of(instance))


def _parameters_of(instance: object) -> Iterator[Mapping[str, Any]]:
    for name in _PARAMETERS:
        found = getattr(instance, name, None)
        if isinstance(found, Mapping):
            yield found
    yield {name: getattr(instance, name, None) for name in _LIMITS}
