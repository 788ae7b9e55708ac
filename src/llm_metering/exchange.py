"""What went into a call to a model and what came out, as text to be counted; never written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Counted", "Exchange", "Output"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a model answered.

    Attributes:
        texts: The visible texts, one for each choice or block.
        reasoning: The reasoning that was shown; what is hidden cannot be counted.
        tool_calls: Names and JSON arguments of the tools the model called.
    """

    texts: Sequence[str] = ()
    reasoning: Sequence[str] = ()
    tool_calls: Sequence[tuple[str, str]] = ()

    def __bool__(self) -> bool:
        return any(self.texts) or any(self.reasoning) or bool(self.tool_calls)

    def __repr__(self) -> str:
        # Never the text: a repr ends up in logs.
        return f"<Output of {len(self.texts)} texts>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and its answer.

    Attributes:
        model: The model that answered, else the one asked for.
        provider: OpenTelemetry's name of who was asked.
        request: The request in the JSON shape of its API (`messages` and `tools`, `input`,
            `prompt`, `contents`, …); `None` where we did not see it.
        output: The answer, as far as it arrived.
    """

    model: str | None = None
    provider: str | None = None
    request: Mapping[str, Any] | None = None
    output: Output = Output()

    def __repr__(self) -> str:
        return f"<Exchange with {self.model}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What we counted ourselves.

    Attributes:
        input_tokens: `None` where we did not see the request.
        output_tokens: Shown reasoning and tool calls included.
        reasoning_output_tokens: The shown reasoning; `None` if there was none.
        method: How, for `count_method`: `tiktoken:o200k_base`, `ratio:claude`, `characters`.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    method: str
