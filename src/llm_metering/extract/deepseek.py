"""DeepSeek.

Source: https://api-docs.deepseek.com/api/create-chat-completion. Counts as OpenAI does:
`prompt_tokens` is `prompt_cache_hit_tokens` + `prompt_cache_miss_tokens`. Recognised by these two
names. Its responses API reports them under OpenAI's names alone, and cannot be told from OpenAI.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "deepseek"
DIALECT: Final = Dialect(
    provider=PROVIDER, usage_marks=("prompt_cache_hit_tokens", "prompt_cache_miss_tokens")
)
