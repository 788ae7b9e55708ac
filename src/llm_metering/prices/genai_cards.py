"""The prices of a model in genai-prices, as cards.

Source: genai-prices 0.2.3, `data_units.py` (what each price is for, and for how many of it) and
`types.py` (`TieredPrices`: beyond its start, one price for all tokens of a call, by its whole input).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from .cards import PICO, PriceCard
from .kinds import TOKEN_KINDS
from .unpriced import Unpriced

__all__ = ["cards_of"]

_KINDS: Final[Mapping[str, tuple[str, int]]] = {
    "input_mtok": ("input", 1_000_000),
    "cache_read_mtok": ("cache_read", 1_000_000),
    "cache_write_mtok": ("cache_write", 1_000_000),
    "cache_write_5m_mtok": ("cache_write", 1_000_000),
    "cache_write_1h_mtok": ("cache_write_1h", 1_000_000),
    "input_audio_mtok": ("input_audio", 1_000_000),
    "input_image_mtok": ("input_image", 1_000_000),
    "input_video_mtok": ("input_video", 1_000_000),
    "output_mtok": ("output", 1_000_000),
    "output_reasoning_mtok": ("reasoning", 1_000_000),
    "output_audio_mtok": ("output_audio", 1_000_000),
    "output_image_mtok": ("output_image", 1_000_000),
    "web_searches_kcount": ("web_search_requests", 1_000),
    "code_executions_kcount": ("code_execution_requests", 1_000),
    "rerank_searches_kcount": ("search_units", 1_000),
    "requests_kcount": ("requests", 1_000),
    "audio_hours": ("audio_seconds", 3_600),
}

_LEFT_OUT: Final = frozenset(
    [
        # What was read from the cache is one count in an event, without its kind.
        *("cache_audio_read_mtok", "cache_image_read_mtok", "cache_video_read_mtok"),
        # Charged for a tool whose calls no provider reports in its usage.
        "storage_searches_kcount",
        # The same price as `audio_hours`, of the same seconds.
        "input_audio_hours",
    ]
)


def cards_of(
    provider: Any, model: Any, prices: Any, tier: str | None, start: datetime | None
) -> tuple[PriceCard, ...] | Unpriced:
    """Its cards by the size of the input; `Unpriced` if a call's cost cannot be told by them."""
    named = {key: price for key, price in vars(prices).items() if price is not None}
    starts = sorted({0, *(tier.start for each in named.values() for tier in _tiers(each))})
    what = f"{provider.id} {model.id}"
    if not named and not model.id.endswith(":free"):
        # Of a model that is free for some only, and of one that is not known, it has no prices.
        return Unpriced("unknown_price", f"genai-prices names no price of {what}")
    if unknown := sorted(named.keys() - _KINDS.keys() - _LEFT_OUT):
        detail = f"{what} has a price for what no event counts: {', '.join(unknown)}"
        return Unpriced("unknown_price", detail)
    if provider.id == "groq" and "audio_hours" in named:
        # Each request is billed as ten seconds at least, which its event does not tell.
        return Unpriced("unknown_price", f"{what} has a smallest amount a request")
    urls = provider.pricing_urls or ("",)
    cards = []
    for above in starts:
        rates = {}
        for key in _KINDS:
            if key in named:
                kind, per = _KINDS[key]
                # A price such as a third of a cent ends somewhere in the data, too.
                rates[kind] = (_price(named[key], above) / per).quantize(PICO).normalize() + 0
        _same_price(provider.id, model.id, rates)
        cards.append(
            PriceCard(
                provider=provider.id,
                model=model.id,
                rates=rates if named else dict.fromkeys(TOKEN_KINDS, Decimal(0)),
                service_tier=tier,
                above_input_tokens=above,
                effective_from=start,
                source=urls[0],
            )
        )
    return tuple(cards)


def _tiers(price: Any) -> Any:
    return getattr(price, "tiers", ())


def _price(price: Any, above: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    chosen: Decimal = price.base
    for tier in price.tiers:
        if tier.start <= above:
            chosen = tier.price
    return chosen


def _same_price(provider: str, model: str, rates: dict[str, Decimal]) -> None:
    """Add what is not named since it costs the same.

    Google's and OpenAI's price lists name audio, speech and images where these cost something else
    (https://ai.google.dev/gemini-api/docs/pricing, https://openai.com/api/pricing). It is not assumed
    of other models: genai-prices has text's prices alone of OpenAI's audio previews, whose audio
    costs sixteen times as much.
    """
    if provider == "google" and model.startswith("gemini-") and "input" in rates:
        rates.setdefault("input_audio", rates["input"])
        if "-tts" in model and "output" in rates:
            rates.setdefault("output_audio", rates["output"])
    if provider == "openai" and model.startswith("gpt-image-") and "output" in rates:
        rates.setdefault("output_image", rates["output"])
