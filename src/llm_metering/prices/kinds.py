"""The kinds that are priced: of tokens, and what providers charge beside them.

Kinds of tokens are disjoint, unlike the counts of an event, of which some are parts of others: the
price of each times how many there are, added up, is what a call costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["CHARGED_BESIDE_TOKENS", "INSTEAD", "TOKEN_KINDS", "UNITS"]

TOKEN_KINDS: Final = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "input_image",
    "input_video",
    "output",
    "reasoning",
    "output_audio",
    "output_image",
)
"""`input` and `output` are what no other kind of theirs is; `cache_write` is kept for five minutes, or
for a time that nobody said."""

INSTEAD: Final[Mapping[str, str]] = {
    "cache_read": "input",
    "cache_write": "input",
    "input_image": "input",
    "input_video": "input",
    "reasoning": "output",
}
"""Kinds that cost what another one costs, where they have no price of their own. Of what is dearer as
a rule (audio, images that were made, an hour's cache) nothing is assumed: without a price it has none."""

UNITS: Final = (
    "web_search_requests",
    "web_fetch_requests",
    "code_execution_requests",
    "search_units",
    "classifications",
    "images",
    "audio_seconds",
)
"""What an event may have beside tokens that a provider may charge for, as its `data` calls it."""

CHARGED_BESIDE_TOKENS: Final = ("web_search_requests",)
"""Of these, what is charged on top of the tokens: without a price the call has none. The others are
another measure of the same, which counts where there is a price for it."""
