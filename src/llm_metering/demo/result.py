"""What a run of the demo found: `DemoResult`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..events import Provenance, Status
from .counters import ServerCounters

__all__ = ["AbandonedStream", "DemoResult", "UsageLine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """What one subject used of one model, as the ledger has it.

    Attributes:
        subject: Who pays.
        model: The model that answered.
        calls: LLM calls that were completed.
        input_tokens: Prompt tokens of these calls.
        output_tokens: Tokens they generated.
    """

    subject: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    def to_dict(self) -> dict[str, Any]:
        """The line for programs."""
        return {
            "subject": self.subject,
            "model": self.model,
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AbandonedStream:
    """The stream whose consumer left half way, as we metered it and as the server did.

    No usage report arrives on such a stream. We count the text that went in and the text that
    came; the server may have generated more before it noticed.

    Attributes:
        subject: Who pays.
        status: How the event says the call ended.
        provenance: Where the event's count comes from.
        count_method: How we counted.
        input_tokens: Our count of the prompt.
        output_tokens: Our count of the text that came.
        server: What the server counted.
    """

    subject: str
    status: Status
    provenance: Provenance
    count_method: str | None
    input_tokens: int
    output_tokens: int
    server: ServerCounters

    def to_dict(self) -> dict[str, Any]:
        """The stream for programs."""
        return {
            "subject": self.subject,
            "status": self.status,
            "provenance": self.provenance,
            "count_method": self.count_method,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "server": _counters_to_dict(self.server),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What we metered beside what the server counted.

    Attributes:
        run: The value of the dimension `demo_run` of this run's calls.
        calls: Calls that were made and completed.
        delivered: Whether all that was recorded had reached the ledger when it was read.
        lines: What was metered of them, by subject and model.
        server: What the server counted meanwhile.
        abandoned: The abandoned stream; `None` if it is not in the ledger exactly once.
    """

    run: str
    calls: int
    delivered: bool
    lines: tuple[UsageLine, ...]
    server: ServerCounters
    abandoned: AbandonedStream | None

    @property
    def metered_calls(self) -> int:
        """Completed calls in the ledger."""
        return sum(line.calls for line in self.lines)

    @property
    def input_tokens(self) -> int:
        """Prompt tokens in the ledger."""
        return sum(line.input_tokens for line in self.lines)

    @property
    def output_tokens(self) -> int:
        """Generated tokens in the ledger."""
        return sum(line.output_tokens for line in self.lines)

    @property
    def agree(self) -> bool:
        """Whether every completed call was metered with the server's own counts.

        The abandoned stream must have been metered, too; its count is an estimate, and is not
        compared.
        """
        return (
            self.delivered
            and self.metered_calls == self.calls
            and self.input_tokens == self.server.prompt
            and self.output_tokens == self.server.predicted
            and self.abandoned is not None
        )

    def to_dict(self) -> dict[str, Any]:
        """The result for programs."""
        return {
            "demo_run": self.run,
            "delivered": self.delivered,
            "usage": [line.to_dict() for line in self.lines],
            "metered": {
                "calls": self.metered_calls,
                "input_tokens": self.input_tokens,
                "output_tokens": self.output_tokens,
            },
            "server": {"calls": self.calls, **_counters_to_dict(self.server)},
            "abandoned": self.abandoned.to_dict() if self.abandoned is not None else None,
            "agree": self.agree,
        }


def _counters_to_dict(counters: ServerCounters) -> dict[str, int]:
    return {
        "input_tokens": counters.prompt,
        "cached_input_tokens": counters.prompt_cached,
        "output_tokens": counters.predicted,
    }
