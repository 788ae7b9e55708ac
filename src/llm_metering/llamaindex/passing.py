"""`Passing`: the part of `Asking` that reserves what is asked for, before it is."""

from __future__ import annotations

from contextlib import suppress

from ..calls import CallStart
from ..errors import CallRefusedError
from .failures import note_failure
from .request import Request, Tellers
from .reserving import Passed, needed_by

__all__ = ["Passing"]


class Passing:
    """Opens the first request of a method; what holds it to a balance is waited for behind that.

    All that is asked for is reserved for the first one: which texts go into which request nobody knows
    before.
    """

    __slots__ = ("_to_pass",)

    _start: CallStart
    _tellers: Tellers
    _idle: list[Request]
    _to_pass: Request | None

    def _over(self) -> None:
        raise NotImplementedError

    def _drop_idle(self) -> None:
        raise NotImplementedError

    def _open_one(self, around: Passing | None) -> None:
        """A request is about to be made; what is reserved for it in `around` it takes over."""
        needed = needed_by(self._tellers)
        held = None if needed is None or around is None else around.hand_over(needed)
        request = Request(self._start, self._tellers, held or needed)
        request.begin()
        self._idle.append(request)
        self._to_pass = request if held is None else None

    def hand_over(self, needed: Passed) -> Passed | None:
        """What is reserved here, if it is what a call needs that was begun inside of this one."""
        for request in self._idle:
            if request.passed is not None and request.passed.covers(needed):
                return request.hand_over()
        return None

    def pass_gate(self) -> CallRefusedError | None:
        """Reserve what was opened; what to raise in its place, if it may not be made."""
        request, self._to_pass = self._to_pass, None
        return None if request is None else self._passed(request, request.admit())

    def admit(self) -> None:
        """Wait until it may be made.

        Raises:
            CallRefusedError: If it may not.
        """
        try:
            refusal = self.pass_gate()
        except Exception as error:
            # A fault of ours: the request is made, and metered.
            note_failure("admit", error)
            return
        except BaseException:
            self._forget()
            raise
        if refusal is not None:
            self._over()
            raise refusal

    async def admit_async(self) -> None:
        """`admit`, without blocking the event loop.

        Raises:
            CallRefusedError: Likewise.
        """
        request, self._to_pass = self._to_pass, None
        if request is None:
            return
        try:
            refusal = self._passed(request, await request.admit_async())
        except Exception as error:
            note_failure("admit", error)
            return
        except BaseException:
            self._forget()
            raise
        if refusal is not None:
            self._over()
            raise refusal

    def _forget(self) -> None:
        """Nobody has asked the provider: a task was cancelled while it waited, or somebody pressed Ctrl-C."""
        self._over()
        self._drop_idle()

    def _passed(
        self, request: Request, refusal: CallRefusedError | None
    ) -> CallRefusedError | None:
        if refusal is not None:
            with suppress(ValueError):
                self._idle.remove(request)
            request.refuse(refusal.reason)
        return refusal
