"""OpenAI's framing, against counts that its API gave for requests that are published.

Sources: hmarr/openai-chat-tokens, `tests/token-counts.test.ts` (each number was checked against
gpt-3.5-turbo); OpenAI's cookbook, "How to count tokens with tiktoken" (the request with a tool).
None of them was used to find a number of ours.
"""

import pytest

from llm_metering.exchange import Exchange, Output
from llm_metering.tokenizers import count
from tests.tokenizers.doubles import answer, chat, user

BING = {"name": "bing_bong", "description": "Do a bing bong"}
FOO = {"foo": {"type": "string"}}
NESTED = {
    "foo": {
        "type": "object",
        "properties": {
            "bar": {"type": "string", "enum": ["a", "b", "c"]},
            "baz": {"type": "boolean"},
        },
    }
}
RECIPE = {
    "ingredients": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "unit", "amount"],
            "properties": {
                "name": {"type": "string"},
                "unit": {"type": "string", "enum": ["grams", "ml", "cups", "pieces", "teaspoons"]},
                "amount": {"type": "number"},
            },
        },
    },
    "instructions": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Steps to prepare the recipe (no numbering)",
    },
    "time_to_cook": {
        "type": "number",
        "description": "Total time to prepare the recipe in minutes",
    },
}


def function(name, properties=None, **rest):
    parameters = {"type": "object", "properties": properties or {}}
    if "required" in rest:
        parameters["required"] = rest.pop("required")
    return {"name": name, "parameters": parameters, **rest}


def system(content):
    return {"role": "system", "content": content}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([user("hello")], 8, id="one word"),
        pytest.param([user("hello world")], 9, id="two words"),
        pytest.param([system("hello:")], 9, id="system"),
        pytest.param(
            [
                system("# Important: you're the best robot"),
                user("hello robot"),
                {"role": "assistant", "content": "hello world"},
            ],
            27,
            id="three roles",
        ),
        pytest.param(
            [user("hello world"), {"role": "function", "name": "do_stuff", "content": "{}"}],
            15,
            id="result of a function",
        ),
        pytest.param(
            [
                {
                    "role": "assistant",
                    "content": "",
                    "function_call": {
                        "name": "do_stuff",
                        "arguments": '{"foo": "bar", "baz": 1.5}',
                    },
                }
            ],
            26,
            id="call of a function",
        ),
    ],
)
def test_messages_without_tools(encodings, messages, expected):
    """Messages are counted as OpenAI counted them."""
    assert count(chat(*messages, model="gpt-3.5-turbo"), encodings).input_tokens == expected


@pytest.mark.parametrize(
    ("messages", "functions", "expected"),
    [
        pytest.param([user("hello")], [function("foo")], 31, id="bare"),
        pytest.param(
            [user("hello")], [function("foo", description="Do a foo")], 36, id="description"
        ),
        pytest.param([user("hello")], [function(properties=FOO, **BING)], 49, id="a property"),
        pytest.param(
            [user("hello")],
            [
                function(
                    properties={**FOO, "bar": {"type": "number", "description": "A number"}}, **BING
                )
            ],
            57,
            id="a described property",
        ),
        pytest.param([user("hello")], [function(properties=NESTED, **BING)], 68, id="nested"),
        pytest.param(
            [user("hello")],
            [function("get_recipe", RECIPE, required=list(RECIPE))],
            106,
            id="objects in a list",
        ),
        pytest.param([system("Hello"), user("Hi there")], [function("do_stuff")], 35, id="system"),
        pytest.param(
            [system("Hello:"), user("Hi there")],
            [function("do_stuff")],
            35,
            id="a system prompt whose last mark grows into the line below",
        ),
        pytest.param(
            [system("Hello:"), system("Hello"), user("Hi there")],
            [function("do_stuff")],
            40,
            id="two system prompts",
        ),
    ],
)
def test_messages_with_functions(encodings, messages, functions, expected):
    """Functions are counted as OpenAI counted them."""
    exchange = chat(*messages, model="gpt-3.5-turbo", functions=functions)

    assert count(exchange, encodings).input_tokens == expected


@pytest.mark.parametrize(("model", "reported"), [("gpt-4", 105), ("gpt-4o", 101)])
def test_the_tool_of_the_cookbook(encodings, model, reported):
    """The request of OpenAI's own guide is counted within one token in a hundred."""
    place = {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}
    unit = {
        "type": "string",
        "description": "The unit of temperature to return",
        "enum": ["celsius", "fahrenheit"],
    }
    weather = function(
        "get_current_weather",
        {"location": place, "unit": unit},
        description="Get the current weather in a given location",
        required=["location"],
    )
    exchange = chat(
        system("You are a helpful assistant that can answer to questions about the weather."),
        user("What's the weather like in San Francisco?"),
        model=model,
        tools=[{"type": "function", "function": weather}],
    )

    assert abs(count(exchange, encodings).input_tokens - reported) <= 1


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # ChatML: 3 + role + text, and 3 before the reply. Harmony: 4 + text, and 2.
        pytest.param("gpt-4o", 3 + 1 + 1 + 3, id="ChatML"),
        pytest.param("gpt-5-mini", 4 + 1 + 2, id="harmony"),
    ],
)
def test_what_stands_around_a_message(encodings, model, expected):
    """Each generation frames a message in its own way."""
    assert count(chat(user("hello"), model=model), encodings).input_tokens == expected


def test_tool_choice_costs(encodings):
    """Naming the tool that must be called costs its name and four tokens more."""
    tools = [{"type": "function", "function": function("foo")}]
    free = count(chat(user("hello"), tools=tools), encodings)
    named = {"type": "function", "function": {"name": "foo"}}

    forced = count(chat(user("hello"), tools=tools, tool_choice=named), encodings)

    assert forced.input_tokens == free.input_tokens + 4 + 1


def test_a_name_costs_one_more_than_itself(encodings):
    """The cookbook's rule for `name`."""
    bare = count(chat(user("hello")), encodings)
    named = count(chat({**user("hello"), "name": "anna"}), encodings)

    assert named.input_tokens == bare.input_tokens + 1 + 1


@pytest.mark.parametrize("model", ["text-embedding-3-small", "text-embedding-ada-002"])
def test_embeddings_have_no_frame(encodings, model):
    """An embedding costs its text, and tokens given as numbers as many as they are."""

    def of(value):
        return count(Exchange(model=model, request={"input": value, "model": model}), encodings)

    assert of("hello world").input_tokens == 2
    assert of(["hello world", "hello"]).input_tokens == 3
    assert of([15339, 1917]).input_tokens == 2
    assert of([[15339], [15339, 1917]]).input_tokens == 3


def test_a_completion_has_no_frame(encodings):
    """The prompt of a completion is its text, and so is the answer."""
    counted = count(
        Exchange(
            model="davinci-002", request={"prompt": "hello"}, output=Output(texts=["hello world"])
        ),
        encodings,
    )

    assert (counted.input_tokens, counted.output_tokens) == (1, 2)


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


def test_a_description_keeps_its_lines_in_harmony(encodings):
    """Before, it was put on one; each line is a comment now."""
    tools = [function("f", description="One.\n\n    Two.")]
    one_line = [function("f", description="One. Two.")]

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
