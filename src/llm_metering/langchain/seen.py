"""`Seen`: what was seen of one call of LangChain while it was under way.

LangChain tells of a stream chunk by chunk and hands over the whole at its end, if it does: where a
task is cancelled, a graph dropped, or the text of a stream read without its end, the chunks are
all there is (langchain-core 1.7.2, `language_models/chat_models.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..calls import Report
from ..extract.langchain import tier_of
from ..extract.reading import NOTHING, name_of
from .answers import mapping
from .stream_usage import StreamUsage
from .texts import chat_request
from .usages import Found, is_cached, read_counts

if TYPE_CHECKING:
    from ..taps import TappedCall
    from .batches import Batch

__all__ = ["Seen", "is_finished"]

_REASONS: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason")
"""Where integrations of OpenAI, Gemini and others; of Anthropic; of Ollama; of Bedrock's Converse
say why the answer ended."""
_STATUSES: Final = ("completed", "incomplete")
"""What OpenAI's Responses say in `status`."""
_TOTALS: Final = ("input_tokens", "output_tokens")
_ENDINGS: Final = frozenset([*_REASONS, "status"])


class Seen:
    """What the hooks between the start of a call and its end have shown; the latest of each.

    Attributes:
        operation: As the start of the call said.
        model: The model as an object of LangChain's serialization.
        parameters: The parameters of the call.
        batch: The calls that were begun together with this one, if any.
        tapped: What reads the provider's answer to the call, if anything does.
        finish: The usage of the event that ends a message.
        is_over: Whether the event that ends a message came: all of the answer was there by then.
        is_finished: Whether the provider has said why it stopped, so that a usage is that of the
            whole call.
    """

    __slots__ = (
        "_chunk",
        "_messages",
        "_provider",
        "_usage",
        "batch",
        "finish",
        "is_finished",
        "is_over",
        "metadata",
        "model",
        "operation",
        "parameters",
        "tapped",
    )

    def __init__(
        self,
        operation: str,
        *,
        provider: str | None = None,
        model: object = None,
        parameters: object = None,
        batch: Batch | None = None,
        messages: Any = None,
    ) -> None:
        self._messages = messages
        self._provider = provider
        self._usage: StreamUsage | None = None
        self.operation = operation
        self.model = model
        self.parameters = parameters
        self.batch = batch
        self.tapped: TappedCall | None = None
        self.finish: Mapping[str, Any] | None = None
        self.metadata: Mapping[str, Any] = NOTHING
        self.is_finished = False
        self.is_over = False
        self._chunk: object = None

    @property
    def usage(self) -> StreamUsage:
        """The usage of the chunks."""
        # Made when it is asked for: most calls are no streams.
        if self._usage is None:
            self._usage = StreamUsage(self._provider)
        return self._usage

    @property
    def reports(self) -> int:
        """How many reports of usage the chunks held."""
        return 0 if self._usage is None else self._usage.count

    def asked(self) -> Mapping[str, Any] | None:
        """The request in the shape of OpenAI's API; `None` where it is not known."""
        if self._messages is None:
            return None
        if self.operation == "text_completion":
            return {"prompt": self._messages}
        return chat_request(self._messages, mapping(self.parameters))

    def take_chunk(self, chunk: object, usage: object, metadata: object) -> None:
        """A chunk arrived that carries usage, or says why the answer ended.

        Args:
            chunk: The chunk. One that is told of twice, by a handler that LangChain was given
                twice, is the same object.
            usage: Its usage, if any.
            metadata: What its message says of the response.
        """
        if chunk is self._chunk:
            return
        self._chunk = chunk
        if isinstance(metadata, Mapping):
            provider = metadata.get("model_provider")
            if isinstance(provider, str):
                self.usage.provider = provider
            if name_of(metadata.get("model_name")) is not None or not self.metadata:
                self.metadata = metadata
            self.is_finished = self.is_finished or is_finished(metadata)
        if is_finished(getattr(chunk, "generation_info", None)):
            self.is_finished = True
        if getattr(getattr(chunk, "message", None), "chunk_position", None) == "last":
            self.is_finished = True
        if isinstance(usage, Mapping):
            # The application gets the very message, and may change what is in it.
            self.usage.add(dict(usage))

    def take_finish(self, usage: object, metadata: object) -> None:
        """The event that ends a message arrived."""
        self.is_finished = self.is_over = True
        if isinstance(metadata, Mapping):
            self.metadata = metadata
        if isinstance(usage, Mapping):
            self.finish = dict(usage)

    def found(self) -> Found:
        """The usage that was seen; LangChain's own sum in the last event is none of totals."""
        usage = self.usage
        if usage.is_cumulative:
            return read_counts(usage.usage()).flagged("cumulative_usage")
        if usage.is_contradictory:
            return read_counts(usage.usage()).flagged("usage_inconsistent")
        told = usage.usage()
        finish = self.finish
        if finish and not (told and all(finish.get(name) == told.get(name) for name in _TOTALS)):
            return read_counts(finish)
        # The same counts; of their details the last event has those of the last chunk alone.
        return read_counts(told)

    @property
    def answered_by(self) -> str | None:
        """The model that answers, if it was said."""
        return name_of(self.metadata.get("model_name"))

    def so_far(self) -> Report:
        """What is known of the call by now, what LangChain has lost of it included."""
        report, tapped = self.report(), self.tapped
        return report if tapped is None else tapped.closed(report)

    def report(self) -> Report:
        """What LangChain has told of the call by now."""
        model, response_id = self.answered_by, name_of(self.metadata.get("id"))
        if is_cached(self.finish):
            return Report(model=model, response_id=response_id, cached=True)
        found = self.found().judged(has_answer=False)
        tier, flags = tier_of(self.metadata, found.flags)
        return Report(
            usage=found.usage,
            is_final=self.is_finished,
            model=model,
            response_id=response_id,
            service_tier=tier,
            flags=flags,
        )


def is_finished(metadata: object) -> bool:
    """Whether what was said of a response says why it ended."""
    if not metadata or (type(metadata) is not dict and not isinstance(metadata, Mapping)):
        return False
    # First what costs least: nearly no chunk says so.
    if _ENDINGS.isdisjoint(metadata):
        return False
    return any(metadata.get(name) for name in _REASONS) or metadata.get("status") in _STATUSES
