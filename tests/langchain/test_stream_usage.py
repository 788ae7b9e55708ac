"""`StreamUsage`: the usage of a stream whose chunks report parts, or totals, or nonsense."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages.ai import add_usage, subtract_usage

from llm_metering.langchain.stream_usage import StreamUsage
from tests.langchain.scripted import usage

COUNTS = st.integers(0, 10**6)
PROVIDERS = st.sampled_from([None, "openai", "anthropic", "google_genai", "mistral"])


def read(reports, provider=None):
    """The reports of a stream, read."""
    stream = StreamUsage(provider)
    for report in reports:
        stream.add(report)
    return stream


@given(prompt=st.integers(1, 10**6), outputs=st.lists(COUNTS, min_size=2))
def test_totals_so_far_are_never_added_up(prompt, outputs):
    """vLLM's `continuous_usage_stats`: the input on each chunk, the output growing; the last holds."""
    reports = [usage(prompt, output) for output in sorted(outputs)]

    stream = read(reports, "openai")

    assert stream.is_cumulative
    assert stream.usage() == reports[-1]


@given(used=st.builds(usage, st.integers(1, 10**6), COUNTS), times=st.integers(2, 5))
def test_a_total_that_is_told_again_is_told_once(used, times):
    """Some servers put the usage into the finishing chunk and into the trailing one."""
    stream = read([used] * times, "openai")

    assert stream.is_cumulative
    assert stream.usage() == used


@given(outputs=st.lists(st.integers(1, 10**6), min_size=2), prompt=COUNTS)
def test_anthropics_reports_are_totals(outputs, prompt):
    """Of several `message_delta` the last one holds, also where they leave out the input."""
    reports = [usage(prompt, output) for output in sorted(outputs)]

    stream = read(reports, "anthropic")

    assert stream.is_cumulative
    assert stream.usage() == reports[-1]


@given(
    totals=st.lists(
        st.builds(
            lambda prompt, output, cached: usage(
                prompt, output, input_token_details={"cache_read": cached}
            ),
            COUNTS,
            COUNTS,
            COUNTS,
        ),
        min_size=1,
    )
)
def test_parts_of_gemini_are_added_up(totals):
    """What langchain-google-genai makes of totals, input that shrinks included, as it does it."""
    parts, before = [], None
    for total in totals:
        part = subtract_usage(total, before)
        if before and total["input_tokens"] < before["input_tokens"]:
            part["input_tokens"] = total["input_tokens"] - before["input_tokens"]
        parts.append(part)
        before = part if before is None else add_usage(before, part)

    stream = read(parts, "google_genai")

    assert not stream.is_cumulative
    assert not stream.is_contradictory
    assert stream.usage() == before
    assert stream.usage()["input_tokens"] == totals[-1]["input_tokens"]


@given(
    prompt=COUNTS,
    outputs=st.lists(COUNTS, min_size=1),
    place=st.integers(0, 10),
    provider=st.sampled_from([None, "openai", "google_genai", "mistral"]),
)
def test_parts_are_what_langchain_takes_them_for(prompt, outputs, place, provider):
    """The contract of the integrations: one chunk alone carries the input, and the sum is right."""
    place = min(place, len(outputs) - 1)
    parts = [usage(prompt if i == place else 0, output) for i, output in enumerate(outputs)]

    stream = read(parts, provider)

    expected = parts[0]
    for part in parts[1:]:
        expected = add_usage(expected, part)
    assert not stream.is_cumulative
    assert stream.usage() == expected


@pytest.mark.parametrize(
    ("provider", "reports", "expected", "verdict"),
    [
        pytest.param("openai", [(100, 20)], (100, 20), "parts", id="one report"),
        pytest.param("openai", [], None, "parts", id="none"),
        pytest.param(None, [(100, 0), (0, 20)], (100, 20), "parts", id="input first"),
        pytest.param("google_genai", [(100, 5), (100, 5)], (200, 10), "parts", id="equal parts"),
        pytest.param("openai", [(100, 5), (150, 9)], (150, 9), "totals", id="growing input"),
        pytest.param("anthropic", [(0, 8), (0, 12)], (0, 12), "totals", id="without input"),
        pytest.param("anthropic", [(100, 0), (0, 12)], (100, 12), "parts", id="split by Anthropic"),
        pytest.param("openai", [(100, 20), (0, 0)], (100, 20), "parts", id="zeros behind it"),
        pytest.param("openai", [(100, 20), (100, 0)], (100, 20), "nonsense", id="less output"),
        pytest.param("openai", [(100, 9), (90, 20)], (90, 20), "nonsense", id="less input"),
    ],
)
def test_what_reports_are_taken_for(provider, reports, expected, verdict):
    """Parts are added up; of totals the last one holds; of nonsense the largest, flagged as such."""
    stream = read([usage(*each) for each in reports], provider)

    found = stream.usage()
    assert (found and (found["input_tokens"], found["output_tokens"])) == expected
    assert (stream.is_cumulative, stream.is_contradictory) == {
        "parts": (False, False),
        "totals": (True, False),
        "nonsense": (False, True),
    }[verdict]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = ("input_tokens", "output_tokens", "total_tokens", "input_token_details", "cache_read")
REPORTS = st.dictionaries(st.sampled_from(NAMES), JSON | COUNTS, max_size=5)


@given(reports=st.lists(REPORTS, max_size=5), provider=PROVIDERS)
def test_nothing_that_a_server_reports_is_added_up_blindly(reports, provider):
    """No report raises; and what comes out holds no number that no report or sum of them holds."""
    stream = read(reports, provider)

    found = stream.usage()
    if found is not None and found not in reports:
        for name in ("input_tokens", "output_tokens"):
            counts = [report.get(name) for report in reports]
            assert all(type(count) is int for count in counts)
            assert found[name] == sum(counts)
    json.dumps(found)
