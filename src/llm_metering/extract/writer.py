"""Writer.

Source: writer-sdk 3.0.0, `writerai/types/chat_completion_usage.py`, `chat_completion_choice.py`.
Counts as OpenAI does, but spells `prompt_token_details`. Tokens of its knowledge graph tool are
not reported. A stream repeats each delta as a message; its last chunk has the usage and no choice.
Recognised by `trace_details`, which every choice names, if only with null.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "writer"
DIALECT: Final = Dialect(provider=PROVIDER, choice_marks=("trace_details",))
