"""Mistral's chat, FIM and embeddings.

Source: mistralai 3.7.0, `mistralai/client/models/usageinfo.py`, `completionevent.py`;
https://docs.mistral.ai/api, "UsageInfo". Counts as OpenAI does; what was read from the cache is in
`prompt_tokens_details.cached_tokens`, or in `num_cached_tokens` beside the totals. Seconds of audio
are counted apart (`prompt_audio_seconds`). The SDK wraps each chunk of a stream in an event's
`data`. Recognised by the names of those counts, which embeddings and the SDK's objects always
have; a plain chat over HTTP cannot be told from OpenAI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .dialect import Dialect
from .measures import numbers

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "mistral_ai"


def _measures(usage: Mapping[str, Any]) -> Mapping[str, int | float]:
    return numbers(audio_seconds=usage.get("prompt_audio_seconds"))


DIALECT: Final = Dialect(
    provider=PROVIDER,
    usage_marks=("prompt_audio_seconds", "num_cached_tokens"),
    measures=_measures,
)
