"""What reading a response costs, for the shapes that are met most.

`read` gets the same response again and again: as the dict that JSON makes of it, and as the object
that the provider's SDK makes of it. What it is compared with runs beside it in turn, in an order
that is shuffled anew each round: `json.loads` of the same body, which somebody had to do before
there was anything to read. The last row is what one chunk of a stream costs.

    python benchmarks/extraction.py [ROUNDS]
"""

from __future__ import annotations

import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import machine
from anthropic.types import Message
from google.genai.types import GenerateContentResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from llm_metering.extract import StreamReader, read

ROUNDS = 20_000
WARM_UP = 1_000
GOAL = 10.0
"""Microseconds."""

TEXT = "Red, green and blue are the colours that a screen mixes all others from. " * 12

CHAT: dict[str, Any] = {
    "id": "chatcmpl-made-up-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-5-mini-2026-08-07",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 2100,
        "completion_tokens": 240,
        "total_tokens": 2340,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 64,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "service_tier": "default",
    "system_fingerprint": None,
}
RESPONSE: dict[str, Any] = {
    "id": "resp_made_up_1",
    "object": "response",
    "created_at": 1_790_000_000,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-5-mini-2026-08-07",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 2100,
        "input_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 0},
        "output_tokens": 240,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 2340,
    },
}
MESSAGE: dict[str, Any] = {
    "id": "msg_made_up_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 180,
        "cache_creation_input_tokens": 120,
        "cache_read_input_tokens": 1800,
        "cache_creation": {"ephemeral_5m_input_tokens": 120, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 240,
        "service_tier": "standard",
    },
}
GEMINI: dict[str, Any] = {
    "candidates": [
        {
            "content": {"parts": [{"text": TEXT}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 2100,
        "candidatesTokenCount": 176,
        "totalTokenCount": 2340,
        "cachedContentTokenCount": 1920,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2100}],
        "thoughtsTokenCount": 64,
    },
    "modelVersion": "gemini-3-flash",
    "responseId": "made-up-1",
}
CONVERSE: dict[str, Any] = {
    "ResponseMetadata": {"RequestId": "made-up-1", "HTTPStatusCode": 200, "HTTPHeaders": {}},
    "output": {"message": {"role": "assistant", "content": [{"text": TEXT}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 180,
        "outputTokens": 240,
        "totalTokens": 2340,
        "cacheReadInputTokens": 1800,
        "cacheWriteInputTokens": 120,
    },
    "metrics": {"latencyMs": 900},
}

RESPONSES: dict[str, tuple[Mapping[str, Any], object]] = {
    "OpenAI chat, dict": (CHAT, CHAT),
    "OpenAI chat, object": (CHAT, ChatCompletion.model_validate(CHAT)),
    "OpenAI responses, dict": (RESPONSE, RESPONSE),
    "OpenAI responses, object": (RESPONSE, Response.model_validate(RESPONSE)),
    "Anthropic, dict": (MESSAGE, MESSAGE),
    "Anthropic, object": (MESSAGE, Message.model_validate(MESSAGE)),
    "Gemini, dict": (GEMINI, GEMINI),
    "Gemini, object": (GEMINI, GenerateContentResponse.model_validate(GEMINI)),
    "Bedrock Converse, dict": (CONVERSE, CONVERSE),
}
CHUNK: dict[str, Any] = {
    "id": "chatcmpl-made-up-1",
    "object": "chat.completion.chunk",
    "created": 1_790_000_000,
    "model": "gpt-5-mini-2026-08-07",
    "choices": [{"index": 0, "delta": {"content": " blue"}, "finish_reason": None}],
    "usage": None,
}

Call = Callable[[], object]


def measure(calls: Mapping[str, Call], rounds: int) -> dict[str, list[int]]:
    """Nanoseconds of each call by name; the order within a round is shuffled."""
    taken: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    chance = random.Random(20_261_121)
    for _ in range(rounds):
        chance.shuffle(order)
        for name in order:
            call = calls[name]
            begun = time.perf_counter_ns()
            call()
            taken[name].append(time.perf_counter_ns() - begun)
    return taken


def report(taken: Mapping[str, list[int]], peers: Mapping[str, list[int]]) -> None:
    """Print the medians, the slow end, the ratio to the peer, and whether the goal is met."""
    print(machine.describe())
    names = ("llm-metering", "openai", "anthropic", "google-genai")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {packages}")
    print(f"{len(next(iter(taken.values())))} calls each, microseconds\n")
    print(f"{'read()':<30}{'median':>9}{'p99':>9}{'json.loads':>12}{'ratio':>8}")
    is_met = True
    for name, times in taken.items():
        median, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        peer = statistics.median(peers[name])
        is_met = is_met and median <= GOAL * 1000
        numbers = f"{median / 1000:>9.1f}{p99 / 1000:>9.1f}{peer / 1000:>12.1f}"
        print(f"{name:<30}{numbers}{median / peer:>8.2f}")
    print(f"\nA median of at most {GOAL:.0f} microseconds each: {'met' if is_met else 'missed'}")


def main(rounds: int) -> None:
    """Measure, after a check that each is read at all."""
    calls: dict[str, Call] = {}
    for name, (body, response) in RESPONSES.items():
        usage = read(response).usage
        if usage is None or (usage.input_tokens, usage.output_tokens) != (2100, 240):
            sys.exit(f"{name} was read as {usage}")
        calls[name] = _reading(response)
        calls[f"json {name}"] = _parsing(json.dumps(body))
    stream = StreamReader()
    calls["a chunk, dict"] = lambda: stream.feed(CHUNK)
    calls["json a chunk, dict"] = _parsing(json.dumps(CHUNK))
    measure(calls, WARM_UP)
    taken = measure(calls, rounds)
    peers = {name: taken.pop(f"json {name}") for name in (*RESPONSES, "a chunk, dict")}
    report(taken, peers)


def _reading(response: object) -> Call:
    return lambda: read(response)


def _parsing(text: str) -> Call:
    return lambda: json.loads(text)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
