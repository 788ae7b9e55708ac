"""Tools that requests offer, read into one form."""

import pytest

from llm_metering.tokenizers.requests import normalise

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "get_weather", "description": "Weather of a city."}

OFFERS = [
    pytest.param(
        {"tools": [{"type": "function", "function": {**TOOL, "parameters": SCHEMA}}]},
        id="openai.chat",
    ),
    pytest.param({"functions": [{**TOOL, "parameters": SCHEMA}]}, id="openai.chat functions"),
    pytest.param(
        {"tools": [{"type": "function", **TOOL, "parameters": SCHEMA}]}, id="openai.responses"
    ),
    pytest.param({"tools": [{**TOOL, "input_schema": SCHEMA}]}, id="anthropic.messages"),
    pytest.param(
        {"tools": [{"type": "custom", **TOOL, "input_schema": SCHEMA}]}, id="anthropic custom"
    ),
    pytest.param(
        {"tools": [{"functionDeclarations": [{**TOOL, "parameters": SCHEMA}]}]},
        id="gemini.generate_content",
    ),
    pytest.param(
        {"toolConfig": {"tools": [{"toolSpec": {**TOOL, "inputSchema": {"json": SCHEMA}}}]}},
        id="bedrock.converse",
    ),
    pytest.param(
        {"tools": [{**TOOL, "parameter_definitions": {"city": {"type": "string"}}}]},
        id="cohere.v1",
    ),
]


@pytest.mark.parametrize("request_body", OFFERS)
def test_a_tool(request_body):
    """A tool has a name, a description and a schema, whoever is told of it."""
    (tool,) = normalise(request_body).tools

    assert (tool.kind, tool.name, tool.description) == ("function", *TOOL.values())
    assert tool.parameters == SCHEMA


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        pytest.param({"type": "web_search"}, "web_search", id="openai.responses"),
        pytest.param(
            {"type": "web_search_20260209", "name": "web_search"},
            "web_search_20260209",
            id="anthropic.messages",
        ),
        pytest.param({"googleSearch": {}}, "google_search", id="gemini.generate_content"),
    ],
)
def test_a_tool_of_the_providers_own(tool, kind):
    """It is kept apart: nobody knows what the model is told of it."""
    (found,) = normalise({"tools": [tool]}).tools

    assert found.kind == kind


def test_a_tool_that_is_to_be_looked_for_is_not_shown():
    """Anthropic's deferred tools cost nothing, until the model has found them."""
    deferred = {**TOOL, "input_schema": SCHEMA, "defer_loading": True}
    reference = {"type": "tool_reference", "tool_name": "get_weather"}
    found = {"type": "tool_result", "tool_use_id": "c1", "content": [reference]}

    before = normalise({"tools": [deferred], "messages": [{"role": "user", "content": "Hi"}]})
    after = normalise({"tools": [deferred], "messages": [{"role": "user", "content": [found]}]})

    assert (len(before.tools), len(after.tools)) == (0, 1)


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        pytest.param({}, "auto", id="nothing said"),
        pytest.param({"tool_choice": "required"}, "required", id="openai required"),
        pytest.param({"tool_choice": {"type": "any"}}, "required", id="anthropic any"),
        pytest.param({"tool_choice": {"type": "tool", "name": "f"}}, "f", id="anthropic tool"),
        pytest.param(
            {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "f", id="openai named"
        ),
        pytest.param({"function_call": {"name": "f"}}, "f", id="openai legacy"),
        pytest.param(
            {"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "required", id="gemini"
        ),
        pytest.param({"toolConfig": {"toolChoice": {"any": {}}}}, "required", id="bedrock"),
    ],
)
def test_the_choice_of_a_tool(given, choice):
    """Whether a tool must be called is asked for in as many ways as there are providers."""
    assert (
        normalise({"messages": [{"role": "user", "content": "Hi"}], **given}).tool_choice == choice
    )
