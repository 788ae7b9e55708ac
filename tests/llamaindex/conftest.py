"""What tests of the LlamaIndex front end get: a LlamaIndex that each of them finds as it was."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import llama_index.core
import pytest
from llama_index.core import Settings
from llama_index.core.instrumentation import get_dispatcher

import llm_metering
from llm_metering import Meter, taps
from llm_metering.sinks.memory import MemorySink
from tests.extract.recorded import ABSENT, FOLDER
from tests.installed import has, leave_out
from tests.llamaindex.capabilities import MODULES, missing
from tests.llamaindex.recorded import Replayed
from tests.replaying import Replays

# LiteLLM would else fetch a list of prices from the network when it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

collect_ignore = [name for name, need in MODULES.items() if missing(need)]
if not has("llama-index-llms-anthropic"):
    # They run by `pytest tests/llamaindex/anthropic`, in .venv/llamaindex-anthropic.
    collect_ignore.append("anthropic")


def pytest_configure(config: pytest.Config) -> None:
    """Bear warnings that are for the authors of LlamaIndex and of what it uses."""
    for message in (
        "Inheritance class AiohttpClientSession from ClientSession is discouraged",  # google-genai
        "`langchain-community` is being sunset",  # what LangChainLLM imports
        "The `(schema|json|dict)` method is deprecated",  # LangChainLLM, StructuredLLM, Anthropic
        "The `__fields.*__` attribute is deprecated",  # workflows, of pydantic's models
        "Accessing the 'model_.*' attribute on the instance is deprecated",  # likewise
        "is_running called from within a step",  # ReActAgent, of workflows
        "The 'output_format' parameter is deprecated",  # Anthropic's integration
        "ServiceManager is deprecated",  # workflows 1.0, of its own
        "Item '.*' on TypedDict class '.*' is using the `ReadOnly` qualifier",  # LiteLLM
    ):
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the installed LlamaIndex cannot do; see `capabilities`."""
    leave_out(config, items, missing)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are for the way out."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session", autouse=True)
def no_loop_left() -> None:
    """LlamaIndex's sync methods make an event loop where there has been none, and leave it open."""
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def no_handler_left() -> Iterator[None]:
    """Handlers can be added to LlamaIndex's root dispatcher, and not taken off it."""
    root = get_dispatcher()
    events, spans = list(root.event_handlers), list(root.span_handlers)
    yield
    root.event_handlers[:] = events
    root.span_handlers[:] = spans


@pytest.fixture(autouse=True)
def settings_as_they_were() -> Iterator[None]:
    """`Settings` and the handler for everybody hold for the whole process."""
    before = dict(vars(Settings))
    handler = llama_index.core.global_handler
    yield
    vars(Settings).clear()
    vars(Settings).update(before)
    llama_index.core.global_handler = handler


@pytest.fixture(autouse=True)
def no_tap_left() -> Iterator[None]:
    """Taps are put in when a call begins, for the whole process; the next test begins without."""
    yield
    taps.remove()


@pytest.fixture
def streams_ask(home: Path, sink: MemorySink) -> Iterator[Meter]:
    """The default meter, which has streams ask for their usage, wherever the server is."""
    meter = llm_metering.configure(home=home, sinks=[sink], request_stream_usage=True)
    yield meter
    llm_metering.uninstall()
    llm_metering.close()


@pytest.fixture(scope="session")
def replays() -> Iterator[Replays]:
    """A server that plays recorded traffic back."""
    if not FOLDER:
        pytest.skip(ABSENT)
    with Replays(Path(FOLDER)) as replays:
        yield replays


@pytest.fixture(scope="module", params=[True], ids=["taps"])
def replayed(
    request: pytest.FixtureRequest, replays: Replays, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replayed]:
    """Calls that are answered with recorded traffic."""
    home, sink = tmp_path_factory.mktemp("home"), MemorySink()
    with Meter(home=home, sinks=[sink], ledger=False, taps=request.param) as meter:
        yield Replayed(replays, meter, sink)
    # What the clients have left open is closed here, and not in the time of another test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
