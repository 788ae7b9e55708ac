"""`Prompt`: what a model was given to read, in one form for all providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

__all__ = ["NO_FIELDS", "Image", "Message", "Part", "Prompt", "Tool"]

NO_FIELDS: Final[Mapping[str, Any]] = {}

PartKind = Literal["text", "reasoning", "call", "result", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture, by what its price hangs on.

    Attributes:
        width: In pixels; `None` where only the provider could see it.
        height: In pixels.
        detail: `low`, `high`, `original` or `auto`.
        is_seen: Whether the size was read from the picture, not from its address or not at all.
    """

    width: int | None = None
    height: int | None = None
    detail: str = "auto"
    is_seen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a message.

    Attributes:
        kind: What it is; `call` is a call of a tool, `result` what the tool answered.
        text: Its text; of a call, the arguments as JSON.
        name: The tool's, of a call or a result.
        image: The picture, of an image.
    """

    kind: PartKind
    text: str = ""
    name: str = ""
    image: Image | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: str
    parts: tuple[Part, ...] = ()
    name: str = ""

    def text(self) -> str:
        """Its plain text, joined."""
        return "".join(part.text for part in self.parts if part.kind == "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool the model may call.

    Attributes:
        kind: `function`; else the provider's name of a tool of its own.
        name: What the model calls it by.
        description: What it is for.
        parameters: JSON Schema of its arguments.
    """

    kind: str = "function"
    name: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: NO_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Everything of a request that the model reads.

    Attributes:
        messages: A conversation, system prompt included.
        texts: Texts that are no conversation: of a completion, of embeddings.
        tokens: Tokens that were given as numbers already.
        tools: The tools it may call.
        tool_choice: `auto`, `none`, `required`, or the name of the tool that must be called.
        schema: JSON Schema that the answer has to fit.
        unseen: What the request names but does not hold: `audio`, `file`, `earlier_turns`, …
        is_responses: Whether this is a request to OpenAI's Responses API or one like it.
        thinks: Whether the request asks for reasoning.
    """

    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    tokens: int = 0
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] = field(default_factory=lambda: NO_FIELDS)
    unseen: frozenset[str] = frozenset()
    is_responses: bool = False
    thinks: bool = False
