"""Requests of all providers, read into one form."""

import base64
from types import SimpleNamespace

import pytest

from llm_metering.tokenizers.prompt import Message, Part
from llm_metering.tokenizers.requests import normalise

PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
).decode()


def text(value, role="user"):
    return Message(role=role, parts=(Part(kind="text", text=value),))


CONVERSATIONS = [
    pytest.param(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
            ]
        },
        id="openai.chat",
    ),
    pytest.param(
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            ]
        },
        id="openai.chat in parts",
    ),
    pytest.param({"instructions": "Be brief.", "input": "Hi"}, id="openai.responses"),
    pytest.param(
        {
            "instructions": "Be brief.",
            "input": [
                {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "Hi"}],
                }
            ],
        },
        id="openai.responses in items",
    ),
    pytest.param(
        {"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]},
        id="anthropic.messages",
    ),
    pytest.param(
        {
            "system": [
                {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
            ],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        },
        id="anthropic.messages in blocks",
    ),
    pytest.param(
        {
            "systemInstruction": {"role": "user", "parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        },
        id="gemini.generate_content",
    ),
    pytest.param(
        {"model": "gemini-3-pro", "contents": "Hi", "config": {"system_instruction": "Be brief."}},
        id="google-genai",
    ),
    pytest.param(
        {
            "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
            "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        },
        id="bedrock.converse",
    ),
    pytest.param({"preamble": "Be brief.", "message": "Hi"}, id="cohere.v1"),
    pytest.param(
        {
            "messages": [
                SimpleNamespace(role="system", content="Be brief."),
                SimpleNamespace(role="user", content=[SimpleNamespace(type="text", text="Hi")]),
            ]
        },
        id="objects of an SDK",
    ),
]


@pytest.mark.parametrize("request_body", CONVERSATIONS)
def test_a_conversation(request_body):
    """A system prompt and a question are the same two messages, whoever is asked."""
    prompt = normalise(request_body)

    assert prompt.messages == (text("Be brief.", "system"), text("Hi"))
    assert prompt.unseen == frozenset()


CALL = Part(kind="call", name="get_weather", text='{"city": "Paris"}')
RESULT = Part(kind="result", name="get_weather", text="sunny")
TOOL_TURNS = [
    pytest.param(
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
            ]
        },
        id="openai.chat",
    ),
    pytest.param(
        {
            "input": [
                {
                    "type": "function_call",
                    "call_id": "c1",
                    "name": "get_weather",
                    "arguments": '{"city": "Paris"}',
                },
                {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            ]
        },
        id="openai.responses",
    ),
    pytest.param(
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [
                        {
                            "type": "tool_use",
                            "id": "c1",
                            "name": "get_weather",
                            "input": {"city": "Paris"},
                        }
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "sunny"}],
                },
            ]
        },
        id="anthropic.messages",
    ),
    pytest.param(
        {
            "messages": [
                {
                    "role": "assistant",
                    "content": [
                        {
                            "toolUse": {
                                "toolUseId": "c1",
                                "name": "get_weather",
                                "input": {"city": "Paris"},
                            }
                        }
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"toolResult": {"toolUseId": "c1", "content": [{"text": "sunny"}]}}
                    ],
                },
            ]
        },
        id="bedrock.converse",
    ),
    pytest.param(
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
                    ],
                },
                {"role": "tool", "tool_name": "get_weather", "content": "sunny"},
            ]
        },
        id="ollama",
    ),
]


@pytest.mark.parametrize("request_body", TOOL_TURNS)
def test_a_call_of_a_tool_and_its_result(request_body):
    """The result bears the tool's name, though most requests give it an id only."""
    prompt = normalise(request_body)

    assert [part for message in prompt.messages for part in message.parts] == [CALL, RESULT]


def test_a_call_and_its_result_in_gemini():
    """Gemini's results are JSON objects, and name their tool."""
    prompt = normalise(
        {
            "contents": [
                {
                    "role": "model",
                    "parts": [{"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"name": "get_weather", "response": {"sky": "sunny"}}}
                    ],
                },
            ]
        }
    )

    call, result = (part for message in prompt.messages for part in message.parts)
    assert call == CALL
    assert result == Part(kind="result", name="get_weather", text='{"sky": "sunny"}')


@pytest.mark.parametrize(
    ("request_body", "texts", "tokens"),
    [
        pytest.param({"prompt": "Hi"}, ("Hi",), 0, id="completion"),
        pytest.param({"prompt": ["Hi", "Ho"]}, ("Hi", "Ho"), 0, id="completions"),
        pytest.param({"prompt": [[1, 2], [3]]}, (), 3, id="completions in tokens"),
        pytest.param(
            {"model": "text-embedding-3-small", "input": "Hi"}, ("Hi",), 0, id="embedding"
        ),
        pytest.param({"input": [1, 2, 3]}, (), 3, id="embedding in tokens"),
        pytest.param(
            {"requests": [{"content": {"parts": [{"text": "Hi"}]}}]}, ("Hi",), 0, id="gemini.embed"
        ),
        pytest.param({"inputText": "Hi"}, ("Hi",), 0, id="bedrock titan"),
        pytest.param({"texts": ["Hi"], "input_type": "classification"}, ("Hi",), 0, id="cohere"),
    ],
)
def test_what_is_no_conversation(request_body, texts, tokens):
    """Prompts of completions and texts of embeddings have no messages."""
    prompt = normalise(request_body)

    assert (prompt.messages, prompt.texts, prompt.tokens) == ((), texts, tokens)


def test_ollama_makes_a_conversation_of_a_prompt():
    """Ollama puts the model's chat template around it; others complete it as it is."""
    assert normalise({"prompt": "Hi"}, provider="ollama").messages == (text("Hi"),)


@pytest.mark.parametrize(
    ("part", "unseen"),
    [
        pytest.param({"type": "input_audio", "input_audio": {"data": "…"}}, "audio", id="audio"),
        pytest.param({"type": "input_file", "file_id": "file-1"}, "file", id="file"),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
            "image_size",
            id="a picture elsewhere",
        ),
        pytest.param(
            {"inlineData": {"mimeType": "application/pdf", "data": "…"}}, "file", id="PDF"
        ),
    ],
)
def test_what_is_not_in_the_request_is_named(part, unseen):
    """What cannot be counted from the request alone is said, not passed over."""
    assert normalise({"messages": [{"role": "user", "content": [part]}]}).unseen == {unseen}


@pytest.mark.parametrize(
    ("field", "unseen"),
    [("previous_response_id", "earlier_turns"), ("cachedContent", "cached_content")],
)
def test_what_the_provider_has_stored_is_named(field, unseen):
    """The rest of the conversation is with the provider."""
    assert normalise({"input": "Hi", field: "id-1"}).unseen == {unseen}


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            id="openai.chat",
        ),
        pytest.param(
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
            id="openai.responses",
        ),
        pytest.param(
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
            },
            id="anthropic.messages",
        ),
        pytest.param({"inlineData": {"mimeType": "image/png", "data": PIXEL}}, id="gemini"),
        pytest.param(
            {"image": {"format": "png", "source": {"bytes": base64.b64decode(PIXEL)}}},
            id="bedrock.converse",
        ),
    ],
)
def test_the_size_of_a_picture(part):
    """It is read from the first bytes of the file, wherever they stand."""
    prompt = normalise({"messages": [{"role": "user", "content": [part]}]})

    (found,) = prompt.messages[0].parts
    assert (found.image.width, found.image.height, found.image.is_seen) == (640, 480, True)
    assert prompt.unseen == frozenset()


@pytest.mark.parametrize(
    "request_body",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"query": "q", "documents": ["d"], "top_n": 1}, id="rerank"),
        pytest.param({"audio": "…"}, id="sound"),
    ],
)
def test_nothing_to_read(request_body):
    """A request without text is none to count, which is not one of no tokens."""
    assert normalise(request_body) is None


def test_an_iterator_is_not_consumed():
    """Messages that are handed over as an iterator are the SDK's to read."""
    messages = iter([{"role": "user", "content": "Hi"}])

    normalise({"messages": messages})

    assert next(messages)["content"] == "Hi"
