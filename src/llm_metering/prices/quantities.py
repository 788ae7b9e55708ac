"""How much of each kind an event has, from the counts in its `data`."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from .kinds import UNITS
from .unpriced import Unpriced

__all__ = ["Counted", "Quantities", "quantities_of"]

Quantities = dict[str, int | Decimal]
"""How much, by kind; only what there is any of. Tokens are whole numbers."""

_NO_OUTPUT: Final = ("embeddings", "rerank", "moderation", "classify")
"""Operations that have no output tokens, so that nobody reports a 0 of them."""


class Counted(msgspec.Struct, gc=False):
    """What of an event's `data` decides what it costs, under the names it has there."""

    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    service_tier: str | None = None
    provenance: str | None = None
    status: str | None = None
    calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation_1h_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    billed_input_tokens: int | float | None = None
    billed_output_tokens: int | float | None = None
    web_search_requests: int | float | None = None
    web_fetch_requests: int | float | None = None
    code_execution_requests: int | float | None = None
    search_units: int | float | None = None
    classifications: int | float | None = None
    images: int | float | None = None
    audio_seconds: int | float | None = None
    reported_cost: int | float | None = None
    quantity: int | float | None = None
    unit: str | None = None


def quantities_of(counted: Counted) -> Quantities | Unpriced:
    """How much of each kind an event has.

    What was billed goes before what was counted, where the provider says both. Audio, images and
    video in the input are taken for what was not read from the cache, since no event tells how much
    of them was; where they do not fit beside it, the event is `Unpriced`.

    Returns:
        The quantities; `Unpriced` where a count is unknown that decides about the cost, or the
        parts exceed their total.
    """
    found: Quantities = {}
    if counted.quantity is not None and counted.unit is not None:
        _put(found, counted.unit, counted.quantity)
        if counted.input_tokens is None and counted.output_tokens is None:
            return found
    for unit in UNITS:
        amount = getattr(counted, unit)
        if amount:
            _put(found, unit, amount)
    billed_input = counted.billed_input_tokens
    billed_output = counted.billed_output_tokens
    total_input = counted.input_tokens if billed_input is None else billed_input
    total_output = counted.output_tokens if billed_output is None else billed_output
    if total_output is None and counted.operation in _NO_OUTPUT:
        total_output = 0
    if total_input is None and total_output in (None, 0) and found:
        # What is measured in other units, such as pages or seconds, has no tokens.
        return found
    if total_input is None or total_output is None:
        what = "input" if total_input is None else "output"
        if total_input is total_output:
            what = "usage"
        return Unpriced("unknown_usage", f"nobody knows its {what}")
    return _tokens(counted, found, total_input, total_output)


def _tokens(
    counted: Counted, found: Quantities, total_input: float, total_output: float
) -> Quantities | Unpriced:
    written = counted.cache_creation_input_tokens or 0
    for_an_hour = counted.cache_creation_1h_input_tokens or 0
    if for_an_hour > written and counted.cache_creation_input_tokens is None:
        written = for_an_hour
    parts = (
        ("cache_read", counted.cache_read_input_tokens or 0),
        ("cache_write", written - for_an_hour),
        ("cache_write_1h", for_an_hour),
        ("input_audio", counted.input_audio_tokens or 0),
        ("input_image", counted.input_image_tokens or 0),
        ("input_video", counted.input_video_tokens or 0),
    )
    rest = total_input
    for kind, count in parts:
        if count < 0:
            return Unpriced("inconsistent_usage", "more was written to the cache than there was")
        if count:
            found[kind] = count
            rest -= count
    if rest < 0:
        return Unpriced("inconsistent_usage", "the parts of its input are more than all of it")
    if rest:
        _put(found, "input", rest)
    rest = total_output
    for kind, count in (
        ("reasoning", counted.reasoning_output_tokens or 0),
        ("output_audio", counted.output_audio_tokens or 0),
        ("output_image", counted.output_image_tokens or 0),
    ):
        if count:
            found[kind] = count
            rest -= count
    if rest < 0:
        return Unpriced("inconsistent_usage", "the parts of its output are more than all of it")
    if rest:
        _put(found, "output", rest)
    return found


def _put(found: Quantities, kind: str, amount: float) -> None:
    if amount:
        # A float as it is written, not the binary fraction behind it.
        found[kind] = amount if isinstance(amount, int) else Decimal(repr(amount))
