"""The providers' own SDKs, pointed at the fake provider."""

from __future__ import annotations

import anthropic
import google.genai
import httpx
import openai
import pytest


@pytest.fixture
def client(provider):
    """OpenAI's client."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=1) as client:
        yield client


@pytest.fixture
def claude(provider):
    """Anthropic's client."""
    with anthropic.Anthropic(base_url=provider.url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture
def gemini(provider):
    """Google's client."""
    options = google.genai.types.HttpOptions(base_url=provider.url)
    with google.genai.Client(api_key="x", http_options=options) as client:
        yield client


@pytest.fixture
def post(provider):
    """Plain HTTP."""
    return lambda path, body: httpx.post(provider.url + path, json=body, trust_env=False)
