"""Bodies in the documented shape of each provider, written by us, give the documented counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_metering.extract import StreamReader, read
from llm_metering.extract.dialects import DIALECTS
from llm_metering.extract.shapes import SHAPES

FOLDER = Path(__file__).with_name("bodies")
BODIES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}

# Every provider we say we cover.
COVERED = {
    *("anthropic", "azure", "bedrock", "cerebras", "cohere", "crusoe", "deepseek", "fireworks"),
    *("gemini", "groq", "huggingface", "litellm", "mistral", "ollama", "openai", "openrouter"),
    *("perplexity", "snowflake", "together", "vertex", "writer", "xai", "zai"),
}
KINDS = ("plain", "streamed", "cached")
BESIDE_COUNTS = ("provider", "model", "operation")

CASES = [
    pytest.param(case, id=f"{name}-{case['name']}")
    for name, file in BODIES.items()
    for case in file["cases"]
]


def reading_of(case):
    if "body" in case:
        return read(case["body"])
    reader = StreamReader()
    for chunk in case["chunks"]:
        reader.feed(chunk)
    return reader.reading()


def test_each_provider_is_covered():
    """Each covered provider has a plain, a streamed and a cached body, and names their source."""
    assert set(BODIES) == COVERED
    for name, file in BODIES.items():
        assert file["source"], name
        kinds = {case["name"].split(",")[0].split()[0] for case in file["cases"]}
        assert set(KINDS) <= kinds, name
        assert all(
            ("chunks" in each) == each["name"].startswith("streamed") for each in file["cases"]
        )


def test_each_dialect_is_covered():
    """No provider that speaks OpenAI's API is listed without bodies of its own."""
    modules = {dialect.provider for dialect in DIALECTS}
    renamed = {"azure.ai.openai": "azure", "mistral_ai": "mistral", "x_ai": "xai", "z_ai": "zai"}

    assert {renamed.get(each, each) for each in modules} <= COVERED


@pytest.mark.parametrize("case", CASES)
def test_counts(case):
    """A body gives these counts and no others, and says whose it is where it can be told."""
    expected = dict(case["expected"])
    total, measures = expected.pop("reported_total_tokens", None), expected.pop("measures", {})
    beside = {name: expected.pop(name) for name in BESIDE_COUNTS if name in expected}

    reading = reading_of(case)

    assert ({} if reading.usage is None else reading.usage.counts()) == expected
    assert (None if reading.usage is None else reading.usage.reported_total_tokens) == total
    assert dict(reading.measures) == measures
    assert {name: getattr(reading, name) for name in beside} == beside
    assert reading.ending == "completed"
    assert reading.is_final


@pytest.mark.parametrize("case", CASES)
def test_no_other_shape_claims_it(case):
    """A body is read alike whatever order the shapes are tried in."""
    if "body" not in case:
        return
    claims = [found for shape in SHAPES if (found := shape.read(case["body"])) is not None]

    assert claims[0] == read(case["body"])
    assert all(each.usage == claims[0].usage for each in claims)


@pytest.mark.parametrize("case", [each for each in CASES if "chunks" in each.values[0]])
def test_only_one_shape_matches_a_chunk(case):
    """No chunk of a stream could be of a stream of another shape."""
    for chunk in case["chunks"]:
        assert sum(shape.matches_chunk(chunk) for shape in SHAPES) <= 1
