"""What tests of `record` and `metered_stream` get: a meter, its events, real clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from llm_metering import Meter
from llm_metering.demo.model_server import ModelServer
from llm_metering.events import CloudEvent
from llm_metering.sinks.memory import MemorySink
from tests.unruly_provider import UnrulyProvider

KEY = "x"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are for the way out."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sink() -> MemorySink:
    """Where the meter sends its events."""
    return MemorySink()


@pytest.fixture
def meter(home: Path, sink: MemorySink) -> Iterator[Meter]:
    """A meter of the test's own."""
    with Meter(home=home, sinks=[sink], source="tests") as meter:
        yield meter


@pytest.fixture
def events(meter: Meter, sink: MemorySink) -> Callable[[], list[CloudEvent]]:
    """Everything the meter has recorded so far."""

    def events() -> list[CloudEvent]:
        assert meter.flush()
        return sink.events

    return events


@pytest.fixture
def client(model_server: ModelServer) -> Iterator[openai.OpenAI]:
    """OpenAI's client, talking to the real model server."""
    with openai.OpenAI(base_url=model_server.openai_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(model_server: ModelServer) -> Iterator[anthropic.Anthropic]:
    """Anthropic's client, talking to the real model server."""
    with anthropic.Anthropic(base_url=model_server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def unruly() -> Iterator[UnrulyProvider]:
    """A provider on a bad day."""
    with UnrulyProvider() as provider:
        yield provider
