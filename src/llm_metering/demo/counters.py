"""What the model server says about itself: the numbers of its `/metrics`.

Source: llama.cpp's server in xllamacpp 2026.10.11549, which answers in Prometheus' text format
(https://github.com/ggml-org/llama.cpp/tree/master/tools/server).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from ..errors import MeteringError

__all__ = ["ModelServerError", "ServerCounters", "ServerMetrics"]


class ModelServerError(MeteringError, RuntimeError):
    """The model server did not start, or did not answer as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCounters:
    """What the server itself counted since it started, in tokens.

    Attributes:
        prompt_evaluated: Prompt tokens it computed.
        prompt_cached: Prompt tokens it took from its cache instead.
        predicted: Tokens it generated, also those nobody received.
    """

    prompt_evaluated: int = 0
    prompt_cached: int = 0
    predicted: int = 0

    @property
    def prompt(self) -> int:
        """All prompt tokens, which is what an API reports as input."""
        return self.prompt_evaluated + self.prompt_cached

    def __sub__(self, earlier: ServerCounters) -> ServerCounters:
        """What was counted since `earlier`."""
        return ServerCounters(
            prompt_evaluated=self.prompt_evaluated - earlier.prompt_evaluated,
            prompt_cached=self.prompt_cached - earlier.prompt_cached,
            predicted=self.predicted - earlier.predicted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetrics:
    """One answer of `/metrics`, as far as we use it.

    Attributes:
        counters: The tokens so far.
        requests: How many requests it is working on, or has waiting.
    """

    counters: ServerCounters
    requests: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the Prometheus text.

        Raises:
            ModelServerError: If a number is absent, or is no exact count.
        """
        return cls(
            counters=ServerCounters(
                prompt_evaluated=_value(text, "prompt_tokens_total"),
                prompt_cached=_value(text, "prompt_tokens_cached_total"),
                predicted=_value(text, "tokens_predicted_total"),
            ),
            requests=_value(text, "requests_processing") + _value(text, "requests_deferred"),
        )


def _value(text: str, name: str) -> int:
    match = re.search(rf"^llamacpp:{name} (\S+)$", text, re.MULTILINE)
    if match is None:
        raise ModelServerError(f"/metrics of the model server has no llamacpp:{name}")
    if not match[1].isdecimal():
        # llama.cpp prints six significant digits: from a million on as 1.00096e+06.
        raise ModelServerError(
            f"llamacpp:{name} of the model server is {match[1]}, which is no exact count any more; "
            "start a new server"
        )
    return int(match[1])
