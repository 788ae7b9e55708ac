"""`read_embeddings`: what is read without the vectors is what is read with them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.extract import embeddings, read
from llm_metering.extract.embeddings import read_embeddings, without_output
from tests.extract.test_bodies import BODIES

VECTORS = [[0.25] * 40] * 3
CASES = {
    f"{name}-{case['name']}": case["body"]
    for name, file in BODIES.items()
    for case in file["cases"]
    if "body" in case and read(case["body"]).operation == "embeddings"
} | {
    "openai": {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector} for vector in VECTORS],
        "model": "e",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    },
    "openai, no usage": {"object": "list", "data": [{"embedding": VECTORS[0]}], "model": "e"},
    "cohere v2": {
        "id": "a",
        "embeddings": {"float": VECTORS},
        "texts": ["x" * 99] * 3,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 9}},
    },
    "cohere, pictures": {
        "id": "a",
        "embeddings": {"float": VECTORS},
        "meta": {"billed_units": {"image_tokens": 800, "images": 2}},
    },
    "ollama": {
        "model": "m",
        "embeddings": VECTORS,
        "total_duration": 9,
        "prompt_eval_count": 9,
    },
    "gemini": {"embeddings": [{"values": VECTORS[0]}]},
    "gemini, one": {"embedding": {"values": VECTORS[0]}},
    "vertex": {
        "predictions": [
            {"embeddings": {"values": vector, "statistics": {"token_count": 3}}}
            for vector in VECTORS
        ]
    },
    "titan": {"embedding": VECTORS[0], "inputTextTokenCount": 9},
    "titan, by type": {"embeddingsByType": {"float": VECTORS[0]}, "inputTextTokenCount": 9},
    "an error": {"error": {"message": "no", "code": 400}},
    "another": {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
}


@pytest.mark.parametrize("name", CASES)
def test_it_reads_what_read_reads(name):
    """Of each provider's answer: the counts, the model, the name, the units."""
    body = CASES[name]

    assert read_embeddings(json.dumps(body).encode()) == without_output(read(body))


@pytest.mark.parametrize("name", ["openai", "cohere v2", "ollama", "titan"])
def test_the_vectors_are_not_read(name, monkeypatch):
    """They are nearly all of an answer: what is read is no longer for more of them."""
    seen = []
    monkeypatch.setattr(embeddings, "read", lambda body: seen.append(body) or read(body))

    read_embeddings(json.dumps(CASES[name]).encode())

    (body,) = seen
    assert len(json.dumps(body)) < 250


@given(st.binary(max_size=60))
def test_whatever_comes_it_raises_nothing(body):
    """A server may send anything."""
    assert read_embeddings(body).usage is None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "embedding", "embeddings", "usage", "meta", "id", "model"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=9,
    )
)
def test_whatever_json_comes_it_raises_nothing(body):
    """In whatever places."""
    assert isinstance(read_embeddings(json.dumps(body).encode()).flags, tuple)
