"""Z.ai (Zhipu).

Source: zai-sdk 0.2.3, `zai/types/chat/chat_completion.py`, `chat_completion_chunk.py`;
https://docs.z.ai/api-reference/llm/chat-completion. Counts as OpenAI does. Recognised by the
`request_id` of a body; its chunks have none, and cannot be told from OpenAI.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "z_ai"
DIALECT: Final = Dialect(provider=PROVIDER, body_marks=("request_id",))
