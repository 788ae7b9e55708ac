"""`TokenUsage`: the tokens of one LLM call."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, fields
from typing import Any, Final

from .errors import InvalidUsageError

__all__ = ["MAX_COUNT", "TokenUsage"]

MAX_COUNT: Final = 10**11
"""No single call has a hundred billion tokens. A larger number is a provider's mistake, and one
that stores with 64-bit integers would refuse or could not add up."""


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
class TokenUsage:
    """Tokens of one LLM call; `None` is a count nobody knows, which is not 0.

    Counts are inclusive, as the OpenTelemetry GenAI conventions have it: cache reads and
    cache writes are part of `input_tokens`, reasoning is part of `output_tokens`. Adding
    a part to its total would bill it twice.

    >>> TokenUsage(input_tokens=100, output_tokens=20, cache_read_input_tokens=64).total_tokens
    120
    >>> TokenUsage(output_tokens=20).total_tokens is None
    True

    Attributes:
        input_tokens: All prompt tokens, cached ones included.
        output_tokens: All generated tokens, reasoning included.
        cache_read_input_tokens: Prompt tokens served from the provider's cache.
        cache_creation_input_tokens: Prompt tokens written to the provider's cache.
        cache_creation_5m_input_tokens: Of those, the ones kept for five minutes.
        cache_creation_1h_input_tokens: Of those, the ones kept for an hour.
        reasoning_output_tokens: Output tokens spent on reasoning.
        input_audio_tokens: Prompt tokens of audio.
        input_image_tokens: Prompt tokens of images.
        input_video_tokens: Prompt tokens of video.
        tool_use_input_tokens: Prompt tokens that the provider's own tools brought in.
        output_audio_tokens: Output tokens of audio.
        output_image_tokens: Output tokens of images.
        reported_total_tokens: The total the provider itself stated, kept as it came even
            where it is not input + output.

    Args:
        as_reported: These are a provider's own numbers: kept where they contradict each other,
            and `is_consistent` says so. Your own numbers are refused then, since a part beside
            its total, not in it, would be billed too low.

    Raises:
        InvalidUsageError: If a count is not a whole number from 0 to `MAX_COUNT`, or (unless
            `as_reported`) the parts exceed their total.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation_5m_input_tokens: int | None = None
    cache_creation_1h_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    input_audio_tokens: int | None = None
    input_image_tokens: int | None = None
    input_video_tokens: int | None = None
    tool_use_input_tokens: int | None = None
    output_audio_tokens: int | None = None
    output_image_tokens: int | None = None
    reported_total_tokens: int | None = None
    as_reported: InitVar[bool] = False

    # Written out: the one that `dataclass` makes, and a check behind it, take 3.0 µs, this takes
    # 0.8 (2 vCPU AMD EPYC VM), and every record of every call comes by.
    def __init__(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_input_tokens: int | None = None,
        cache_creation_input_tokens: int | None = None,
        cache_creation_5m_input_tokens: int | None = None,
        cache_creation_1h_input_tokens: int | None = None,
        reasoning_output_tokens: int | None = None,
        input_audio_tokens: int | None = None,
        input_image_tokens: int | None = None,
        input_video_tokens: int | None = None,
        tool_use_input_tokens: int | None = None,
        output_audio_tokens: int | None = None,
        output_image_tokens: int | None = None,
        reported_total_tokens: int | None = None,
        as_reported: bool = False,
    ) -> None:
        counts = (
            input_tokens,
            output_tokens,
            cache_read_input_tokens,
            cache_creation_input_tokens,
            cache_creation_5m_input_tokens,
            cache_creation_1h_input_tokens,
            reasoning_output_tokens,
            input_audio_tokens,
            input_image_tokens,
            input_video_tokens,
            tool_use_input_tokens,
            output_audio_tokens,
            output_image_tokens,
            reported_total_tokens,
        )
        for count in counts:
            # bool is an int to Python, but True is no token count.
            if count is None or (type(count) is int and 0 <= count <= MAX_COUNT):
                continue
            name = _NAMES[next(place for place, each in enumerate(counts) if each is count)]
            # Not the value: what is no count may be anything, a piece of an answer too.
            raise InvalidUsageError(f"{name} must be a whole number from 0 to {MAX_COUNT}")
        _put_input_tokens(self, input_tokens)
        _put_output_tokens(self, output_tokens)
        _put_cache_read_input_tokens(self, cache_read_input_tokens)
        _put_cache_creation_input_tokens(self, cache_creation_input_tokens)
        _put_cache_creation_5m_input_tokens(self, cache_creation_5m_input_tokens)
        _put_cache_creation_1h_input_tokens(self, cache_creation_1h_input_tokens)
        _put_reasoning_output_tokens(self, reasoning_output_tokens)
        _put_input_audio_tokens(self, input_audio_tokens)
        _put_input_image_tokens(self, input_image_tokens)
        _put_input_video_tokens(self, input_video_tokens)
        _put_tool_use_input_tokens(self, tool_use_input_tokens)
        _put_output_audio_tokens(self, output_audio_tokens)
        _put_output_image_tokens(self, output_image_tokens)
        _put_reported_total_tokens(self, reported_total_tokens)
        if not as_reported and (excess := self._excess()):
            raise InvalidUsageError(excess)

    @property
    def total_tokens(self) -> int | None:
        """Input plus output; `None` where one of them is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    @property
    def is_consistent(self) -> bool:
        """Whether all parts are within their totals, and the provider's total is input + output."""
        total, reported = self.total_tokens, self.reported_total_tokens
        if total is not None and reported is not None and total != reported:
            return False
        return not self._excess()

    def counts(self) -> dict[str, int]:
        """The known counts by name, without the provider's own total."""
        counts: dict[str, int] = {}
        self.add_to(counts)
        return counts

    def add_to(self, data: dict[str, Any]) -> None:
        """Put the known counts into `data`, by name, without the provider's own total."""
        # Written out, here and below: a loop over names costs several times as much, and every
        # record of every call comes by.
        if self.input_tokens is not None:
            data["input_tokens"] = self.input_tokens
        if self.output_tokens is not None:
            data["output_tokens"] = self.output_tokens
        if self.cache_read_input_tokens is not None:
            data["cache_read_input_tokens"] = self.cache_read_input_tokens
        if self.cache_creation_input_tokens is not None:
            data["cache_creation_input_tokens"] = self.cache_creation_input_tokens
        if self.cache_creation_5m_input_tokens is not None:
            data["cache_creation_5m_input_tokens"] = self.cache_creation_5m_input_tokens
        if self.cache_creation_1h_input_tokens is not None:
            data["cache_creation_1h_input_tokens"] = self.cache_creation_1h_input_tokens
        if self.reasoning_output_tokens is not None:
            data["reasoning_output_tokens"] = self.reasoning_output_tokens
        if self.input_audio_tokens is not None:
            data["input_audio_tokens"] = self.input_audio_tokens
        if self.input_image_tokens is not None:
            data["input_image_tokens"] = self.input_image_tokens
        if self.input_video_tokens is not None:
            data["input_video_tokens"] = self.input_video_tokens
        if self.tool_use_input_tokens is not None:
            data["tool_use_input_tokens"] = self.tool_use_input_tokens
        if self.output_audio_tokens is not None:
            data["output_audio_tokens"] = self.output_audio_tokens
        if self.output_image_tokens is not None:
            data["output_image_tokens"] = self.output_image_tokens

    def _excess(self) -> str:
        """Which parts exceed their total; empty if none do."""
        total = self.input_tokens
        if total is not None:
            parts = (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
            if parts > total:
                return _exceed(
                    "cache_read_input_tokens + cache_creation_input_tokens",
                    parts,
                    "input_tokens",
                    total,
                )
            parts = (
                (self.input_audio_tokens or 0)
                + (self.input_image_tokens or 0)
                + (self.input_video_tokens or 0)
            )
            if parts > total:
                return _exceed(
                    "input_audio_tokens + input_image_tokens + input_video_tokens",
                    parts,
                    "input_tokens",
                    total,
                )
            parts = self.tool_use_input_tokens or 0
            if parts > total:
                return _exceed("tool_use_input_tokens", parts, "input_tokens", total)
        total = self.output_tokens
        if total is not None:
            parts = self.reasoning_output_tokens or 0
            if parts > total:
                return _exceed("reasoning_output_tokens", parts, "output_tokens", total)
            parts = (self.output_audio_tokens or 0) + (self.output_image_tokens or 0)
            if parts > total:
                return _exceed(
                    "output_audio_tokens + output_image_tokens", parts, "output_tokens", total
                )
        total = self.cache_creation_input_tokens
        if total is not None:
            parts = (self.cache_creation_5m_input_tokens or 0) + (
                self.cache_creation_1h_input_tokens or 0
            )
            if parts > total:
                return _exceed(
                    "cache_creation_5m_input_tokens + cache_creation_1h_input_tokens",
                    parts,
                    "cache_creation_input_tokens",
                    total,
                )
        return ""


def _exceed(names: str, parts: int, total_name: str, total: int) -> str:
    return f"{names} is {parts}, more than {total_name} ({total})"


_NAMES: Final = tuple(field.name for field in fields(TokenUsage))
# What fills the slots of a frozen object: `object.__setattr__` takes a half longer.
_put_input_tokens: Final = vars(TokenUsage)["input_tokens"].__set__
_put_output_tokens: Final = vars(TokenUsage)["output_tokens"].__set__
_put_cache_read_input_tokens: Final = vars(TokenUsage)["cache_read_input_tokens"].__set__
_put_cache_creation_input_tokens: Final = vars(TokenUsage)["cache_creation_input_tokens"].__set__
_put_cache_creation_5m_input_tokens: Final = vars(TokenUsage)[
    "cache_creation_5m_input_tokens"
].__set__
_put_cache_creation_1h_input_tokens: Final = vars(TokenUsage)[
    "cache_creation_1h_input_tokens"
].__set__
_put_reasoning_output_tokens: Final = vars(TokenUsage)["reasoning_output_tokens"].__set__
_put_input_audio_tokens: Final = vars(TokenUsage)["input_audio_tokens"].__set__
_put_input_image_tokens: Final = vars(TokenUsage)["input_image_tokens"].__set__
_put_input_video_tokens: Final = vars(TokenUsage)["input_video_tokens"].__set__
_put_tool_use_input_tokens: Final = vars(TokenUsage)["tool_use_input_tokens"].__set__
_put_output_audio_tokens: Final = vars(TokenUsage)["output_audio_tokens"].__set__
_put_output_image_tokens: Final = vars(TokenUsage)["output_image_tokens"].__set__
_put_reported_total_tokens: Final = vars(TokenUsage)["reported_total_tokens"].__set__
