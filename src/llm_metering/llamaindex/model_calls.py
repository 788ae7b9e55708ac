"""`ModelCall`: one call of a model, told to the call table of each meter that it is for.

One call of a provider may look like several of LlamaIndex: `Anthropic.complete` calls its own `chat`,
a `CustomLLM`'s `achat` its `chat` and that its `complete`, a structured model the model inside
(llama-index-core 0.14.25, `llms/custom.py`, `llms/structured_llm.py`). Who asks the provider is the
innermost; the others are withdrawn when it begins, before anybody is asked. One of them may ask a
provider as well, beside what it has others ask: then its answer has a usage of its own.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from .. import taps
from ..calls import Call, CallStart, Outcome, Report, answers_of
from ..errors import CallRefusedError
from ..extract.flags import UNKNOWN_USAGE
from ..extract.gemini_usage import PROVIDER as GEMINI
from ..meter import Meter
from ..taps import TappedCall
from ..token_usage import TokenUsage
from .failures import note_failure
from .frames import Frame, call_here
from .providers import is_asked_late
from .reserving import Passed, admit, admit_async
from .seen import Seen

__all__ = ["ModelCall"]


def _tapped_here() -> TappedCall | None:
    call = call_here()
    return None if call is None else call.seen.tapped


taps.finders.append(_tapped_here)

REPEATED_ANSWER: Final = "repeated_answer"
UNSEEN_USAGE: Final = "unseen_usage"
"""LlamaIndex told neither of the call nor of its usage, and no tap has seen its answer."""


_UNREAD: Final = Report(flags=(UNKNOWN_USAGE,))


class ModelCall:
    """One call in flight.

    Attributes:
        key: By what the call tables know it.
        seen: What was seen of it.
        frame: The span that it was begun in.
        is_open: Whether nobody has told of its end.
        is_only_a_span: Whether no event told of its start, so that what its span returns ends it.
        told: What was known of it at its end.
    """

    __slots__ = (
        *("_call", "_inner", "_is_withdrawn", "_passed", "_starts", "frame", "is_only_a_span"),
        *("is_open", "key", "seen", "told"),
    )

    def __init__(
        self,
        key: str,
        frame: Frame,
        seen: Seen,
        starts: list[tuple[Meter, CallStart]],
        *,
        is_metered_elsewhere: bool = False,
        passed: Passed | None = None,
    ) -> None:
        self.key = key
        self.frame = frame
        self.seen = seen
        self.is_open = True
        self.is_only_a_span = False
        self.told: Report | None = None
        self._starts = starts
        self._passed = passed
        self._call: Call | None = None
        self._inner: list[ModelCall] = []
        self._is_withdrawn = is_metered_elsewhere
        if not is_metered_elsewhere:
            self._tell_start()

    def _tell_start(self) -> None:
        for meter, start in self._starts:
            self._call = meter.calls.start(self.key, start)

    @property
    def passed(self) -> Passed | None:
        """What is reserved for it, and no longer once a call inside of it has taken that over."""
        return self._passed

    def hand_over(self) -> Passed | None:
        """What is reserved for it is another one's from now on, which asks in its place."""
        passed, self._passed = self._passed, None
        if passed is not None and self._call is not None:
            self._call.reservation = None
        return passed

    def admit(self) -> CallRefusedError | None:
        """Reserve what it may need; what to raise in its place, if it may not be made."""
        if self._passed is None or self._call is None:
            return None
        return admit(self._passed, self._call)

    async def admit_async(self) -> CallRefusedError | None:
        """`admit`, without blocking the event loop."""
        if self._passed is None or self._call is None:
            return None
        return await admit_async(self._passed, self._call)

    def refuse(self, refusal: CallRefusedError) -> None:
        """It is not made: it leaves a count, and nothing of those that it was to be a part of."""
        self.is_open = False
        self._is_withdrawn = True
        if self.seen.tapped is not None:
            self.seen.tapped.end()
        for meter, start in self._starts:
            meter.calls.refuse(self.key, start.request, refusal.reason)
        self.frame.refuse()

    def withdraw(self, inner: ModelCall) -> None:
        """Another call was begun inside of this one."""
        self._inner.append(inner)
        if not self._is_withdrawn:
            self._is_withdrawn = True
            for meter, _ in self._starts:
                meter.calls.withdraw(self.key)

    def goes_on_elsewhere(self) -> None:
        """It is a stream, and will be read, perhaps asked for, in whatever context."""
        if self.seen.tapped is not None:
            self.seen.tapped.detach()

    def drop(self) -> None:
        """It turned out to be none."""
        self.is_open = False
        if self.seen.tapped is not None:
            self.seen.tapped.end()
        if not self._is_withdrawn:
            self._is_withdrawn = True
            for meter, _ in self._starts:
                meter.calls.withdraw(self.key)

    def piece(self, response: Any) -> None:
        """A piece of the answer arrived."""
        seen = self.seen
        seen.take(response)
        if self._is_withdrawn:
            return
        meter, start = self._starts[0]
        if meter.calls_heard.piece(self.key, "", teller=start.teller) and seen.tapped is not None:
            seen.tapped.has_begun = True

    def answered(self, response: object) -> None:
        """It ended by itself; what cannot be read ends it all the same."""
        outcome: Outcome = "completed"
        report = _UNREAD
        try:
            is_stream = self.frame.generator is not None
            outcome, report = self.seen.report(response, is_stream=is_stream)
        except Exception as trouble:
            note_failure("reading an answer", trouble, self._starts[0][0])
        self.end(outcome, report)

    def raised(self, error: BaseException) -> None:
        """It ended in an error, or was left by its consumer."""
        outcome: Outcome = "failed"
        report = _UNREAD
        try:
            outcome, report = self.seen.report_of_error(error)
        except Exception as trouble:
            note_failure("reading an error", trouble, self._starts[0][0])
        self.end(outcome, report)

    def is_gone(self) -> None:
        """It was a stream, nobody can read it any more, and nobody has told of its end."""
        outcome: Outcome = "aborted"
        report = _UNREAD
        try:
            if self.is_only_a_span:
                # Of its pieces nothing was told either: the provider says whether all were read.
                report = self.seen.of_pieces()
                tapped, self.seen.tapped = self.seen.tapped, None
                if tapped is not None:
                    _, report = self._with_tapped(tapped, outcome, report)
                if report.usage is not None and report.is_final:
                    outcome = "completed"
            elif not self.seen.is_streamed and is_asked_late(self.frame.instance):
                report = Report(left_out="never_sent")
            else:
                report = self.seen.so_far()
        except Exception as trouble:
            note_failure("reading a stream", trouble, self._starts[0][0])
        self.end(outcome, report)

    def end(self, outcome: Outcome, report: Report) -> None:
        """It is over, in whatever way; the first to say so is heard."""
        if not self.is_open:
            return
        self.is_open = False
        tapped = self.seen.tapped
        if tapped is not None:
            try:
                outcome, report = self._with_tapped(tapped, outcome, report)
            except Exception as trouble:
                note_failure("taps", trouble, self._starts[0][0])
        if self.is_only_a_span and report.usage is None and not report.left_out:
            report = replace(report, flags=(*report.flags, UNSEEN_USAGE))
        self.told = report
        if self._is_withdrawn:
            if not self._inner or not self._has_own(report):
                return
            # What was reserved for it is with whom it had asked, or was given back.
            self._starts = [
                (meter, replace(start, reservation=None)) for meter, start in self._starts
            ]
            self._tell_start()
        for meter, start in self._starts:
            if answers_of(meter.calls).is_repeated(self.key, report):
                report = replace(report, flags=(*report.flags, REPEATED_ANSWER))
            meter.calls.end(self.key, outcome, report, teller=start.teller)

    def _with_tapped(
        self, tapped: TappedCall, outcome: Outcome, report: Report
    ) -> tuple[Outcome, Report]:
        tapped.end()
        is_whole = outcome == "completed"
        if not (is_whole and _is_all(report) and not self.seen.is_streamed):
            report = tapped.complete(report, is_whole=is_whole)
            if is_whole and tapped.has_failed:
                outcome = "failed"
        if not is_whole:
            report = self.seen.with_kept(report)
        if tapped.holds_another:
            report = replace(report, left_out="inner_call")
        return outcome, report

    def _has_own(self, report: Report) -> bool:
        """Whether this call asked a provider as well, beside those that were begun inside of it."""
        usage = report.usage
        if usage is None or report.left_out:
            return False
        told = []
        for inner in self._inner:
            if self.seen.raw is not None and self.seen.raw is inner.seen.raw:
                return False
            # A stream that is left ends from the outside in.
            known = inner.told or inner.seen.of_pieces()
            if report.response_id is not None and report.response_id == known.response_id:
                return False
            if known.usage is not None:
                told.append(_in_and_out(known.usage))
        # What it hands on may be the usage of one of them, or of all, without the details.
        return _in_and_out(usage) not in (*told, tuple(map(sum, zip(*told, strict=True))))


def _in_and_out(usage: TokenUsage) -> tuple[int, int]:
    return usage.input_tokens or 0, usage.output_tokens or 0


def _is_all(report: Report) -> bool:
    """Whether nothing can be added to what LlamaIndex has handed on."""
    if report.service_tier is None and report.provider == GEMINI:
        return False  # google-genai 2.34.0 leaves it out of its objects
    usage = report.usage
    return usage is not None and usage.total_tokens is not None and not report.flags
