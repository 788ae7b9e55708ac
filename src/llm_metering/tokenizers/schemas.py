"""Tools as OpenAI's models are shown them: declarations of TypeScript in a namespace.

Sources: openai/harmony, `src/encoding.rs` (`template_tools_section`, `json_schema_to_typescript`,
November 2025), which OpenAI published with gpt-oss; hmarr/openai-chat-tokens, `src/functions.ts`,
which worked out the same form from the counts of gpt-3.5-turbo and gpt-4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .prompt import NO_FIELDS, Tool
from .views import as_text, fields, items

__all__ = ["CHATML", "HARMONY", "Style", "as_typescript", "namespace"]

_TYPES: Final = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
}
_DEEPEST: Final = 40
_LARGEST: Final = 5000
"""Types in one tool: references to references can double with each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """In what the two renderings differ.

    Attributes:
        comments_lines: Whether a description keeps its lines; else it is put on one.
        indent: What a nested object is indented by.
        indents_end: Whether its closing brace is.
    """

    comments_lines: bool
    indent: str
    indents_end: bool


CHATML: Final = Style(comments_lines=False, indent="  ", indents_end=False)
HARMONY: Final = Style(comments_lines=True, indent="    ", indents_end=True)


def namespace(tools: Iterable[Tool], style: Style) -> str:
    """The declarations of all tools."""
    lines = ["namespace functions {", ""]
    for tool in tools:
        if style.comments_lines:
            lines += [f"// {line}" for line in tool.description.splitlines()]
        elif tool.description:
            lines.append("// " + " ".join(tool.description.split()))
        writer = _Writer(style, tool.parameters)
        properties = "".join(writer.properties(tool.parameters, "", 0))
        arguments = f"(_: {{\n{properties}}})" if properties else "()"
        lines += [f"type {tool.name} = {arguments} => any;", ""]
    lines.append("} // namespace functions")
    return "\n".join(lines)


def as_typescript(schema: Mapping[str, Any], style: Style) -> str:
    """A type that says what `schema` does."""
    return _Writer(style, schema).type_of(schema, "", 0)


class _Writer:
    """Writes the types of one schema, in which references are to be found in itself."""

    def __init__(self, style: Style, root: Mapping[str, Any]) -> None:
        self._style = style
        self._root = root
        self._left = _LARGEST

    def properties(self, schema: Mapping[str, Any], indent: str, depth: int) -> Iterator[str]:
        required = items(schema.get("required"))
        for name, value in fields(schema.get("properties")).items():
            field = fields(value)
            if description := as_text(field.get("description")):
                yield f"{indent}// {description}\n"
            mark = "" if name in required else "?"
            comment = f" // default: {_literal(field['default'])}" if "default" in field else ""
            yield f"{indent}{name}{mark}: {self.type_of(field, indent, depth + 1)},{comment}\n"

    def type_of(self, schema: Mapping[str, Any], indent: str, depth: int) -> str:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return "any"
        if reference := as_text(schema.get("$ref")):
            return self.type_of(self._resolved(reference), indent, depth + 1)
        for name in ("anyOf", "oneOf"):
            if choices := items(schema.get(name)):
                return " | ".join(self.type_of(fields(one), indent, depth + 1) for one in choices)
        if values := items(schema.get("enum")):
            return " | ".join(_literal(value) for value in values)
        kind = schema.get("type")
        if isinstance(kind, list | tuple):
            types = (self.type_of({**schema, "type": one}, indent, depth + 1) for one in kind)
            return " | ".join(types)
        if kind == "array":
            return f"{self.type_of(fields(schema.get('items')), indent, depth + 1)}[]"
        if kind == "object":
            inner = indent + self._style.indent
            properties = "".join(self.properties(schema, inner, depth + 1))
            end = inner if self._style.indents_end else ""
            return f"{{\n{properties}{end}}}" if properties else "object"
        return _TYPES.get(as_text(kind), "any")

    def _resolved(self, reference: str) -> Mapping[str, Any]:
        if not reference.startswith("#/"):
            return NO_FIELDS
        found = self._root
        for step in reference[2:].split("/"):
            found = fields(found.get(step))
        return found


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
