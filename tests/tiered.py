"""Answers that say on which tier they were served, as servers send them; they are our own.

Shapes: openai 3.54.0, `openai/types/chat/chat_completion.py`, `openai/types/responses/response.py`;
anthropic 2.12.0, `anthropic/types/usage.py`; google-genai 3.4.0, `google/genai/types.py`; botocore
1.44.5, `bedrock-runtime/2023-09-30/service-2.json`; groq 0.37.1, `groq/types/chat/chat_completion.py`;
mistralai 3.7.0, `mistralai/client/models/usageinfo.py`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tests.extract.recorded import Interaction
from tests.replaying import Answer, events

__all__ = ["ANSWERS", "TIERS", "interaction_of"]

_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"
_COUNTS: Final = {
    "prompt_tokens": 40,
    "completion_tokens": 20,
    "total_tokens": 60,
    "prompt_tokens_details": {"cached_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
_GEMINI_COUNTS: Final = {
    "promptTokenCount": 40,
    "candidatesTokenCount": 20,
    "totalTokenCount": 60,
    "cachedContentTokenCount": 10,
}
_CLAUDES: Final = {"input_tokens": 30, "cache_read_input_tokens": 10, "output_tokens": 20}


def _completion(choices: int = 1, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Blue."}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": [
            {"index": index, "message": message, "finish_reason": "stop"}
            for index in range(choices)
        ],
        "usage": _COUNTS,
    } | fields


def _chunks(tier: str | None, choices: int = 1) -> list[dict[str, Any]]:
    """OpenAI's: the tier is in every chunk."""
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    common |= {} if tier is None else {"service_tier": tier}
    texts = [
        {"index": index, "delta": {"role": "assistant", "content": "Blue."}, "finish_reason": None}
        for index in range(choices)
    ]
    ends = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in range(choices)]
    said = [{**common, "choices": [each], "usage": None} for each in (*texts, *ends)]
    return [*said, {**common, "choices": [], "usage": _COUNTS}]


def _response(status: str, tier: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "Blue.", "annotations": []}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    counts = {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 60,
    }
    is_over = status == "completed"
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "m-1",
        "output": [message] if is_over else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": tier,
        "usage": counts if is_over else None,
    }


def _responses_stream(tier: str) -> str:
    """What was asked for until it is over, and then what it was served on."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return events(
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": _response("in_progress", "auto"),
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "delta": "Blue.",
            "logprobs": [],
            **place,
        },
        {
            "type": "response.completed",
            "sequence_number": 2,
            "response": _response("completed", tier),
        },
    )


def _message(**usage: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "Blue."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": _CLAUDES | usage,
    }


def _message_stream(**usage: Any) -> str:
    """The tier is in `message_start` alone."""
    start = _message(**usage) | {"content": [], "stop_reason": None}
    delta = {"type": "text_delta", "text": "Blue."}
    return events(
        {"type": "message_start", "message": start},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 20},
        },
        {"type": "message_stop"},
    )


def _gemini(**usage: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": "Blue."}]}
    return {
        "candidates": [{"index": 0, "content": content, "finishReason": "STOP"}],
        "usageMetadata": _GEMINI_COUNTS | usage,
        "modelVersion": "gemini-x",
        "responseId": "resp-1",
    }


def _converse(**fields: Any) -> dict[str, Any]:
    usage = {
        "inputTokens": 30,
        "outputTokens": 20,
        "totalTokens": 60,
        "cacheReadInputTokens": 10,
        "cacheWriteInputTokens": 0,
    }
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": "Blue."}]}},
        "stopReason": "end_turn",
        "usage": usage,
        "metrics": {"latencyMs": 1},
    } | fields


_APIS: Final = {
    "openai": ("openai", "openai.chat"),
    "responses": ("openai", "openai.responses"),
    "groq": ("groq", "openai.chat"),
    "mistral": ("mistral", "openai.chat"),
    "anthropic": ("anthropic", "anthropic.messages"),
    "gemini": ("google", "gemini.generate_content"),
    "converse": ("bedrock", "bedrock.converse"),
}
"""Whose API it is, by the beginning of the name."""

_ALL: Final[dict[str, tuple[object, str | None]]] = {
    "openai": (_completion(service_tier="flex"), "flex"),
    "openai-choices": (_completion(choices=2, service_tier="flex"), "flex"),
    "openai-plain": (_completion(service_tier="default"), "default"),
    "openai-unsaid": (_completion(), None),
    "openai-odd": (_completion(service_tier="a tier of some kind"), None),
    "openai-stream": (events(*_chunks("flex"), done=True), "flex"),
    "openai-choices-stream": (events(*_chunks("flex", choices=2), done=True), "flex"),
    "openai-unsaid-stream": (events(*_chunks(None), done=True), None),
    "responses": (_response("completed", "priority"), "priority"),
    "responses-stream": (_responses_stream("flex"), "flex"),
    # LangChain's client asks for `on_demand`.
    "groq": (_completion(service_tier="flex", x_groq={"id": "req_1"}), "flex"),
    "mistral": (_completion(usage=_COUNTS | {"service_tier": "priority"}), "priority"),
    "anthropic": (_message(service_tier="priority"), "priority"),
    "anthropic-fast": (_message(service_tier="standard", speed="fast"), "fast"),
    "anthropic-stream": (_message_stream(service_tier="priority"), "priority"),
    "gemini": (_gemini(serviceTier="flex"), "flex"),
    "gemini-vertex": (_gemini(trafficType="ON_DEMAND_PRIORITY"), "on_demand_priority"),
    "gemini-stream": (events(_gemini(serviceTier="flex")), "flex"),
    "converse": (_converse(serviceTier={"type": "flex"}), "flex"),
    "converse-latency": (_converse(performanceConfig={"latency": "optimized"}), "optimized"),
}

TIERS: Final = {name: tier for name, (_, tier) in _ALL.items()}
"""What is to be metered of each."""

ANSWERS: Final[dict[str, Answer]] = {
    name: (_SSE, body, {}) if isinstance(body, str) else (_JSON, json.dumps(body), {})
    for name, (body, _) in _ALL.items()
}


def interaction_of(name: str) -> Interaction:
    """What the makers of clients want to know of an answer."""
    provider, api = _APIS[name.split("-")[0]]
    return Interaction(
        name=f"own/{name}",
        provider=provider,
        api=api,
        model=None,
        is_stream=name.endswith("-stream"),
        request={"uri": "/model/amazon.nova-x/converse"},
        body={},
        expected=None,
        usage_as_recorded=None,
    )
