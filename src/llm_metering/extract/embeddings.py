"""The bodies of answers to requests for embeddings, read without their vectors.

A thousand vectors are megabytes of numbers around one count. So the body is taken apart at its top
level only, and what holds vectors or repeats the texts is replaced by as little of it as shows
what kind of answer it is. Read in openai 3.54.0, `openai/types/create_embedding_response.py`;
cohere 7.3.1, `cohere/types/embed_by_type_response.py`; ollama 0.6.2, `ollama/_types.py`,
`EmbedResponse`. What Google's answers count stands beside each vector: these are read as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from ..token_usage import TokenUsage
from . import read
from .reading import Reading

__all__ = ["read_embeddings", "without_output"]

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VECTORS: Final[Mapping[str, Any]] = {
    "data": [{"embedding": []}],
    "embedding": [],
    "embeddings": [],
    "embeddingsByType": {},
    "texts": [],
}
"""What holds vectors or texts, and what stands for it."""


def read_embeddings(body: bytes) -> Reading:
    """Read the body of an answer; like `read`, it raises nothing."""
    try:
        fields = _without_vectors(body)
    except (msgspec.MsgspecError, UnicodeError):
        return without_output(read(body))
    reading = without_output(read(fields))
    # `error` beside no vectors at all, or a shape that is told by what is in them.
    return reading if reading.operation else without_output(read(body))


def _without_vectors(body: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, raw in _fields.decode(body).items():
        if name in _VECTORS and not _is_of_objects(name, raw):
            fields[name] = _VECTORS[name]
        else:
            fields[name] = msgspec.json.decode(raw)
    return fields


def _is_of_objects(name: str, raw: msgspec.Raw) -> bool:
    """Whether it is Google's list of objects, or its one object, with a vector and more in each."""
    begun = b"".join(bytes(memoryview(raw)[:16]).split())
    return begun.startswith({"embeddings": b"[{", "embedding": b"{"}.get(name, b"\0"))


def without_output(reading: Reading) -> Reading:
    """A reading of embeddings, which have no output, though not every provider says so."""
    usage = reading.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is not None:
        return reading
    counts = {**usage.counts(), "output_tokens": 0}
    total = usage.reported_total_tokens
    usage = TokenUsage(**counts, reported_total_tokens=total, as_reported=True)
    return replace(reading, usage=usage)
