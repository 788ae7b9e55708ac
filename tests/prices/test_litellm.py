"""Prices in LiteLLM's shape, as a price file: what they say, and what is listed as left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from llm_metering.errors import PriceError
from llm_metering.prices import ModelPrices
from llm_metering.prices.litellm import read_litellm
from llm_metering.prices.opening import open_prices

NOW = datetime(2026, 11, 21, tzinfo=UTC)

CONTENT = """{
  "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of the providers"},
  "openai/novel-1": {
    "litellm_provider": "openai", "mode": "chat", "max_tokens": 4096, "supports_vision": true,
    "input_cost_per_token": 1.1e-06, "output_cost_per_token": 4.4e-06,
    "cache_read_input_token_cost": 5.5e-07,
    "input_cost_per_token_batches": 5.5e-07, "output_cost_per_token_batches": 2.2e-06,
    "input_cost_per_token_above_200k_tokens": 2.2e-06,
    "output_cost_per_token_above_200k_tokens": 8.8e-06,
    "input_cost_per_token_above_200k_tokens_priority": 4e-06,
    "input_cost_per_token_priority": 2e-06,
    "output_cost_per_reasoning_token": 5e-06,
    "search_context_cost_per_query": {
      "search_context_size_low": 0.03, "search_context_size_medium": 0.03, "search_context_size_high": 0.03
    },
    "source": "https://example.org/prices"
  },
  "us.acme.writer-v1:0": {
    "litellm_provider": "bedrock_converse", "mode": "chat",
    "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
    "input_cost_per_character": 1e-06,
    "search_context_cost_per_query": {"search_context_size_low": 0.03, "search_context_size_high": 0.05}
  },
  "vertex_ai/embed-1": {
    "litellm_provider": "vertex_ai-embedding-models", "mode": "embedding",
    "input_cost_per_token": 1.23456789012e-07
  },
  "painter": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04},
  "free": {"litellm_provider": "ollama", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
  "tiers": {"litellm_provider": "dashscope", "tiered_pricing": [{"range": [0, 1]}]},
  "nobody": {"input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
  "half": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06},
  "backwards": {"litellm_provider": "openai", "mode": "chat", "output_cost_per_token": 1e-06},
  "priority-only": {"litellm_provider": "openai", "input_cost_per_token_priority": 1e-06},
  "wrong": {"litellm_provider": "openai", "input_cost_per_token": -1, "output_cost_per_token": 1e-06},
  "novel-1": {"litellm_provider": "openai", "input_cost_per_token": 9e-06, "output_cost_per_token": 9e-06}
}"""


@pytest.fixture
def imported():
    """What became of `CONTENT`."""
    return read_litellm(CONTENT.encode(), "models.json")


@pytest.fixture
def prices(imported, tmp_path):
    """The price list of the file that was made of it."""
    path = tmp_path / "prices.toml"
    path.write_text(imported.text, encoding="utf-8")
    return open_prices([path], "off")


def per_million(prices, provider, model, tier=None):
    """The prices of a million by size of the input."""
    found = prices.find(provider, model, time=NOW, service_tier=tier)
    assert isinstance(found, ModelPrices), found
    return {
        card.above_input_tokens: {kind: str((rate * 10**6).normalize()) for kind, rate in card.rates.items()}
        for card in found.cards
    }  # fmt: skip


def test_prices_by_kind_tier_and_size_arrive(prices):
    """By the digits that are written; a tier or size without a price of its own has the usual one."""
    usual = {"input": "1.1", "cache_read": "0.55", "output": "4.4", "reasoning": "5"}
    searches = {"web_search_requests": "3E+4"}
    beyond = {**usual, "input": "2.2", "output": "8.8", **searches}

    assert per_million(prices, "openai", "novel-1") == {0: {**usual, **searches}, 200_000: beyond}
    assert per_million(prices, "openai", "novel-1", "batch") == {
        0: {**usual, "input": "0.55", "output": "2.2", **searches}
    }
    assert per_million(prices, "openai", "novel-1", "priority") == {
        0: {**usual, "input": "2", **searches},
        200_000: {**beyond, "input": "4", "output": "4.4"},
    }


def test_names_units_and_embeddings_arrive(prices):
    """Bedrock's ids are found, an hour's cache has its price, embeddings have no output."""
    assert per_million(prices, "aws.bedrock", "us.acme.writer-v1:0") == {
        0: {"input": "3", "cache_write": "3.75", "cache_write_1h": "6", "output": "15"}
    }
    assert per_million(prices, "vertexai", "embed-1") == {0: {"input": "0.123457", "output": "0"}}
    assert per_million(prices, "openai", "painter") == {0: {"images": "4E+4"}}


def test_what_no_row_can_say_is_listed(imported):
    """Each price that is not in the file, or not as it was, is named with its model and the reason."""
    left_out = {}
    for model, what in imported.left_out:
        left_out.setdefault(model, []).append(what)

    assert left_out == {
        "openai/novel-1": [
            (
                "batch: no price of its own for cache_read, reasoning, web_search_requests; "
                "that of other calls is taken"
            ),
            (
                "priority: no price of its own for output, cache_read, reasoning, web_search_requests; "
                "that of other calls is taken"
            ),
            (
                "above 200000 tokens: no price of its own for cache_read, reasoning, web_search_requests; "
                "that of other calls is taken"
            ),
            (
                "priority above 200000 tokens: no price of its own for output, cache_read, reasoning, "
                "web_search_requests; that of other calls is taken"
            ),
        ],
        "us.acme.writer-v1:0": [
            "input_cost_per_character: no row has a place for it",
            (
                "search_context_cost_per_query: not one price: "
                '{"search_context_size_low": "0.03", "search_context_size_high": "0.05"}'
            ),
        ],
        "vertex_ai/embed-1": [
            "input_cost_per_token: 1.23456789012E-7 is rounded to 0.000000123457"
        ],
        "free": ["all its prices are 0, which may be free or unknown"],
        "tiers": ["tiered_pricing: prices in a shape that no row has"],
        "nobody": ["it does not say who serves it"],
        "half": ["it has no price for output"],
        "backwards": ["it has no price for input"],
        "priority-only": ["it has no price on the usual tier"],
        "wrong": ['input_cost_per_token: not one price: "-1"', "it has no price for input"],
        "novel-1": ["openai novel-1 has other prices, further up"],
    }
    assert (imported.models, imported.rows) == (4, 8)


def test_every_model_is_in_the_file_or_in_the_list(imported, prices):
    """Nothing is dropped silently: each entry has a row or a reason."""
    listed = {model for model, _ in imported.left_out}
    entries = json.loads(CONTENT, parse_float=Decimal).keys() - {"sample_spec"}
    in_file = {model for _, model in prices.models()}

    assert {each for each in entries if each.rpartition("/")[2] not in in_file} <= listed


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"{", "not JSON: ", id="cut-off"),
        pytest.param(b"\xff", "not JSON: ", id="not-utf-8"),
        pytest.param(b"[]", "an object is wanted that has an object for each model", id="list"),
        pytest.param(b'{"a": 1}', "an object is wanted", id="numbers"),
    ],
)
def test_other_files_are_refused(content, says):
    """The error names the file."""
    with pytest.raises(PriceError, match=f"models.json: {says}"):
        read_litellm(content, "models.json")
