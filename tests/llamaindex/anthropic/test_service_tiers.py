"""On which tier a call of Anthropic's was served, as in the test of the same name one folder up."""

from __future__ import annotations

import pytest

from llm_metering import Meter
from llm_metering.sinks.memory import MemorySink
from tests.llamaindex.recorded import Replayed
from tests.replaying import Replays, stored
from tests.tiered import ANSWERS, TIERS, interaction_of

# The client warns of what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", [name for name in TIERS if name.startswith("anthropic")])
def test_the_tier(tmp_path, home, name):
    """It is what the provider said, of a stream in what LlamaIndex does not hand on."""
    sink = MemorySink()
    with (
        Replays(stored(tmp_path / "answers", ANSWERS)) as replays,
        Meter(home=home, sinks=[sink], ledger=False) as meter,
    ):
        data = Replayed(replays, meter, sink).once(interaction_of(name)).data

    assert (data["service_tier"], data.get("flags")) == (TIERS[name], None)
