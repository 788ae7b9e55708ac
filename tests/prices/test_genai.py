"""genai-prices as a price list: the same costs as its own, and no price where it would guess."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import ClauseAnd, ClauseContains, ModelInfo, ModelPrice, Provider

from llm_metering.prices import Cost, ModelPrices, Unpriced, cost_of
from llm_metering.prices.genai import GenaiPrices

PRICES = GenaiPrices()
PROVIDERS = {provider.id: provider for provider in providers}
PICO = Decimal("1E-12")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MODELS = [
    (provider, model)
    for provider in providers
    for model in provider.models
    if (provider.id, model.id[:7]) != ("openai", "gpt-oss")
]
BATCH = {"processing": "batch"}


def day(text):
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def usage_of(data):
    """The counts of an event as genai-prices takes them."""
    names = {
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "cache_read_input_tokens": "cache_read_tokens",
        "cache_creation_input_tokens": "cache_write_tokens",
        "cache_creation_1h_input_tokens": "cache_write_1h_tokens",
        "input_audio_tokens": "input_audio_tokens",
        "output_audio_tokens": "output_audio_tokens",
        "output_image_tokens": "output_image_tokens",
        "reasoning_output_tokens": "output_reasoning_tokens",
        "web_search_requests": "web_searches",
    }
    return Usage(**{names[key]: value for key, value in data.items()})


def theirs(provider, model, data, time, context=None):
    """What genai-prices has the call cost."""
    price = model.calc_price(
        usage_of(data), provider, genai_request_timestamp=time, price_context=context
    )
    return price.total_price.quantize(PICO)


def ours(provider, model, data, time, tier=None):
    """What we have it cost."""
    counts = {"provider": provider, "model": model, "service_tier": tier, "calls": 1, **data}
    return cost_of(
        {key: value for key, value in counts.items() if value is not None}, PRICES, time=time
    )


def a_call(chance):
    """Random counts of a call, of sizes on both sides of every tier."""
    size = chance.choice([10, 10**4, 199_999, 200_000, 200_001, 272_001, 10**6])
    read, written, audio = (chance.randrange(size // 4 + 1) for _ in range(3))
    data = {"input_tokens": size, "output_tokens": chance.randrange(1, 10**5)}
    kinds = ["read", "written", "hour", "audio", "spoken", "drawn", "thought"]
    kind = chance.choice([*kinds, *["plain", "read"] * 3])
    if kind in ("read", "written", "hour", "thought"):
        data["cache_read_input_tokens"] = read
    if kind in ("written", "hour"):
        data["cache_creation_input_tokens"] = written
    if kind == "hour":
        data["cache_creation_1h_input_tokens"] = chance.randrange(written + 1)
    if kind == "audio":
        data["input_audio_tokens"] = audio
    part = {"spoken": "output_audio_tokens", "drawn": "output_image_tokens"}.get(kind)
    if part or kind == "thought":
        count = chance.randrange(data["output_tokens"] + 1)
        data[part or "reasoning_output_tokens"] = count
    if kind == "plain" and chance.random() < 0.3:
        data["web_search_requests"] = chance.randrange(1, 9)
    return data


def is_exact(model, time):
    """Whether each price of one token has at most 12 decimals."""
    prices = [price for price in vars(model.get_prices(time)).values() if price is not None]
    numbers = [getattr(price, "base", price) for price in prices]
    numbers += [tier.price for price in prices for tier in getattr(price, "tiers", ())]
    return all(number / 10**6 % PICO == 0 for number in numbers)


TIMES = [
    *(day(text) for text in ("2023-01-01", "2025-06-09T23:59", "2025-06-10", "2026-08-17T02:30")),
    *(day(text) for text in ("2026-09-01T00:30", "2026-10-15T16:30", "2026-11-21T03:00")),
]


@pytest.mark.parametrize("seed", range(8))
def test_what_has_a_price_costs_what_genai_prices_says(seed):
    """Every model, at random times and of random counts: the same cost to 1E-12, or none.

    None where genai-prices has no price for a kind of tokens in the call, and takes that of another.
    """
    chance = random.Random(seed)
    same = 0
    for provider, model in MODELS:
        data, time = a_call(chance), chance.choice(TIMES)
        found = ours(provider.id, model.id, data, time)
        if isinstance(found, Unpriced):
            assert found.reason == "unknown_price", (provider.id, model.id, found)
            continue
        same += 1
        difference = abs(found.amount - theirs(provider, model, data, time))
        # A price finer than 1E-12 for one is rounded, which is seen in the sum.
        slack = 0 if is_exact(model, time) else sum(data.values()) * PICO / 2
        assert difference <= slack, (provider.id, model.id, data, time)

    assert same > len(MODELS) * 0.5


@pytest.mark.parametrize("tier", ["batch", "flex", "priority", "fast"])
def test_a_tier_costs_what_genai_prices_says_of_it(tier):
    """A model with prices of a tier has these; one without has none on it, and not the usual ones."""
    chance = random.Random(tier)
    priced = 0
    for provider, model in MODELS:
        if model.get_prices(NOW).input_mtok is None:
            continue
        contexts = [{"service_tier": tier}]
        contexts += [BATCH] if tier == "batch" else []
        contexts += [{"speed": "fast"}] if tier == "fast" else []
        known = [each.when for each in model.price_variants or () if each.when in contexts]
        has_output = model.get_prices(NOW).output_mtok is not None
        data = {"input_tokens": chance.randrange(1, 400_000), "output_tokens": 7 * has_output}
        found = ours(provider.id, model.id, data, NOW, tier)
        if known:
            priced += 1
            assert isinstance(found, Cost), (provider.id, model.id)
            assert found.amount == theirs(provider, model, data, NOW, known[0])
            assert found.card.service_tier == tier
        else:
            assert isinstance(found, Unpriced), (provider.id, model.id)

    assert priced > 10


def test_a_tier_has_no_price_before_it_was_known():
    """Before the first day of a batch's price there is none: the usual price is no substitute."""
    before = PRICES.find("openai", "gpt-5", time=day("2026-10-13"), service_tier="batch")
    after = PRICES.find("openai", "gpt-5", time=day("2026-10-14"), service_tier="batch")

    assert isinstance(before, Unpriced)
    assert (before.reason, before.valid_to) == ("unknown_price", day("2026-10-14"))
    assert isinstance(after, ModelPrices)
    assert after.cards[0].rates["input"] * 10**6 == Decimal("0.625")


def test_a_reseller_has_no_tier_of_the_maker():
    """OpenAI's batch price is not Azure's, though its usual price is taken for Azure's."""
    assert isinstance(PRICES.find("azure", "gpt-5", time=NOW, service_tier=None), ModelPrices)
    assert isinstance(PRICES.find("azure", "gpt-5", time=NOW, service_tier="batch"), Unpriced)


def test_a_price_that_fell_holds_until_that_day():
    """o3 cost 10 and then 2 a million: each call costs what held at its time."""
    last = datetime(2025, 6, 9, 23, 59, 59, 999999, tzinfo=UTC)
    found = [
        PRICES.find("openai", "o3", time=time, service_tier=None)
        for time in (last, day("2025-06-10"))
    ]

    assert [each.cards[0].price("input") * 10**6 for each in found] == [10, 2]
    assert [each.valid_from for each in found] == [None, day("2025-06-10")]
    assert found[0].valid_to == day("2025-06-10")


@pytest.mark.parametrize(
    ("model", "more"),
    [
        pytest.param(("google", "gemini-2.5-pro"), 200_000, id="gemini"),
        pytest.param(("openai", "gpt-5.4"), 272_000, id="gpt"),
        pytest.param(("anthropic", "claude-sonnet-4-5"), 200_000, id="claude"),
    ],
)
def test_beyond_its_size_all_of_a_call_costs_more(model, more):
    """One token decides about the price of all."""
    at, beyond = (
        ours(*model, {"input_tokens": n, "output_tokens": 0}, NOW) for n in (more, more + 1)
    )

    assert beyond.amount > at.amount * Decimal("1.5")


def test_a_price_by_the_time_of_day_says_how_long_it_holds():
    """DeepSeek's prices change at times of the day: each answer holds until the next of them."""
    found = PRICES.find(
        "deepseek", "deepseek-chat", time=day("2026-11-21T12:00"), service_tier=None
    )
    night = PRICES.find(
        "deepseek", "deepseek-chat", time=day("2026-11-21T23:00"), service_tier=None
    )

    assert (found.valid_from, found.valid_to) == (day("2026-11-21T00:30"), day("2026-11-21T16:30"))
    assert (night.valid_from, night.valid_to) == (day("2026-11-21T16:30"), day("2026-11-22T00:30"))
    assert night.cards[0].price("input") < found.cards[0].price("input")


@pytest.mark.parametrize(
    ("time", "since", "until"),
    [
        pytest.param("2026-08-16T23:30", None, "2026-08-17", id="last-night-before"),
        pytest.param("2026-08-17T00:30", "2026-08-17", "2026-08-17T01:00", id="first-night"),
        pytest.param("2026-08-17T05:00", "2026-08-17T04:00", "2026-08-17T06:00", id="by-day"),
    ],
)
def test_a_first_day_may_fall_into_a_time_of_day(time, since, until):
    """An answer holds until whatever comes first: a time of the day, or a day with new prices."""
    found = PRICES.find("deepseek", "deepseek-v4-flash", time=day(time), service_tier=None)

    assert found.valid_from == (day(since) if since else day("2026-08-16T10:00"))
    assert found.valid_to == day(until)


@pytest.mark.parametrize("name", ["deepseek-chat", "deepseek-flash", "deepseek-v4-pro"])
def test_what_a_list_says_holds_as_long_as_it_says(name):
    """Within its bounds an answer is that for every moment, and just outside another."""
    chance = random.Random(name)
    for _ in range(300):
        time = datetime.fromtimestamp(chance.randrange(1_780_000_000, 1_800_000_000), UTC)
        found = PRICES.find("deepseek", name, time=time, service_tier=None)
        later = datetime.fromtimestamp(chance.randrange(1_780_000_000, 1_800_000_000), UTC)
        again = PRICES.find("deepseek", name, time=later, service_tier=None)
        model = next(model for _, model in MODELS if model.id == name)

        assert found.valid_from is None or found.valid_from <= time
        assert found.valid_to is None or time < found.valid_to
        if (found.valid_from or time) <= later < (found.valid_to or later):
            assert again == found
        assert again.cards[0].rates["input"] * 10**6 == model.get_prices(later).input_mtok


@pytest.mark.parametrize(
    ("provider", "model", "found"),
    [
        pytest.param("openai", "openai/gpt-4o", "gpt-4o", id="prefix"),
        pytest.param("azure.ai.openai", "azure/gpt-4o", "gpt-4o", id="azure"),
        pytest.param("azure", "o4-mini-deep-research", "o4-mini-deep-research", id="no-part-of-a-name"),
        pytest.param("azure", "gpt-35-turbo", "gpt-3.5-turbo", id="azure-spelling"),
        pytest.param("gcp.gemini", "models/gemini-2.5-flash", "gemini-2.5-flash", id="gemini"),
        pytest.param("gcp.gemini", "gemini-2.0-flash-001", "gemini-2.0-flash", id="gemini-version"),
        pytest.param(
            "gcp.vertex_ai",
            "publishers/anthropic/models/claude-sonnet-4@20250514", "claude-4-sonnet", id="vertex-claude",
        ),
        pytest.param(
            "aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "regional.anthropic.claude-sonnet-4-20250514-v1:0", id="bedrock-region",
        ),
        pytest.param(
            "aws.bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0", id="bedrock-global",
        ),
        pytest.param(
            "bedrock_converse",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0",
            "regional.anthropic.claude-3-haiku-20240307-v1:0", id="bedrock-profile",
        ),
        pytest.param("aws.bedrock", "amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v2:0", id="titan"),
        pytest.param("anthropic", "claude-3-5-haiku-20241022", "claude-3-5-haiku-latest", id="dated"),
        pytest.param("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13", id="dated-with-its-own-price"),
        pytest.param("openai", "ft:gpt-4o-mini-2024-07-18:a::b", "ft:gpt-4o-mini", id="fine-tuned"),
        pytest.param("mistralai", "mistral-large-2411", "mistral-large", id="mistral"),
        pytest.param("x_ai", "grok-4-0709", "grok-4-0709", id="grok"),
        pytest.param("litellm", "groq/llama-3.3-70b-versatile", "llama-3.3-70b-versatile", id="litellm"),
        pytest.param(
            "openrouter", "anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5", id="openrouter"
        ),
    ],
)  # fmt: skip
def test_names_in_use_are_found(provider, model, found):
    """The names that providers, frameworks and gateways give have the price of the model they mean."""
    prices = PRICES.find(provider, model, time=NOW, service_tier=None)

    assert isinstance(prices, ModelPrices), prices
    assert prices.cards[0].model == found


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("openai", "ft:gpt-4.1-2025-04-14:acme::id", id="fine-tuned-without-a-price"),
        pytest.param("openai", "ft:gpt-4-0613:acme::id", id="fine-tuned-at-the-base-price"),
        pytest.param("azure.ai.openai", "my-deployment", id="deployment"),
        pytest.param("azure.ai.openai", "prod-o4-mini-copy", id="deployment-with-a-model-in-it"),
        pytest.param("anthropic", "claude-opus-4-5-ultra", id="begins-like-another"),
        pytest.param("google", "gemini-1.5-pro-mega", id="contains-another"),
        pytest.param("ollama", "llama3.2:1b", id="local"),
        pytest.param("openai", "gpt-oss-120b", id="served-by-somebody-else"),
        pytest.param(None, "gpt-4o", id="served-by-nobody-knows-whom"),
        pytest.param("groq", "whisper-large-v3", id="smallest-amount-a-request"),
        pytest.param("perplexity", "sonar-deep-research", id="citations-that-no-event-counts"),
        pytest.param("google", "gemma-3", id="without-any-price"),
    ],
)
def test_what_only_looks_like_a_model_has_no_price(provider, model):
    """Nothing is priced by likeness, and what it has no price of is not free."""
    assert isinstance(PRICES.find(provider, model, time=NOW, service_tier=None), Unpriced)


def test_a_part_of_a_condition_is_no_name():
    """Where a name has to meet several conditions, what one of them asks for is no model's name."""
    parts = [ClauseContains("llama"), ClauseContains("70b")]
    price = ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1))
    model = ModelInfo(id="llama-70b", match=ClauseAnd(parts), prices=price)
    prices = GenaiPrices()
    prices._providers = {"p": Provider(id="p", name="P", api_pattern="p", models=[model])}

    assert isinstance(prices.find("p", "llama-70b", time=NOW, service_tier=None), ModelPrices)
    assert isinstance(prices.find("p", "llama", time=NOW, service_tier=None), Unpriced)


def test_audio_is_not_taken_for_text():
    """Google names no price of audio where it is text's; of others' audio without a price nobody knows."""
    data = {"input_tokens": 100, "input_audio_tokens": 90, "output_tokens": 5}

    assert isinstance(ours("google", "gemini-2.5-pro", data, NOW), Cost)
    assert isinstance(ours("openai", "gpt-4o-audio-preview", data, NOW), Unpriced)


def test_a_free_model_costs_nothing_and_a_version_is_named():
    """`:free` is a price of 0; the version of the list is the package's, with a digest of its data."""
    data = {"input_tokens": 100, "output_tokens": 5, "reasoning_output_tokens": 2}

    assert ours("openrouter", "openai/gpt-oss-20b:free", data, NOW).amount == 0
    assert PRICES.version.startswith("0.2.3+") or PRICES.version.count("+") == 1
    assert GenaiPrices().version == PRICES.version
