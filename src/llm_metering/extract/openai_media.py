"""OpenAI's images and transcriptions, which are billed by token, by image or by second.

Source: openai 3.54.0, `openai/types/images_response.py`, `openai/types/image_gen_completed_event.py`,
`openai/types/audio/transcription.py`, `openai/types/audio/transcription_verbose.py`,
`openai/types/audio/transcription_text_done_event.py`; for speech the event `speech.audio.done` of
https://platform.openai.com/docs/api-reference/audio/speech-audio-done-event. Inclusive, as in the
responses API, with the modalities as parts. `usage.type` tells a transcription billed by `tokens`
from one billed by `duration`. Images of DALL-E have no usage at all: what is known is how many
there are. `svg_usage` is that of another model, beside the usage; it is flagged.

OpenTelemetry names no operation for these; ours are `image_generation`, `transcription` and
`speech`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..exchange import Output
from .flags import UNCOUNTED_USAGE
from .measures import numbers
from .native import attempt
from .openai_responses import extract_usage, is_usage
from .reading import NOTHING, Reading, moment, name_of
from .views import as_list, as_mapping, copy_of

__all__ = ["PROVIDER", "Stream", "extract_usage", "matches_chunk", "output", "read"]

PROVIDER: Final = "openai"
SHAPE: Final = "openai.media"

_EVENTS: Final = {
    "image_generation.completed": "image_generation",
    "image_edit.completed": "image_generation",
    "transcript.text.done": "transcription",
    "speech.audio.done": "speech",
}
_FAMILIES: Final = ("image_generation.", "image_edit.", "transcript.", "speech.audio.")
_OF_A_TRANSCRIPTION: Final = frozenset(["segments", "words", "language", "task"])


def read(body: Mapping[str, Any]) -> Reading | None:
    """Read the body of an image request or a transcription, or the last event of its stream."""
    usage = body.get("usage")
    usage = None if usage is None else as_mapping(usage)
    images = as_list(body.get("data"))
    kind = body.get("type")
    event = _EVENTS.get(kind) if isinstance(kind, str) else None
    seconds: object = None
    if event is not None:
        operation = event
        images = (body,) if event == "image_generation" else ()
    elif images and _are_images(images):
        operation = "image_generation"
    elif isinstance(body.get("text"), str) and _is_transcription(body, usage):
        operation = "transcription"
        seconds = body.get("duration") if usage is None else usage.get("seconds")
    else:
        return None
    by_duration = usage is not None and "seconds" in usage
    counts, flags = attempt(extract_usage, None if by_duration else body.get("usage"))
    if body.get("svg_usage") is not None:
        flags = (*flags, UNCOUNTED_USAGE)
    return Reading(
        shape=SHAPE,
        provider=PROVIDER,
        operation=operation,
        usage=counts,
        model=name_of(body.get("model")),
        created=moment(body.get("created") or body.get("created_at")),
        measures=NOTHING if counts else numbers(images=len(images) or None, audio_seconds=seconds),
        flags=flags,
    )


def _are_images(items: list[Any] | tuple[Any, ...]) -> bool:
    first = as_mapping(items[0]) or NOTHING
    return "b64_json" in first or ("url" in first and "id" not in first)


def _is_transcription(body: Mapping[str, Any], usage: Mapping[str, Any] | None) -> bool:
    if usage is None:
        return "duration" in body and not body.keys().isdisjoint(_OF_A_TRANSCRIPTION)
    kind = usage.get("type")
    return kind == "duration" or (kind == "tokens" and is_usage(usage))


def output(body: Mapping[str, Any]) -> Output:
    """The transcript; what an image says cannot be counted."""
    text = body.get("text")
    return Output(texts=[text] if isinstance(text, str) and text else [])


def matches_chunk(chunk: Mapping[str, Any]) -> bool:
    """Whether `chunk` is of a stream of this shape."""
    kind = chunk.get("type")
    return isinstance(kind, str) and kind.startswith(_FAMILIES)


class Stream:
    """Waits for the event that ends the stream; it holds all there is to read."""

    def __init__(self) -> None:
        self.is_final = False
        self.has_ended = False
        self.has_several = False
        self._body: Mapping[str, Any] = {}
        self._pieces: list[str] = []

    def feed(self, chunk: Mapping[str, Any], /) -> None:
        kind = chunk.get("type")
        if isinstance(kind, str) and kind in _EVENTS:
            self.has_several = self.has_several or self.has_ended
            self._body = copy_of(chunk)
            self.has_ended = True
            self.is_final = chunk.get("usage") is not None
        elif kind == "transcript.text.delta" and isinstance(piece := chunk.get("delta"), str):
            self._pieces.append(piece)

    def body(self) -> Mapping[str, Any]:
        return self._body or {"type": "transcript.text.done", "text": "".join(self._pieces)}

    def output(self) -> Output:
        whole = output(self._body)
        return whole or Output(texts=["".join(self._pieces)] if self._pieces else [])
