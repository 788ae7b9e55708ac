"""`TappedCall`: one call of a framework, and the answers that were read while it ran.

Whose answer it is, a context variable tells: the front end sets it when a call starts, in the
context in which the framework goes on to ask the provider, and which asyncio and LangChain's
executors copy. A program may ask a provider by itself while a call of a framework is open, between
two chunks of a stream. So an answer is only taken for that of the call if no other one is being
read, and none is that begins where a piece of the call's has reached the application without any;
and where several were read that could be, none is believed.
"""

from __future__ import annotations

import itertools
import weakref
from asyncio.events import _get_running_loop
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Final, TypeVar

from ..calls import Report, Reserved
from ..extract.reading import Reading
from ..subjects import Attribution, Rank
from .body import Body
from .merging import completed, is_whole_report

__all__ = ["TappedCall", "begin", "current", "enter", "finders", "forget"]

Tapped = TypeVar("Tapped", bound="TappedCall")

MOST: Final = 4
"""Answers are read of one call: with more, whose they are could not be told anyway."""

_GENERATED: Final = ("chat", "text_completion")
"""What models generate. A cache that compares meanings asks for embeddings within the call."""

_current: Final[ContextVar[TappedCall | None]] = ContextVar("llm_metering_tap", default=None)

_serials: Final = itertools.count()

finders: Final[list[Callable[[], TappedCall | None]]] = []
"""What else says which call an answer is of: a front end that begins a stream long before its
request is made adds what finds it by then."""


def current() -> TappedCall | None:
    """The call that an answer which begins here and now is of, over or not; the latest that may be."""
    call = _current.get()
    for find in finders:
        found = find()
        if found is not None and (call is None or call.is_over or found.serial > call.serial):
            call = found
    return call


class TappedCall:
    """What passed of one call.

    Attributes:
        framework: Whose call it is.
        request: What it was begun with, until it is over.
        has_begun: Whether a piece of its answer has reached the application.
        payer: Who pays for it, by all that was said of it; `None` until somebody has.
        reservation: What is reserved for it until it is over, if anything is.
        reservation_around: What is reserved for the call of another framework that it was begun
            inside of, likewise.
        has_failed: Whether the provider said that it could not go on, once the call is completed.
        holds_another: Whether a call of another framework was begun inside of this one, so that this
            one only passes on what that one asks for.
        holds_any: Whether any call was.
        is_over: Whether the call has ended, so that nothing more can belong to it.
        serial: Larger than those of all calls that were begun before.
    """

    __slots__ = (
        *("__weakref__", "_bodies", "_flags", "_in_loop", "_outer", "_provider", "_readings"),
        *("_is_read", "framework", "has_begun", "has_failed", "holds_another", "holds_any"),
        *("_payer_around", "is_over", "payer", "request", "reservation", "reservation_around"),
        "serial",
    )

    def __init__(
        self,
        request: object,
        provider: str | None,
        outer: TappedCall | None,
        *,
        around: TappedCall | None = None,
        framework: str = "",
        is_read: bool = True,
    ) -> None:
        self.has_begun = False
        self.has_failed = False
        self.holds_another = False
        self.holds_any = False
        self.is_over = False
        self.request = request
        self.serial = next(_serials)
        self.payer: Attribution | None = None
        self.reservation: Reserved | None = None
        self.reservation_around: Reserved | None = None
        self._payer_around: Attribution | None = None
        self.framework = framework
        self._is_read = is_read
        around = around or outer
        if around is not None and not around.is_over:
            around.holds_any = True
            if around.framework != framework:
                around.holds_another = True
                self._payer_around = around.payer
                self.reservation_around = around.reservation
            else:
                self.reservation_around = around.reservation_around
        self._in_loop = _get_running_loop() is not None
        self._provider = provider
        # Weak: of one that nobody ends, its context would hold the next, and that the one after it.
        self._outer = None if outer is None or outer.is_over else weakref.ref(outer)
        self._bodies: list[Body] = []
        self._readings: tuple[Reading, ...] | None = None
        self._flags: tuple[str, ...] = ()

    def body(
        self,
        *,
        has_lines: bool,
        as_chunk: Callable[[bytes], object] = bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Body | None:
        """What reads the answer that now begins; `None` if it is not to be read.

        Args:
            has_lines: Whether it is known to come in lines.
            as_chunk: Makes of a line what a client of this provider yields.
            headers: Of the answer, where there may be counts in them. Of a call that generates, they
                are handed on by the framework.
        """
        bodies = self._bodies
        if self.is_over or not self._is_read or len(bodies) >= MOST:
            return None
        if not bodies[-1].is_over if bodies else self.has_begun:
            return None
        body = Body(has_lines=has_lines, as_chunk=as_chunk)
        bodies.append(body)
        return body

    @property
    def is_paid(self) -> bool:
        """Whether somebody pays for it."""
        return self.payer is not None and self.payer.rank is not Rank.NOBODY

    def paid_by(self, attribution: Attribution) -> Attribution:
        """Who pays, by what another handler says of the call.

        For a call that was begun inside of one of another framework, what holds for that one holds
        as well.
        """
        if self._payer_around is not None:
            attribution = attribution.beside(self._payer_around)
        known = self.payer
        self.payer = attribution if known is None else attribution.beside(known)
        return attribution

    def detach(self) -> None:
        """The call goes on, but not in this context."""
        if _current.get() is self:
            outer = None if self._outer is None else self._outer()
            _current.set(None if outer is None or outer.is_over else outer)

    def end(self) -> None:
        """The call has ended."""
        if self.is_over:
            return
        self.is_over = True
        # Its context may go on knowing it, and with these the books of a meter that was closed.
        self.request = self.reservation = self.reservation_around = None
        outer = None if self._outer is None else self._outer()
        self._outer = None
        if _current.get() is self:
            # A model that calls another one goes on with its own.
            _current.set(None if outer is None or outer.is_over else outer)

    def closed(self, report: Report) -> Report:
        """A report of a call that nobody ends, with what was read of its answer.

        LangChain tells nothing of an `ainvoke` that a time limit inside its task cuts short
        (langchain-core 1.7.2, `language_models/chat_models.py`, `agenerate`). If no answer had begun
        by then, the next one in that context is of a call that the application made itself.
        """
        if self._in_loop and not self.has_begun:
            self.give_up()
            return report
        self.end()
        return self.complete(report, is_whole=False)

    def give_up(self) -> None:
        """The call has ended, and what was read cannot be told to be of it."""
        self.end()
        self._bodies, self._readings = [], ()

    def complete(self, report: Report, *, is_whole: bool) -> Report:
        """A report of the framework's, with what was lost on the way to it, up to now.

        Args:
            report: What the framework says.
            is_whole: Whether the call ended by itself.
        """
        if self._readings is None and not self._bodies:
            return report
        if self._readings is None and is_whole_report(report, self._provider, self._streamed()):
            if self.is_over:
                self._bodies, self._readings = [], ()
            return report
        readings = self._read()
        # Some integrations pass over an error in the middle of a stream.
        self.has_failed = [reading.ending for reading in readings] == ["failed"]
        return completed(report, readings, flags=self._flags, is_whole=is_whole)

    def _streamed(self) -> bool:
        return any(body.has_lines for body in self._bodies)

    def _read(self) -> tuple[Reading, ...]:
        """What the answers say that a model generated."""
        if self._readings is not None:
            return self._readings
        readings = []
        for body in self._bodies:
            reading = body.reading()
            if reading is not None and reading.operation in _GENERATED:
                readings.append(reading)
            if body.is_lost:
                self._flags = ("tap_failed",)
        found = tuple(readings)
        if self.is_over:
            # Numbers from here on; what they were read from goes.
            self._readings, self._bodies = found, []
        return found


def begin(
    request: object, provider: str | None, *, framework: str = "", is_read: bool = True
) -> TappedCall:
    """A call starts; see `llm_metering.taps.begin`."""
    outer = _current.get()
    if outer is not None and not outer.is_over and outer.request is request:
        return outer  # another handler was told before
    # A stream of one framework may be read in any context, and ask for it there by another one.
    around = current()
    return enter(
        partial(TappedCall, request, provider, around=around, framework=framework, is_read=is_read)
    )


def forget(request: object) -> None:
    """The call of a request is not made; see `llm_metering.taps.forget`."""
    call = _current.get()
    if call is not None and call.request is request:
        call.end()


def enter(make: Callable[[TappedCall | None], Tapped]) -> Tapped:
    """From here on, the present context is in a call that is made of the one it was in."""
    call = make(_current.get())
    _current.set(call)
    return call
