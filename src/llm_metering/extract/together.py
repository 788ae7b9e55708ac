"""Together.

Source: together 3.1.1, `together/types/chat/chat_completion_usage.py`, `chat_completion.py`,
`chat_completion_chunk.py`; https://docs.together.ai/reference/chat-completions. Counts as OpenAI
does, with `cached_tokens` at the top of the usage. Streams report the usage with the last choice.
Recognised by the `seed` of a choice. Hugging Face's router passes Together's answers on as they
are; they read as Together's.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "together"
DIALECT: Final = Dialect(provider=PROVIDER, choice_marks=("seed",))
