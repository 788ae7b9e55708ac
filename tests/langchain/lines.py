"""Events of a meter and entries of the provider's books, line by line, to be compared."""

from __future__ import annotations

from typing import Any

from langchain_openai import ChatOpenAI

from tests.provider.client import Provider

__all__ = ["asked", "billed", "booked", "chat_of"]


def chat_of(provider: Provider, model: str = "gpt-x", **overrides: Any) -> ChatOpenAI:
    """A chat model of the provider's."""
    settings: dict[str, Any] = {
        "model": model,
        "base_url": provider.openai_url,
        "api_key": "x",
        "max_retries": 0,
        "stream_usage": True,
        # langchain-openai shares one async client between event loops, in which an open
        # connection of a loop that has ended cannot be used, nor closed.
        "default_headers": {"Connection": "close"},
    }
    return ChatOpenAI(**{**settings, **overrides})


def asked(subject: str, text: str = "hello") -> str:
    """A prompt that names who pays, for the provider's books."""
    return f"{text} [subject:{subject}]"


def billed(events: list[Any]) -> list[tuple[str, int, int]]:
    """Who was billed for how much, a line for each event, sorted."""
    return sorted(
        (event.subject, event.data["input_tokens"], event.data["output_tokens"]) for event in events
    )


def booked(provider: Provider, subject: str | None = None) -> list[tuple[str, int, int]]:
    """The same from the provider's books, of each request that was answered.

    Args:
        provider: Whose books.
        subject: Who pays for what names nobody, such as a prompt that an agent made up.
    """
    return sorted(
        (entry.subject or subject or "", entry.input, entry.output)
        for entry in provider.entries
        if entry.status == 200
    )
