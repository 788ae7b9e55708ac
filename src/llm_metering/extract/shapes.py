"""The shapes of responses we know: the one place where they are listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from ..exchange import Output
from ..token_usage import TokenUsage
from . import (
    anthropic,
    bedrock_converse,
    bedrock_invoke,
    cohere,
    dialects,
    errors,
    gemini,
    ollama,
    openai_chat,
    openai_chat_text,
    openai_media,
    openai_responses,
    openai_responses_text,
)
from .assembly import Assembler
from .flags import ZERO_USAGE
from .reading import Reading

__all__ = ["SHAPES", "Shape", "find", "is_zero", "read_as", "read_error", "stream_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How to read one family of bodies and streams.

    Attributes:
        read: Reads a body; `None` if it is not of this shape.
        output: The text of a body.
        matches_chunk: Whether a chunk is of a stream of this shape.
        stream: Makes what puts a stream together.
    """

    read: Callable[[Mapping[str, Any]], Reading | None]
    output: Callable[[Mapping[str, Any]], Output]
    matches_chunk: Callable[[Mapping[str, Any]], bool]
    stream: Callable[[], Assembler]


def _of(module: Any) -> Shape:
    return Shape(
        read=module.read,
        output=module.output,
        matches_chunk=module.matches_chunk,
        stream=module.Stream,
    )


_GEMINI: Final = _of(gemini)
_CONVERSE: Final = _of(bedrock_converse)

# In the order in which they are tried: the common ones first, and each before those that would
# take its bodies for theirs.
SHAPES: Final = (
    Shape(
        read=partial(openai_chat.read, recognise=dialects.recognise),
        output=openai_chat_text.output,
        matches_chunk=openai_chat_text.matches_chunk,
        stream=openai_chat_text.Stream,
    ),
    Shape(
        read=partial(openai_responses.read, recognise=dialects.recognise),
        output=openai_responses_text.output,
        matches_chunk=openai_responses_text.matches_chunk,
        stream=openai_responses_text.Stream,
    ),
    _of(anthropic),
    _GEMINI,
    _CONVERSE,
    _of(cohere),
    _of(bedrock_invoke),
    _of(ollama),
    _of(openai_media),
)

# The names that nearly always tell a shape spare the bodies of the later ones a walk past the others.
_TELLING: Final = (("candidates", _GEMINI), ("stopReason", _CONVERSE))

# A body with an error and one of these is an answer that failed, and may have cost something.
_ANSWERED: Final = frozenset(
    ["choices", "usage", "output", "candidates", "usageMetadata", "metadata", "response"]
)


def find(body: Mapping[str, Any]) -> tuple[Shape | None, Reading] | None:
    """The shape of a body and what it says; `None` if no shape is like it."""
    error = body.get("error")
    if error and _ANSWERED.isdisjoint(body) and (refusal := errors.read(body)) is not None:
        return None, refusal
    for name, likely in _TELLING:
        if name in body and (reading := likely.read(body)) is not None:
            return likely, _judged(likely, reading, body)
    for shape in SHAPES:
        if (reading := shape.read(body)) is not None:
            return shape, _judged(shape, reading, body)
    refusal = errors.read(body)
    return None if refusal is None else (None, refusal)


def _judged(shape: Shape, reading: Reading, body: Mapping[str, Any]) -> Reading:
    if error := body.get("error"):
        reading = _with_error(reading, error, body)
    if is_zero(reading.usage) and shape.output(body):
        reading = replace(reading, flags=(*reading.flags, ZERO_USAGE))
    return reading


def is_zero(usage: TokenUsage | None) -> bool:
    """Whether a usage says that no token went in and none came out."""
    return usage is not None and usage.input_tokens == 0 and usage.output_tokens == 0


def read_as(shape: Shape, body: Mapping[str, Any]) -> Reading | None:
    """Read a body whose shape is known, since a stream of that shape was put together to it."""
    reading = shape.read(body)
    error = body.get("error")
    return _with_error(reading, error, body) if reading is not None and error else reading


def _with_error(reading: Reading, error: object, body: Mapping[str, Any]) -> Reading:
    if reading.ending != "completed":
        return reading
    return replace(reading, ending="failed", reason=errors.reason_of(error, body))


def read_error(chunk: Mapping[str, Any]) -> Reading | None:
    """The error that a chunk of a stream consists of; `None` if it holds more, or none."""
    return errors.read(chunk) if _ANSWERED.isdisjoint(chunk) else None


def stream_of(chunk: Mapping[str, Any]) -> Shape | None:
    """The shape of the stream that `chunk` is of."""
    return next((shape for shape in SHAPES if shape.matches_chunk(chunk)), None)
