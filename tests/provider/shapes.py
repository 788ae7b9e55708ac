"""Which API a path belongs to, and what that API's module does for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from . import (
    anthropic,
    bedrock,
    cohere,
    gemini,
    ollama,
    openai_chat,
    openai_others,
    openai_responses,
    sagemaker,
)
from .calls import Call, Frame

__all__ = ["Route", "route_of"]

Answer = Callable[[Call], tuple[Any, str]]
Frames = Callable[[Call], Iterator[Frame]]

EVENTS: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"
AMAZONS: Final = "application/vnd.amazon.eventstream"
WRITTEN: Final = frozenset(["cached", "written", "written_5m", "written_1h"])
UNITS: Final = frozenset(["search_units"])
REASONING: Final = frozenset(["cached", "reasoning"])


class Shape(NamedTuple):
    """An API; `tells` are the parts of the counts that it has, and so the books."""

    name: str
    answer: Answer
    frames: Frames | None
    error: Callable[[Call, int], dict[str, Any]]
    error_frame: Callable[[Call], Frame] | None
    tells: frozenset[str] = frozenset()
    stream_type: str = EVENTS
    streams_unasked: bool = False
    headers: Callable[[Call], dict[str, str]] | None = None


class Route(NamedTuple):
    """What a request asks for."""

    shape: Shape
    model: str
    streamed: bool


def _of(name: str, module: Any, **more: Any) -> Shape:
    return Shape(name, module.answer, module.frames, module.error, module.error_frame, **more)


def _embedding(name: str, module: Any) -> Shape:
    return Shape(name, module.embedding, None, module.error, None)


_completion = Shape(
    "openai.completions",
    openai_others.completion,
    openai_others.completion_frames,
    openai_others.error,
    openai_others.error_frame,
    REASONING,
)
_ollama = _of("ollama", ollama, stream_type=LINES, streams_unasked=True)
_BY_ENDING: Final[Mapping[str, Shape]] = {
    "/chat/completions": _of("openai.chat", openai_chat, tells=WRITTEN | REASONING),
    "/completions": _completion,
    "/responses": _of("openai.responses", openai_responses, tells=WRITTEN | REASONING),
    "/embeddings": _embedding("openai.embeddings", openai_others),
    "/messages": _of("anthropic", anthropic, tells=WRITTEN),
    "/api/chat": _ollama,
    "/api/generate": _ollama,
    "/api/embed": _embedding("ollama.embed", ollama),
    "/v1/embed": _embedding("cohere.embed", cohere),
    "/v2/embed": _embedding("cohere.embed", cohere),
    "/v2/rerank": Shape("cohere.rerank", cohere.ranking, None, cohere.error, None, UNITS),
    "/v1/rankings": Shape("open.rerank", cohere.open_ranking, None, cohere.error, None),
    "/invocations": Shape("sagemaker", sagemaker.answer, None, sagemaker.error, None),
}
_gemini = _of("gemini", gemini, tells=REASONING)
_gemini_embedding = _embedding("gemini.embeddings", gemini)
_BY_METHOD: Final[Mapping[str, tuple[Shape, bool]]] = {
    "generateContent": (_gemini, False),
    "streamGenerateContent": (_gemini, True),
    "embedContent": (_gemini_embedding, False),
    "batchEmbedContents": (_gemini_embedding, False),
}
_converse = Shape(
    "bedrock.converse",
    bedrock.converse,
    bedrock.converse_frames,
    bedrock.error,
    bedrock.error_frame,
    WRITTEN,
    AMAZONS,
)
_invoke = _converse._replace(
    name="bedrock.invoke",
    answer=bedrock.invoke,
    frames=bedrock.invoke_frames,
    headers=bedrock.headers,
)
_BY_AMAZONS_METHOD: Final[Mapping[str, tuple[Shape, bool]]] = {
    "converse": (_converse, False),
    "converse-stream": (_converse, True),
    "invoke": (_invoke, False),
    "invoke-with-response-stream": (_invoke, True),
}
_AMAZONS_MODEL: Final = re.compile(r"/model/([^/]+)/([a-z-]+)$")
_MODEL_IN_PATH: Final = re.compile(r"/(?:models|deployments|endpoints)/([^/:]+)(?::(\w+))?")


def route_of(path: str, body: Mapping[str, Any]) -> Route | None:
    """What a request asks for; `None` if no API here has that path."""
    path = unquote(path.partition("?")[0])
    found = _MODEL_IN_PATH.search(path)
    if found and found[2] in _BY_METHOD:
        shape, streamed = _BY_METHOD[found[2]]
        return Route(shape, found[1], streamed)
    if found := _AMAZONS_MODEL.search(path):
        shape, streamed = _BY_AMAZONS_METHOD[found[2]]
        return Route(shape, found[1], streamed)
    found = _MODEL_IN_PATH.search(path)
    for ending, shape in _BY_ENDING.items():
        if path.endswith(ending):
            model = str(body.get("model") or (found[1] if found else ""))
            return Route(shape, model, bool(body.get("stream", shape.streams_unasked)))
    return None
