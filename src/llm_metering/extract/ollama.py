"""Usage of Ollama's own API: chat, generate, embed.

Source: ollama 0.6.2 (Python), `ollama/_types.py`, `BaseGenerateResponse`, `EmbedResponse`;
ollama 0.33.0, `api/types.go`, `Metrics`; for the cached tokens
https://docs.ollama.com/api/chat#response-prompt-eval-cached-count, read 2026-11.

Inclusive: `prompt_eval_count` holds the `prompt_eval_cached_count`. Older servers did not count
a prompt that came out of the cache as a whole (https://github.com/ollama/ollama/pull/5371), and the
server leaves out every count of 0: so a missing count is not known, and no 0. Thinking is in `eval_count`,
and not counted apart. Only the last chunk of a stream, with `done`, has counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import UnknownUsageError
from ..exchange import Output
from ..token_usage import TokenUsage
from .assembly import Pieces
from .native import as_json, attempt, inside, tolerant
from .reading import Reading, moment, name_of
from .views import as_list, as_mapping

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

PROVIDER: Final = "ollama"

_COUNTS: Final = ("prompt_eval_count", "eval_count", "prompt_eval_cached_count")
_TIMES: Final = frozenset(["prompt_eval_count", "total_duration", "load_duration"])


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the counts of an answer, which stand in the answer itself.

    Raises:
        UnknownUsageError: If every count is null or absent.
        InvalidUsageError: If one of its counts is no count.
    """
    prompt, answer, cached = (usage.get(name) for name in _COUNTS)
    if prompt is None and answer is None and cached is None:
        raise UnknownUsageError(PROVIDER, keys=sorted(map(str, usage)))
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=0 if "embeddings" in usage else answer,
        cache_read_input_tokens=cached,
        as_reported=True,
    )


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read an answer, or a chunk of a stream; `None` if it is neither."""
    operation = _operation(body)
    if operation is None:
        return None
    is_counted = any(body.get(name) is not None for name in _COUNTS)
    usage, flags = attempt(extract_usage, body if is_counted else None)
    return Reading(
        shape="ollama",
        provider=PROVIDER,
        operation=operation,
        usage=usage,
        model=name_of(body.get("model")),
        created=moment(body.get("created_at")),
        flags=flags,
    )


def _operation(body: Mapping[str, Any]) -> str | None:
    if "done" in body:
        if "message" in body:
            return "chat"
        if "response" in body:
            return "text_completion"
    if "embeddings" in body and "model" in body and not _TIMES.isdisjoint(body):
        return "embeddings"
    return None


def output(body: Mapping[str, Any]) -> Output:
    """The text of an answer."""
    stream = Stream()
    stream.feed(body)
    return stream.output()


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is one of a stream of chat or generate."""
    return "done" in chunk and ("message" in chunk or "response" in chunk)


class Stream:
    """One stream of chat or generate."""

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._body: dict[str, Any] = {}
        self._calls = 0
        self._pieces = Pieces()

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        if not matches_chunk(chunk):
            return
        self.has_several = self.has_several or self.has_ended
        message = as_mapping(chunk.get("message")) or chunk
        self._pieces.text(chunk.get("response"))
        self._pieces.text(message.get("content"))
        self._pieces.reasoning(message.get("thinking"))
        for each in as_list(message.get("tool_calls")):
            call = inside(each)
            function = inside(call.get("function"))
            self._calls += 1
            arguments = as_json(function.get("arguments"))
            self._pieces.tool_call(self._calls, name=function.get("name"), arguments=arguments)
        kind = "message" if "message" in chunk else "response"
        self._body |= {kind: None, "done": chunk.get("done")}
        for name in ("model", "created_at", *_COUNTS):
            value = chunk.get(name)
            # A 0 after a count says nothing.
            if value is not None and not (value == 0 and self._body.get(name)):
                self._body[name] = value
        if chunk.get("done") is True:
            self.has_ended = True
            self.is_final = any(name in self._body for name in _COUNTS)

    def body(self) -> Mapping[str, Any]:
        return self._body

    def output(self) -> Output:
        return self._pieces.output()
