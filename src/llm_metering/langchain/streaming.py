"""What is told of a call while it answers: chunks, and the events of v3 streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..calls import CallTable, Key
from .seen import Seen, is_finished
from .texts import event_text, piece_text

__all__ = ["take_event", "take_token"]

_TELLING: Final = frozenset(["content-block-start", "content-block-delta", "message-finish"])


def take_token(calls: CallTable, key: Key, token: object, chunk: object, teller: str) -> None:
    """A piece of a stream arrived."""
    message = getattr(chunk, "message", None)
    if calls.piece(key, piece_text(token, message), teller=teller):
        _begin_answer(calls, key)
    if message is None:
        return
    usage = getattr(message, "usage_metadata", None)
    metadata = getattr(message, "response_metadata", None)
    if usage is not None or (metadata and is_finished(metadata)):
        seen = _seen_of(calls, key)
        if seen is not None:
            seen.take_chunk(chunk, usage, metadata)


def take_event(calls: CallTable, key: Key, event: Mapping[str, Any], teller: str) -> None:
    """An event of a v3 stream arrived; many a provider tells of its text as tokens, too."""
    kind = event.get("event")
    if not isinstance(kind, str) or kind not in _TELLING:
        return
    if kind == "message-finish":
        seen = _seen_of(calls, key)
        if seen is not None:
            seen.take_finish(event.get("usage"), event.get("metadata"))
        return
    text = event_text(event)
    if text is not None and calls.piece(key, text, teller=teller, retold=True):
        _begin_answer(calls, key)


def _begin_answer(calls: CallTable, key: Key) -> None:
    seen = _seen_of(calls, key)
    if seen is not None and seen.tapped is not None:
        seen.tapped.has_begun = True


def _seen_of(calls: CallTable, key: Key) -> Seen | None:
    call = calls.get(key)
    # Whose chunk it is cannot be told for certain where several calls share a run id.
    if call is None or "run_id_reused" in call.flags:
        return None
    return call.start.kept if isinstance(call.start.kept, Seen) else None
