"""What providers and frameworks report, turned into `TokenUsage`; one module a shape.

`read` takes whatever a provider's SDK, a framework or the wire hands out, and says what it says of
its call. Responses are told apart by their shape, not by who was asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidUsageError, UnknownUsageError
from ..exchange import Output
from ..token_usage import TokenUsage
from . import langchain
from .flags import INVALID_USAGE, UNKNOWN_USAGE, unknown_body_flag, unknown_usage_flag
from .reading import NOTHING, Reading, moment, name_of
from .shapes import find
from .streams import StreamReader
from .usages import extract_usage, reader_of
from .views import as_mapping

__all__ = ["StreamReader", "output", "read", "read_usage"]

_BYTES: Final = (str, bytes, bytearray, memoryview)
_NOTHING_KNOWN: Final = Reading(shape="unknown", flags=(UNKNOWN_USAGE,))


def read(response: object) -> Reading:
    """Read a response: what it used, whose it is, and how the call ended.

    It takes objects of the providers' SDKs, dicts, JSON and whole streams as text or bytes, lists
    of chunks, LangChain's messages, LlamaIndex's responses, and a usage by itself. It raises
    nothing, whatever comes: what is in no shape we know has the shape `unknown` and a flag.

    >>> read({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1}}).usage.counts()
    {'input_tokens': 8, 'output_tokens': 1}
    """
    try:
        return _read(response)
    except Exception:
        return _NOTHING_KNOWN


def read_usage(usage: object) -> TokenUsage:
    """Read a usage without the response around it, in whatever shape.

    Args:
        usage: A mapping or an object of a provider's SDK.

    Raises:
        UnknownUsageError: If it is in no shape we know.
        InvalidUsageError: If a count in it is no count.
    """
    if isinstance(usage, TokenUsage):
        return usage
    try:
        return extract_usage(as_mapping(usage) or NOTHING)
    except (UnknownUsageError, InvalidUsageError):
        raise
    except Exception as error:
        raise UnknownUsageError("readable", keys=[]) from error


def output(response: object) -> Output:
    """The text of a response, for counting where it has no usage; it raises nothing."""
    try:
        return _output(response)
    except Exception:
        return Output()


def _read(response: object) -> Reading:
    fields = as_mapping(response)
    if fields is None:
        if isinstance(response, _BYTES):
            body = _parsed(response)
            return _read_stream(response) if body is None else _read(body)
        if isinstance(response, list | tuple):
            return _read_stream(*response)
        return _NOTHING_KNOWN
    # Its `prompt_token_count` is also that of a body of Llama on Bedrock.
    is_googles_usage = "candidates_token_count" in fields or "total_token_count" in fields
    found = None if is_googles_usage else find(fields)
    if found is not None:
        return found[1]
    if "response_metadata" in fields and "usage_metadata" in fields:
        return _read_message(fields)
    if "raw" in fields:
        return _read_raw(fields)
    return _read_bare(fields)


def _read_stream(*chunks: object) -> Reading:
    reading = _stream_of(*chunks).reading()
    is_nothing = reading.shape == "unknown" and not reading.flags
    return _NOTHING_KNOWN if is_nothing else reading


def _read_message(message: Mapping[str, Any]) -> Reading:
    """A message of LangChain."""
    metadata = as_mapping(message.get("response_metadata")) or NOTHING
    reported = message.get("usage_metadata")
    usage, flags = _attempt(langchain.extract_usage, reported)
    cost = (as_mapping(reported) or NOTHING).get("total_cost")
    # LangChain's own cache puts a cost of 0 where it answers instead of the model.
    cached = cost == 0 and type(cost) is not bool
    tier, flags = (None, flags) if cached else langchain.tier_of(metadata, flags)
    return Reading(
        shape="langchain.message",
        operation="chat",
        usage=usage,
        model=name_of(metadata.get("model_name")) or name_of(metadata.get("model")),
        response_id=name_of(metadata.get("id")) or name_of(message.get("id")),
        created=moment(metadata.get("created")),
        service_tier=tier,
        cached=cached,
        flags=flags,
    )


def _read_raw(response: Mapping[str, Any]) -> Reading:
    """A response of LlamaIndex, which holds the provider's own."""
    raw = response.get("raw")
    reading = _NOTHING_KNOWN if raw is response else _read(raw)
    if reading.usage is None:
        kept = as_mapping(response.get("additional_kwargs")) or NOTHING
        if reader_of(kept) is not None:
            return _read_bare(kept)
    return reading


def _read_bare(fields: Mapping[str, Any]) -> Reading:
    """A usage by itself."""
    found = reader_of(fields)
    if found is None:
        return Reading(shape="unknown", flags=(unknown_body_flag(fields),))
    shape, reader = found
    usage, flags = _attempt(reader, fields)
    return Reading(shape=shape, usage=usage, flags=flags)


def _attempt(reader: Any, reported: object) -> tuple[TokenUsage | None, tuple[str, ...]]:
    if reported is None:
        return None, ()
    try:
        return reader(reported), ()
    except UnknownUsageError as error:
        return None, (unknown_usage_flag(error.keys),)
    except InvalidUsageError:
        return None, (INVALID_USAGE,)


def _output(response: object) -> Output:
    if isinstance(response, _BYTES):
        body = _parsed(response)
        return _stream_of(response).output() if body is None else _output(body)
    if isinstance(response, list | tuple):
        return _stream_of(*response).output()
    fields = as_mapping(response)
    if fields is None:
        return Output()
    found = find(fields)
    if found is not None:
        shape = found[0]
        return Output() if shape is None else shape.output(fields)
    raw = fields.get("raw")
    return Output() if raw is None or raw is response else _output(raw)


def _parsed(text: str | bytes | bytearray | memoryview) -> object:
    """The JSON object or array in `text`; `None` if it is something else, such as a stream."""
    try:
        body = json.loads(bytes(text) if isinstance(text, memoryview) else text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict | list) else None


def _stream_of(*chunks: object) -> StreamReader:
    reader = StreamReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader
