"""Under which names a price list may have a model, and who is meant by a provider's."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_metering.prices.names import names_of
from llm_metering.prices.providers import canonical_provider, provider_names
from llm_metering.prices.tiers import tier_of


@pytest.mark.parametrize(
    ("provider", "model", "wanted"),
    [
        pytest.param("openai", "gpt-4o", ["gpt-4o"], id="plain"),
        pytest.param("openai", "openai/gpt-4o", ["openai/gpt-4o", "gpt-4o"], id="own-prefix"),
        pytest.param("openai", "gpt-5-2025-08-07", ["gpt-5-2025-08-07", "gpt-5"], id="date"),
        pytest.param("openai", "gpt-4-0613", ["gpt-4-0613"], id="short-date"),
        pytest.param(
            "openai",
            "ft:gpt-4o-mini-2024-07-18:acme::id",
            ["ft:gpt-4o-mini-2024-07-18:acme::id", "ft:gpt-4o-mini-2024-07-18", "ft:gpt-4o-mini"],
            id="fine-tuned",
        ),
        pytest.param(
            "azure",
            "gpt-4o-mini-2024-07-18.ft-0a1b",
            ["gpt-4o-mini-2024-07-18.ft-0a1b", "gpt-4o-mini-2024-07-18.ft-"],
            id="fine-tuned-at-azure",
        ),
        pytest.param("azure", "azure/my-deployment", ["azure/my-deployment", "my-deployment"], id="deployment"),
        pytest.param("groq", "openai/gpt-oss-20b", ["openai/gpt-oss-20b"], id="organisation"),
        pytest.param(
            "anthropic",
            "claude-3-5-haiku-latest",
            ["claude-3-5-haiku-latest", "claude-3-5-haiku"],
            id="latest",
        ),
        pytest.param(
            "gcp.gemini", "models/gemini-2.0-flash-001",
            ["models/gemini-2.0-flash-001", "gemini-2.0-flash-001", "gemini-2.0-flash"],
            id="gemini",
        ),
        pytest.param(
            "gcp.vertex_ai",
            "projects/p/locations/us/publishers/anthropic/models/claude-sonnet-4@20250514",
            [
                "projects/p/locations/us/publishers/anthropic/models/claude-sonnet-4@20250514",
                "claude-sonnet-4@20250514",
                "claude-sonnet-4",
            ],
            id="vertex",
        ),
        pytest.param("gcp", "tunedModels/abc", ["tunedmodels/abc"], id="tuned-gemini"),
        pytest.param(
            "openrouter",
            "openrouter/anthropic/claude-3.5-haiku",
            ["openrouter/anthropic/claude-3.5-haiku", "anthropic/claude-3.5-haiku"],
            id="openrouter",
        ),
        pytest.param("ollama", "llama3.2:1b", ["llama3.2:1b"], id="tag"),
        pytest.param("ollama", "llama3.2:latest", ["llama3.2:latest", "llama3.2"], id="tag-latest"),
        pytest.param(
            "aws.bedrock",
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            [
                "us.anthropic.claude-sonnet-4-20250514-v1:0",
                "us.anthropic.claude-sonnet-4-20250514-v1",
                "us.anthropic.claude-sonnet-4-20250514",
                "anthropic.claude-sonnet-4-20250514-v1:0",
                "anthropic.claude-sonnet-4-20250514-v1",
                "anthropic.claude-sonnet-4-20250514",
                "claude-sonnet-4-20250514-v1:0",
                "claude-sonnet-4-20250514-v1",
                "claude-sonnet-4-20250514",
                "us.anthropic.claude-sonnet-4",
                "anthropic.claude-sonnet-4",
                "claude-sonnet-4",
            ],
            id="bedrock",
        ),
        pytest.param(
            "aws.bedrock",
            "amazon.titan-embed-text-v2:0",
            ["amazon.titan-embed-text-v2:0", "amazon.titan-embed-text-v2"],
            id="bedrock-second-version-is-another-model",
        ),
        pytest.param(
            "aws.bedrock",
            "global.amazon.nova-2-lite-v1:0",
            ["global.amazon.nova-2-lite-v1:0", "global.amazon.nova-2-lite-v1", "global.amazon.nova-2-lite"],
            id="bedrock-global-keeps-its-price",
        ),
        pytest.param(
            "bedrock",
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/k3x",
            ["arn:aws:bedrock:us-east-1:1:application-inference-profile/k3x"],
            id="own-profile",
        ),
    ],
)  # fmt: skip
def test_what_may_be_left_out_of_a_name(provider, model, wanted):
    """Prefixes, regions, versions of the API and dates go; what names another model stays."""
    assert list(names_of(provider, model).models) == wanted


@pytest.mark.parametrize(
    "model",
    [
        "arn:aws:bedrock:eu-west-1:123:inference-profile/eu.amazon.nova-pro-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
        "bedrock/eu-west-1/amazon.nova-pro-v1:0",
        "bedrock/converse/us.amazon.nova-pro-v1:0",
    ],
)
def test_ways_to_name_a_model_of_bedrock(model):
    """ARNs of models and profiles, and LiteLLM's routes, all come to the model's own id."""
    names = names_of("aws.bedrock", model)

    assert "amazon.nova-pro-v1:0" in names.models
    assert "amazon.nova-pro" in names.models


@pytest.mark.parametrize(
    ("provider", "model", "wanted"),
    [
        pytest.param(None, "openai/gpt-4o", ("openai",), id="from-the-prefix"),
        pytest.param("litellm", "bedrock/amazon.nova-pro-v1:0", ("aws.bedrock",), id="litellm"),
        pytest.param(None, "gpt-4o", (), id="nobody-knows"),
        pytest.param(None, "mistralai/Mistral-7B", (), id="organisation"),
        pytest.param("gcp.gemini", "vertex_ai/gemini-x", ("gcp.gemini", "gcp"), id="event-wins"),
        pytest.param("azure", "gpt-4o", ("azure.ai.openai", "azure"), id="langchain-azure"),
    ],
)
def test_who_is_asked(provider, model, wanted):
    """The event's provider, else a prefix of the model; a model alone does not say who serves it."""
    assert names_of(provider, model).providers == wanted


@pytest.mark.parametrize(
    ("names", "canonical"),
    [
        ("openai OpenAI text-completion-openai", "openai"),
        ("bedrock amazon_bedrock aws.bedrock AWS bedrock_converse", "aws.bedrock"),
        ("google_vertexai vertex_ai gcp.vertex_ai google-vertex", "gcp.vertex_ai"),
        ("google_genai gemini gcp.gemini", "gcp.gemini"),
        ("mistralai mistral mistral_ai", "mistral_ai"),
        ("xai x_ai x-ai", "x_ai"),
        ("together together_ai together-ai", "together"),
        ("fireworks fireworks_ai fireworks-ai", "fireworks"),
        ("zai z_ai z-ai", "z_ai"),
        ("azure_openai azure.ai.openai az.ai.openai", "azure.ai.openai"),
        ("cohere", "cohere"),
        ("somebody", "somebody"),
    ],
)
def test_each_name_of_a_provider_is_one(names, canonical):
    """OpenTelemetry's, LangChain's, LlamaIndex', LiteLLM's and genai-prices' names agree."""
    assert {canonical_provider(name) for name in names.split()} == {canonical}
    assert provider_names(canonical)[0] == canonical


words = st.sampled_from(["mini", "nano", "pro", "lite", "audio-preview", "turbo", "1", "4.1", "v2"])
PROVIDERS = ["openai", "anthropic", "azure", "gcp", "aws.bedrock", "ollama", "openrouter", None]


@given(
    base=st.sampled_from(["gpt-4o", "claude-opus-4", "gemini-2.5-flash", "amazon.nova", "llama3"]),
    word=words,
    glue=st.sampled_from(["-", ":", "."]),
    tail=st.sampled_from(["", "-20250514", "-2025-08-07", "@20250514", "-latest", "-v1:0"]),
    provider=st.sampled_from(PROVIDERS),
)
def test_no_model_goes_by_the_name_of_another(base, word, glue, tail, provider):
    """Whatever is left out, a name with one more word is never the name without it."""
    # Bedrock counts revisions of a model so.
    assume(not (provider == "aws.bedrock" and glue == ":"))
    longer = f"{base}{glue}{word}"

    assert base not in names_of(provider, longer + tail).models
    assert longer not in names_of(provider, base + tail).models
    assert base not in names_of(provider, f"ft:{base}{tail}:acme::id").models


@pytest.mark.parametrize(
    ("word", "tier"),
    [
        *((word, None) for word in (None, "", "default", "AUTO", "on_demand", "standard")),
        ("SERVICE_TIER_STANDARD", None),
        ("SERVICE_TIER_UNSPECIFIED", None),
        ("batch", "batch"),
        ("ON_DEMAND_FLEX", "flex"),
        ("priority", "priority"),
        ("provisioned_throughput", "provisioned_throughput"),
    ],
)
def test_words_for_the_usual_tier_are_none(word, tier):
    """Only what costs what a call without a tier costs is no tier."""
    assert tier_of(word) == tier
