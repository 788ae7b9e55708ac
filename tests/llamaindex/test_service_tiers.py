"""On which tier a call was served, through LlamaIndex's real clients.

A server in another process sends answers of our own.
"""

from __future__ import annotations

import pytest

from llm_metering import Meter
from llm_metering.sinks.memory import MemorySink
from tests.llamaindex.recorded import Replayed
from tests.replaying import Replays, stored
from tests.tiered import ANSWERS, TIERS, interaction_of

# The clients warn of what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")

LOST = ("gemini", "gemini-stream")
"""Of which google-genai 2.34.0 leaves the tier out of its objects, and a tap alone can see it."""


@pytest.fixture(scope="module")
def own_replays(tmp_path_factory):
    with Replays(stored(tmp_path_factory.mktemp("answers"), ANSWERS)) as replays:
        yield replays


@pytest.fixture
def told(request, own_replays, home):
    """Calls that are answered with what stands in `tests.tiered`."""
    sink = MemorySink()
    taps = getattr(request, "param", True)
    with Meter(home=home, sinks=[sink], ledger=False, taps=taps) as meter:
        yield Replayed(own_replays, meter, sink)


def is_here(name):
    return not name.startswith(("anthropic", "groq"))


@pytest.mark.parametrize("name", [name for name in TIERS if is_here(name)])
def test_the_tier(told, name):
    """It is what the provider said; the counts are as ever."""
    data = told.once(interaction_of(name)).data

    assert data.get("service_tier") == TIERS[name]
    assert (data["input_tokens"], data["output_tokens"]) == (40, 20)
    expected = ["invalid_service_tier"] if name == "openai-odd" else []
    assert data.get("flags", []) == expected


@pytest.mark.parametrize("told", [False], ids=["no taps"], indirect=True)
@pytest.mark.parametrize("name", ["openai", "openai-stream", "responses-stream", *LOST])
def test_without_taps(told, name):
    """LlamaIndex hands on what the provider's client made of the answer."""
    data = told.once(interaction_of(name)).data

    assert data.get("service_tier") == (None if name in LOST else TIERS[name])
