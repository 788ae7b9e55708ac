"""A meter's events and the provider's books, in one form, to be compared."""

from __future__ import annotations

from typing import Any

from tests.provider.client import Provider

__all__ = ["asked", "billed", "booked"]


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
