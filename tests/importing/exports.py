"""Files of usage as providers export them, written by us in their shapes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

DAY = datetime(2026, 11, 18, tzinfo=UTC)
AFTER = (DAY + timedelta(days=9)).timestamp()
"""When all buckets here are over."""


def seconds(moment):
    return int(moment.timestamp())


def completions(**changes):
    """A result of OpenAI's completions usage."""
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": 1000,
        "output_tokens": 200,
        "num_model_requests": 7,
        "project_id": "proj_a",
        "user_id": None,
        "api_key_id": None,
        "model": "gpt-5-mini-2026-08-07",
        "batch": False,
        "service_tier": None,
        "api_source": None,
        "input_cached_tokens": 300,
        "input_cache_write_tokens": 100,
        "input_uncached_tokens": 600,
        "input_text_tokens": 540,
        "input_audio_tokens": 50,
        "input_image_tokens": 10,
        "input_cached_text_tokens": 270,
        "input_cached_audio_tokens": 20,
        "input_cached_image_tokens": 10,
        "output_text_tokens": 180,
        "output_audio_tokens": 20,
        "output_image_tokens": 0,
    } | changes


def embeddings(**changes):
    """A result of OpenAI's embeddings usage."""
    return {
        "object": "organization.usage.embeddings.result",
        "input_tokens": 90,
        "num_model_requests": 3,
        "project_id": "proj_a",
        "user_id": None,
        "api_key_id": None,
        "model": "text-embedding-3-small",
    } | changes


def openai_bucket(*results, start=DAY, width=timedelta(days=1)):
    return {
        "object": "bucket",
        "start_time": seconds(start),
        "end_time": seconds(start + width),
        "results": list(results),
    }


def openai_page(*buckets, **changes):
    return {"object": "page", "data": list(buckets), "has_more": False, "next_page": None} | changes


def messages(**changes):
    """A result of Anthropic's messages usage report."""
    return {
        "account_id": None,
        "api_key_id": "apikey_1",
        "cache_creation": {"ephemeral_1h_input_tokens": 40, "ephemeral_5m_input_tokens": 60},
        "cache_read_input_tokens": 300,
        "context_window": "0-200k",
        "inference_geo": "global",
        "model": "claude-sonnet-5",
        "output_tokens": 200,
        "server_tool_use": {"web_search_requests": 2},
        "service_account_id": None,
        "service_tier": "standard",
        "uncached_input_tokens": 600,
        "workspace_id": "wrkspc_a",
    } | changes


def anthropic_bucket(*results, start=DAY, width=timedelta(days=1)):
    return {
        "starting_at": start.isoformat().replace("+00:00", "Z"),
        "ending_at": (start + width).isoformat().replace("+00:00", "Z"),
        "results": list(results),
    }


def anthropic_page(*buckets, **changes):
    return {"data": list(buckets), "has_more": False, "next_page": None} | changes


OPENAI_COLUMNS = (
    *("start_time", "end_time", "start_time_iso", "end_time_iso", "project_id"),
    *("num_model_requests", "user_id", "api_key_id", "model", "batch", "service_tier"),
    *("input_tokens", "output_tokens", "input_cached_tokens", "input_uncached_tokens"),
    *("input_text_tokens", "output_text_tokens", "input_cached_text_tokens", "input_audio_tokens"),
    *("input_cached_audio_tokens", "output_audio_tokens", "input_image_tokens"),
    *("input_cached_image_tokens", "output_image_tokens"),
)
OPENAI_TABLE = {
    **{name: "0.0" for name in OPENAI_COLUMNS if name.endswith("_tokens")},
    "start_time": str(seconds(DAY)),
    "end_time": str(seconds(DAY + timedelta(days=1))),
    "start_time_iso": "2026-11-18T00:00:00+00:00",
    "end_time_iso": "2026-11-19T00:00:00+00:00",
    "project_id": "proj_a",
    "num_model_requests": "10.0",
    "user_id": "user-1",
    "api_key_id": "key_1",
    "model": "gpt-5-mini-2026-08-07",
    "batch": "FALSE",
    "service_tier": "default",
    "input_tokens": "59200.0",
    "output_tokens": "10646.0",
    "input_cached_tokens": "5760.0",
    "input_uncached_tokens": "53440.0",
    "input_text_tokens": "53440.0",
    "output_text_tokens": "10646.0",
    "input_cached_text_tokens": "5760.0",
}
"""A line of the table of OpenAI's dashboard."""

CONSOLE_TABLE = {
    "usage_date_utc": "2026-11-18",
    "model_version": "claude-sonnet-5",
    "api_key": "checkout key",
    "workspace": "Default",
    "usage_type": "standard",
    "context_window": "≤ 200k",
    "usage_input_tokens_no_cache": "600",
    "usage_input_tokens_cache_write_5m": "60",
    "usage_input_tokens_cache_write_1h": "40",
    "usage_input_tokens_cache_read": "300",
    "usage_output_tokens": "200",
    "web_search_count": "2",
    "inference_geo": "not_available",
    "speed": "",
}
"""A line of the table of Anthropic's console."""


def table(line, *changes, separator=","):
    """A table with a line for each of the changes."""
    lines = [list(line), *([*(line | change).values()] for change in changes)]
    return "".join(separator.join(cells) + "\n" for cells in lines)


def write(path, content):
    """Write what a test is about: JSON, or text; the file is as old as the buckets need."""
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path
