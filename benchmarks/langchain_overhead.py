"""What a handler adds to a LangChain call, on the thread or event loop that makes it.

A chat model that answers at once is called in five ways: `invoke` with one question, with a
conversation, and with what an agent asks that has called tools; `ainvoke`; and `stream` of an answer
in many pieces, timed from the first piece to the last. Each way is measured without a callback and
with each handler alone, in turn, in an order that is shuffled anew each round; what a handler adds is
the difference of the medians. A good part of it is LangChain's own dispatch, which the no-op handler
shows. For a handler that has no `on_chat_model_start`, as its own, LangChain makes one string of all
messages (`callbacks/manager.py`, `handle_event`), so that their length matters.

- a handler that does nothing,
- LangChain's own `UsageMetadataCallbackHandler`, which adds up tokens in memory,
- ours, with a durable journal and the ledger's thread at work beside it,
- Langfuse's `CallbackHandler` and OpenInference's tracer (what its instrumentor adds to every
  callback manager), each with its own exporter, which posts to a server on this machine; left out
  where they are not installed, as `requirements-peers.txt` lists them.

    python benchmarks/langchain_overhead.py [ROUNDS]

The exit code is 1 if a call of ours is not in the ledger, or the exporter of a peer has delivered
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import machine
from counting_server import CountingServer
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler

ROUNDS = 2_000
WARM_UP = 100
STREAM_EVERY = 20
"""Rounds to one of streams."""
PIECES = 100
NOTHING, NO_OP, LANGCHAINS, OURS = (
    "no callbacks",
    "no-op handler",
    "UsageMetadataCallbackHandler",
    "MeteringHandler",
)
PACKAGES = (
    "llm-metering",
    "langchain-core",
    "langfuse",
    "openinference-instrumentation-langchain",
)

USAGE = UsageMetadata(
    input_tokens=100,
    output_tokens=20,
    total_tokens=120,
    input_token_details={"cache_read": 64},
    output_token_details={"reasoning": 7},
)
SHORT: list[BaseMessage] = [HumanMessage("Where is my parcel?")]
QUESTION: list[BaseMessage] = [
    SystemMessage(
        "You answer the customers of a shop, politely, briefly and in their language. " * 12
    ),
    *(
        message
        for _ in range(3)
        for message in (
            HumanMessage("Where is the parcel that I ordered on Monday? It has not come yet. " * 3),
            AIMessage("It left our store on Tuesday and should be with you tomorrow at noon. " * 4),
        )
    ),
    HumanMessage("And if it is not?"),
]
"""A conversation as a product has it: what a handler makes of the messages is part of its cost."""

AGENTS: list[BaseMessage] = [
    *QUESTION,
    *(
        message
        for step in range(12)
        for message in (
            AIMessage(
                "I look it up.",
                tool_calls=[{"name": "find_parcel", "args": {"order": step}, "id": f"call_{step}"}],
            ),
            ToolMessage(
                '{"state": "on its way", "at": "Utrecht"} ' * 8, tool_call_id=f"call_{step}"
            ),
        )
    ),
]
"""What an agent asks after a dozen calls of tools."""
ASKED = {
    "invoke, one question": SHORT,
    "invoke, a conversation": QUESTION,
    "invoke, an agent's conversation": AGENTS,
}
AINVOKE = "ainvoke, a conversation"
CHUNK = "chunk"

ANSWERS = itertools.count()

Times = dict[str, list[int]]


def facts() -> dict[str, Any]:
    """What a provider says of an answer; no two have one id."""
    return {
        "model_name": "gpt-5-mini-2026-08-07",
        "id": f"chatcmpl-{next(ANSWERS)}",
        "finish_reason": "stop",
    }


class Quick(BaseChatModel):
    """Answers at once."""

    @property
    def _llm_type(self) -> str:
        return "quick"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-5-mini", "ls_model_type": "chat"}

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        answer = AIMessage("Red, green, blue.", usage_metadata=USAGE, response_metadata=facts())
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for _ in range(PIECES - 1):
            yield ChatGenerationChunk(message=AIMessageChunk(content="red "))
        last = AIMessageChunk(content="", usage_metadata=USAGE, response_metadata=facts())
        yield ChatGenerationChunk(message=last)

    async def _astream(
        self, messages: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk


class NoOpHandler(BaseCallbackHandler):
    """What any handler costs that does not hop to another thread."""

    run_inline = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


@contextlib.contextmanager
def langfuse(url: str) -> Iterator[dict[str, BaseCallbackHandler]]:
    """Langfuse's handler and its client, as its documentation has it."""
    try:
        package: Any = importlib.import_module("langfuse")
        front: Any = importlib.import_module("langfuse.langchain")
    except ImportError:
        yield {}
        return
    client = package.Langfuse(public_key="pk-lf-none", secret_key="none", base_url=url)
    try:
        yield {"Langfuse's CallbackHandler": front.CallbackHandler(public_key="pk-lf-none")}
    finally:
        client.shutdown()


@contextlib.contextmanager
def openinference(url: str) -> Iterator[dict[str, BaseCallbackHandler]]:
    """The tracer that OpenInference's instrumentor would put into every callback manager."""
    try:
        instrumentation: Any = importlib.import_module("openinference.instrumentation")
        tracer: Any = importlib.import_module("openinference.instrumentation.langchain._tracer")
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        yield {}
        return
    # The messages of a long conversation are more attributes than the 128 that are kept by default,
    # and each that is dropped is a line in the log.
    provider = sdk.TracerProvider(span_limits=sdk.SpanLimits(max_attributes=10_000))
    exporter = otlp.OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    traced = instrumentation.OITracer(
        provider.get_tracer("benchmark"), config=instrumentation.TraceConfig()
    )
    try:
        yield {"OpenInference's tracer": tracer.OpenInferenceTracer(traced, False)}
    finally:
        provider.shutdown()


PEERS = (langfuse, openinference)


def shuffled(names: list[str], rounds: int) -> Iterator[str]:
    """Each name once a round, in a new order each time."""
    chance = random.Random(20_261_122)
    for _ in range(rounds):
        yield from chance.sample(names, len(names))


def measure(configs: Mapping[str, RunnableConfig], rounds: int) -> dict[str, Times]:
    """Nanoseconds of each call, by way and by handler."""
    model, clock = Quick(), time.perf_counter_ns
    taken: dict[str, Times] = {
        way: {name: [] for name in configs} for way in (*ASKED, AINVOKE, CHUNK)
    }
    for way, messages in ASKED.items():
        for name in shuffled(list(configs), rounds):
            begun = clock()
            model.invoke(messages, configs[name])
            taken[way][name].append(clock() - begun)
    for name in shuffled(list(configs), max(rounds // STREAM_EVERY, 1)):
        stream = model.stream(QUESTION, configs[name])
        next(stream)
        begun = latest = clock()
        pieces = 0
        for pieces, _ in enumerate(stream, 1):
            latest = clock()
        taken[CHUNK][name].append((latest - begun) // pieces)

    async def asynchronously() -> None:
        for name in shuffled(list(configs), rounds):
            begun = clock()
            await model.ainvoke(QUESTION, configs[name])
            taken[AINVOKE][name].append(clock() - begun)

    asyncio.run(asynchronously())
    return taken


def report(way: str, taken: Times) -> None:
    """Print what each handler adds, and how much that is of what others add."""
    print(f"\n{way}: microseconds, {len(taken[OURS])} of each")
    print(f"{'':<30}{'median':>9}{'p99':>9}{'added':>9}   ours is of that")
    medians = {name: statistics.median(times) / 1000 for name, times in taken.items()}
    added = {name: median - medians[NOTHING] for name, median in medians.items()}
    for name, times in taken.items():
        p99 = statistics.quantiles(times, n=100)[98] / 1000
        ratio = "" if name in (NOTHING, OURS) else f"{added[OURS] / added[name]:>17.2f}"
        print(f"{name:<30}{medians[name]:>9.1f}{p99:>9.1f}{added[name]:>9.1f}{ratio}")
    print(f"ours above the no-op handler: {added[OURS] - added[NO_OP]:.1f}")


def main(rounds: int) -> None:
    """Measure in a fresh home, and check that nothing was lost on the way."""
    print(machine.describe())
    print(f"Python {platform.python_version()}", end="")
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            print(f", {package} {version(package)}", end="")
    print()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(CountingServer()) for _ in PEERS]
        for server in servers:
            server.tell("listen")
        home = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
        meter = stack.enter_context(Meter(home=home, sinks=(), source="benchmark"))
        exporting = stack.enter_context(contextlib.ExitStack())
        peers = [
            exporting.enter_context(peer(f"http://127.0.0.1:{server.port}"))
            for peer, server in zip(PEERS, servers, strict=True)
        ]
        handlers: dict[str, BaseCallbackHandler] = {
            NO_OP: NoOpHandler(),
            LANGCHAINS: UsageMetadataCallbackHandler(),
            OURS: MeteringHandler("customer-42", meter=meter),
        }
        for peer in peers:
            handlers.update(peer)
        configs: dict[str, RunnableConfig] = {
            NOTHING: {},
            **{name: {"callbacks": [handler]} for name, handler in handlers.items()},
        }
        measure(configs, WARM_UP)
        for way, taken in measure(configs, rounds).items():
            report(way, taken)
        meter.flush(60)
        ways = len(ASKED) + 1
        expected = sum(ways * each + max(each // STREAM_EVERY, 1) for each in (WARM_UP, rounds))
        (calls,) = meter.usage("calls_total")
        print(f"\n{calls.value} of {expected} calls are in the ledger")
        exporting.close()  # each delivers what it has left
        has_failed = calls.value != expected
        for peer, server in zip(peers, servers, strict=True):
            for name in peer:
                delivered = server.tell("bytes")
                print(f"{name} has delivered {delivered:,} bytes")
                has_failed = has_failed or not delivered
        sys.exit(has_failed)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
