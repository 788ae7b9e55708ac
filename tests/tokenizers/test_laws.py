"""What holds for any request and any answer, however odd."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.exchange import Exchange, Output
from llm_metering.tokenizers import count, guess
from tests.tokenizers.doubles import Only, chat, user

_PIECES = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6)
_MODELS = st.sampled_from(["gpt-4o", "gpt-5", "gpt-4", "claude-sonnet-4-5", "gemini-2.5-pro"])


@settings(deadline=None)
@given(_PIECES, st.sampled_from(["gpt-4o", "gpt-5", "gpt-4"]))
def test_pieces_are_counted_as_what_they_make(encodings, pieces, model):
    """A message in parts is as many tokens as the same text in one."""
    parts = [{"type": "text", "text": piece} for piece in pieces]

    assert (
        count(chat(user(parts), model=model), encodings).input_tokens
        == count(chat(user("".join(pieces)), model=model), encodings).input_tokens
    )


@settings(deadline=None)
@given(_PIECES, st.text(min_size=1, max_size=30), _MODELS)
def test_more_messages_are_not_fewer_tokens(encodings, texts, more, model):
    """A conversation that went on is not shorter."""
    messages = [user(text) for text in texts]

    before = count(chat(*messages, model=model), encodings)
    after = count(chat(*messages, user(more), model=model), encodings)

    assert after.input_tokens >= before.input_tokens


class Odd:
    """An object of some SDK, with a field that raises."""

    def __init__(self, content):
        self.content = content

    @property
    def role(self):
        raise RuntimeError

    def __str__(self):
        raise RuntimeError


_NAMES = st.sampled_from(
    [
        *(
            "role",
            "content",
            "type",
            "text",
            "name",
            "parts",
            "tool_calls",
            "function",
            "arguments",
        ),
        *("image_url", "url", "source", "data", "input", "tools", "parameters", "properties"),
        *("items", "enum", "$ref", "anyOf", "required", "toolUse", "toolResult", "functionCall"),
        *("functionResponse", "inlineData", "mimeType", "document", "thinking", "description"),
    ]
)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["user", "tool", "image", "tool_result", "reasoning", "#/$defs/A", "custom"])
    | st.binary(max_size=10)
    | st.builds(Odd, st.text(max_size=5))
)
_ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=5)
    ),
    max_leaves=25,
)
_FIELDS = st.sampled_from(
    [
        *(
            "messages",
            "input",
            "prompt",
            "system",
            "instructions",
            "contents",
            "tools",
            "functions",
        ),
        *("systemInstruction", "toolConfig", "tool_choice", "response_format", "text", "config"),
        *("message", "chat_history", "documents", "requests", "texts", "generationConfig", "model"),
    ]
)


@settings(deadline=None)
@given(st.dictionaries(_FIELDS, _ANYTHING), _MODELS | st.text(max_size=5))
def test_nothing_in_a_request_is_too_odd(encodings, request_body, model):
    """However mangled a request is, it is counted or guessed; nothing is raised."""
    counted = count(Exchange(model=model, request=request_body), encodings)

    assert counted.input_tokens is None or counted.input_tokens >= 0
    assert counted.output_tokens == 0


@settings(deadline=None)
@given(st.lists(st.text()), st.lists(st.text()), st.lists(st.tuples(st.text(), st.text())), _MODELS)
def test_nothing_in_an_answer_is_too_odd(encodings, texts, reasoning, calls, model):
    """Whatever came out is counted, and its reasoning is a part of it."""
    output = Output(texts=texts, reasoning=reasoning, tool_calls=calls)

    counted = count(Exchange(model=model, output=output), encodings)

    assert counted.output_tokens >= (counted.reasoning_output_tokens or 0)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(ValueError, id="an error"),
        pytest.param(RecursionError, id="too deep"),
        pytest.param(MemoryError, id="too much"),
    ],
)
def test_what_cannot_be_counted_is_guessed(broken):
    """An encoder that fails costs exactness, never the event."""

    class Broken:
        def encode_ordinary(self, text):
            raise broken

    exchange = chat(user("hello"))

    assert count(exchange, Only(Broken())) == guess(exchange)


def test_a_request_without_an_end_is_guessed(encodings):
    """A list that holds itself has no text to encode."""
    parts = [{"type": "text", "text": "hello"}]
    parts.append(parts)

    assert count(chat(user(parts)), encodings).method == "characters"
