"""Crusoe, which serves with vLLM.

Source: https://docs.crusoecloud.com, "Managed inference"; vLLM 0.24,
`vllm/entrypoints/openai/protocol.py`. Counts as OpenAI does. With `continuous_usage_stats` each
chunk of a stream reports the usage so far. Its bodies have vLLM's marks (`prompt_logprobs`,
`kv_transfer_params`), which every vLLM server shares: it cannot be told from another one, nor is
vLLM a provider.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "crusoe"
DIALECT: Final = Dialect(provider=PROVIDER)
