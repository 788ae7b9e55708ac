"""What metering one LLM call costs on the calling thread.

Three handlers get the same callbacks of the same call, start and end, in turn: one that does
nothing, LangChain's own `UsageMetadataCallbackHandler`, which adds up tokens in memory, and
ours, with a real journal on disk and the ledger's thread at work beside it. LangChain's own
callback manager delivers them, so that each row holds its cost as well; the column "above
no-op" is without it. LangChain's own handler takes no chat messages, so that the manager makes
text of them for it first.

    python benchmarks/record_overhead.py [CALLS]
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    BaseCallbackHandler,
    CallbackManager,
    UsageMetadataCallbackHandler,
)
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, LLMResult

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler

CALLS = 5_000
WARM_UP = 500
NO_OP = "no-op handler"
LANGCHAINS = "UsageMetadataCallbackHandler"

METADATA = {"ls_provider": "openai", "ls_model_name": "gpt-5-mini", "subject": "customer-42"}
MESSAGES: list[list[BaseMessage]] = [[HumanMessage("Name three colours.")]]
ANSWER = LLMResult(
    generations=[
        [
            ChatGeneration(
                message=AIMessage(
                    "Red, green and blue.",
                    usage_metadata=UsageMetadata(
                        input_tokens=100,
                        output_tokens=20,
                        total_tokens=120,
                        input_token_details={"cache_read": 64},
                        output_token_details={"reasoning": 7},
                    ),
                    response_metadata={"model_name": "gpt-5-mini-2026-08-07", "id": "chatcmpl-1"},
                )
            )
        ]
    ]
)


class NoOpHandler(BaseCallbackHandler):
    """What any handler costs."""

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


def start_and_end(manager: CallbackManager, run_id: UUID) -> None:
    """One call, as a chat model reports it."""
    (run,) = manager.on_chat_model_start({}, MESSAGES, run_id=run_id)
    run.on_llm_end(ANSWER)


def measure(
    handlers: Mapping[str, BaseCallbackHandler], calls: int, *, clock: Callable[[], int]
) -> dict[str, list[int]]:
    """Nanoseconds of each call by handler; the order within a round is shuffled."""
    managers = {
        name: CallbackManager([handler], metadata=METADATA) for name, handler in handlers.items()
    }
    taken: dict[str, list[int]] = {name: [] for name in handlers}
    order = list(handlers)
    chance = random.Random(20_261_121)
    for _ in range(calls):
        chance.shuffle(order)
        for name in order:
            manager, run_id = managers[name], uuid4()
            begun = clock()
            start_and_end(manager, run_id)
            taken[name].append(clock() - begun)
    return taken


def processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def report(taken: Mapping[str, list[int]]) -> None:
    """Print the medians, the slow end, and what is above doing nothing."""
    print(f"{processor()}, {os.cpu_count()} cores, {platform.platform()}")
    packages = ", ".join(f"{name} {version(name)}" for name in ("llm-metering", "langchain-core"))
    print(f"Python {platform.python_version()}, {packages}")
    print(f"{len(taken[NO_OP])} calls each, start and end, microseconds on the calling thread\n")
    print(f"{'handler':<30}{'median':>9}{'p99':>9}{'above no-op':>13}{'ratio':>8}")
    nothing, known = (statistics.median(taken[name]) for name in (NO_OP, LANGCHAINS))
    for name, times in taken.items():
        median, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        numbers = f"{median / 1000:>9.1f}{p99 / 1000:>9.1f}{(median - nothing) / 1000:>13.1f}"
        print(f"{name:<30}{numbers}{median / known:>8.2f}")


def main(calls: int) -> None:
    """Measure in a fresh home, and check that nothing was lost on the way."""
    with (
        tempfile.TemporaryDirectory() as home,
        Meter(home=home, sinks=(), source="benchmark") as meter,
    ):
        handlers = {
            NO_OP: NoOpHandler(),
            LANGCHAINS: UsageMetadataCallbackHandler(),
            "MeteringHandler": MeteringHandler(meter=meter),
        }
        measure(handlers, WARM_UP, clock=time.perf_counter_ns)
        taken = measure(handlers, calls, clock=time.perf_counter_ns)
        report(taken)
        meter.flush()
        (calls_total,) = meter.usage("calls_total")
        if calls_total.value != WARM_UP + calls:
            sys.exit(f"{WARM_UP + calls} calls were made, {calls_total.value} are in the ledger")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
