"""Every recorded answer of every provider gives exactly the numbers that were billed."""

from __future__ import annotations

import json

import pytest

from llm_metering.extract import StreamReader, output, read
from tests.extract.recorded import (
    ABSENT,
    ANSWERS,
    ERRORS,
    INTERACTIONS,
    NUMBERS,
    params,
    sequences,
)

STREAMS = tuple(each for each in ANSWERS if each.is_stream)
SEQUENCES = sequences()

# What the recordings expect knows no `num_cached_tokens`, in which Mistral then reported what it
# read from its cache (https://docs.mistral.ai/api, `UsageInfo`).
CORRECTIONS = {"sequences/mistral-openai-chat-unary-2-1": {"cache_read_tokens": 32}}

# Answers that show nothing of what they cost: filtered, cut off during hidden reasoning, or made
# of nothing but what a hosted tool did.
SILENT = {
    "azure-openai/openai-chat-unary-plain-1",
    "google-vertex/gemini-generate-content-unary-plain-1",
    "google-vertex/gemini-generate-content-unary-reasoning-1",
}

# The provider each answer shows. Where nothing in a body tells it from OpenAI's, its module says
# so; Hugging Face's router passes on the answer of whoever is behind it.
PROVIDERS = {
    "anthropic": {"anthropic"},
    "azure-openai": {"azure.ai.openai", "openai"},
    "bedrock": {"aws.bedrock", "openai"},
    "cerebras": {"cerebras"},
    "cohere": {"cohere"},
    "crusoe": {"openai"},
    "deepseek": {"deepseek", "openai"},
    "google": {"gcp.gemini", "openai"},
    "google-vertex": {"gcp.vertex_ai"},
    "groq": {"groq"},
    "huggingface": {"together", "openai"},
    "mistral": {"mistral_ai", "openai"},
    "ollama": {"ollama", "openai"},
    # In two of the runs another provider takes over.
    "openai": {"openai", "anthropic"},
    "openrouter": {"openrouter"},
    "snowflake": {"openai"},
    "together": {"together", "openai"},
    "writer": {"writer"},
    "zai": {"z_ai", "openai"},
}


def numbers_of(usage):
    """The numbers that are expected of each recording; an absent part counts as none."""
    return {key: getattr(usage, field, None) or 0 for key, field in NUMBERS.items()}


def expected_of(interaction):
    expected = {**interaction.expected, **CORRECTIONS.get(interaction.name, {})}
    return {key: expected[key] for key in NUMBERS}


def fed(*pieces):
    reader = StreamReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.skipif(not INTERACTIONS, reason=ABSENT)
def test_all_of_it_is_there():
    """250 answers, 26 refusals and 16 runs of several calls were found."""
    singles = [each for each in ANSWERS if not each.name.startswith("sequences/")]

    assert (len(singles), len(ERRORS), len(SEQUENCES)) == (250, 26, 16)


@pytest.mark.parametrize("interaction", params(each for each in ANSWERS if each.expected))
def test_numbers(interaction):
    """The text of a body, streams included, gives exactly the expected numbers."""
    reading = read(interaction.text)

    assert numbers_of(reading.usage) == expected_of(interaction)
    assert reading.ending in {"completed", "failed"}


@pytest.mark.parametrize("interaction", params(each for each in STREAMS if each.expected))
def test_numbers_of_a_stream(interaction):
    """Fed chunk by chunk or line by line, a stream gives the same reading as its whole text."""
    by_chunk = fed(*interaction.chunks)
    by_line = fed(*interaction.text.splitlines())
    by_byte_pairs = fed(*_pieces(interaction.text.encode(), 2))

    assert numbers_of(by_chunk.reading().usage) == expected_of(interaction)
    assert by_line.reading() == by_byte_pairs.reading() == by_chunk.reading()
    assert by_chunk.reading().is_final
    assert by_chunk.has_ended


def _pieces(content, length):
    return [content[start : start + length] for start in range(0, len(content), length)]


@pytest.mark.parametrize("interaction", params(each for each in STREAMS if each.expected))
def test_a_stream_that_is_cut(interaction):
    """Wherever a stream is cut: what was read is final only where it is all of it."""
    reader = StreamReader()
    readings = []
    for chunk in interaction.chunks:
        reader.feed(chunk)
        readings.append(reader.reading())

    final = [numbers_of(each.usage) for each in readings if each.is_final]
    assert all(each == expected_of(interaction) for each in final)
    assert len(readings) == 1 or not readings[0].is_final


@pytest.mark.parametrize("interaction", params(each for each in ANSWERS if each.expected is None))
def test_no_usage(interaction):
    """A stream that carries no usage has none, and what it said is there to be counted."""
    reading = read(interaction.text)

    assert reading.usage is None
    assert not reading.is_final
    assert not reading.flags
    assert output(interaction.text)


@pytest.mark.parametrize(
    "name", SEQUENCES or [pytest.param("", marks=pytest.mark.skip(reason=ABSENT))]
)
def test_sum_of_a_run(name):
    """The calls of a run add up to what is expected of it."""
    interactions, expected = SEQUENCES[name]
    readings = [numbers_of(read(each.text).usage) for each in interactions]

    corrections = [CORRECTIONS.get(each.name, {}) for each in interactions]
    for key in NUMBERS:
        correction = sum(each.get(key, 0) for each in corrections)
        assert sum(each[key] for each in readings) == expected[key] + correction, key


@pytest.mark.parametrize("interaction", params(ANSWERS))
def test_provider(interaction):
    """An answer shows whose it is, or is like OpenAI's."""
    reading = read(interaction.text)

    assert reading.provider in PROVIDERS[interaction.provider]
    assert reading.operation
    assert reading.shape != "unknown"


@pytest.mark.parametrize("interaction", params(each for each in ANSWERS if not each.is_stream))
def test_model_of_a_body(interaction):
    """The model is the one that the body names."""
    named = json.loads(interaction.text).get("model")

    assert named is None or read(interaction.text).model == (named or None)


@pytest.mark.parametrize("interaction", params(ERRORS))
def test_refusals(interaction):
    """A refused request is refused, for a reason that is no message."""
    reading = read(interaction.text)
    streamed = fed(f"event: error\ndata: {json.dumps(json.loads(interaction.text))}\n\n").reading()

    assert reading.ending == "refused"
    assert streamed == reading
    assert reading.usage is None
    assert reading.reason
    assert " " not in reading.reason


@pytest.mark.parametrize(
    "interaction", params(each for each in ANSWERS if each.expected and not each.is_stream)
)
def test_text_of_a_body(interaction):
    """An answer with output tokens has a text, a tool call or reasoning, unless all is hidden."""
    reading = read(interaction.text)
    if reading.operation in {"embeddings", "rerank"} or interaction.name in SILENT:
        return

    assert output(interaction.text)
