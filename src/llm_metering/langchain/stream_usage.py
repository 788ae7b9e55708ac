"""`StreamUsage`: what the chunks of one stream report, as parts to be added up or as totals so far.

LangChain adds the usage of all chunks up (langchain-core 1.7.2, `messages/ai.py`, `add_usage`), for
which one chunk alone may carry the input (langchain-tests 1.1.9, `integration_tests/chat_models.py`,
`test_usage_metadata_streaming`). Not every stream keeps to that: vLLM with
`continuous_usage_stats` and many a gateway put the total so far on each chunk, others repeat the
total behind the chunk that ends the answer, and Anthropic's `message_delta`, of which there may be
several, holds totals
(https://docs.anthropic.com/en/docs/build-with-claude/streaming#event-types). The sum is a
multiple of the truth then, and the truth is the last report.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["StreamUsage"]

_IN_PARTS: Final = frozenset(["google_genai", "google_vertexai"])
"""Integrations that turn totals into parts themselves, some of them below 0 (langchain-google-genai
4.4.2, `chat_models.py`, `_response_to_result`); the input of one answer may come in several."""
_IN_TOTALS: Final = frozenset(["anthropic"])
"""Providers that document each report as the total so far."""


class StreamUsage:
    """The reports of one stream, in a few numbers however many there are.

    It raises nothing, whatever a report holds; what is no count is left to who reads the result.

    Attributes:
        count: How many reports there were.
        provider: The integration's name for whom it asks, as far as it is known.
    """

    __slots__ = (
        "_input",
        "_inputs",
        "_is_odd",
        "_is_rising",
        "_largest",
        "_last",
        "_output",
        "_outputs",
        "_sum",
        "count",
        "provider",
    )

    def __init__(self, provider: str | None = None) -> None:
        self.count = 0
        self.provider = provider
        self._input = self._output = 0
        self._inputs = self._outputs = 0
        self._is_odd = False
        self._is_rising = True
        self._last: Mapping[str, Any] | None = None
        self._largest: Mapping[str, Any] | None = None
        self._sum: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<StreamUsage count={self.count} is_cumulative={self.is_cumulative}>"

    @property
    def is_cumulative(self) -> bool:
        """Whether the reports are totals so far, of which the last one holds."""
        if self._is_odd or self.count < 2 or self.provider in _IN_PARTS:
            return False
        if self.provider in _IN_TOTALS:
            return self._outputs > 1 and self._is_rising
        return self._inputs > 1 and self._is_rising

    @property
    def is_contradictory(self) -> bool:
        """Whether the reports are neither parts nor totals: the input came again, and less besides."""
        return (
            not self._is_odd
            and self._inputs > 1
            and not self._is_rising
            and self.provider not in _IN_PARTS
        )

    def add(self, usage: Mapping[str, Any]) -> None:
        """Take the next report; it must not change any more."""
        self.count += 1
        ingoing, outgoing = usage.get("input_tokens"), usage.get("output_tokens")
        if type(ingoing) is not int or type(outgoing) is not int:
            self._is_odd = True
            self._last = usage
            return
        if self._last is None:
            self._sum = self._largest = usage
        else:
            if ingoing < self._input or outgoing < self._output:
                self._is_rising = False
            if not self._is_odd and (self._inputs < 2 or self.provider in _IN_PARTS):
                self._sum = _sum(self._sum, usage)
                self._is_odd = self._sum is None
        if self._largest is None or ingoing + outgoing >= _total(self._largest):
            self._largest = usage
        self._inputs += ingoing > 0
        self._outputs += outgoing > 0
        self._input, self._output, self._last = ingoing, outgoing, usage

    def usage(self) -> Mapping[str, Any] | None:
        """What the stream used, as far as it has said; `None` if it has said nothing.

        Totals are never added up. Of reports that contradict each other it is the largest one: a
        provider's own number, and no less than what was certainly used.
        """
        if self._is_odd or self.is_cumulative:
            return self._last
        return self._largest if self.is_contradictory else self._sum


def _total(usage: Mapping[str, Any]) -> int:
    total: int = usage["input_tokens"] + usage["output_tokens"]
    return total


def _sum(left: Any, right: Any) -> dict[str, Any] | None:
    """The sum of two reports and of their details; `None` if something in them is no number."""
    total = dict(left)
    for name, value in right.items():
        known = total.get(name)
        if known is None:
            total[name] = value
        elif type(known) is int and type(value) is int:
            total[name] = known + value
        elif isinstance(known, Mapping) and isinstance(value, Mapping):
            details = _sum(known, value)
            if details is None:
                return None
            total[name] = details
        elif value is not None:
            return None
    return total
