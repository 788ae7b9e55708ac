"""What tests of the LangChain front end get: models, and an end without traces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.tracers import context
from langchain_openai import ChatOpenAI

from llm_metering import taps
from llm_metering.demo.model_server import ModelServer
from tests.installed import leave_out
from tests.langchain.capabilities import MODULES, missing

collect_ignore = [name for name, need in MODULES.items() if missing(need)]


def pytest_configure(config: pytest.Config) -> None:
    """Bear a warning that langgraph 0.6 provokes on langchain-core 0.3 as it is imported."""
    config.addinivalue_line(
        "filterwarnings", "ignore:The default value of `allowed_objects` will change"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the installed LangChain cannot do; see `capabilities`."""
    leave_out(config, items, missing)


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
