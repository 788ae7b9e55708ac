"""The requests of all providers' APIs in one form.

Sources as in `contents.py`. A request is read by the names of its fields, not by where it went:
gateways and compatible servers speak each other's forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .contents import Contents
from .prompt import NO_FIELDS, Message, Part, Prompt
from .tools import choice_of, tools_of
from .views import as_json, as_text, field, fields, items

__all__ = ["normalise"]

_ROLES: Final = {"model": "assistant", "chatbot": "assistant", "ai": "assistant", "human": "user"}
_STORED: Final = {
    "previous_response_id": "earlier_turns",
    "conversation": "earlier_turns",
    "cachedContent": "cached_content",
    "cached_content": "cached_content",
}
_OF_EMBEDDINGS: Final = ("encoding_format", "dimensions", "input_type", "output_dimension")


def normalise(
    request: Mapping[str, Any], *, model: str | None = None, provider: str | None = None
) -> Prompt | None:
    """What the model is given to read by this request.

    Args:
        request: The body of a request, or the arguments of an SDK's method.
        model: The model, where the request names none.
        provider: OpenTelemetry's name of who was asked.

    Returns:
        `None` if nothing in it is known to us as something to read.
    """
    body = _flat(fields(request))
    contents = Contents()
    messages = list(_conversation(body, contents))
    texts: list[str] = []
    tokens = 0
    for value in _raw(body, model or as_text(body.get("model")), provider, messages):
        tokens += _gather(value, texts)
    tools = tuple(tools_of(body))
    if not (messages or texts or tokens or tools):
        return None
    for name, unseen in _STORED.items():
        if body.get(name):
            contents.unseen.add(unseen)
    return Prompt(
        messages=tuple(messages),
        texts=tuple(texts),
        tokens=tokens,
        tools=tools,
        tool_choice=choice_of(body),
        schema=_schema(body),
        unseen=frozenset(contents.unseen),
        is_responses="input" in body and "messages" not in body,
        thinks=_thinks(body),
    )


def _thinks(body: Mapping[str, Any]) -> bool:
    thinking, reasoning = fields(body.get("thinking")), fields(body.get("reasoning"))
    if thinking.get("type") in ("enabled", "adaptive"):
        return True
    return (
        bool(reasoning)
        and reasoning.get("effort") != "none"
        and reasoning.get("enabled") is not False
    )


def _flat(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what google-genai's methods take as `config` beside the rest."""
    config = fields(body.get("config"))
    return {**config, **body} if config else body


def _conversation(body: Mapping[str, Any], contents: Contents) -> Iterator[Message]:
    system = field(
        body, "system", "systemInstruction", "system_instruction", "instructions", "preamble"
    )
    if system is not None:
        inner = fields(system).get("parts", system)
        parts = tuple(contents.parts(inner))
        if parts:
            yield Message(role="system", parts=parts)
    for name in ("chat_history", "messages", "contents"):
        value = body.get(name)
        if isinstance(value, str):
            yield Message(role="user", parts=tuple(contents.parts(value)))
        for one in items(value) or ((value,) if fields(value) else ()):
            yield from _message(one, contents)
    for one in items(body.get("input")):
        # Texts and tokens, of embeddings, have no fields.
        if fields(one):
            yield from _message(one, contents)
    yield from _cohere(body, contents)


def _cohere(body: Mapping[str, Any], contents: Contents) -> Iterator[Message]:
    if isinstance(body.get("message"), str):
        for one in items(body.get("documents")):
            yield Message(role="document", parts=(Part(kind="text", text=as_json(one)),))
        yield Message(role="user", parts=tuple(contents.parts(body["message"])))
        for one in items(body.get("tool_results")):
            result = fields(one)
            name = fields(result.get("call")).get("name")
            text = as_json(result.get("outputs"))
            yield Message(role="tool", parts=(contents.result(None, text, name),))
    elif "messages" in body:
        for one in items(body.get("documents")):
            yield Message(role="document", parts=(Part(kind="text", text=as_json(one)),))


def _message(value: object, contents: Contents) -> Iterator[Message]:
    if isinstance(value, str):
        yield Message(role="user", parts=tuple(contents.parts(value)))
        return
    message = fields(value)
    kind = as_text(message.get("type"))
    if kind == "additional_tools":
        contents.unseen.add("hosted_tools")
    if "role" not in message and kind not in ("", "message"):
        yield from _item(message, kind, contents)
        return
    role = as_text(message.get("role")).lower() or "user"
    role = _ROLES.get(role, role)
    parts = [*contents.parts(field(message, "content", "parts", "message", "text"))]
    if not parts and "role" not in message:
        parts = [*contents.parts(message)]  # a single part of Gemini's
    reasoning = field(message, "reasoning_content", "reasoning", "tool_plan")
    if isinstance(reasoning, str) and reasoning:
        parts.insert(0, Part(kind="reasoning", text=reasoning))
    parts += contents.tool_calls(message)
    parts += contents.parts([{"image": image} for image in items(message.get("images"))])
    if role in ("tool", "function"):
        text = "".join(part.text for part in parts if part.kind == "text")
        name = field(message, "name", "tool_name")
        parts = [contents.result(message.get("tool_call_id"), text, name)]
    name = as_text(message.get("name")) if role not in ("tool", "function") else ""
    yield Message(role=role, parts=tuple(parts), name=name)


def _item(item: Mapping[str, Any], kind: str, contents: Contents) -> Iterator[Message]:
    """What stands between messages in the input of OpenAI's Responses API."""
    if kind in ("function_call", "custom_tool_call"):
        text = field(item, "arguments", "input")
        part = contents.call(item.get("name"), text, item.get("call_id"))
        yield Message(role="assistant", parts=(part,))
    elif kind in ("function_call_output", "custom_tool_call_output"):
        output = [*contents.parts(item.get("output"))]
        text = "".join(part.text for part in output if part.kind == "text")
        yield Message(role="tool", parts=(contents.result(item.get("call_id"), text),))
    elif kind == "reasoning":
        if item.get("encrypted_content"):
            contents.unseen.add("reasoning")
    elif kind == "item_reference":
        contents.unseen.add("earlier_turns")
    elif kind in ("text", "input_text") or not kind.endswith(("_call", "_output")):
        yield Message(role="user", parts=tuple(contents.parts(item)))
    else:
        contents.unseen.add("hosted_tools")


def _raw(
    body: Mapping[str, Any], model: str, provider: str | None, messages: list[Message]
) -> Iterator[object]:
    """Texts and tokens that are no conversation; some that are one join `messages`."""
    given = body.get("input")
    embeds = "embed" in model or any(name in body for name in _OF_EMBEDDINGS)
    if isinstance(given, str) and not embeds:
        messages.append(Message(role="user", parts=(Part(kind="text", text=given),)))
    elif given is not None:
        yield given
    prompt = body.get("prompt")
    if provider == "ollama" and isinstance(prompt, str):
        # Ollama puts the model's own chat template around a bare prompt.
        messages.append(Message(role="user", parts=(Part(kind="text", text=prompt),)))
    elif prompt is not None:
        yield prompt
    for name in ("inputText", "inputs", "texts"):
        yield body.get(name)
    for one in (body, *map(fields, items(body.get("requests")))):
        content = fields(one.get("content"))
        yield [fields(part).get("text") for part in items(content.get("parts"))]


def _gather(value: object, texts: list[str], depth: int = 0) -> int:
    """Collect the texts of `value`, and say how many tokens stand in it as numbers."""
    if isinstance(value, str):
        if value:
            texts.append(value)
        return 0
    if isinstance(value, int) and not isinstance(value, bool):
        return 1
    if depth > 2:
        return 0
    return sum(_gather(one, texts, depth + 1) for one in items(value))


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any]:
    generation = fields(field(body, "generationConfig", "generation_config"))
    for holder in (
        fields(body.get("response_format")),
        fields(fields(body.get("text")).get("format")),
        fields(fields(body.get("output_config")).get("format")),
        fields(body.get("output_format")),
    ):
        inner = fields(holder.get("json_schema")) or holder
        schema = fields(field(inner, "schema", "schema_"))
        if schema:
            return schema
    for holder in (generation, body):
        schema = fields(
            field(holder, "responseSchema", "response_schema", "responseJsonSchema", "format")
        )
        if schema:
            return schema
    return NO_FIELDS
