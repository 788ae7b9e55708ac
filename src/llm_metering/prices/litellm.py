"""Prices in the shape of LiteLLM's `model_prices_and_context_window.json`, as rows of a price file.

Source: that file and `litellm_core_utils/llm_cost_calc/utils.py` of litellm 1.106.2. A key is made of what
is priced, from how much input on (`_above_200k_tokens`), and the tier (`_batches`, `_flex`, `_priority`);
where a tier or a size has no price of its own, LiteLLM takes the usual one, and so do the rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from ..errors import PriceError
from .cards import MILLION, PICO
from .kinds import TOKEN_KINDS
from .providers import PREFIXES, canonical_provider
from .tiers import tier_of

__all__ = ["Imported", "read_litellm"]

_KEY: Final = re.compile(
    r"(?P<what>.+?)(?P<hour>_above_1hr)?(?:_above_(?P<size>\d+)k_tokens)?(?:_(?P<tier>[a-z]+))?"
)
_KINDS: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input",
    "input_cost_per_token_cache_hit": "cache_read",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "input_cost_per_audio_token": "input_audio",
    "input_cost_per_image_token": "input_image",
    "input_cost_per_video_token": "input_video",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "output_cost_per_audio_token": "output_audio",
    "output_cost_per_image_token": "output_image",
    "output_cost_per_image": "images",
    "input_cost_per_query": "search_units",
    "input_cost_per_request": "requests",
    "input_cost_per_second": "audio_seconds",
}
_TIERS: Final = ("batches", "flex", "priority", "balanced", "ultrafast", "decisions")
_SEARCHES: Final = "search_context_cost_per_query"
_WITHOUT_OUTPUT: Final = ("embedding", "rerank", "moderation")
_OTHERWISE: Final = ("tiered_pricing", "off_peak_pricing", "regional_pricing")
"""Prices that hold in place of the plain ones, in shapes that no row has."""

_Place = tuple[str | None, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a file.

    Attributes:
        models: How many models have rows.
        rows: How many rows there are.
        text: A price file with them.
        left_out: What has no row, or is not in it: the model, and what and why.
    """

    models: int
    rows: int
    text: str
    left_out: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Model:
    provider: str
    name: str
    source: str
    cards: dict[_Place, dict[str, Decimal]] = field(default_factory=dict)


def read_litellm(content: bytes, name: str) -> Imported:
    """Read prices in LiteLLM's shape.

    Args:
        content: The JSON.
        name: What errors and the rows call the file.

    Raises:
        PriceError: If it is no JSON object of models.
    """
    try:
        # By the digits that are written, not by the binary fraction behind them.
        models = json.loads(content, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, UnicodeDecodeError) as error:
        raise PriceError(f"{name}: not JSON: {error}") from None
    if not isinstance(models, dict) or not all(isinstance(each, dict) for each in models.values()):
        raise PriceError(f"{name}: an object is wanted that has an object for each model")
    left_out: list[tuple[str, str]] = []
    found: dict[tuple[str, str], _Model] = {}
    for key, entry in models.items():
        if key == "sample_spec":
            continue
        model = _read(key, entry, name, left_out)
        if model is None:
            continue
        known = found.setdefault((model.provider, model.name.lower()), model)
        if known is not model and known.cards != model.cards:
            left_out.append((key, f"{model.provider} {model.name} has other prices, further up"))
    lines = ['currency = "USD"', f"source = {_quoted(name)}"]
    rows = 0
    for model in found.values():
        for place in sorted(model.cards, key=lambda each: (each[0] or "", each[1])):
            lines += ["", *_row(model, *place)]
            rows += 1
    return Imported(
        models=len(found), rows=rows, text="\n".join(lines) + "\n", left_out=tuple(left_out)
    )


def _read(
    key: str, entry: Mapping[str, Any], name: str, left_out: list[tuple[str, str]]
) -> _Model | None:
    provider = entry.get("litellm_provider")
    if not isinstance(provider, str) or not provider:
        left_out.append((key, "it does not say who serves it"))
        return None
    # Such as `vertex_ai-language-models`.
    base = provider.partition("-")[0]
    provider = canonical_provider(base if base in PREFIXES else provider)
    prefix, _, rest = key.partition("/")
    mine = rest and prefix in PREFIXES and canonical_provider(prefix) == provider
    source = entry.get("source")
    model = _Model(provider, rest if mine else key, source if isinstance(source, str) else name)
    for place, kind, price in _prices(key, entry, left_out):
        model.cards.setdefault(place, {})[kind] = price
    problem = _problem(entry, model.cards)
    if problem is not None:
        left_out.append((key, problem))
        return None
    _complete(key, model.cards, str(entry.get("mode")), left_out)
    return model if model.cards else None


def _problem(entry: Mapping[str, Any], cards: Mapping[_Place, Mapping[str, Decimal]]) -> str | None:
    if other := next((word for word in _OTHERWISE if word in entry), None):
        return f"{other}: prices in a shape that no row has"
    if not cards:
        return "it has no price that a row can hold"
    if not any(any(prices.values()) for prices in cards.values()):
        return "all its prices are 0, which may be free or unknown"
    usual = cards.get((None, 0), {})
    if not usual:
        return "it has no price on the usual tier"
    tokens = [kind for kind in usual if kind in TOKEN_KINDS]
    if tokens and "input" not in usual:
        return "it has no price for input"
    return None


def _prices(
    key: str, entry: Mapping[str, Any], left_out: list[tuple[str, str]]
) -> Iterator[tuple[_Place, str, Decimal]]:
    for name, value in entry.items():
        if "cost" not in name or name in _OTHERWISE:
            continue
        if name == _SEARCHES:
            each = set(value.values()) if isinstance(value, dict) else set()
            value = next(iter(each)) if len(each) == 1 else value
            place: _Place = (None, 0)
            kind = "web_search_requests"
        else:
            place, kind = _meaning(name)
        if not kind:
            left_out.append((key, f"{name}: no row has a place for it"))
        elif not isinstance(value, Decimal) or not value.is_finite() or value < 0:
            left_out.append((key, f"{name}: not one price: {json.dumps(value, default=str)}"))
        else:
            price = value.quantize(PICO) if value % PICO else value
            if price != value:
                left_out.append((key, f"{name}: {value} is rounded to {price:f}"))
            yield place, kind, price


def _meaning(name: str) -> tuple[_Place, str]:
    """The tier, size and kind that a key is about; no kind if it is about something else."""
    matched = _KEY.fullmatch(name)
    parts = matched.groupdict() if matched else {}
    what, tier = parts.get("what", name), parts.get("tier")
    if tier not in _TIERS:
        # The last word belongs to what is priced.
        what, tier = (f"{what}_{tier}" if tier else what), None
    kind = _KINDS.get(what, "")
    if parts.get("hour"):
        kind = "cache_write_1h" if kind == "cache_write" else ""
    return (tier_of(tier), int(parts.get("size") or 0) * 1000), kind


def _complete(
    key: str, cards: dict[_Place, dict[str, Decimal]], mode: str, left_out: list[tuple[str, str]]
) -> None:
    usual = cards[None, 0]
    if "output" not in usual and any(kind in TOKEN_KINDS for kind in usual):
        if mode not in _WITHOUT_OUTPUT:
            left_out.append((key, "it has no price for output"))
            cards.clear()
            return
        usual["output"] = Decimal(0)
    for tier, size in sorted(cards, key=lambda each: (each[0] or "", each[1])):
        if size:
            # What a size has no price of costs what it costs on the tier, and then usually.
            cards.setdefault((tier, 0), {})
    for (tier, size), prices in sorted(
        cards.items(), key=lambda each: (each[0][1], each[0][0] or "")
    ):
        behind = [usual] + ([cards[None, size]] if (None, size) in cards else [])
        behind += [cards[tier, 0]] if size else []
        missing = {
            kind: price for each in behind for kind, price in each.items() if kind not in prices
        }
        if missing:
            on = " ".join([tier or "", f"above {size} tokens" if size else ""]).strip()
            left_out.append(
                (
                    key,
                    f"{on}: no price of its own for {', '.join(missing)}; that of other calls is taken",
                )
            )
            prices.update(missing)


def _row(model: _Model, tier: str | None, size: int) -> Iterator[str]:
    prices = model.cards[tier, size]
    yield "[[prices]]"
    yield f"provider = {_quoted(model.provider)}"
    yield f"model = {_quoted(model.name)}"
    if tier:
        yield f"service_tier = {_quoted(tier)}"
    if size:
        yield f"above_input_tokens = {size}"
    tokens = [(kind, prices[kind] * MILLION) for kind in TOKEN_KINDS if kind in prices]
    units = [(kind, price) for kind, price in prices.items() if kind not in TOKEN_KINDS]
    for name, named in (("per_million", tokens), ("per_unit", units)):
        if named:
            written = ", ".join(f'{kind} = "{_plain(price)}"' for kind, price in named)
            yield f"{name} = {{ {written} }}"
    yield f"source = {_quoted(model.source)}"


def _plain(price: Decimal) -> str:
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _quoted(text: str) -> str:
    """A text as TOML has it, whose escapes in a string are JSON's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
