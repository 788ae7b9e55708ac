"""`CallReservation`: what is reserved for one call, from before it is made until it has ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gate import Gate

__all__ = ["CallReservation"]


class CallReservation:
    """What is reserved for one call, by all gates that it passes.

    Attributes:
        id: Names it; the call's event carries it.
        held: Whose balance it is of, by gate.
    """

    __slots__ = ("_process", "held", "id")

    def __init__(self, id: str) -> None:
        self._process = os.getpid()
        self.id = id
        self.held: dict[Gate, str] = {}

    def __repr__(self) -> str:
        return f"<CallReservation {self.id} {list(self.held.values())}>"

    @property
    def is_shared(self) -> bool:
        """Whether several gates have reserved something under its id."""
        return len(self.held) > 1

    def release(self, then: Callable[[], object], /) -> None:
        """The call costs nothing: it is given back by a thread of ours, and then `then` is called."""
        gates, self.held = list(self.held), {}
        if not gates or self._process != os.getpid():  # a forked child's: it is the parent's
            then()
            return
        for gate in gates[1:]:
            gate.give_back(self.id, lambda: None)
        gates[0].give_back(self.id, then)

    def recorded(self) -> None:
        """The event is recorded: whoever keeps the balance settles it."""
        for gate in list(self.held):
            gate.ended(self.id)
