"""What an event costs: quantities, cards, and what has no price."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.errors import PriceError
from llm_metering.prices import (
    TOKEN_KINDS,
    Cost,
    Counted,
    ModelPrices,
    PriceCard,
    Unpriced,
    check_currency,
    cost_of,
    costed,
    quantities_of,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SONNET = PriceCard.per_million(
    "anthropic",
    "claude-3-7-sonnet",
    {"input": "3", "cache_read": "0.30", "cache_write": "3.75", "output": "15"},
)


class OneModel:
    """A price list that has the same card for everybody."""

    name, version = "one", "1"

    def __init__(self, *cards: PriceCard, is_own: bool = False):
        self.prices = ModelPrices(cards=cards, is_own=is_own)

    def find(self, provider, model, *, time, service_tier):
        """Whatever is asked."""
        return self.prices


def test_a_cache_write_costs_what_the_console_shows():
    """3 tokens in, 12,304 written to the cache and 550 out cost $0.054399, as Anthropic billed them.

    Source: the console's figure in https://github.com/BerriAI/litellm/issues/9812.
    """
    data = {
        "provider": "anthropic",
        "model": "claude-3-7-sonnet-20250219",
        "input_tokens": 12307,
        "cache_creation_input_tokens": 12304,
        "output_tokens": 550,
    }

    cost = cost_of(data, OneModel(SONNET), time=NOW)

    assert isinstance(cost, Cost)
    assert (cost.amount, cost.currency) == (Decimal("0.054399"), "USD")
    assert cost.quantities == {"input": 3, "cache_write": 12304, "output": 550}


counts = st.integers(0, 10**9)


@given(
    uncached=counts,
    read=counts,
    written=counts,
    hourly=counts,
    audio=counts,
    output=counts,
    reasoning=counts,
    spoken=counts,
)
def test_no_token_is_priced_twice_or_not_at_all(
    uncached, read, written, hourly, audio, output, reasoning, spoken
):
    """However a call's tokens are split into kinds, the kinds add up to its input and its output."""
    counted = Counted(
        input_tokens=uncached + read + written + hourly + audio,
        output_tokens=output + reasoning + spoken,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written + hourly,
        cache_creation_1h_input_tokens=hourly,
        input_audio_tokens=audio,
        reasoning_output_tokens=reasoning,
        output_audio_tokens=spoken,
    )

    quantities = quantities_of(counted)

    assert not isinstance(quantities, Unpriced)
    assert set(quantities) <= set(TOKEN_KINDS)
    outputs = {kind for kind in TOKEN_KINDS if kind == "reasoning" or kind.startswith("output")}
    assert sum(quantities[kind] for kind in quantities if kind in outputs) == counted.output_tokens
    assert sum(quantities[kind] for kind in quantities if kind not in outputs) == (
        counted.input_tokens
    )
    assert 0 not in quantities.values()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param({}, "unknown_usage", id="nothing-known"),
        pytest.param({"input_tokens": 5}, "unknown_usage", id="output-unknown"),
        pytest.param({"output_tokens": 5}, "unknown_usage", id="input-unknown"),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 5, "cache_read_input_tokens": 6},
            "inconsistent_usage",
            id="cache-beside-its-input",
        ),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 5, "reasoning_output_tokens": 6},
            "inconsistent_usage",
            id="reasoning-beside-its-output",
        ),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 5, "output_audio_tokens": 1},
            "unknown_price",
            id="audio-without-a-price",
        ),
        pytest.param(
            {"input_tokens": 5, "output_tokens": 5, "web_search_requests": 1},
            "unknown_price",
            id="searches-without-a-price",
        ),
        pytest.param({"quantity": 3, "unit": "gpu_seconds"}, "unknown_price", id="unknown-unit"),
        pytest.param(
            {"input_tokens": 10**11, "output_tokens": 10**18}, "too_large", id="beyond-the-ledger"
        ),
    ],
)
def test_what_cannot_be_priced_says_why(data, reason):
    """An event whose cost nobody knows is unpriced for a reason, and never costs 0."""
    cost = cost_of(data, OneModel(SONNET), time=NOW)

    assert isinstance(cost, Unpriced)
    assert cost.reason == reason


@pytest.mark.parametrize(
    ("data", "amount"),
    [
        pytest.param({"input_tokens": 0, "output_tokens": 0, "status": "cached"}, "0", id="nothing"),
        pytest.param(
            {"input_tokens": 1_000_000, "operation": "embeddings"}, "3", id="embeddings-have-no-output"
        ),
        pytest.param(
            {"input_tokens": 9, "output_tokens": 1_000_000, "billed_input_tokens": 0.0,
             "billed_output_tokens": 500_000.0},
            "7.5",
            id="billed-units-go-first",
        ),
        pytest.param(
            {"input_tokens": 1, "output_tokens": 1, "reported_cost": 0.0123}, "0.0123", id="reported"
        ),
        pytest.param(
            {"input_tokens": 0, "output_tokens": 1_000_000, "reasoning_output_tokens": 400_000},
            "15",
            id="reasoning-at-the-price-of-output",
        ),
        pytest.param(
            {"input_tokens": 1_000_000, "output_tokens": 0, "images": 3}, "3", id="images-as-tokens"
        ),
    ],
)  # fmt: skip
def test_what_events_cost(data, amount):
    """Cases in which the counts that decide are not simply input and output."""
    cost = cost_of(data, OneModel(SONNET), time=NOW)

    assert isinstance(cost, Cost)
    assert cost.amount == Decimal(amount)


def test_own_prices_go_before_a_reported_cost():
    """Who has prices of their own is not billed by what the provider says."""
    data = {"input_tokens": 1_000_000, "output_tokens": 0, "reported_cost": 99.0}

    cost = cost_of(data, OneModel(SONNET, is_own=True), time=NOW)

    assert isinstance(cost, Cost)
    assert cost.amount == 3


@pytest.mark.parametrize(
    ("input_tokens", "amount"),
    [(200_000, "0.25"), (200_001, "0.5000025")],
    ids=["at-the-threshold", "above-it"],
)
def test_a_long_input_makes_all_its_tokens_dearer(input_tokens, amount):
    """Above its threshold the dearer card holds for the whole call, the tokens below it included."""
    cheap = PriceCard.per_million("google", "gemini-2.5-pro", {"input": "1.25", "output": "10"})
    dear = PriceCard(
        provider="google",
        model="gemini-2.5-pro",
        rates={"input": Decimal("0.0000025"), "output": Decimal("0.000015")},
        above_input_tokens=200_000,
    )

    cost = costed(
        Counted(input_tokens=input_tokens, output_tokens=0), ModelPrices(cards=(cheap, dear))
    )

    assert isinstance(cost, Cost)
    assert cost.amount == Decimal(amount)


@pytest.mark.parametrize(
    "rate",
    [Decimal(-1), Decimal("NaN"), Decimal("Infinity"), 0.5, Decimal("1E-13")],
    ids=["negative", "nan", "infinite", "float", "too-fine"],
)
def test_a_price_that_is_none_is_refused(rate):
    """A card takes exact numbers from 0 that the ledger can add up exactly."""
    with pytest.raises(PriceError, match=r"^input: "):
        PriceCard(provider="p", model="m", rates={"input": rate})


@pytest.mark.parametrize("code", ["usd", "XYZ", "", "BTC"])
def test_a_currency_that_is_none_is_refused(code):
    """Only the codes of ISO 4217 are currencies."""
    with pytest.raises(PriceError, match="unknown currency"):
        check_currency(code)
