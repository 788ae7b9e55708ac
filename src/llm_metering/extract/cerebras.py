"""Cerebras.

Source: cerebras-cloud-sdk 1.91.0, `cerebras/cloud/sdk/types/chat/chat_completion.py`. Counts as
OpenAI does. Recognised by `time_info`, which every body and every last chunk has.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "cerebras"
DIALECT: Final = Dialect(provider=PROVIDER, body_marks=("time_info",))
