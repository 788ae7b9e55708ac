"""What OpenAI counts around calls of tools and answers; measured on recorded calls."""

import pytest

from llm_metering.exchange import Exchange, Output
from llm_metering.tokenizers import count
from tests.tokenizers.doubles import answer, chat, user


def test_an_answer_that_calls_a_tool(encodings):
    """A call costs its name, its arguments and seven tokens around them."""
    call = answer(tool_calls=[("get_weather", '{"city":"Paris"}')])

    assert count(call, encodings).output_tokens == 6 + len(["functions", ".get", "_weather"]) + 5


def test_two_calls_are_one_of_the_tool_for_both(encodings):
    """Calls in parallel are wrapped, which costs more than the two by themselves."""
    one = count(answer(tool_calls=[("get_country", "{}")]), encodings).output_tokens

    two = count(answer(tool_calls=[("get_country", "{}")] * 2), encodings).output_tokens

    assert two > 3 * one


@pytest.mark.parametrize(
    ("model", "provider", "request_body", "frame"),
    [
        pytest.param("gpt-4o", "openai", {"messages": []}, 0, id="ChatML"),
        pytest.param("gpt-4o", "openai", {"input": "Hi"}, 1, id="ChatML by Responses"),
        pytest.param("gpt-4.1", "openai", {"messages": []}, 1, id="gpt-4.1"),
        pytest.param("gpt-5.4", "openai", {"messages": [user("Hi")]}, 3, id="harmony"),
        pytest.param("gpt-5.4", "openai", {"input": "Hi"}, 4, id="harmony by Responses"),
        pytest.param("gpt-5-mini", "openai", {"messages": [user("Hi")]}, 9, id="always reasons"),
        pytest.param("gpt-5-mini", "openai", {"input": "Hi"}, 6, id="always, by Responses"),
        pytest.param(
            "openai/gpt-5-mini", "openrouter", {"messages": [user("Hi")]}, 6, id="by OpenRouter"
        ),
    ],
)
def test_what_ends_an_answer(encodings, model, provider, request_body, frame):
    """What is counted besides the text of an answer depends on generation and API."""
    exchange = Exchange(
        model=model, provider=provider, request=request_body, output=Output(texts=["hello"])
    )

    assert count(exchange, encodings).output_tokens == 1 + frame


@pytest.mark.parametrize(
    ("model", "frames"),
    [
        # The name is counted with `functions.` before it, in the call and in the result.
        pytest.param("gpt-4o", 6 + 3 + 5 + 3, id="ChatML"),
        pytest.param("gpt-5.4", 10 + 3 + 7 + 3, id="harmony"),
    ],
)
def test_a_tool_that_was_called(encodings, model, frames):
    """The call and its result are counted with what stands around them."""
    function = {"name": "get_weather", "arguments": "{}"}
    turns = [
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "hello"},
    ]

    before = count(chat(user("hello"), model=model), encodings)
    after = count(chat(user("hello"), *turns, model=model), encodings)

    assert after.input_tokens - before.input_tokens == frames + 1 + 1


def test_gpt_oss_is_told_who_it_is(encodings):
    """The weights come with a system prompt of their own, which servers write and count."""
    hosted = count(chat(user("hello"), model="gpt-5"), encodings)

    assert count(chat(user("hello"), model="gpt-oss-20b"), encodings).input_tokens == (
        hosted.input_tokens + 61
    )


def define(description):
    """A function that does as described."""
    return {"name": "f", "description": description, "parameters": {}}


def test_a_description_keeps_its_lines_in_harmony(encodings):
    """Before, it was put on one; each line is a comment now."""
    tools = [define(description="One.\n\n    Two.")]
    one_line = [define(description="One. Two.")]

    def of(model, functions):
        return count(chat(user("hello"), model=model, functions=functions), encodings).input_tokens

    assert of("gpt-4o", tools) == of("gpt-4o", one_line)
    assert of("gpt-5", tools) > of("gpt-5", one_line)


def test_a_schema_for_the_answer_is_read(encodings):
    """It stands in the prompt."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    free = count(chat(user("hello")), encodings)

    assert count(chat(user("hello"), response_format=wanted), encodings).input_tokens > (
        free.input_tokens + 10
    )
