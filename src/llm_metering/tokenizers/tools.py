"""The tools a request offers, in the forms of all providers. Sources as in `contents.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .prompt import Tool
from .views import as_text, field, fields, items

__all__ = ["choice_of", "tools_of"]

_HOSTED_BY_GOOGLE: Final = {
    "googleSearch": "google_search",
    "google_search": "google_search",
    "googleSearchRetrieval": "google_search",
    "google_search_retrieval": "google_search",
    "codeExecution": "code_execution",
    "code_execution": "code_execution",
    "urlContext": "url_context",
    "url_context": "url_context",
    "fileSearch": "file_search",
    "file_search": "file_search",
}
_DEFINED_HERE: Final = ("", "function", "custom")
_DEEPEST: Final = 5
_CHOICES: Final = {"any": "required", "ANY": "required", "AUTO": "auto", "NONE": "none"}


def tools_of(body: Mapping[str, Any]) -> Iterator[Tool]:
    """All tools of a request."""
    config = fields(field(body, "toolConfig", "tool_config"))
    deferred = _deferred(body)
    for holder in (body.get("tools"), body.get("functions"), config.get("tools")):
        for one in items(holder):
            yield from _tool(one, deferred)
    for one in items(body.get("input")):
        # OpenAI: tools that were loaded in the middle of a conversation.
        for tool in items(fields(one).get("tools")):
            yield from _tool(tool, deferred)


def _deferred(body: Mapping[str, Any]) -> frozenset[str]:
    """Names of tools that the model is not shown until it has looked for them."""
    names = {
        as_text(fields(one).get("name"))
        for one in items(body.get("tools"))
        if fields(one).get("defer_loading") is True
    }
    if names:
        for message in items(body.get("messages")):
            names.difference_update(_found(fields(message).get("content"), 0))
    return frozenset(names)


def _found(content: object, depth: int) -> Iterator[str]:
    for one in items(content) if depth < _DEEPEST else ():
        part = fields(one)
        yield as_text(part.get("tool_name"))  # of a `tool_reference`
        yield as_text(fields(part.get("tool")).get("name"))  # of a `tool_addition`
        yield from _found(part.get("content"), depth + 1)


def _tool(value: object, deferred: frozenset[str]) -> Iterator[Tool]:
    tool = fields(value)
    declared = field(tool, "functionDeclarations", "function_declarations")
    if declared is not None:
        for one in items(declared):
            yield from _tool(one, deferred)
        return
    for key, name in _HOSTED_BY_GOOGLE.items():
        if tool.get(key) is not None:
            yield Tool(kind=name, name=name)
            return
    kind = as_text(tool.get("type"))
    if kind == "namespace":
        for one in items(tool.get("tools")):
            yield from _tool(one, deferred)
        return
    inner = fields(field(tool, "function", "toolSpec", "custom")) or tool
    name = as_text(inner.get("name"))
    if kind not in _DEFINED_HERE:
        yield Tool(kind=kind, name=name)
    elif name and name not in deferred:
        parameters = _parameters(inner)
        # OpenAI's tools without a schema take any text; Anthropic calls all of ours custom.
        yield Tool(
            kind="custom" if kind == "custom" and not parameters else "function",
            name=name,
            description=as_text(inner.get("description")),
            parameters=parameters,
        )


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = fields(
        field(
            function,
            *("parameters", "input_schema", "inputSchema"),
            *("parametersJsonSchema", "parameters_json_schema"),
        )
    )
    schema = fields(schema.get("json")) or schema
    definitions = fields(function.get("parameter_definitions"))
    return {"type": "object", "properties": definitions} if definitions else schema


def choice_of(body: Mapping[str, Any]) -> str:
    """Whether a tool must be called: `auto`, `none`, `required`, or the name of the one."""
    config = fields(field(body, "toolConfig", "tool_config"))
    calling = fields(field(config, "functionCallingConfig", "function_calling_config"))
    choice = field(
        {**body, **config, **calling}, "tool_choice", "toolChoice", "function_call", "mode"
    )
    if isinstance(choice, str):
        return _CHOICES.get(choice, choice)
    given = fields(choice)
    named = fields(field(given, "function", "tool")) or given
    name = as_text(named.get("name"))
    if name:
        return name
    kind = as_text(given.get("type")) or next(iter(given), "auto")
    return _CHOICES.get(kind, kind)
