"""`Asking`: one call of a method that asks a provider, and the requests that it makes.

What LlamaIndex says of embeddings has neither usage nor model, and comes once for all batches, if at
all (llama-index-core 0.14.25, `base/embeddings/base.py`). The provider's own answers say it, and a
tap sees each of them. A method may make one request, or several at once; or none that we can see. ::

    begin ──► a request is open ──► an answer begins ──► it ends: that request is settled
                    │                     └► another begins: it is a request of its own
                    └► the method is over, and no answer was seen: it is settled as one request

Where calls are held to balances, the first request has all that is asked for reserved: which texts go
into which request nobody knows before.

So what a process that dies had asked for is known to have been asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import uuid4

from llama_index_instrumentation.dispatcher import active_instrument_tags
from llama_index_instrumentation.span import active_span_id
from msgspec.structs import replace

from .. import taps
from ..calls import CallStart, Report, outcome_of
from ..errors import CallRefusedError
from ..extract.reading import Reading
from ..recording.records import report_of
from ..taps import TappedRequests
from .accounts import Teller, tellers_of
from .attributions import attribution_of, refusal_of
from .failures import note_failure
from .frames import Frame, enter, leave
from .passing import Passing
from .questions import Kind, Question
from .request import Request, Tellers

__all__ = ["Asking", "asking_here", "begin"]

_FRAMEWORK: Final = "llamaindex"
_UUID: Final = 36

# Kinds of objects that were seen to make several requests in one call of a method.
_several: Final[set[type]] = set()


def asking_here(kind: Kind) -> Asking | None:
    """The call of a method of that kind that we are in."""
    tapped = taps.current()
    if isinstance(tapped, TappedRequests) and not tapped.is_over:
        asking = tapped.request
        if isinstance(asking, Asking) and asking.kind is kind:
            return asking
    return None


def begin(
    kind: Kind, instance: object, method: str, question: Question, *, is_certain: bool
) -> Asking | None:
    """A method that asks a provider is called, in this context.

    Args:
        kind: What it asks for.
        instance: What it is a method of.
        method: Its name.
        question: What is known of a request.
        is_certain: Whether it will ask; else that is said by `open`.

    Returns:
        `None` where it is metered by nobody.

    Raises:
        CallRefusedError: If it is certain that it asks, and it is refused.
    """
    outer = active_span_id.get()
    id_ = f"{type(instance).__name__}.{method}-{uuid4()}"
    frame = enter(id_, instance, outer, active_instrument_tags.get(), matters=True)
    if frame is None:
        return None
    try:
        tellers = tellers_of(frame.account)
        if tellers:
            run_id = (outer or id_)[-_UUID:]
            return Asking(kind, instance, frame, tellers, question, run_id, is_certain=is_certain)
    except BaseException:
        leave(frame)
        raise
    leave(frame)
    return None


class Asking(Passing):
    """One call of a method.

    Attributes:
        kind: What it asks for.
        instance: What it is a method of.
    """

    __slots__ = (
        *("_answering", "_around", "_frame", "_idle", "_is_answered", "_silent", "_start"),
        *("_tapped", "_tellers", "instance", "kind"),
    )

    def __init__(
        self,
        kind: Kind,
        instance: object,
        frame: Frame,
        tellers: list[Teller],
        question: Question,
        run_id: str,
        *,
        is_certain: bool,
    ) -> None:
        self._around = asking_here(kind)
        self.kind = kind
        self.instance = instance
        self._frame = frame
        self._is_answered = False
        self._to_pass = None
        # Each is used by whichever thread reads an answer: lists, since their `pop` is one step.
        self._idle: list[Request] = []
        self._answering: list[Request] = []
        self._silent: list[tuple[Request, Reading | None]] = []
        self._tapped = taps.follow(
            self,
            question.provider,
            begin=self._begin_answer,
            read_body=kind.read_body,
            framework=_FRAMEWORK,
            is_read=tellers[0].meter.settings.taps,
        )
        self._tellers: Tellers = [
            (teller, self._tapped.paid_by(attribution_of(teller, frame))) for teller in tellers
        ]
        self._start = CallStart(
            attribution=self._tellers[0][1],
            framework=_FRAMEWORK,
            operation=kind.operation,
            provider=question.provider,
            request_model=question.model,
            run_id=run_id,
            asked=question.asked,
        )
        if not is_certain:
            return
        refusal = self.open()
        if refusal is not None:
            self._tapped.end()
            raise refusal
        if self._around is not None:
            self._around.pass_on()

    def open(self, model: str | None = None) -> CallRefusedError | None:
        """The provider is about to be asked.

        Args:
            model: Which of its models, if that was not known.

        Returns:
            What to raise instead.
        """
        if model is not None:
            self._start = replace(self._start, request_model=model)
        refusal = refusal_of(self._tellers, self._start.provider, self._start.request_model)
        if refusal is not None:
            self._request().refuse(refusal.reason)
            return refusal
        if not (self._idle or self._is_answered):
            self._open_one(self._around)
        return None

    def pass_on(self) -> None:
        """A call of the same kind was begun inside of this one, which asks in its place."""
        self._drop_idle()

    def end(self) -> None:
        """It returned."""
        self._over()
        for request in self._taken(self._answering):
            self._silent.append((request, None))  # nobody has read it to its end
        self._settle_silent(is_whole=True)
        if self._is_answered or self._is_asked_for():
            self._drop_idle()
        for request in self._taken(self._idle):
            request.end("completed", Report(is_countable=self.kind.is_counted))

    def fail(self, error: BaseException) -> None:
        """It raised, or nobody waits for it any more."""
        self._over()
        outcome, reason = outcome_of(error)
        for request in self._taken(self._answering):
            # What was answered in part was paid for.
            request.end("aborted" if outcome == "aborted" else "failed", Report())
        # Of a method that makes several requests, some of the texts were not asked for.
        self._settle_silent(is_whole=type(self.instance) not in _several)
        if self._is_asked_for() or isinstance(error, CallRefusedError):
            self._drop_idle()
        for request in self._taken(self._idle):
            request.end(outcome, Report(reason=reason))

    def _is_asked_for(self) -> bool:
        """Whether what was begun inside of it has asked in its place."""
        tapped = self._tapped
        # Rerankers have models rank, or embed; who embeds may ask a model too, beside it.
        return tapped.holds_another or (tapped.holds_any and not self.kind.is_counted)

    def _over(self) -> None:
        self._tapped.end()
        leave(self._frame)

    def _request(self) -> Request:
        return Request(self._start, self._tellers)

    def _begun(self) -> Request:
        request = self._request()
        request.begin()
        return request

    def _begin_answer(self) -> Callable[[Reading | None], None]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._request()
            if self._is_answered or self._silent:
                _several.add(type(self.instance))
                request.begin()
        self._answering.append(request)
        return partial(self._answered, request)

    def _answered(self, request: Request, reading: Reading | None) -> None:
        with suppress(ValueError):  # the method was over before
            self._answering.remove(request)
        try:
            self._take(request, reading)
        except Exception as error:
            note_failure(self.kind.operation, error, self._tellers[0][0].meter)

    def _take(self, request: Request, reading: Reading | None) -> None:
        if reading is not None and not self.kind.is_answer(reading):
            if request.is_begun:
                self._idle.append(request)
            return
        if reading is None or not _is_told(reading):
            self._silent.append((request, reading))
            return
        self._is_answered = True
        failed = reading.ending in ("failed", "refused")
        request.end("failed" if failed else "completed", report_of(reading))
        if type(self.instance) in _several and not self._tapped.is_over:
            self._idle.append(self._begun())

    def _settle_silent(self, *, is_whole: bool) -> None:
        """Settle what was answered without a usage: together, since which texts were whose is unknown."""
        silent = self._silent[:]
        del self._silent[: len(silent)]
        if not silent:
            return
        request, reading = silent[0]
        flags = ("tap_failed",) if reading is None else ()
        report = Report() if reading is None else report_of(reading)
        report = replace(report, flags=(*report.flags, *flags))
        if self._is_answered or not (is_whole and self.kind.is_counted):
            report = replace(report, is_countable=False)
        for other, _ in silent[1:]:
            if report.is_countable or not self.kind.is_counted:
                other.drop()
            else:
                other.end("completed", report)
        self._is_answered = True
        request.end("completed", report)

    def _drop_idle(self) -> None:
        for request in self._taken(self._idle):
            request.drop()

    @staticmethod
    def _taken(requests: list[Request]) -> list[Request]:
        taken = []
        while requests:
            with suppress(IndexError):
                taken.append(requests.pop())
        return taken


def _is_told(reading: Reading) -> bool:
    """Whether an answer says all that is billed."""
    usage = reading.usage
    return bool(reading.measures) or (usage is not None and usage.total_tokens is not None)
