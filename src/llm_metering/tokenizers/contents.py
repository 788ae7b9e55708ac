"""The contents of messages, in the forms of all providers, as parts.

Sources: openai 3.54 (`types/chat`, `types/responses`), anthropic 2.12 (`types/message_param.py`),
google-genai 3.4 (`types.Part`), botocore 1.44 (`bedrock-runtime/2023-09-30`), cohere 7.3
(`types/chat_message_v2.py`), mistralai 3.7, Ollama's `docs/api.md`. The forms do not clash, so one
reader reads them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .images import image_of
from .prompt import Part
from .views import as_json, as_text, field, fields, items

__all__ = ["Contents"]

_TEXT_TYPES: Final = frozenset(["text", "input_text", "output_text", "summary_text", "refusal"])
_CALL_TYPES: Final = frozenset(["tool_use", "server_tool_use", "mcp_tool_use"])
_IMAGE_TYPES: Final = frozenset(["image", "image_url", "input_image"])
_MEDIA: Final = {
    "input_audio": "audio",
    "audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "video_url": "video",
    "file": "file",
    "input_file": "file",
    "document_url": "file",
    "container_upload": "file",
    "item_reference": "earlier_turns",
}
_DEEPEST: Final = 50


class Contents:
    """Reads contents, and remembers what it met that is not there to be counted.

    Attributes:
        unseen: Names of what the request refers to but does not hold.
    """

    def __init__(self) -> None:
        self.unseen: set[str] = set()
        self._tool_names: dict[str, str] = {}

    def parts(self, content: object, depth: int = 0) -> Iterator[Part]:
        """The parts of a text, a part, or a list of them."""
        if isinstance(content, str):
            if content:
                yield Part(kind="text", text=content)
            return
        if depth > _DEEPEST:
            raise RecursionError
        if isinstance(content, list | tuple):
            for one in content:
                yield from self.parts(one, depth + 1)
            return
        part = fields(content)
        if part:
            yield from self._part(part, depth)

    def _part(self, part: Mapping[str, Any], depth: int) -> Iterator[Part]:
        kind = as_text(part.get("type"))
        if kind in _MEDIA:
            self.unseen.add(_MEDIA[kind])
        elif kind in _IMAGE_TYPES or field(part, "image") is not None:
            yield from self._image(part)
        elif kind in _CALL_TYPES:
            yield self.call(part.get("name"), part.get("input"), part.get("id"))
        elif kind.endswith("tool_result"):
            yield from self._result(part.get("tool_use_id"), part.get("content"), depth)
        elif kind in ("thinking", "reasoning"):
            yield from self._reasoning(field(part, "thinking", "text"))
        elif kind in ("document", "search_result"):
            yield from self._document(part, depth)
        elif kind in _TEXT_TYPES or isinstance(part.get("text"), str):
            text = as_text(field(part, "text", "refusal"))
            if part.get("thought") is True:
                yield from self._reasoning(text)
            elif text:
                yield Part(kind="text", text=text)
        else:
            yield from self._keyed(part, depth)

    def _keyed(self, part: Mapping[str, Any], depth: int) -> Iterator[Part]:
        """Parts of Gemini and Bedrock, which name their kind by a key."""
        for name in part:
            value = fields(part[name])
            match name:
                case "functionCall" | "function_call":
                    yield self.call(value.get("name"), value.get("args"), value.get("id"))
                case "functionResponse" | "function_response":
                    text = as_json(value.get("response"))
                    yield Part(kind="result", text=text, name=as_text(value.get("name")))
                case "toolUse":
                    yield self.call(value.get("name"), value.get("input"), value.get("toolUseId"))
                case "toolResult":
                    yield from self._result(value.get("toolUseId"), value.get("content"), depth)
                case "inlineData" | "inline_data" | "fileData" | "file_data":
                    yield from self._blob(value)
                case "reasoningContent":
                    shown = fields(value.get("reasoningText"))
                    yield from self._reasoning(shown.get("text"))
                case "executableCode" | "executable_code":
                    yield Part(kind="text", text=as_text(value.get("code")))
                case "codeExecutionResult" | "code_execution_result":
                    yield Part(kind="text", text=as_text(value.get("output")))
                case "json":
                    yield Part(kind="text", text=as_json(part[name]))
                case "document" | "video" | "audio":
                    self.unseen.add("file" if name == "document" else name)
                case "content" | "parts":
                    yield from self.parts(part[name], depth + 1)
                case _:
                    pass

    def call(self, name: object, arguments: object, call_id: object) -> Part:
        """A call of a tool; its name is remembered for the answer, which bears only the id."""
        text = as_text(name)
        if isinstance(call_id, str):
            self._tool_names[call_id] = text
        return Part(kind="call", name=text, text="" if arguments is None else as_json(arguments))

    def result(self, call_id: object, texts: str, name: object = None) -> Part:
        """What a tool answered."""
        known = as_text(name) or self._tool_names.get(as_text(call_id), "")
        return Part(kind="result", text=texts, name=known)

    def _result(self, call_id: object, content: object, depth: int) -> Iterator[Part]:
        parts = list(self.parts(content, depth + 1))
        yield self.result(call_id, "".join(part.text for part in parts if part.kind == "text"))
        yield from (part for part in parts if part.kind == "image")

    def _reasoning(self, text: object) -> Iterator[Part]:
        if isinstance(text, list | tuple):
            text = "".join(as_text(fields(one).get("text")) for one in text)
        if isinstance(text, str) and text:
            yield Part(kind="reasoning", text=text)

    def _document(self, part: Mapping[str, Any], depth: int) -> Iterator[Part]:
        source = part.get("source")
        inner = fields(source)
        for text in (part.get("title"), part.get("context")):
            if isinstance(text, str):
                yield Part(kind="text", text=text)
        if inner.get("type") == "text":
            yield from self.parts(inner.get("data"), depth + 1)
        elif inner.get("type") == "content" or part.get("content") is not None:
            yield from self.parts(field(inner, "content") or part.get("content"), depth + 1)
        elif "data" in part:
            # Cohere: a document is a mapping of texts.
            yield Part(kind="text", text=as_json(part["data"]))
        else:
            self.unseen.add("file")

    def _image(self, part: Mapping[str, Any]) -> Iterator[Part]:
        image = image_of(part)
        if not image.is_seen and image.detail != "low":
            self.unseen.add("image_size")
        yield Part(kind="image", image=image)

    def _blob(self, blob: Mapping[str, Any]) -> Iterator[Part]:
        media_type = as_text(field(blob, "mimeType", "mime_type"))
        major = media_type.partition("/")[0]
        if major == "image":
            yield from self._image(blob)
        elif major == "text" and isinstance(blob.get("data"), str):
            self.unseen.add("file")
        else:
            self.unseen.add(major if major in ("audio", "video") else "file")

    def tool_calls(self, message: Mapping[str, Any]) -> Iterator[Part]:
        """The calls beside a message's content, as OpenAI has them."""
        for one in items(message.get("tool_calls")):
            call = fields(one)
            function = fields(field(call, "function", "custom")) or call
            arguments = field(function, "arguments", "parameters", "input", "args")
            yield self.call(function.get("name"), arguments, call.get("id"))
        function = fields(message.get("function_call"))
        if function:
            yield self.call(function.get("name"), function.get("arguments"), None)
