"""The calls of the demo: `run_scenario`.

Three subjects, each named in another of the ways there are, call a model through LangChain:
whole and streamed, sync and async, one by one and many at once; and one leaves a stream half
way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import uuid4

import httpx

from ..errors import MissingExtraError
from ..meter import Meter
from ..subjects import subject
from . import loopback
from .counters import ModelServerError
from .model_server import ModelServer
from .readback import RUN_DIMENSION, read_abandoned, read_lines
from .result import DemoResult

try:
    from langchain_core.messages import AIMessageChunk
    from langchain_core.runnables import RunnableConfig
    from langchain_openai import ChatOpenAI
    from langsmith import tracing_context
    from openai import OpenAIError
    from pydantic import SecretStr

    from ..langchain import MeteringHandler
except ModuleNotFoundError as error:
    raise MissingExtraError("langchain-openai", "demo") from error

__all__ = ["CALLS", "SUBJECTS", "Progress", "run_scenario"]

Progress = Callable[[int, str], None]
"""Called before each step with how many calls have ended, and with what comes next."""

SUBJECTS: Final = ("demo-acme", "demo-globex", "demo-initech")

# Each subject asks about something else, of another length: mixed up, they would not add up.
_TOPICS: Final = ("apples", "wooden bridges", "the steam engines of the old days")
_PROMPTS: Final = ("Name three facts about {}.", "Praise {}.", "Who needs {}?", "Explain {}.")
# Per subject: one whole, one streamed, two in a batch; then the same, async.
CALLS: Final = len(SUBJECTS) * 2 * len(_PROMPTS)
"""How many calls are completed; the abandoned stream comes on top."""

# Newer versions warn of a proxy in the environment, because of options of their own for sockets
# that our clients do not use; older ones would send an unknown argument to the server.
_NO_SOCKET_OPTIONS: Final[dict[str, Any]] = (
    {"http_socket_options": ()} if "http_socket_options" in ChatOpenAI.model_fields else {}
)
_ANSWER_TOKENS = 16
_LONG_PROMPT = "Tell a long story about a lighthouse."
_LONG_ANSWER_TOKENS = 48
_PIECES_BEFORE_LEAVING = 24
_CALL_TIMEOUT = 120.0
_FLUSH_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class _Payer:
    """One subject and the way its calls name it."""

    name: str
    topic: str
    handler: MeteringHandler
    metadata: Mapping[str, str] = field(default_factory=dict)
    scoped: bool = False

    @property
    def config(self) -> RunnableConfig:
        return {"callbacks": [self.handler], "metadata": dict(self.metadata)}

    @property
    def prompts(self) -> list[str]:
        return [prompt.format(self.topic) for prompt in _PROMPTS]

    def scope(self) -> AbstractContextManager[None]:
        return subject(self.name) if self.scoped else nullcontext()


def run_scenario(meter: Meter, server: ModelServer, progress: Progress) -> DemoResult:
    """Make the calls, and compare what was metered with what the server counted.

    Nobody else may use the server meanwhile. It must not be called from a running event loop.

    Args:
        meter: Records the calls; its ledger may hold other usage already.
        server: Answers them.
        progress: Told how far it is.

    Raises:
        ModelServerError: If a call fails, or the server stops answering.
    """
    run = uuid4().hex[:12]
    payers = _payers(meter, run)
    async_client = loopback.async_client(_CALL_TIMEOUT)
    # A developer's LangSmith settings would send the demo's prompts there.
    with tracing_context(enabled=False), loopback.client(_CALL_TIMEOUT) as client:
        try:
            before = server.wait_until_idle()
            model = _model(server, client, async_client, answer_tokens=_ANSWER_TOKENS)
            done = _call(model, payers, progress)
            asyncio.run(_acall(model, async_client, payers, progress, done))
            between = server.wait_until_idle()
            progress(CALLS, "a stream that is left half way")
            model = _model(server, client, async_client, answer_tokens=_LONG_ANSWER_TOKENS)
            _abandon(model, payers[0])
            # Its counters move when the server has noticed.
            after = server.wait_until_idle()
        except OpenAIError as error:
            raise ModelServerError(f"a call of the demo failed: {error}") from error
    progress(CALLS + 1, "reading usage back from the ledger")
    return DemoResult(
        run=run,
        calls=CALLS,
        delivered=meter.flush(_FLUSH_TIMEOUT),
        lines=read_lines(meter, run, SUBJECTS),
        server=between - before,
        abandoned=read_abandoned(meter, run, SUBJECTS, after - between),
    )


def _payers(meter: Meter, run: str) -> tuple[_Payer, _Payer, _Payer]:
    dimensions = {RUN_DIMENSION: run}
    acme, globex, initech = SUBJECTS
    handler = MeteringHandler(meter=meter, enforce=False, **dimensions)
    return (
        _Payer(acme, _TOPICS[0], MeteringHandler(acme, meter=meter, enforce=False, **dimensions)),
        _Payer(globex, _TOPICS[1], handler, scoped=True),
        _Payer(initech, _TOPICS[2], handler, metadata={"subject": initech}),
    )


def _model(
    server: ModelServer,
    client: httpx.Client,
    async_client: httpx.AsyncClient,
    *,
    answer_tokens: int,
) -> ChatOpenAI:
    return ChatOpenAI(
        model=server.alias,
        base_url=server.openai_url,
        api_key=SecretStr("not-needed"),
        # With a base URL of one's own, ChatOpenAI asks for the usage of a stream only if told to.
        stream_usage=True,
        temperature=0,
        max_completion_tokens=answer_tokens,
        # A second attempt would be counted by the server and, rightly, not be metered.
        max_retries=0,
        cache=False,
        openai_proxy=None,
        http_client=client,
        http_async_client=async_client,
        **_NO_SOCKET_OPTIONS,
    )


def _call(model: ChatOpenAI, payers: tuple[_Payer, ...], progress: Progress) -> int:
    done = 0
    for payer in payers:
        with payer.scope():
            progress(done, f"{payer.name}: one call")
            model.invoke(payer.prompts[0], config=payer.config)
            progress(done + 1, f"{payer.name}: a stream")
            for _ in model.stream(payer.prompts[1], config=payer.config):
                pass
            progress(done + 2, f"{payer.name}: a batch")
            model.batch([*payer.prompts[2:]], config=payer.config)
            done += len(payer.prompts)
    return done


async def _acall(
    model: ChatOpenAI,
    async_client: httpx.AsyncClient,
    payers: tuple[_Payer, ...],
    progress: Progress,
    done: int,
) -> None:
    # Closed on the event loop that used it.
    async with async_client:
        for payer in payers:
            with payer.scope():
                progress(done, f"{payer.name}: one async call")
                await model.ainvoke(payer.prompts[0], config=payer.config)
                progress(done + 1, f"{payer.name}: an async stream")
                async for _ in model.astream(payer.prompts[1], config=payer.config):
                    pass
            done += 2
        progress(done, "all three at the same time")
        await asyncio.gather(
            *(_ask(model, payer, payer.prompts[n]) for n in (2, 3) for payer in payers)
        )


async def _ask(model: ChatOpenAI, payer: _Payer, prompt: str) -> None:
    with payer.scope():
        await model.ainvoke(prompt, config=payer.config)


def _abandon(model: ChatOpenAI, payer: _Payer) -> None:
    # `stream` is a generator function, whatever its annotation says.
    stream = cast(
        "Generator[AIMessageChunk, None, None]", model.stream(_LONG_PROMPT, config=payer.config)
    )
    pieces = 0
    with payer.scope(), closing(stream):
        for chunk in stream:
            pieces += bool(chunk.content)
            if pieces == _PIECES_BEFORE_LEAVING:
                break
