"""OpenAI's framing, against counts that its API gave for requests that are published.

Sources: hmarr/openai-chat-tokens, `tests/token-counts.test.ts` (each number was checked against
gpt-3.5-turbo); OpenAI's cookbook, "How to count tokens with tiktoken" (the request with a tool).
None of them was used to find a number of ours.
"""

import pytest

from llm_metering.exchange import Exchange, Output
from llm_metering.tokenizers import count
from tests.tokenizers.doubles import chat, user

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
    """The request of OpenAI's own guide is counted exactly, or one token short."""
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

    assert reported - 1 <= count(exchange, encodings).input_tokens <= reported


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
