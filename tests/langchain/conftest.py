"""What tests of the LangChain front end get: a meter, its events, models, an unruly provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tracers import context
from langchain_openai import ChatOpenAI

import llm_metering
from llm_metering import Meter, taps
from llm_metering.demo.model_server import ModelServer
from llm_metering.events import CloudEvent
from llm_metering.sinks.memory import MemorySink
from tests.langchain.capabilities import MODULES, missing
from tests.unruly_provider import UnrulyProvider

collect_ignore = [name for name, need in MODULES.items() if missing(need)]


def pytest_configure(config: pytest.Config) -> None:
    """Bear a warning that langgraph 0.6 provokes on langchain-core 0.3 as it is imported."""
    config.addinivalue_line(
        "filterwarnings", "ignore:The default value of `allowed_objects` will change"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the installed LangChain cannot do; see `capabilities`."""
    chosen, others = [], []
    for item in items:
        needs = [name for mark in item.iter_markers("needs") for name in mark.args]
        (others if missing(*needs) else chosen).append(item)
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = chosen


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are for the way out."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_hook_left() -> Iterator[None]:
    """LangChain has no way to take a hook back; one that is left changes the order of things."""
    before = list(context._configure_hooks)
    yield
    context._configure_hooks[:] = before


@pytest.fixture(autouse=True)
def no_tap_left() -> Iterator[None]:
    """Taps are put in when a call begins, for the whole process; the next test begins without."""
    yield
    taps.remove()


@pytest.fixture
def sink() -> MemorySink:
    """Where the meters of the test send their events."""
    return MemorySink()


@pytest.fixture
def meter(home: Path, sink: MemorySink) -> Iterator[Meter]:
    """A meter of the test's own."""
    with Meter(home=home, sinks=[sink]) as meter:
        yield meter


@pytest.fixture
def default_meter(home: Path, sink: MemorySink) -> Iterator[Meter]:
    """The process-wide meter, in the test's home; nothing of it is left behind."""
    meter = llm_metering.configure(home=home, sinks=[sink])
    yield meter
    llm_metering.uninstall()
    llm_metering.close()


@pytest.fixture
def events_of(sink: MemorySink) -> Callable[[Meter], list[CloudEvent]]:
    """Everything a meter has recorded so far."""

    def events_of(meter: Meter) -> list[CloudEvent]:
        assert meter.flush()
        return sink.events

    return events_of


@pytest.fixture
def chat(model_server: ModelServer) -> Callable[..., ChatOpenAI]:
    """Make a model of the real server, or of another address."""

    def chat(**overrides: Any) -> ChatOpenAI:
        settings: dict[str, Any] = {
            "model": "tiny",
            "base_url": model_server.openai_url,
            "api_key": "x",
            "max_tokens": 8,
            "max_retries": 0,
            "stream_usage": True,
            # langchain-openai shares one async client between event loops, in which an open
            # connection of a loop that has ended cannot be used, nor closed.
            "default_headers": {"Connection": "close"},
        }
        return ChatOpenAI(**{**settings, **overrides})

    return chat


@pytest.fixture
def unruly() -> Iterator[UnrulyProvider]:
    """A provider on a bad day."""
    with UnrulyProvider() as provider:
        yield provider
