"""Hugging Face: its router, and endpoints that run TGI.

Source: huggingface_hub 2.4.0, `huggingface_hub/inference/_generated/types/chat_completion.py`.
Counts as OpenAI does. The router passes on what the provider behind it answers, so that its
bodies have no mark of their own: they read as that provider's, or as OpenAI's.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "huggingface"
DIALECT: Final = Dialect(provider=PROVIDER)
