"""What models of other families read besides the text of a conversation; see `families.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from ..exchange import Output
from .families import Family
from .pictures import picture
from .prompt import Message, Prompt, Tool
from .text import capitals_in, extra_digits
from .views import as_json, as_text, fields, items

__all__ = ["input_tokens", "output_tokens", "raw_tokens", "reasoning_tokens"]

Tokens = Callable[[str], int]

_JSON_MARKS: Final = re.compile(r"[{}\[\]\",:]+")


def raw_tokens(texts: Iterable[str], family: Family, tokens: Tokens) -> int:
    """Tokens of texts that are no conversation, estimated."""
    return round(sum(family.raw + _text(text, family, tokens) for text in texts))


def input_tokens(prompt: Prompt, family: Family, model: str, tokens: Tokens) -> int:
    """Tokens of a conversation, estimated."""
    total = float(family.start + family.header)
    if prompt.tools and family.tool_form != "none":
        total += _tools(prompt, family, tokens)
    if not any(message.role in ("system", "developer") for message in prompt.messages):
        total += family.system
    for message in prompt.messages:
        total += family.message + _message(message, family, model, tokens)
    if prompt.schema and family.reads_schema:
        total += tokens(as_json(prompt.schema)) * family.ratio
    return round(total + (family.thinking if prompt.thinks else 0))


def _tools(prompt: Prompt, family: Family, tokens: Tokens) -> float:
    header = family.forced_tool_header
    if header is None or prompt.tool_choice in ("auto", "none"):
        header = family.tool_header
    functions = [tool for tool in prompt.tools if tool.kind in ("function", "custom")]
    shown = sum(tokens(_shown(tool, family)) for tool in functions)
    return header + family.tool * len(functions) + shown * family.ratio


def _message(message: Message, family: Family, model: str, tokens: Tokens) -> float:
    total = 0.0
    for part in message.parts:
        if part.image is not None:
            total += picture(family.image, part.image, model)
        elif part.kind == "text":
            total += _text(_unthought(part.text, family), family, tokens)
        elif part.kind == "reasoning":
            total += _text(part.text, family, tokens) if family.keeps_thoughts else 0
        else:
            total += family.call if part.kind == "call" else family.result
            total += _text(part.name, family, tokens)
            total += _text(_arguments(part.text, family), family, tokens)
    return total


def _unthought(text: str, family: Family) -> str:
    """`text` without the reasoning that some servers put before an answer."""
    if family.keeps_thoughts or not text.startswith("<think>"):
        return text
    return text.partition("</think>")[2]


def _text(text: str, family: Family, tokens: Tokens) -> float:
    ratio = family.ratio
    if family.capitals != 1.0:
        ratio *= 1.0 + (family.capitals - 1.0) * capitals_in(text)
    total = tokens(text) * ratio
    return total + extra_digits(text) if family.single_digits else total


def _arguments(text: str, family: Family) -> str:
    if family.tool_form != "words":
        return text
    return " ".join(_JSON_MARKS.sub(" ", text).split())


def _shown(tool: Tool, family: Family) -> str:
    if family.tool_form == "words":
        return " ".join(_words(tool))
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    if family.tool_form == "json":
        return as_json(function)
    return as_json({"type": "function", "function": function})


def _words(tool: Tool) -> list[str]:
    words = [tool.name, tool.description]
    todo = [tool.parameters]
    while todo and len(words) < 10_000:
        schema = todo.pop()
        for name, value in fields(schema.get("properties")).items():
            field = fields(value)
            kind = as_text(field.get("type"))
            words += [name, kind, as_text(field.get("description"))]
            words += [str(one) for one in items(field.get("enum"))]
            todo += [field, fields(field.get("items"))]
        todo += map(fields, fields(schema.get("$defs")).values())
    return [word for word in words if word]


def output_tokens(output: Output, family: Family, tokens: Tokens) -> int:
    """Tokens of an answer, estimated; without its reasoning."""
    total = 0.0
    for text in output.texts:
        if text:
            total += family.answer + _text(text, family, tokens)
    calls = [(name, arguments) for name, arguments in output.tool_calls if name or arguments]
    for name, arguments in calls:
        total += family.answer_call + _text(name, family, tokens)
        total += _text(_arguments(arguments, family), family, tokens)
    if calls:
        total += family.answer_calls
    return round(total)


def reasoning_tokens(output: Output, family: Family, tokens: Tokens) -> int:
    """Tokens of the reasoning that was shown, estimated."""
    total = sum(_text(text, family, tokens) for text in output.reasoning)
    return round(total + family.answer_thought) if total else 0
