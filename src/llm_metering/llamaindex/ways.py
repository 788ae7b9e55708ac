"""The methods by which a model asks its provider, and what is known of those that tell nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .providers import reads_raw
from .seen import Seen

__all__ = ["ASKING", "STRUCTURED", "passing_on", "seen_of", "telling_nothing", "way_of"]

_CHATS: Final = frozenset(["chat", "achat", "stream_chat", "astream_chat"])
_COMPLETIONS: Final = frozenset(["complete", "acomplete", "stream_complete", "astream_complete"])
STRUCTURED: Final = frozenset(
    [
        "structured_predict",
        "astructured_predict",
        "stream_structured_predict",
        "astream_structured_predict",
    ]
)
"""Those whose result is the user's own object."""
ASKING: Final = _CHATS | _COMPLETIONS | STRUCTURED

_Way = tuple[type[Any], str, str]

passing_on: Final[set[_Way]] = set()
"""Structured methods that have another method ask: known after the first time. Which way an integration
goes depends on the model it asks."""
telling_nothing: Final[set[_Way]] = set()
"""Methods that ask a provider and tell nothing, likewise."""


def way_of(instance: object, method: str) -> _Way:
    """What a method of a model is known by."""
    model = getattr(instance, "model", None)
    return type(instance), method, model if isinstance(model, str) else ""


def seen_of(instance: object, method: str, arguments: Mapping[str, Any]) -> Seen:
    """What a model is asked, by the arguments of a method, by their names."""
    if method in _COMPLETIONS:
        operation, asked = "text_completion", arguments.get("prompt")
    else:
        operation, asked = "chat", arguments.get("messages")
    return Seen(operation, asked, arguments.get("kwargs"), reads_raw=reads_raw(instance))
