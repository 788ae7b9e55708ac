"""What every test gets: a clean environment, a home of its own, the real model server."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from llm_metering.demo.model_server import ModelServer
from tests.tiny_model import write_tiny_model

pytest_plugins = ["pytester", "tests.meter_fixtures", "tests.provider.fixtures", "tests.skips"]

# They run in environments of their own, by `pytest tests/langchain` and the like: .venv/langchain,
# or `nox --session flink`.
collect_ignore = ["clickhouse", "flink", "langchain", "llamaindex"]

# Whatever else holds, such as hypothesis's profile for CI; but no test hangs on the machine's speed.
settings.register_profile("without-a-clock", settings(), deadline=None)
settings.load_profile("without-a-clock")

_FOREIGN = ("LLM_METERING_", "OPENMETER_", "LANGSMITH_", "LANGCHAIN_")
_FOR_TESTS = frozenset(
    ["LLM_METERING_OPENMETER_SPEC", "LLM_METERING_RESPONSES", "LLM_METERING_REQUIRE_ALL"]
)
_JOIN_TIMEOUT = 2.0
# LiteLLM's pool, which is shut down as the interpreter ends.
_LASTING_THREADS = ("litellm-logging",)


def pytest_configure() -> None:
    """Forget the developer's own settings, before anything can have read and kept them.

    LangSmith's client caches what it finds in the environment; a developer's tracing would be
    fed by the tests.
    """
    for name in list(os.environ):
        if name.startswith(_FOREIGN) and name not in _FOR_TESTS:
            del os.environ[name]


@pytest.fixture(autouse=True)
def user_data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the default home into a temporary folder, in child processes too."""
    folder = tmp_path_factory.mktemp("user-data")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    if sys.platform == "darwin":
        # There the platform's data folder hangs on HOME alone. Elsewhere HOME stays, since
        # pip, asked by a test, finds its index and its proxy there.
        monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread behind which would keep an interpreter from ending."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not (thread.daemon or thread.name.startswith(_LASTING_THREADS)):
            thread.join(_JOIN_TIMEOUT)
            assert not thread.is_alive(), f"{thread!r} is still running and is no daemon"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home, as private as the library makes its own."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of half a megabyte."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="session")
def model_server(tiny_model: Path) -> Iterator[ModelServer]:
    """A real model server, started once, on the first test that asks for it."""
    with ModelServer(tiny_model, "tiny") as server:
        yield server
