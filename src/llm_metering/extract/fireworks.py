"""Fireworks.

Source: fireworks-ai 1.2.30, `fireworks/types/shared/usage_info.py`,
`fireworks/types/chat/completion_create_response.py`. Counts as OpenAI does. Streams report the
usage with the last choice. Recognised by `perf_metrics` and a choice's `raw_output`, which it
sends on request only; otherwise it cannot be told from OpenAI.
"""

from __future__ import annotations

from typing import Final

from .dialect import Dialect

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "fireworks"
DIALECT: Final = Dialect(
    provider=PROVIDER, body_marks=("perf_metrics",), choice_marks=("raw_output",)
)
