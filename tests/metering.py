"""Metered calls, as a front end tells of them."""

from __future__ import annotations

from llm_metering.calls import CallStart, Report
from llm_metering.exchange import Counted, Exchange, Output
from llm_metering.meter import Meter
from llm_metering.subjects import Attribution, Rank
from llm_metering.token_usage import TokenUsage
from llm_metering.tokenizers import Encodings, count

REPORT = Report(usage=TokenUsage(input_tokens=100, output_tokens=20))


def start(meter: Meter, key: str = "run") -> None:
    """Start a call."""
    attribution = Attribution(subject="customer-42", rank=Rank.HANDLER)
    meter.calls.start(key, CallStart(attribution=attribution, framework="none", operation="chat"))


def call(meter: Meter, count: int = 1) -> None:
    """Meter that many calls from start to end."""
    for number in range(count):
        start(meter, f"run-{number}")
        meter.calls.end(f"run-{number}", "completed", REPORT)


def count_of(prompt: str, answer: str) -> Counted:
    """Our own count of a question to the tiny model and its answer."""
    return count(
        Exchange(
            model="tiny",
            provider="openai",
            request={"messages": [{"role": "user", "content": prompt}]},
            output=Output(texts=[answer]),
        ),
        Encodings(),
    )
