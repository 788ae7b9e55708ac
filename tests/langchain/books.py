"""Two books of the same calls: what we billed, and what the provider says it sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_openai import ChatOpenAI

from llm_metering.events import CloudEvent
from tests.provider.client import Provider

__all__ = ["Bill", "billed", "gpt", "owed", "prompt"]

Bill = dict[str | None, tuple[int, int, int]]
"""By subject: calls, tokens of input, tokens of output."""


def gpt(provider: Provider, model: str = "gpt-x", **overrides: Any) -> ChatOpenAI:
    """A model of the provider."""
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


def prompt(subject: str) -> str:
    """A prompt that tells the provider whom it works for."""
    return f"Work for [subject:{subject}]."


def _sum(entries: Iterable[tuple[str | None, int, int]]) -> Bill:
    sums: Bill = {}
    for subject, used_in, used_out in entries:
        calls, all_in, all_out = sums.get(subject, (0, 0, 0))
        sums[subject] = (calls + 1, all_in + used_in, all_out + used_out)
    return sums


def billed(events: Iterable[CloudEvent]) -> Bill:
    """What we say, every count of it the provider's own."""
    events = list(events)
    assert {event.data["provenance"] for event in events} <= {"reported"}
    return _sum(
        (event.subject, event.data["input_tokens"], event.data["output_tokens"]) for event in events
    )


def owed(provider: Provider) -> Bill:
    """What the provider says."""
    return _sum((entry.subject, entry.input, entry.output) for entry in provider.entries)
