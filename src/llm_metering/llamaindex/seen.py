"""`Seen`: what was seen of one call of LlamaIndex, read into a report.

LlamaIndex hands on the provider's own answer in `raw`, of a stream its last piece alone
(llama-index-core 0.14.25, `llms/callbacks.py`). So the pieces are read as they pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from ..calls import Outcome, Report, outcome_of
from ..exchange import Output
from ..extract import StreamReader, read, read_usage
from ..extract.error_bodies import reading_of_error
from ..extract.flags import UNKNOWN_USAGE, ZERO_USAGE
from ..extract.langchain import without_false_zeros
from ..extract.reading import NOTHING, Reading
from ..extract.views import as_mapping
from ..recording.records import report_of
from ..taps import TappedCall
from .texts import chat_request, output_of

__all__ = ["Seen"]

_USAGES: Final = ("usage", "usage_metadata", "usageMetadata", "meta", "metadata")
_DELTAS: Final = frozenset(
    ["content_block_delta", "content-delta", "response.output_text.delta", "ping"]
)
"""The types of events that hold text and nothing else."""
_UNKNOWN: Final = "unknown"
_COUNTS: Final = frozenset(["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"])


class Seen:
    """One call, from its start to its end.

    Args:
        operation: `chat` or `text_completion`.
        asked: The messages, or the prompt.
        parameters: The arguments of the call beside them.
        reads_raw: Whether `raw` is the provider's own. Of a structured model it is the user's own
            object, in which a field called `usage` is none.

    Attributes:
        operation: As above.
        parameters: As above.
        tapped: What reads the provider's answer on its way.
        raw: The provider's answer, as LlamaIndex has handed it on; of a stream its last piece.
        is_streamed: Whether a piece of the answer has come.
    """

    __slots__ = (
        *("_asked", "_has_usage", "_last", "_pieces", "_reader", "_reads_raw"),
        *("is_streamed", "operation", "parameters", "raw", "tapped"),
    )

    def __init__(
        self, operation: str, asked: Any, parameters: Mapping[str, Any] | None, *, reads_raw: bool
    ) -> None:
        self.operation = operation
        # A copy of the list: an agent goes on adding to its own while the model answers.
        self._asked = [*asked] if isinstance(asked, list | tuple) else asked
        self.parameters = parameters
        self._reads_raw = reads_raw
        self._reader: StreamReader | None = None
        self._pieces: list[str] = []
        self._last: object = None
        self._has_usage = False
        self.raw: object = None
        self.tapped: TappedCall | None = None
        self.is_streamed = False

    def asked(self) -> Mapping[str, Any] | None:
        """The request in the shape of OpenAI's API; `None` where it is not known."""
        if self._asked is None:
            return None
        if self.operation == "text_completion":
            return {"prompt": self._asked}
        return chat_request(self._asked, self.parameters)

    def take(self, response: Any) -> None:
        """A piece of the answer arrived."""
        self._last = response
        self.is_streamed = True
        delta = response.delta
        if delta and isinstance(delta, str):
            self._pieces.append(delta)
        raw = self.raw = response.raw
        if raw is not None and self._reads_raw and not _is_text_alone(raw, self._reader):
            if self._reader is None:
                self._reader = StreamReader()
            self._has_usage = self._has_usage or _holds_usage(raw)
            self._reader.feed(raw)

    def report(self, response: object, *, is_stream: bool = False) -> tuple[Outcome, Report]:
        """How a call ended that did so by itself, and what is known of it.

        Args:
            response: The answer; of a stream its last piece.
            is_stream: Whether it was to come in pieces; one may have ended before the first.
        """
        if self.is_streamed or is_stream:
            reading = self._read_pieces()
            report = self._judged(reading, response or self._last)
            if not self._pieces and not report.output() and report.usage is None:
                report = replace(report, is_countable=False, flags=(*report.flags, "empty_stream"))
        else:
            self.raw = raw = getattr(response, "raw", None) if self._reads_raw else None
            reading = None if raw is None else read(raw)
            if reading is not None and reading.shape == _UNKNOWN:
                self._has_usage = _holds_usage(raw)
            report = self._judged(reading, response)
        outcome: Outcome = "completed"
        if reading is not None and reading.ending in ("failed", "refused"):
            outcome = "failed" if reading.ending == "failed" or report.output() else "refused"
        return outcome, report

    def report_of_error(self, error: BaseException) -> tuple[Outcome, Report]:
        """How a call ended that raised, and what is known of it."""
        try:
            outcome, reason = outcome_of(error)
        except Exception:
            # A property of somebody else's exception may do anything.
            outcome, reason = "failed", ""
        report = replace(self.of_pieces(), reason=reason)
        if report.usage is None or not report.is_final:
            reading = reading_of_error(error)
            if reading is not None:
                found = report_of(reading, output=report.output)
                report = replace(found, reason=reason, flags=(*report.flags, *found.flags))
        usage = report.usage
        if outcome == "refused" and usage is not None and not any(usage.counts().values()):
            report = replace(report, usage=None)  # a refusal that says so: nothing was used
        return outcome, report

    def so_far(self) -> Report:
        """What is known of the call by now, the provider's own bytes included."""
        report = self.of_pieces()
        if self.tapped is not None:
            report = self.tapped.closed(report)
        return self.with_kept(report)

    def with_kept(self, report: Report) -> Report:
        """A report of a stream that was left, with what stands beside its pieces if nothing else is known.

        Anthropic's integration does not hand on the start of a stream, but of what that said it keeps
        two counts, without those of the cache: llama-index-llms-anthropic 0.12.3, `base.py`.
        """
        kept = getattr(getattr(self._last, "message", None), "additional_kwargs", None)
        usage = as_mapping((as_mapping(kept) or {}).get("usage"))
        if report.usage is not None or not usage:
            return report
        try:
            return replace(report, usage=read_usage(usage), is_final=False)
        except Exception:
            return replace(report, flags=(*report.flags, UNKNOWN_USAGE))

    def of_pieces(self) -> Report:
        """What the pieces say that have come by now."""
        reading = self._read_pieces()
        report = self._judged(reading, self._last)
        # What stands beside the pieces is of the call up to there.
        is_final = reading is not None and reading.usage is not None and reading.is_final
        return replace(report, is_final=is_final)

    def _read_pieces(self) -> Reading | None:
        return None if self._reader is None else self._reader.reading()

    def _judged(self, reading: Reading | None, response: object) -> Report:
        """What was read, without what is none of the provider's, and without false zeros."""
        output = partial(self._output, response)
        if reading is None or (reading.shape == _UNKNOWN and not self._has_usage):
            # A model of the user's own may hand on anything.
            report = Report(output=output)
        else:
            report = report_of(reading, output=output)
        usage = report.usage
        if usage is None:
            found = self._usage_beside(response)
            return report if found is None else replace(report, usage=found)
        if usage.input_tokens and usage.output_tokens:
            return report
        known = without_false_zeros(usage, has_output=bool(report.output()))
        if known is usage:
            return report
        flags = report.flags if ZERO_USAGE in report.flags else (*report.flags, ZERO_USAGE)
        return replace(report, usage=known if known.counts() else None, flags=flags)

    def _usage_beside(self, response: object) -> Any:
        """The counts that some integrations put beside the answer, if they are counts."""
        kept = as_mapping(getattr(response, "additional_kwargs", None))
        if not kept or not self._reads_raw or _COUNTS.isdisjoint(kept):
            return None
        counts = {name: value for name, value in kept.items() if name.endswith("_tokens")}
        if all(value is None for value in counts.values()):
            return None
        try:
            return read_usage(counts)
        except Exception:
            return None

    def _output(self, response: object) -> Output:
        found = output_of(response)
        text = "".join(self._pieces)
        # What an integration puts together may lack the latest piece, or all but it.
        if len(text) > sum(map(len, found.texts)):
            return Output(texts=[text], reasoning=found.reasoning, tool_calls=found.tool_calls)
        return found


def _is_text_alone(raw: Any, reader: StreamReader | None) -> bool:
    """Whether a piece holds text and nothing else, as nearly all do; the first one is read."""
    # Not `getattr`: for what a model of pydantic's does not have it takes longer than all the rest.
    fields = raw if type(raw) is dict else getattr(raw, "__dict__", NOTHING)
    kind = fields.get("type")
    if type(kind) is str and kind in _DELTAS:
        return True
    choices = fields.get("choices")
    if (
        reader is None
        or type(choices) is not list
        or not choices
        or fields.get("usage") is not None
    ):
        return False
    choice = choices[0]
    said = choice if type(choice) is dict else getattr(choice, "__dict__", NOTHING)
    # What is not declared by a client's types is where Groq and others put their usage.
    return said.get("finish_reason") is None and not getattr(raw, "__pydantic_extra__", None)


def _holds_usage(raw: object) -> bool:
    fields = as_mapping(raw)
    return fields is not None and any(as_mapping(fields.get(name)) for name in _USAGES)
