"""Groq.

Source: groq 1.7.0, `groq/types/completion_usage.py`, `groq/types/chat/chat_completion_chunk.py`,
`groq/types/chat/chat_completion.py`. Counts as OpenAI does. Streams report the usage in the last
chunk's `x_groq`, newer ones beside it as well; an unstreamed body's `x_groq.usage` holds where its
cached tokens lay, and no counts of the call. `x_groq.error` says that a stream was stopped early.
`usage_breakdown` divides the usage of a compound system by model; the usage is the whole.
Recognised by `x_groq`.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "groq"
DIALECT: Final = Dialect(provider=PROVIDER, body_marks=("x_groq", "usage_breakdown"))
