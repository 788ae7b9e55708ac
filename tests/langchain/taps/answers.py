"""Answers of which LangChain's integrations lose something, in the shapes that providers document.

They are our own. Shapes: https://platform.claude.com/docs/en/build-with-claude/streaming and
…/compaction; https://docs.cohere.com/v2/docs/streaming; https://docs.mistral.ai/api ("UsageInfo");
https://openrouter.ai/docs/api-reference/errors ("Streaming Error Handling"); groq 1.7.0,
`groq/types/chat/chat_completion_chunk.py`; vLLM's `continuous_usage_stats`;
https://ai.google.dev/api/generate-content.
"""

from __future__ import annotations

import json

from tests.replaying import events

JSON = "application/json"
SSE = "text/event-stream"

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 4,
            "cache_read_input_tokens": 1163,
            "cache_creation_input_tokens": 0,
            "output_tokens": 1,
        },
    },
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
PIECE = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": "Hello there. "},
}
ITERATIONS = [
    {"type": "compaction", "input_tokens": 900, "output_tokens": 50},
    {"type": "message", "input_tokens": 30, "output_tokens": 6},
]


def message_delta(**usage):
    return {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": usage,
    }


def anthropic(delta, pieces=3):
    stop = {"type": "content_block_stop", "index": 0}
    return events(START, BLOCK, *[PIECE] * pieces, stop, delta, {"type": "message_stop"})


def chunk(text=None, reason=None, **fields):
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": [choice],
        **fields,
    }


def counted(prompt, completion, **more):
    total = prompt + completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


def completion(text, usage=None):
    choices = [] if text is None else [{"index": 0, "text": text, "logprobs": None}]
    return {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m-1"} | {
        "choices": choices,
        "usage": usage,
    }


def cohere(kind, **delta):
    return {"type": kind, "id": "c-1", "index": 0, "delta": delta}


COHERE_USAGE = {
    "billed_units": {"input_tokens": 12, "output_tokens": 36},
    "tokens": {"input_tokens": 212, "output_tokens": 36},
    "cached_tokens": 208,
}
MISTRAL_USAGE = counted(268, 5, num_cached_tokens=224)
GEMINI = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "Hi"}]},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6},
    "modelVersion": "gemini-x",
    "responseId": "resp-1",
}
REFUSED = {"error": {"message": "the upstream broke", "code": 502}}
ANSWERS = {
    "anthropic": (SSE, anthropic(message_delta(output_tokens=256)), {}),
    "anthropic-long": (SSE, anthropic(message_delta(output_tokens=256), 3000), {}),
    "anthropic-iterations": (
        SSE,
        anthropic(
            {
                **message_delta(
                    input_tokens=30,
                    cache_read_input_tokens=0,
                    output_tokens=6,
                    iterations=ITERATIONS,
                ),
                "context_management": {"applied_edits": []},
            }
        ),
        {},
    ),
    "cohere-stream": (
        SSE,
        events(
            cohere("message-start", message={"role": "assistant", "content": []}),
            cohere("content-start", message={"content": {"type": "text", "text": ""}}),
            cohere("content-delta", message={"content": {"text": "Hello"}}),
            cohere("content-end"),
            cohere("message-end", finish_reason="COMPLETE", usage=COHERE_USAGE),
            done=True,
        ),
        {},
    ),
    "cohere": (
        JSON,
        json.dumps(
            {
                "id": "c-1",
                "finish_reason": "COMPLETE",
                "message": {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]},
                "usage": COHERE_USAGE,
            }
        ),
        {},
    ),
    "mistral": (
        JSON,
        json.dumps(
            {
                "id": "m-1",
                "object": "chat.completion",
                "created": 1,
                "model": "mistral-x",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Hi"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": MISTRAL_USAGE,
            }
        ),
        {},
    ),
    "mistral-stream": (
        SSE,
        events(chunk("Hi"), chunk(reason="stop", usage=MISTRAL_USAGE), done=True),
        {},
    ),
    "openrouter-error": (
        SSE,
        events(
            chunk("Hel", provider="Upstream"),
            chunk(choices=[], provider="Upstream", usage=counted(40, 7, cost=0.0042), **REFUSED),
            done=True,
        ),
        {},
    ),
    "openrouter-error-beside-a-choice": (
        SSE,
        events(
            chunk("Hel", provider="Upstream"),
            chunk(
                reason="error", provider="Upstream", usage=counted(40, 7, cost=0.0042), **REFUSED
            ),
            done=True,
        ),
        {},
    ),
    "groq-error": (
        SSE,
        events(
            chunk("Hel"),
            chunk(x_groq={"id": "req_1", "usage": counted(40, 7), "error": "over capacity"}),
            REFUSED,
        ),
        {},
    ),
    "groq": (
        SSE,
        events(
            chunk("Hi", x_groq={"id": "req_1"}),
            chunk(reason="stop", x_groq={"id": "req_1", "usage": counted(40, 7)}),
            done=True,
        ),
        {},
    ),
    "openai-running-totals": (
        SSE,
        events(
            *(chunk("a", usage=counted(100, number)) for number in range(1, 20)),
            chunk(reason="stop", usage=counted(100, 20)),
            chunk(choices=[], usage=counted(100, 20)),
            done=True,
        ),
        {},
    ),
    "openai": (
        SSE,
        events(
            chunk("Hi"), chunk(reason="stop"), chunk(choices=[], usage=counted(8, 3)), done=True
        ),
        {},
    ),
    "openai-unreported": (SSE, events(chunk("Hi"), chunk(reason="stop"), done=True), {}),
    "completions": (
        SSE,
        events(completion("Hi"), completion(" you"), completion(None, counted(8, 3)), done=True),
        {},
    ),
    "gemini": (SSE, events(GEMINI), {}),
}

CLIENTS = {
    "anthropic": ("anthropic", "anthropic.messages"),
    "cohere": ("cohere", "cohere.v2_chat"),
    "mistral": ("mistral", "openai.chat"),
    "openrouter": ("openrouter", "openai.chat"),
    "groq": ("groq", "openai.chat"),
    "openai": ("openai", "openai.chat"),
    "completions": ("openai", "openai.completions"),
    "gemini": ("google", "gemini.generate_content"),
}

ANTHROPIC = {
    "input_tokens": 1167,
    "output_tokens": 256,
    "cache_read_input_tokens": 1163,
    "response_id": "msg_1",
    "model": "claude-x",
    "provenance": "reported",
    "status": "completed",
}
COHERE = {
    "input_tokens": 212,
    "output_tokens": 36,
    "cache_read_input_tokens": 208,
    "billed_input_tokens": 12,
    "billed_output_tokens": 36,
    "response_id": "c-1",
    "provenance": "reported",
}
MISTRAL = {"input_tokens": 268, "output_tokens": 5, "cache_read_input_tokens": 224}
BROKEN = {"input_tokens": 40, "output_tokens": 7, "status": "failed"}
