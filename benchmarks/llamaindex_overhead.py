"""What a handler adds to a LlamaIndex call, on the thread or event loop that makes it.

A model that answers at once is called in six ways: `chat` with one question, with a conversation,
and with what an agent asks that has called tools; `complete`; `achat`; and `stream_chat` of an answer
in many pieces, timed from the first piece to the last. It answers as LlamaIndex's own integration of OpenAI does, with an object of OpenAI's client in
`raw`, which is made before the clock starts. Each way is measured without a handler and with each
handler alone, in turn, in an order that is shuffled anew each round; what a handler adds is the
difference of the medians.

- an event and a span handler that do nothing: what LlamaIndex's dispatch itself costs,
- LlamaIndex's own `TokenCountingHandler`, which adds up tokens in memory and keeps all texts; at its
  best, since each answer has its usage, so that it need not count. It makes one string of all
  messages (`callbacks/token_counting.py`, `get_llm_token_counts`), so that their length matters,
- ours, with a durable journal and the ledger's thread at work beside it: a `MeteringHandler` in the
  model's callback manager, and `install()` for a model that has none,
- OpenInference's instrumentor with its exporter, which posts to a server on this machine; left out
  where it is not installed, as `requirements-peers.txt` lists it.

    python benchmarks/llamaindex_overhead.py [ROUNDS]

It needs openai's client for the objects. The exit code is 1 if a call of ours is not in the ledger,
or OpenInference's exporter has delivered nothing.
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
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import machine
from counting_server import CountingServer
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler
from llama_index.core.llms import (
    LLM,
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index_instrumentation import get_dispatcher
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

import llm_metering
from llm_metering.llamaindex import MeteringHandler

ROUNDS = 2_000
WARM_UP = 100
STREAM_EVERY = 20
"""Rounds to one of streams."""
PIECES = 100
NOTHING, NO_OP, LLAMAINDEXS, OURS, INSTALLED, OPENINFERENCES = (
    "no handler",
    "no-op handlers",
    "TokenCountingHandler",
    "MeteringHandler",
    "install()",
    "OpenInference's instrumentor",
)
PACKAGES = (
    "llm-metering",
    "llama-index-core",
    "llama-index-instrumentation",
    "openai",
    "openinference-instrumentation-llama-index",
)
MODEL = "gpt-5-mini-2026-08-07"
ANSWER = "Red, green, blue."
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 0},
}
COUNTS = {name: count for name, count in USAGE.items() if name.endswith("_tokens")}
"""What LlamaIndex's integration of OpenAI puts beside the answer."""

PROMPT = "Where is my parcel?"
SHORT = [ChatMessage(role=MessageRole.USER, content=PROMPT)]
CONVERSATION = [
    ChatMessage(
        role=MessageRole.SYSTEM,
        content="You answer the customers of a shop, politely, briefly and in their language. "
        * 12,
    ),
    *(
        ChatMessage(role=role, content=text)
        for _ in range(3)
        for role, text in (
            (
                MessageRole.USER,
                "Where is the parcel that I ordered on Monday? It has not come yet. " * 3,
            ),
            (
                MessageRole.ASSISTANT,
                "It left our store on Tuesday and should be with you tomorrow at noon. " * 4,
            ),
        )
    ),
    ChatMessage(role=MessageRole.USER, content="And if it is not?"),
]
"""A conversation as a product has it: what a handler makes of the messages is part of its cost."""

AGENTS = [
    *CONVERSATION,
    *(
        message
        for step in range(12)
        for message in (
            ChatMessage(
                role=MessageRole.ASSISTANT,
                blocks=[
                    TextBlock(text="I look it up."),
                    ToolCallBlock(
                        tool_call_id=f"call_{step}",
                        tool_name="find_parcel",
                        tool_kwargs={"order": step},
                    ),
                ],
            ),
            ChatMessage(
                role=MessageRole.TOOL,
                content='{"state": "on its way", "at": "Utrecht"} ' * 8,
                additional_kwargs={"tool_call_id": f"call_{step}"},
            ),
        )
    ),
]
"""What an agent asks after a dozen calls of tools."""
ASKED = {
    "chat, one question": SHORT,
    "chat, a conversation": CONVERSATION,
    "chat, an agent's conversation": AGENTS,
}
COMPLETE, ACHAT, CHUNK = (
    "complete",
    "achat, a conversation",
    "chunk of stream_chat, a conversation",
)
WAYS = (*ASKED, COMPLETE, ACHAT, CHUNK)

NUMBERS = itertools.count()

Times = dict[str, list[int]]


def body(**fields: Any) -> dict[str, Any]:
    """What OpenAI answers; no two answers have one id."""
    return {
        "id": f"chatcmpl-{next(NUMBERS)}",
        "created": int(time.time()),
        "model": MODEL,
        "service_tier": "default",
        **fields,
    }


def chat_answer() -> ChatCompletion:
    """An answer to `chat`, made as OpenAI's client makes it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ANSWER},
        "finish_reason": "stop",
    }
    return ChatCompletion.construct(**body(object="chat.completion", choices=[choice], usage=USAGE))


def completion_answer() -> Completion:
    """An answer to `complete`."""
    choice = {"index": 0, "text": ANSWER, "finish_reason": "stop"}
    return Completion.construct(**body(object="text_completion", choices=[choice], usage=USAGE))


def stream_answer() -> list[ChatCompletionChunk]:
    """The pieces of a stream whose usage was asked for, which comes last and alone."""
    common = body(object="chat.completion.chunk")
    pieces: list[tuple[list[Any], Any]] = [
        ([{"index": 0, "delta": {"content": "red "}, "finish_reason": None}], None)
        for _ in range(PIECES - 2)
    ]
    pieces += [([{"index": 0, "delta": {}, "finish_reason": "stop"}], None), ([], USAGE)]
    return [
        ChatCompletionChunk.construct(**common, choices=choices, usage=usage)
        for choices, usage in pieces
    ]


class Provider:
    """Has the next answer ready."""

    chat: ChatCompletion
    completion: Completion
    stream: list[ChatCompletionChunk]


class Quick(LLM):
    """Answers at once, with what the provider has ready."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="gpt-5-mini", is_chat_model=True)

    @llm_chat_callback()
    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        message = ChatMessage(role=MessageRole.ASSISTANT, content=ANSWER)
        return ChatResponse(message=message, raw=Provider.chat, additional_kwargs={**COUNTS})

    @llm_chat_callback()
    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        message = ChatMessage(role=MessageRole.ASSISTANT, content=ANSWER)
        return ChatResponse(message=message, raw=Provider.chat, additional_kwargs={**COUNTS})

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **kwargs: Any) -> ChatResponseGen:
        def pieces() -> ChatResponseGen:
            text = ""
            for chunk in Provider.stream:
                delta = (chunk.choices[0].delta.content or "") if chunk.choices else ""
                text += delta
                yield ChatResponse(
                    message=ChatMessage(role=MessageRole.ASSISTANT, content=text),
                    delta=delta,
                    raw=chunk,
                    additional_kwargs={**COUNTS} if chunk.usage else {},
                )

        return pieces()

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(
            text=ANSWER, raw=Provider.completion, additional_kwargs={**COUNTS}
        )

    async def acomplete(self, *args: Any, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    def stream_complete(self, *args: Any, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError

    async def astream_chat(self, *args: Any, **kwargs: Any) -> ChatResponseAsyncGen:
        raise NotImplementedError

    async def astream_complete(self, *args: Any, **kwargs: Any) -> CompletionResponseAsyncGen:
        raise NotImplementedError


class NoOpEvents(BaseEventHandler):
    """What any event handler costs."""

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Do nothing."""


class NoOpSpans(BaseSpanHandler[SimpleSpan]):
    """What any span handler costs."""

    def span_enter(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def span_exit(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def span_drop(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def new_span(self, *args: Any, **kwargs: Any) -> SimpleSpan | None:
        """Do nothing."""
        return None

    def prepare_to_exit_span(self, *args: Any, **kwargs: Any) -> SimpleSpan | None:
        """Do nothing."""
        return None

    def prepare_to_drop_span(self, *args: Any, **kwargs: Any) -> SimpleSpan | None:
        """Do nothing."""
        return None


class Setup(NamedTuple):
    """A model, and what is on the root dispatcher while it is called.

    Attributes:
        model: It, with a callback manager of its own.
        events: The event handlers.
        spans: The span handlers.
    """

    model: Quick
    events: list[BaseEventHandler]
    spans: list[BaseSpanHandler[Any]]

    def put(self) -> None:
        """Let these handlers be the only ones."""
        root = get_dispatcher()
        root.event_handlers[:] = self.events
        root.span_handlers[:] = self.spans


def setup(*callbacks: BaseCallbackHandler) -> Setup:
    """The handlers that are on the root dispatcher now, which belong to `callbacks`."""
    root = get_dispatcher()
    model = Quick(callback_manager=CallbackManager([*callbacks]))
    return Setup(model, [*root.event_handlers], [*root.span_handlers])


@contextlib.contextmanager
def openinference(url: str) -> Iterator[bool]:
    """OpenInference's instrumentor, as its documentation has it; whether it is there."""
    try:
        instrumentation: Any = importlib.import_module("openinference.instrumentation.llama_index")
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError:
        yield False
        return
    # The messages of a long conversation are more attributes than the 128 that are kept by default,
    # and each that is dropped is a line in the log.
    provider = sdk.TracerProvider(span_limits=sdk.SpanLimits(max_attributes=10_000))
    exporter = otlp.OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    instrumentation.LlamaIndexInstrumentor().instrument(tracer_provider=provider)
    try:
        yield True
    finally:
        provider.shutdown()


def setups(url: str, exporting: contextlib.ExitStack) -> dict[str, Setup]:
    """Each with its own handlers alone beside what LlamaIndex has there from the first."""
    root = get_dispatcher()
    all_setups = {NOTHING: setup(), LLAMAINDEXS: setup(TokenCountingHandler())}
    bare = all_setups[NOTHING]
    root.add_event_handler(NoOpEvents())
    root.add_span_handler(NoOpSpans())
    all_setups[NO_OP] = setup()
    bare.put()
    all_setups[OURS] = setup(MeteringHandler("customer-42"))
    bare.put()
    # The meter is the same, so that what has a handler of its own is still told of there alone.
    llm_metering.install(subject="customer-42")
    all_setups[INSTALLED] = setup()
    bare.put()
    if exporting.enter_context(openinference(url)):
        all_setups[OPENINFERENCES] = setup()
    return all_setups


def shuffled(names: list[str], rounds: int) -> Iterator[str]:
    """Each name once a round, in a new order each time."""
    chance = random.Random(20_261_122)
    for _ in range(rounds):
        yield from chance.sample(names, len(names))


def measure(configs: Mapping[str, Setup], rounds: int) -> dict[str, Times]:
    """Nanoseconds of each call, by way and by handler."""
    clock = time.perf_counter_ns
    taken: dict[str, Times] = {way: {name: [] for name in configs} for way in WAYS}
    for way, messages in ASKED.items():
        for name in shuffled(list(configs), rounds):
            configs[name].put()
            model, Provider.chat = configs[name].model, chat_answer()
            begun = clock()
            model.chat(messages)
            taken[way][name].append(clock() - begun)
    for name in shuffled(list(configs), rounds):
        configs[name].put()
        model, Provider.completion = configs[name].model, completion_answer()
        begun = clock()
        model.complete(PROMPT)
        taken[COMPLETE][name].append(clock() - begun)
    for name in shuffled(list(configs), max(rounds // STREAM_EVERY, 1)):
        configs[name].put()
        model, Provider.stream = configs[name].model, stream_answer()
        stream = model.stream_chat(CONVERSATION)
        next(stream)
        begun = latest = clock()
        pieces = 0
        for pieces, _ in enumerate(stream, 1):
            latest = clock()
        taken[CHUNK][name].append((latest - begun) // pieces)

    async def asynchronously() -> None:
        for name in shuffled(list(configs), rounds):
            configs[name].put()
            model, Provider.chat = configs[name].model, chat_answer()
            begun = clock()
            await model.achat(CONVERSATION)
            taken[ACHAT][name].append(clock() - begun)

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
        is_peer = name not in (NOTHING, OURS, INSTALLED)
        ratio = f"{added[OURS] / added[name]:>17.2f}" if is_peer else ""
        print(f"{name:<30}{medians[name]:>9.1f}{p99:>9.1f}{added[name]:>9.1f}{ratio}")
    print(f"ours above the no-op handlers: {added[OURS] - added[NO_OP]:.1f}")


def main(rounds: int) -> None:
    """Measure in a fresh home, and check that nothing was lost on the way."""
    print(machine.describe())
    print(f"Python {platform.python_version()}", end="")
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            print(f", {package} {version(package)}", end="")
    print()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(CountingServer())
        server.tell("listen")
        home = stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp"))
        meter = llm_metering.configure(home=home, sinks=(), source="benchmark")
        stack.callback(llm_metering.close)
        exporting = stack.enter_context(contextlib.ExitStack())
        configs = setups(f"http://127.0.0.1:{server.port}", exporting)
        measure(configs, WARM_UP)
        for way, taken in measure(configs, rounds).items():
            report(way, taken)
        meter.flush(60)
        ways = len(WAYS) - 1
        expected = 2 * sum(ways * each + max(each // STREAM_EVERY, 1) for each in (WARM_UP, rounds))
        (calls,) = meter.usage("calls_total")
        print(f"\n{calls.value} of {expected} calls are in the ledger")
        exporting.close()  # it delivers what it has left
        has_failed = calls.value != expected
        if OPENINFERENCES in configs:
            delivered = server.tell("bytes")
            print(f"{OPENINFERENCES} has delivered {delivered:,} bytes")
            has_failed = has_failed or not delivered
        sys.exit(has_failed)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
